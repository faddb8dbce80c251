-- +goose Up
-- Alerts of this installation: see services/internal/alert.
CREATE TABLE alerts (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    severity    TEXT NOT NULL CHECK (severity IN ('warning', 'critical')),
    summary     TEXT NOT NULL,
    advice      TEXT NOT NULL DEFAULT '',
    subject     TEXT NOT NULL DEFAULT '',
    value       DOUBLE PRECISION NOT NULL,
    threshold   DOUBLE PRECISION NOT NULL,
    started_at  BIGINT NOT NULL,
    last_bad_at BIGINT NOT NULL,
    resolved_at BIGINT,
    notified_at BIGINT,
    acked_at    BIGINT,
    acked_by    TEXT
);
-- An alert is open once.
CREATE UNIQUE INDEX alerts_open ON alerts (name, severity) WHERE resolved_at IS NULL;
CREATE INDEX alerts_by_notice ON alerts (name, severity, notified_at);

CREATE TABLE alert_readings (
    name      TEXT NOT NULL,
    severity  TEXT NOT NULL,
    node      TEXT NOT NULL,
    value     DOUBLE PRECISION NOT NULL,
    bad_since BIGINT,
    at        BIGINT NOT NULL,
    PRIMARY KEY (name, severity, node)
);

-- next_at is null when a notice is done: sent, or given up.
CREATE TABLE alert_notices (
    id       TEXT PRIMARY KEY,
    alert_id TEXT NOT NULL,
    kind     TEXT NOT NULL CHECK (kind IN ('firing', 'resolved')),
    sink     TEXT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    made_at  BIGINT NOT NULL,
    next_at  BIGINT,
    sent_at  BIGINT,
    failure  TEXT NOT NULL DEFAULT ''
);
CREATE INDEX alert_notices_due ON alert_notices (sink, id) WHERE next_at IS NOT NULL;

-- +goose Down
DROP TABLE alert_notices;
DROP TABLE alert_readings;
DROP TABLE alerts;
