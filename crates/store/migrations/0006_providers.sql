-- What a provider handed out for an account, sealed; the times are milliseconds.

ALTER TABLE accounts ADD COLUMN access_token_sealed TEXT;
ALTER TABLE accounts ADD COLUMN refresh_token_sealed TEXT;
ALTER TABLE accounts ADD COLUMN id_token_sealed TEXT;
ALTER TABLE accounts ADD COLUMN access_token_ends BIGINT;
ALTER TABLE accounts ADD COLUMN refresh_token_ends BIGINT;
