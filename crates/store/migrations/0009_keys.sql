-- Keys for programs, sign-in of devices without a keyboard, and what a key or a member may spend.

-- A key is found by its keyed hash and never shown again. It belongs to a user or to an organization.
CREATE TABLE api_keys (
  id TEXT PRIMARY KEY,
  user_id TEXT REFERENCES users (id) ON DELETE CASCADE,
  organization_id TEXT REFERENCES organizations (id) ON DELETE CASCADE,
  key_hash TEXT NOT NULL UNIQUE,
  name TEXT,
  prefix TEXT,
  -- The first characters, to recognise a key by.
  start TEXT NOT NULL,
  enabled BOOLEAN NOT NULL,
  rate_limit_enabled BOOLEAN NOT NULL,
  rate_limit_window BIGINT,
  rate_limit_max BIGINT,
  -- Of the window that the last request belongs to.
  request_count BIGINT NOT NULL,
  last_request_at BIGINT,
  remaining BIGINT,
  refill_interval BIGINT,
  refill_amount BIGINT,
  last_refill_at BIGINT,
  expires_at BIGINT,
  permissions TEXT,
  metadata TEXT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE INDEX api_keys_of_users ON api_keys (user_id, created_at) WHERE user_id IS NOT NULL;
CREATE INDEX api_keys_of_organizations ON api_keys (organization_id, created_at) WHERE organization_id IS NOT NULL;
CREATE INDEX api_keys_by_end ON api_keys (expires_at) WHERE expires_at IS NOT NULL;

-- What a device waits for. The device's own code is a one-time value whose subject is the row's id. The user may be nobody
-- (an app may name one before anybody has looked), so it refers to no row.
CREATE TABLE device_codes (
  id TEXT PRIMARY KEY,
  user_code_hash TEXT NOT NULL UNIQUE,
  client_id TEXT NOT NULL,
  scope TEXT,
  user_id TEXT,
  status TEXT NOT NULL,
  last_polled_at BIGINT,
  polling_interval BIGINT NOT NULL,
  expires_at BIGINT NOT NULL
);
CREATE INDEX device_codes_by_end ON device_codes (expires_at);

-- What one spender may take from an account: `key:…`, or `user:…` for a member of the organization that owns it.
CREATE TABLE credit_spender_limits (
  account_id TEXT NOT NULL,
  spender TEXT NOT NULL,
  period TEXT NOT NULL,
  max BIGINT NOT NULL,
  starts_at BIGINT NOT NULL,
  used BIGINT NOT NULL,
  PRIMARY KEY (account_id, spender, period)
) /* in key order */;
