package store_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/crewbeat/crewbeat/services/api/internal/store"
	"github.com/crewbeat/crewbeat/services/internal/db"
	"github.com/crewbeat/crewbeat/services/internal/pgtest"
)

func TestMigrateReportsFromAndTo(t *testing.T) {
	for _, url := range []string{"sqlite:" + filepath.Join(t.TempDir(), "new", "folder", "c.db"), pgtest.Database(t)} {
		d := openDB(t, url)
		current, needed, err := store.SchemaVersion(t.Context(), d)
		if current != 0 || needed < 1 || err != nil {
			t.Errorf("%s: empty database has version %d of %d, %v", d.Dialect(), current, needed, err)
		}
		from, to, err := store.Migrate(t.Context(), d)
		if from != 0 || to != needed || err != nil {
			t.Errorf("%s: first migration %d to %d, %v", d.Dialect(), from, to, err)
		}
		from, to, err = store.Migrate(t.Context(), d)
		if from != needed || to != needed || err != nil {
			t.Errorf("%s: second migration %d to %d, %v", d.Dialect(), from, to, err)
		}
	}
}

func TestReplicasMayMigrateAtOnce(t *testing.T) {
	url := pgtest.Database(t)
	var all sync.WaitGroup
	for range 4 {
		d := openDB(t, url)
		all.Go(func() {
			if _, to, err := store.Migrate(t.Context(), d); err != nil || to == 0 {
				t.Errorf("migrated to %d, %v", to, err)
			}
		})
	}
	all.Wait()
}

// TestBothSchemasAgree compares what the two sets of migrations make: tables,
// columns, their kinds and nullability, keys and indices.
func TestBothSchemasAgree(t *testing.T) {
	lite := open(t, "sqlite:"+filepath.Join(t.TempDir(), "c.db"))
	pg := open(t, pgtest.Database(t))
	a, b := sqliteSchema(t, lite.db), postgresSchema(t, pg.db)
	if len(a) < 100 {
		t.Errorf("only %d facts about the schema", len(a))
	}
	for _, line := range a {
		if !slices.Contains(b, line) {
			t.Errorf("only in SQLite:     %s", line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			t.Errorf("only in PostgreSQL: %s", line)
		}
	}
}

func sqliteSchema(t *testing.T, d *db.DB) []string {
	t.Helper()
	facts := lines(t, d.SQL(), `
		SELECT m.name || '.' || c.name || ' ' ||
			CASE c.type WHEN 'INTEGER' THEN 'BIGINT' WHEN 'BLOB' THEN 'BYTES' ELSE c.type END ||
			CASE WHEN c."notnull" OR c.pk > 0 THEN ' NOT NULL' ELSE '' END
		FROM sqlite_schema m, pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name <> 'schema_version'`)
	facts = append(facts, lines(t, d.SQL(), `
		SELECT m.name || ' unique=' || i."unique" || ' partial=' || i.partial || ' (' ||
			(SELECT string_agg(c.name, ',' ORDER BY c.seqno) FROM pragma_index_info(i.name) c) || ')'
		FROM sqlite_schema m, pragma_index_list(m.name) i
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name <> 'schema_version'`)...)
	// A key that is the rowid has no index of its own.
	facts = append(facts, lines(t, d.SQL(), `
		SELECT m.name || ' unique=1 partial=0 (' || c.name || ')'
		FROM sqlite_schema m, pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name <> 'schema_version'
			AND c.pk = 1 AND c.type = 'INTEGER'`)...)
	return append(facts, lines(t, d.SQL(), `
		SELECT m.name || '.' || f."from" || ' -> ' || f."table" || '.' || f."to" || ' ' || f.on_delete
		FROM sqlite_schema m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table'`)...)
}

func postgresSchema(t *testing.T, d *db.DB) []string {
	t.Helper()
	facts := lines(t, d.SQL(), `
		SELECT table_name || '.' || column_name || ' ' ||
			CASE data_type WHEN 'bytea' THEN 'BYTES' ELSE upper(data_type) END ||
			CASE is_nullable WHEN 'NO' THEN ' NOT NULL' ELSE '' END
		FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'schema_version'`)
	facts = append(facts, lines(t, d.SQL(), `
		SELECT t.relname || ' unique=' || i.indisunique::int || ' partial=' || (i.indpred IS NOT NULL)::int || ' (' ||
			(SELECT string_agg(a.attname, ',' ORDER BY k.n) FROM unnest(i.indkey) WITH ORDINALITY k(attnum, n)
				JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum) || ')'
		FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
		WHERE n.nspname = 'public' AND t.relname <> 'schema_version'`)...)
	return append(facts, lines(t, d.SQL(), `
		SELECT t.relname || '.' || a.attname || ' -> ' || r.relname || '.' || b.attname || ' ' ||
			CASE c.confdeltype WHEN 'c' THEN 'CASCADE' WHEN 'a' THEN 'NO ACTION' ELSE c.confdeltype::text END
		FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid JOIN pg_class r ON r.oid = c.confrelid
			JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = c.conkey[1]
			JOIN pg_attribute b ON b.attrelid = r.oid AND b.attnum = c.confkey[1]
		WHERE c.contype = 'f'`)...)
}

func lines(t *testing.T, d *sql.DB, query string) []string {
	t.Helper()
	rows, err := d.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		list = append(list, line)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// TestNonsenseIsRefusedByTheDatabase tries rows that the domain would never
// write: a bug there must not get further than here.
func TestNonsenseIsRefusedByTheDatabase(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		mira := f.user(t, "mira")
		h := f.habit(t, mira)
		for _, change := range []string{
			"UPDATE habits SET sched = 'weekdays', weekdays_mask = 0",
			"UPDATE habits SET sched = 'n_per_week', n = 0",
			"UPDATE habits SET start_day = '2026-3-1'",
			"UPDATE habits SET end_day = '2020-01-01'",
			"UPDATE habits SET target_milli = 0",
			"UPDATE habits SET visibility = 'world'",
			"UPDATE habits SET user_id = 'nobody'",
			"UPDATE users SET day_start_min = 721",
			"UPDATE users SET version = 0",
			"INSERT INTO habit_records (habit_id, day, state, recorded_at, tz, source) VALUES ('" + h.ID + "', '2026-03-01', 'maybe', 1, 'UTC', 'web')",
		} {
			if _, err := f.db.SQL().ExecContext(t.Context(), change); err == nil {
				t.Errorf("accepted: %s", change)
			}
		}
	})
}

func TestTheAuditLogOnlyGrows(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		if _, err := f.db.SQL().ExecContext(t.Context(),
			"INSERT INTO audit_log (at, action, subject) VALUES (1, 'login', 'mira')"); err != nil {
			t.Fatal(err)
		}
		for _, change := range []string{"UPDATE audit_log SET action = 'x'", "DELETE FROM audit_log"} {
			_, err := f.db.SQL().ExecContext(t.Context(), change)
			if err == nil || !strings.Contains(err.Error(), "append-only") {
				t.Errorf("%s: %v", change, err)
			}
		}
	})
}

// TestEveryLookupHasAnIndex reads what PostgreSQL would do with large tables.
func TestEveryLookupHasAnIndex(t *testing.T) {
	f := open(t, pgtest.Database(t))
	conn, err := f.db.SQL().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// Without these a plan for an empty table says nothing.
	for _, way := range []string{"enable_seqscan", "enable_bitmapscan"} {
		if _, err := conn.ExecContext(t.Context(), "SET "+way+" = off"); err != nil {
			t.Fatal(err)
		}
	}
	for _, where := range []string{
		"users WHERE email_norm = 'a'", "sessions WHERE token_hash = 'a'", "sessions WHERE user_id = 'a'",
		"sessions WHERE idle_expires_at < 1", "habits WHERE user_id = 'a' ORDER BY position, id",
		"habit_records WHERE habit_id IN ('a', 'b') AND day >= '2026-01-01' AND day < '2026-02-01'",
		"habit_teams WHERE team_id = 'a'", "memberships WHERE team_id = 'a'", "memberships WHERE user_id = 'a'",
		"invites WHERE token_hash = 'a'", "invites WHERE team_id = 'a'", "teams WHERE slug = 'a'",
		"activity WHERE team_id = 'a' AND id < 'b' ORDER BY id DESC LIMIT 50", "activity WHERE habit_id = 'a' AND day = '2026-01-01'",
		"outbox WHERE published_at IS NULL ORDER BY seq LIMIT 100", "outbox WHERE published_at < 1",
		"record_ops WHERE created_at < 1", "idempotency_keys WHERE expires_at < 1",
	} {
		plan := explain(t, conn, where)
		if strings.Contains(plan, "Seq Scan") || strings.Contains(plan, "Sort") && strings.Contains(where, "LIMIT") {
			t.Errorf("%s:\n%s", where, plan)
		}
	}
}

// explain returns how the database would select what is named.
func explain(t *testing.T, conn *sql.Conn, what string) string {
	t.Helper()
	rows, err := conn.QueryContext(t.Context(), "EXPLAIN SELECT * FROM "+what)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var plan strings.Builder
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&plan, line)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return plan.String()
}
