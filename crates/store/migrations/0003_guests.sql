-- Visitors without an account. A row lasts until its guest becomes a user or its cookie has ended; without it the cookie
-- opens nothing, however well it is signed.

CREATE TABLE guests (
  id TEXT PRIMARY KEY,
  created_at BIGINT NOT NULL
) /* in key order */;
CREATE INDEX guests_by_age ON guests (created_at);
