-- +goose Up
-- replaced_by names the session that took over, where one was given a new
-- token; renew asks for that at the next use, after rights have changed.
ALTER TABLE sessions ADD COLUMN replaced_by TEXT;
ALTER TABLE sessions ADD COLUMN renew BIGINT NOT NULL DEFAULT 0;
-- Every node asks every half second what was revoked lately.
CREATE INDEX sessions_by_revocation ON sessions (revoked_at) WHERE revoked_at IS NOT NULL;

-- +goose Down
DROP INDEX sessions_by_revocation;
ALTER TABLE sessions DROP COLUMN renew;
ALTER TABLE sessions DROP COLUMN replaced_by;
