-- +goose Up

-- The twin of the PostgreSQL schema; a test holds the two together.

CREATE TABLE users (
    id            TEXT NOT NULL PRIMARY KEY,
    email         TEXT NOT NULL,
    email_norm    TEXT NOT NULL UNIQUE,
    name          TEXT NOT NULL,
    password_hash TEXT,
    tz            TEXT NOT NULL,
    day_start_min BIGINT NOT NULL DEFAULT 0 CHECK (day_start_min BETWEEN 0 AND 720),
    week_start    BIGINT NOT NULL DEFAULT 1 CHECK (week_start BETWEEN 0 AND 6),
    locale        TEXT NOT NULL DEFAULT '',
    is_admin      BOOLEAN NOT NULL DEFAULT FALSE,
    status        TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
    version       BIGINT NOT NULL CHECK (version > 0),
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL
);

CREATE TABLE sessions (
    id              TEXT NOT NULL PRIMARY KEY,
    token_hash      TEXT NOT NULL UNIQUE,
    user_id         TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at      BIGINT NOT NULL,
    last_seen_at    BIGINT NOT NULL,
    idle_expires_at BIGINT NOT NULL,
    abs_expires_at  BIGINT NOT NULL,
    ip              TEXT NOT NULL DEFAULT '',
    ua              TEXT NOT NULL DEFAULT '',
    revoked_at      BIGINT,
    CHECK (idle_expires_at <= abs_expires_at)
);
CREATE INDEX sessions_by_user ON sessions (user_id, created_at);
CREATE INDEX sessions_by_end ON sessions (idle_expires_at);

CREATE TABLE teams (
    id         TEXT NOT NULL PRIMARY KEY,
    name       TEXT NOT NULL,
    slug       TEXT NOT NULL UNIQUE,
    tz         TEXT NOT NULL,
    week_start BIGINT NOT NULL DEFAULT 1 CHECK (week_start BETWEEN 0 AND 6),
    version    BIGINT NOT NULL CHECK (version > 0),
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE memberships (
    team_id   TEXT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
    user_id   TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role      TEXT NOT NULL CHECK (role IN ('owner', 'manager', 'member', 'viewer')),
    joined_at BIGINT NOT NULL,
    PRIMARY KEY (team_id, user_id)
);
CREATE INDEX memberships_by_user ON memberships (user_id, team_id);

CREATE TABLE invites (
    id          TEXT NOT NULL PRIMARY KEY,
    team_id     TEXT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
    invited_by  TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    email       TEXT,
    role        TEXT NOT NULL CHECK (role IN ('manager', 'member', 'viewer')),
    token_hash  TEXT NOT NULL UNIQUE,
    created_at  BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    accepted_at BIGINT,
    revoked_at  BIGINT
);
CREATE INDEX invites_by_team ON invites (team_id, created_at);
CREATE INDEX invites_by_inviter ON invites (invited_by);

CREATE TABLE habits (
    id            TEXT NOT NULL PRIMARY KEY,
    user_id       TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name          TEXT NOT NULL,
    kind          TEXT NOT NULL CHECK (kind IN ('yesno', 'count', 'duration')),
    target_type   TEXT NOT NULL CHECK (target_type IN ('at_least', 'at_most')),
    target_milli  BIGINT NOT NULL CHECK (target_milli >= 0),
    unit          TEXT NOT NULL DEFAULT '',
    sched         TEXT NOT NULL CHECK (sched IN ('daily', 'weekdays', 'n_per_week', 'n_per_month', 'every_n_days')),
    weekdays_mask BIGINT NOT NULL DEFAULT 0 CHECK (weekdays_mask BETWEEN 0 AND 127),
    n             BIGINT NOT NULL DEFAULT 0 CHECK (n BETWEEN 0 AND 366),
    assume_zero   BOOLEAN NOT NULL DEFAULT FALSE,
    visibility    TEXT NOT NULL DEFAULT 'private' CHECK (visibility IN ('private', 'team', 'named')),
    start_day     TEXT NOT NULL CHECK (start_day GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]'),
    end_day       TEXT CHECK (end_day GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]'),
    color         TEXT NOT NULL DEFAULT '',
    icon          TEXT NOT NULL DEFAULT '',
    position      BIGINT NOT NULL DEFAULT 0,
    archived_at   BIGINT,
    version       BIGINT NOT NULL CHECK (version > 0),
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    CHECK (end_day IS NULL OR end_day >= start_day),
    CHECK (target_milli > 0 OR target_type = 'at_most'),
    CHECK (sched <> 'weekdays' OR weekdays_mask > 0),
    CHECK (sched IN ('daily', 'weekdays') OR n > 0)
);
CREATE INDEX habits_by_user ON habits (user_id, position, id);

CREATE TABLE habit_teams (
    habit_id TEXT NOT NULL REFERENCES habits (id) ON DELETE CASCADE,
    team_id  TEXT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
    weight   BIGINT NOT NULL DEFAULT 1 CHECK (weight > 0),
    PRIMARY KEY (habit_id, team_id)
);
CREATE INDEX habit_teams_by_team ON habit_teams (team_id, habit_id);

CREATE TABLE habit_revisions (
    habit_id      TEXT NOT NULL REFERENCES habits (id) ON DELETE CASCADE,
    effective_day TEXT NOT NULL CHECK (effective_day GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]'),
    sched         TEXT NOT NULL CHECK (sched IN ('daily', 'weekdays', 'n_per_week', 'n_per_month', 'every_n_days')),
    weekdays_mask BIGINT NOT NULL DEFAULT 0 CHECK (weekdays_mask BETWEEN 0 AND 127),
    n             BIGINT NOT NULL DEFAULT 0 CHECK (n BETWEEN 0 AND 366),
    target_type   TEXT NOT NULL CHECK (target_type IN ('at_least', 'at_most')),
    target_milli  BIGINT NOT NULL CHECK (target_milli >= 0),
    PRIMARY KEY (habit_id, effective_day)
);

CREATE TABLE habit_records (
    habit_id    TEXT NOT NULL REFERENCES habits (id) ON DELETE CASCADE,
    day         TEXT NOT NULL CHECK (day GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]'),
    state       TEXT NOT NULL CHECK (state IN ('done', 'skip', 'note')),
    value_milli BIGINT NOT NULL DEFAULT 0 CHECK (value_milli >= 0),
    note        TEXT NOT NULL DEFAULT '',
    recorded_at BIGINT NOT NULL,
    tz          TEXT NOT NULL,
    source      TEXT NOT NULL,
    PRIMARY KEY (habit_id, day)
);

CREATE TABLE record_ops (
    user_id      TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client_op_id TEXT NOT NULL,
    result       BLOB,
    created_at   BIGINT NOT NULL,
    PRIMARY KEY (user_id, client_op_id)
);
CREATE INDEX record_ops_by_age ON record_ops (created_at);

CREATE TABLE activity (
    id         TEXT NOT NULL,
    team_id    TEXT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
    user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    habit_id   TEXT NOT NULL REFERENCES habits (id) ON DELETE CASCADE,
    habit_name TEXT NOT NULL,
    day        TEXT NOT NULL CHECK (day GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]'),
    at         BIGINT NOT NULL,
    PRIMARY KEY (team_id, id),
    UNIQUE (habit_id, day, team_id)
);
CREATE INDEX activity_by_user ON activity (user_id);

-- seq is the order of publication. Writers of a channel take turns, so that
-- within a channel it is the order of commits too.
CREATE TABLE outbox (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT NOT NULL UNIQUE,
    channel      TEXT NOT NULL,
    event        TEXT NOT NULL,
    class        TEXT NOT NULL CHECK (class IN ('durable', 'latest', 'ephemeral')),
    payload      TEXT NOT NULL,
    at           BIGINT NOT NULL,
    trace        TEXT NOT NULL DEFAULT '',
    published_at BIGINT
);
CREATE INDEX outbox_pending ON outbox (seq) WHERE published_at IS NULL;
CREATE INDEX outbox_published ON outbox (published_at) WHERE published_at IS NOT NULL;

CREATE TABLE leases (
    name       TEXT NOT NULL PRIMARY KEY,
    holder     TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE idempotency_keys (
    user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key        TEXT NOT NULL,
    req_hash   TEXT NOT NULL,
    status     BIGINT,
    body       BLOB,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, key)
);
CREATE INDEX idempotency_keys_by_end ON idempotency_keys (expires_at);

CREATE TABLE audit_log (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    at      BIGINT NOT NULL,
    user_id TEXT,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail  TEXT NOT NULL DEFAULT '{}',
    ip      TEXT NOT NULL DEFAULT ''
);
CREATE INDEX audit_log_by_user ON audit_log (user_id, seq);

-- +goose StatementBegin
CREATE TRIGGER audit_log_keeps_updates BEFORE UPDATE ON audit_log
BEGIN
    SELECT RAISE(ABORT, 'audit_log is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_log_keeps_deletes BEFORE DELETE ON audit_log
BEGIN
    SELECT RAISE(ABORT, 'audit_log is append-only');
END;
-- +goose StatementEnd

-- +goose Down
DROP TABLE audit_log;
DROP TABLE idempotency_keys;
DROP TABLE leases;
DROP TABLE outbox;
DROP TABLE activity;
DROP TABLE record_ops;
DROP TABLE habit_records;
DROP TABLE habit_revisions;
DROP TABLE habit_teams;
DROP TABLE habits;
DROP TABLE invites;
DROP TABLE memberships;
DROP TABLE teams;
DROP TABLE sessions;
DROP TABLE users;
