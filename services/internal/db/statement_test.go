package db

import (
	"strings"
	"testing"

	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
)

func TestWithoutValues(t *testing.T) {
	for in, want := range map[string]string{
		`SELECT "a"."id" FROM "a" WHERE (x = 'it''s' AND y = 12.5) LIMIT 10`: `SELECT "a"."id" FROM "a" WHERE (x = ? AND y = ?) LIMIT ?`,
		`IN ('a', 'b', 3, X'00ff', '\x00ff')`:                                `IN (?)`,
		`VALUES (1, 'a', NULL), (2, 'b', TRUE)`:                              `VALUES (?, NULL), (?, TRUE)`,
		`a1 = $1 AND t2.b = -5 AND c = 1e9`:                                  `a1 = $1 AND t2.b = -? AND c = ?`,
		`'never ends`:                                                        `?`,
		`"never ends`:                                                        `"never ends`,
		`E'a' e 'b'`:                                                         `? e ?`,
		``:                                                                   ``,
	} {
		if got := withoutValues(in); got != want {
			t.Errorf("%s becomes\n%s, want\n%s", in, got, want)
		}
	}
	if got := len(withoutValues(strings.Repeat("a, ", 1<<20))); got > maxStatement+8 {
		t.Errorf("%d bytes are kept", got)
	}
}

func TestSummary(t *testing.T) {
	for in, want := range map[string]string{
		`SELECT h.id FROM "habits" AS h WHERE x`:                   "SELECT habits",
		"select count(*)\nfrom users":                              "SELECT users",
		`INSERT INTO "teams" ("id") VALUES (1)`:                    "INSERT teams",
		`UPDATE "users" AS "u" SET x = 1`:                          "UPDATE users",
		`DELETE FROM activity WHERE x RETURNING (SELECT 1 FROM u)`: "DELETE activity",
		`SELECT (SELECT a FROM "b" WHERE ')') AS c FROM "habits"`:  "SELECT habits",
		"begin immediate":                                          "BEGIN",
		"SELECT 1":                                                 "SELECT",
		"  ":                                                       "query",
	} {
		if got := summary(in); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

// FuzzWithoutValues puts a text into a statement as the query builder does for
// either database, and looks for it in what a span would show.
func FuzzWithoutValues(f *testing.F) {
	for _, seed := range []string{"a note", "it's", `\'; --`, "''", "x'y'z", `"`, "$$", "E'", "\n'\n"} {
		f.Add(seed)
	}
	dialects := []interface {
		AppendString(b []byte, s string) []byte
		AppendBytes(b, bs []byte) []byte
	}{pgdialect.New(), sqlitedialect.New()}
	f.Fuzz(func(t *testing.T, private string) {
		private = strings.ReplaceAll(private, "\x00", "") // the query builder refuses it
		for _, d := range dialects {
			for _, literal := range [][]byte{d.AppendString(nil, private), d.AppendBytes(nil, []byte(private))} {
				got := withoutValues("UPDATE t SET a = " + string(literal) + " WHERE b = 'q'")
				if want := "UPDATE t SET a = ? WHERE b = ?"; got != want {
					t.Errorf("%q is shown as %s", private, got)
				}
			}
		}
	})
}
