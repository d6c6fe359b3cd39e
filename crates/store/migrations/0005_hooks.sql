-- Outgoing events: what happened, who is told, and how that went. Events are written only while there is an endpoint.

CREATE TABLE hook_endpoints (
  id TEXT PRIMARY KEY,
  url TEXT NOT NULL,
  -- `*`, or names separated by commas.
  kinds TEXT NOT NULL,
  secret_sealed TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  -- Since when nothing was delivered although it was tried; none while it works.
  failing_since BIGINT,
  disabled_at BIGINT
);

-- `origin` names the row that an event was made of afterwards, so that it is made once.
CREATE TABLE hook_events (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  subject TEXT NOT NULL,
  origin TEXT UNIQUE,
  payload TEXT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE INDEX hook_events_by_age ON hook_events (created_at, id);
CREATE INDEX hook_events_by_subject ON hook_events (subject);

CREATE TABLE hook_deliveries (
  event_id TEXT NOT NULL,
  endpoint_id TEXT NOT NULL,
  state TEXT NOT NULL,
  attempts BIGINT NOT NULL,
  -- From here on the three days are counted: its beginning, or when it was sent again.
  begun_at BIGINT NOT NULL,
  due_at BIGINT NOT NULL,
  leased_until BIGINT NOT NULL,
  tried_at BIGINT,
  -- What came of the last try: the status and the first characters of the answer, or why there was none.
  status BIGINT,
  answer TEXT,
  error TEXT,
  PRIMARY KEY (event_id, endpoint_id)
);
CREATE INDEX hook_deliveries_due ON hook_deliveries (endpoint_id, due_at) WHERE state = 'waiting';
CREATE INDEX hook_deliveries_failed ON hook_deliveries (endpoint_id) WHERE state = 'failed';
CREATE INDEX hook_deliveries_by_age ON hook_deliveries (begun_at, event_id);
CREATE INDEX hook_deliveries_by_endpoint ON hook_deliveries (endpoint_id, begun_at, event_id);

-- How far a table was read whose rows become events.
CREATE TABLE hook_marks (
  name TEXT PRIMARY KEY,
  at BIGINT NOT NULL
) /* in key order */;

CREATE INDEX credit_entries_told ON credit_entries (created_at) WHERE kind IN ('grant', 'clawback');

-- Crossings that nobody was told of yet have none. Those of before are over.
ALTER TABLE credit_events ADD COLUMN told_at BIGINT;
UPDATE credit_events SET told_at = created_at;
CREATE INDEX credit_events_untold ON credit_events (created_at) WHERE told_at IS NULL;

-- Grants whose coming end their owner was told of, once.
CREATE INDEX credit_lots_ending ON credit_lots (expires_at) WHERE NOT ended AND expires_at < 9223372036854775807;
CREATE TABLE credit_notices (
  account_id TEXT NOT NULL,
  no BIGINT NOT NULL,
  told_at BIGINT NOT NULL,
  PRIMARY KEY (account_id, no)
) /* in key order */;
