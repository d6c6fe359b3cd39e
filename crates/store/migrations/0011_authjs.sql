-- What apps with Auth.js keep here by their adapter. A `document` is what the app sent, so that it comes back as it was; where
-- it holds a provider's tokens it is sealed.

CREATE TABLE authjs_users (
  user_id TEXT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
  document TEXT NOT NULL
) /* in key order */;

ALTER TABLE accounts ADD COLUMN authjs_sealed TEXT;

-- A session that the app began, which no other door takes.
ALTER TABLE sessions ADD COLUMN from_adapter BOOLEAN NOT NULL DEFAULT FALSE;

-- Of WebAuthn. `counter` is the newest one, whatever stands in the document.
CREATE TABLE authjs_authenticators (
  credential_id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  counter BIGINT NOT NULL,
  document TEXT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE INDEX authjs_authenticators_by_user ON authjs_authenticators (user_id, created_at);
