-- Codes that are mailed, and the keys that sign tokens.

-- One code for each subject and purpose: a new one takes the old one's row, with its tries.
CREATE TABLE one_time_codes (
  subject TEXT NOT NULL,
  purpose TEXT NOT NULL,
  code_hash TEXT NOT NULL,
  wrong_tries BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (subject, purpose)
);
CREATE INDEX one_time_codes_by_end ON one_time_codes (expires_at);

-- A key is published as soon as it is made, signs from `signs_from` until the next one does, and is deleted some time after.
CREATE TABLE signing_keys (
  id TEXT PRIMARY KEY,
  public_key TEXT NOT NULL,
  private_sealed TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  signs_from BIGINT NOT NULL UNIQUE
);
