-- Accounts, sessions, one-time values, mails, counters and service keys.
-- Portable between SQLite and PostgreSQL: TEXT, BIGINT (milliseconds) and BOOLEAN only. Where a table is marked
-- `in key order`, SQLite keeps the rows in the primary key's tree, so that a look-up descends once and not twice.

CREATE TABLE meta (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
);

CREATE TABLE users (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  email TEXT NOT NULL UNIQUE,
  email_verified BOOLEAN NOT NULL,
  image TEXT,
  username TEXT UNIQUE,
  display_username TEXT,
  two_factor_enabled BOOLEAN NOT NULL,
  is_anonymous BOOLEAN NOT NULL,
  role TEXT,
  banned BOOLEAN NOT NULL,
  ban_reason TEXT,
  ban_expires BIGINT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
) /* in key order */;

-- A token is found by its keyed hash; the sealed copy is for lists that must show it again.
CREATE TABLE sessions (
  token_hash TEXT PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  token_sealed TEXT NOT NULL,
  expires_at BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  ip_address TEXT NOT NULL,
  user_agent TEXT NOT NULL,
  impersonated_by TEXT,
  active_organization_id TEXT,
  active_team_id TEXT
) /* in key order */;
CREATE INDEX sessions_by_user ON sessions (user_id, created_at);
CREATE INDEX sessions_by_end ON sessions (expires_at);

CREATE TABLE accounts (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  provider_id TEXT NOT NULL,
  account_id TEXT NOT NULL,
  password_hash TEXT,
  scope TEXT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  UNIQUE (provider_id, account_id)
);
CREATE INDEX accounts_by_user ON accounts (user_id);

-- Links and codes that work once. A used one stays until its end, so that a second use is told from a forgery.
CREATE TABLE one_time_values (
  value_hash TEXT PRIMARY KEY,
  purpose TEXT NOT NULL,
  subject TEXT NOT NULL,
  payload TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  used_at BIGINT
);
CREATE INDEX one_time_values_by_subject ON one_time_values (subject, purpose);
CREATE INDEX one_time_values_by_end ON one_time_values (expires_at);

-- Mails promised by a change are written with it; what they say is sealed. `handovers` counts tries whose content was
-- taken without an answer: each further one may be a copy.
CREATE TABLE mails (
  id TEXT PRIMARY KEY,
  recipient TEXT NOT NULL,
  template TEXT NOT NULL,
  content_sealed TEXT NOT NULL,
  state TEXT NOT NULL,
  attempts BIGINT NOT NULL,
  handovers BIGINT NOT NULL,
  due_at BIGINT NOT NULL,
  leased_until BIGINT NOT NULL,
  last_error TEXT,
  created_at BIGINT NOT NULL,
  sent_at BIGINT
);
CREATE INDEX mails_due ON mails (due_at) WHERE state = 'waiting';
CREATE INDEX mails_by_age ON mails (created_at);

CREATE TABLE counters (
  key TEXT PRIMARY KEY,
  count BIGINT NOT NULL,
  last_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL
);
CREATE INDEX counters_by_end ON counters (expires_at);

CREATE TABLE service_keys (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  key_hash TEXT NOT NULL UNIQUE,
  key_start TEXT NOT NULL,
  scopes TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  last_used_at BIGINT,
  revoked_at BIGINT
);
