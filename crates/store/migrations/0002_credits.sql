-- The ledger. An account is one owner's credits of one unit; its id is computed from both. Entries are never changed or
-- deleted; lots, holds and accounts say what the entries add up to. `never` is written as 9223372036854775807, so that
-- one index gives the burn-down order on both engines.

CREATE TABLE credit_accounts (
  id TEXT PRIMARY KEY,
  owner TEXT NOT NULL,
  unit TEXT NOT NULL,
  -- Rises with every change: a copy in memory is good as long as it has the same.
  version BIGINT NOT NULL,
  -- Of the newest entry.
  seq BIGINT NOT NULL,
  hash TEXT NOT NULL,
  last_at BIGINT NOT NULL,
  balance BIGINT NOT NULL,
  held BIGINT NOT NULL,
  owed BIGINT NOT NULL,
  negative_floor BIGINT NOT NULL,
  lot_count BIGINT NOT NULL,
  hold_count BIGINT NOT NULL,
  -- When the next lot or hold ends by itself.
  next_due BIGINT NOT NULL,
  has_limits BOOLEAN NOT NULL,
  -- The owner is gone: it is read, and takes nothing new from the app.
  closed BOOLEAN NOT NULL,
  -- By how much a few lots differ from their rows, so that a debit writes this row and no other but its entry:
  -- `number:remaining[:held]`, separated by commas.
  drawn TEXT NOT NULL,
  -- What remains of lots that were carried over.
  carried BIGINT NOT NULL
) /* in key order */;
CREATE INDEX credit_accounts_due ON credit_accounts (next_due) WHERE next_due < 9223372036854775807;
CREATE INDEX credit_accounts_by_owner ON credit_accounts (owner);

CREATE TABLE credit_lots (
  account_id TEXT NOT NULL,
  no BIGINT NOT NULL,
  source TEXT NOT NULL,
  amount BIGINT NOT NULL,
  remaining BIGINT NOT NULL,
  held BIGINT NOT NULL,
  priority BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  source_rank BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  reason TEXT,
  metadata TEXT,
  source_ref TEXT,
  -- Its time is over and what was free of it is written off; a held part may be left.
  ended BOOLEAN NOT NULL,
  -- Something of it is free.
  open BOOLEAN NOT NULL,
  -- What is left at its end is carried over, as long as no more than so much is; none: it is written off.
  rollover BIGINT,
  -- It was carried over.
  carried BOOLEAN NOT NULL,
  PRIMARY KEY (account_id, no)
) /* in key order */;
CREATE INDEX credit_lots_burn ON credit_lots (account_id, priority, expires_at, source_rank, created_at, no) WHERE open;
CREATE INDEX credit_lots_due ON credit_lots (account_id, expires_at) WHERE NOT ended;

CREATE TABLE credit_holds (
  account_id TEXT NOT NULL,
  no BIGINT NOT NULL,
  amount BIGINT NOT NULL,
  captured BIGINT NOT NULL,
  status TEXT NOT NULL,
  feature TEXT,
  quantity BIGINT,
  price_version BIGINT,
  reason TEXT,
  metadata TEXT,
  source_ref TEXT,
  parts TEXT NOT NULL,
  expires_at BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  ended_at BIGINT,
  PRIMARY KEY (account_id, no)
) /* in key order */;
CREATE INDEX credit_holds_open ON credit_holds (account_id, expires_at) WHERE status = 'held';

CREATE TABLE credit_entries (
  account_id TEXT NOT NULL,
  seq BIGINT NOT NULL,
  kind TEXT NOT NULL,
  amount BIGINT NOT NULL,
  balance_after BIGINT NOT NULL,
  -- The other side of the books: what the amount came from or went to.
  counter TEXT NOT NULL,
  feature TEXT,
  quantity BIGINT,
  price_version BIGINT,
  reason TEXT,
  actor TEXT NOT NULL,
  request_id TEXT,
  idempotency_key TEXT,
  source_ref TEXT,
  hold_no BIGINT,
  refund_of BIGINT,
  parts TEXT NOT NULL,
  metadata TEXT,
  created_at BIGINT NOT NULL,
  -- Of all this and of the hash of the entry before.
  hash TEXT NOT NULL,
  -- The idempotency key under which it was asked for, with its scope, as a hash.
  key_id TEXT,
  -- The request, unless it is the plain one that the entry says itself.
  key_request TEXT,
  -- What the answer said and the entry does not, if anything.
  key_answer TEXT,
  PRIMARY KEY (account_id, seq)
);
CREATE INDEX credit_entries_refunds ON credit_entries (account_id, refund_of) WHERE refund_of IS NOT NULL;
CREATE UNIQUE INDEX credit_entries_keys ON credit_entries (key_id) WHERE key_id IS NOT NULL;

-- What was answered under the idempotency key of what makes no entry: the row and its effect are one transaction. Not in
-- key order: rows of some 700 bytes at random places would split a page every few commands.
CREATE TABLE credit_keys (
  id TEXT PRIMARY KEY,
  request TEXT NOT NULL,
  status BIGINT NOT NULL,
  answer TEXT NOT NULL,
  created_at BIGINT NOT NULL
);

-- One row for each writer: how many entries it wrote, the sum of their keyed hashes, and a signature of both.
CREATE TABLE credit_seals (
  writer TEXT PRIMARY KEY,
  entries BIGINT NOT NULL,
  total TEXT NOT NULL,
  sealed_at BIGINT NOT NULL,
  mac TEXT NOT NULL
) /* in key order */;

CREATE TABLE credit_limits (
  account_id TEXT NOT NULL,
  period TEXT NOT NULL,
  max BIGINT NOT NULL,
  starts_at BIGINT NOT NULL,
  used BIGINT NOT NULL,
  PRIMARY KEY (account_id, period)
) /* in key order */;

-- Addresses that had their sign-up grant, by keyed hash: deleting the account brings no second one.
CREATE TABLE credit_signups (
  address_hash TEXT PRIMARY KEY,
  created_at BIGINT NOT NULL
) /* in key order */;

CREATE TABLE credit_prices (
  version BIGINT PRIMARY KEY,
  content_hash TEXT NOT NULL,
  book TEXT NOT NULL,
  created_at BIGINT NOT NULL
);

CREATE TABLE credit_events (
  id TEXT PRIMARY KEY,
  account_id TEXT NOT NULL,
  seq BIGINT NOT NULL,
  kind TEXT NOT NULL,
  threshold BIGINT NOT NULL,
  available BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE INDEX credit_events_by_account ON credit_events (account_id, created_at);
