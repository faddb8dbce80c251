package pgtest_test

import (
	"database/sql"
	"os"
	"testing"

	"github.com/crewbeat/crewbeat/services/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func TestEveryTestHasADatabaseOfItsOwn(t *testing.T) {
	a, b := pgtest.Database(t), pgtest.Database(t)
	exec(t, a, "CREATE TABLE only_here (id TEXT)")
	exec(t, b, "CREATE TABLE only_here (id TEXT)")
}

func TestTheLocaleIsNotByteOrder(t *testing.T) {
	var first string
	row := open(t, pgtest.Database(t)).QueryRowContext(t.Context(), "SELECT min(v) FROM (VALUES ('B'), ('a')) x(v)")
	if err := row.Scan(&first); err != nil {
		t.Fatal(err)
	}
	if first != "a" {
		t.Fatalf("the least of a and B is %q: expected a PostgreSQL that is built with ICU", first)
	}
}

func open(t *testing.T, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func exec(t *testing.T, url, statement string) {
	t.Helper()
	if _, err := open(t, url).ExecContext(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}
