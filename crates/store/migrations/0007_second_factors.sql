-- Second factors and passkeys. Backup codes, trusted devices and challenges are one-time values; mailed codes are one-time codes.

-- An authenticator app: its secret has to be read again, so it is sealed. `last_step` is the newest step of thirty seconds
-- whose code opened something: none works twice.
CREATE TABLE authenticators (
  user_id TEXT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
  secret_sealed TEXT NOT NULL,
  verified BOOLEAN NOT NULL,
  last_step BIGINT NOT NULL,
  created_at BIGINT NOT NULL
) /* in key order */;

-- `public_key` is the COSE key as base64, `credential_id` base64url, `transports` separated by commas.
CREATE TABLE passkeys (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  name TEXT,
  credential_id TEXT NOT NULL UNIQUE,
  public_key TEXT NOT NULL,
  counter BIGINT NOT NULL,
  device_type TEXT NOT NULL,
  backed_up BOOLEAN NOT NULL,
  transports TEXT NOT NULL,
  aaguid TEXT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE INDEX passkeys_by_user ON passkeys (user_id, created_at);
