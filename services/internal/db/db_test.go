package db_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/uptrace/bun"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	"github.com/crewbeat/crewbeat/services/internal/db"
	"github.com/crewbeat/crewbeat/services/internal/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Tests{M: m}) }

func onBoth(t *testing.T, test func(t *testing.T, d *db.DB)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, open(t, db.Config{URL: file(t)})) })
	t.Run("postgres", func(t *testing.T) { test(t, open(t, db.Config{URL: pgtest.Database(t)})) })
}

func file(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "crew beat?#%20.db") }

func open(t *testing.T, c db.Config) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return d
}

func exec(t *testing.T, d *db.DB, statement string, args ...any) {
	t.Helper()
	if _, err := d.SQL().ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func number(t *testing.T, d *db.DB, query string) (n int) {
	t.Helper()
	if err := d.SQL().QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func TestAnErrorNamesTheServerAndTheCauseButNotThePassword(t *testing.T) {
	var lc net.ListenConfig
	silent, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0") // accepts and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	port := silent.Addr().(*net.TCPAddr).Port
	server := pgtest.Start(t)
	for _, tt := range []struct {
		name, url string
		want      []string
	}{
		{"nothing listens", "postgres://crew:s3cret@127.0.0.1:1/beat", []string{"127.0.0.1:1", `"beat"`, `"crew"`, "connection refused", "is running"}},
		{"several hosts", "postgres://crew:s3cret@127.0.0.1:1,127.0.0.1:2/beat", []string{"127.0.0.1:1, 127.0.0.1:2", "connection refused"}},
		{"unknown host", "postgres://crew:s3cret@db.invalid:5432/beat", []string{"db.invalid:5432", "not known"}},
		{"no answer", fmt.Sprintf("postgres://crew:s3cret@127.0.0.1:%d/beat", port), []string{"no answer in time", fmt.Sprint(port)}},
		{"no such database", strings.Replace(server, "/postgres?", "/beat?password=s3cret&", 1), []string{"does not exist", "create the database"}},
		{"no such user", strings.Replace(server, "crewbeat@", "s:s3cret@", 1), []string{`role "s"`, "check the user"}},
		{"bad port", "postgres://crew:s3cret@host:port/beat", []string{"invalid port", "percent-encoded"}},
		{"bad escape", "postgres://crew:s3cret%@host/beat", []string{"DATABASE_URL", "percent-encoded"}},
		{"bad parameter", "postgres://crew:s3cret@host/beat?sslmode=s3cret2", []string{"postgres://host/beat"}},
		{"another database", "mysql://crew:s3cret@host/beat", []string{"mysql://host/beat", "sqlite:PATH"}},
		{"no URL", "s3cret", []string{"sqlite:PATH"}},
		{"nothing", "", []string{"DATABASE_URL is empty"}},
		{"memory", "sqlite::memory:", []string{"sqlite:PATH"}},
		{"no path", "sqlite:", []string{"sqlite:PATH"}},
		{"a folder", "sqlite:" + t.TempDir(), []string{"is a directory"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			timeout := 10 * time.Second
			if tt.name == "no answer" {
				timeout = 300 * time.Millisecond
			}
			d, err := db.Open(t.Context(), db.Config{URL: tt.url, ConnectTimeout: timeout})
			if err == nil {
				t.Fatal("opened", d.Dialect())
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
			if all := fmt.Sprintf("%v %+v", err, err); strings.Contains(all, "s3cret") {
				t.Errorf("the password is in: %s", all)
			}
		})
	}
}

func TestAFileThatIsNoDatabaseIsNotTouched(t *testing.T) {
	path := filepath.Join(t.TempDir(), "letter.txt")
	if err := os.WriteFile(path, []byte(strings.Repeat("dear crew ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Open(t.Context(), db.Config{URL: "sqlite:" + path}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("opened, or an error without the path: %v", err)
	}
	if b, _ := os.ReadFile(path); len(b) != 10_000 {
		t.Errorf("the file has %d bytes now", len(b))
	}
}

func TestTheFileIsForItsOwnerAndDurable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "crewbeat.db")
	d := open(t, db.Config{URL: "sqlite:" + path})
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	var mode string
	if err := d.SQL().QueryRowContext(t.Context(), "PRAGMA journal_mode").Scan(&mode); err != nil || mode != "wal" {
		t.Errorf("journal %s, %v", mode, err)
	}
	for pragma, want := range map[string]int{"foreign_keys": 1, "synchronous": 2, "busy_timeout": 10_000} {
		if got := number(t, d, "PRAGMA "+pragma); got != want {
			t.Errorf("%s is %d, want %d", pragma, got, want)
		}
	}
}

func TestATransactionIsAllOrNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, d *db.DB) {
		exec(t, d, "CREATE TABLE n (v BIGINT NOT NULL)")
		deliberate := errors.New("deliberate")
		insert := func(ctx context.Context, tx bun.IDB) error {
			_, err := tx.ExecContext(ctx, "INSERT INTO n VALUES (?)", 7)
			return err
		}
		err := d.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
			if err := insert(ctx, tx); err != nil {
				return err
			}
			return deliberate
		})
		if !errors.Is(err, deliberate) || number(t, d, "SELECT COUNT(*) FROM n") != 0 {
			t.Errorf("%v, and the row is there", err)
		}
		func() {
			defer func() { _ = recover() }()
			_ = d.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
				_ = insert(ctx, tx)
				panic("deliberate")
			})
		}()
		if number(t, d, "SELECT COUNT(*) FROM n") != 0 {
			t.Error("a panic left the row behind")
		}
		// A transaction within one is part of it, and so is what reads through Conn.
		err = d.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
			if err := d.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return insert(ctx, tx) }); err != nil {
				return err
			}
			if err := d.Single(ctx, insert); err != nil {
				return err
			}
			if n, err := d.Conn(ctx).NewSelect().Table("n").Count(ctx); n != 2 || err != nil {
				t.Errorf("the transaction sees %d rows, %v", n, err)
			}
			return deliberate
		})
		if !errors.Is(err, deliberate) || number(t, d, "SELECT COUNT(*) FROM n") != 0 {
			t.Errorf("%v, and rows are there", err)
		}
	})
}

func TestWritersDoNotGetInEachOthersWay(t *testing.T) {
	onBoth(t, func(t *testing.T, d *db.DB) {
		exec(t, d, "CREATE TABLE n (v BIGINT NOT NULL)")
		exec(t, d, "INSERT INTO n VALUES (0)")
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				add := func(ctx context.Context, conn bun.IDB) error {
					_, err := conn.ExecContext(ctx, "UPDATE n SET v = v + 1")
					return err
				}
				var err error
				switch i % 3 {
				case 0:
					err = d.Single(t.Context(), add)
				case 1:
					err = d.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error { return add(ctx, tx) })
				case 2:
					_, err = d.SQL().ExecContext(t.Context(), "UPDATE n SET v = v + $1", 1)
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if got := number(t, d, "SELECT v FROM n"); got != 100 {
			t.Errorf("%d of 100 counted", got)
		}
	})
}

// TestReadersDoNotWaitForAWriter holds a write transaction open, with more
// writers waiting for it than there are connections.
func TestReadersDoNotWaitForAWriter(t *testing.T) {
	d := open(t, db.Config{URL: file(t), MaxConns: 3})
	exec(t, d, "CREATE TABLE n (v BIGINT NOT NULL)")
	inside, release := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		_ = d.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.ExecContext(ctx, "INSERT INTO n VALUES (1)")
			close(inside)
			<-release
			return err
		})
	})
	<-inside
	var started sync.WaitGroup
	for range 20 {
		started.Add(1)
		all.Go(func() {
			started.Done()
			_ = d.Single(t.Context(), func(ctx context.Context, conn bun.IDB) error {
				_, err := conn.ExecContext(ctx, "INSERT INTO n VALUES (1)")
				return err
			})
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	started.Wait()
	for range 200 {
		var got int
		if err := d.SQL().QueryRowContext(ctx, "SELECT COUNT(*) FROM n").Scan(&got); err != nil || got != 0 {
			t.Errorf("%d rows seen before the commit, %v", got, err)
			break
		}
	}
	close(release)
	all.Wait()
	if got := number(t, d, "SELECT COUNT(*) FROM n"); got != 21 {
		t.Errorf("%d rows", got)
	}
}

func TestWaitingForAWriterEndsWithItsContext(t *testing.T) {
	d := open(t, db.Config{URL: file(t)})
	err := d.Transact(t.Context(), func(context.Context, bun.Tx) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond) // not of this transaction
		defer cancel()
		return d.Transact(ctx, func(context.Context, bun.Tx) error { t.Error("two writers at once"); return nil })
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

// TestATransactionBrokenOffRunsAgain: two serializable transactions read what
// the other writes, and PostgreSQL breaks one of them off at its commit.
func TestATransactionBrokenOffRunsAgain(t *testing.T) {
	d := open(t, db.Config{URL: pgtest.Database(t)})
	exec(t, d, "CREATE TABLE n (v BIGINT NOT NULL)")
	var runs atomic.Int32
	var met sync.WaitGroup
	met.Add(2)
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			first := true
			err := d.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
				runs.Add(1)
				if _, err := tx.ExecContext(ctx, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"); err != nil {
					return err
				}
				n, err := tx.NewSelect().Table("n").Count(ctx)
				if err != nil {
					return err
				}
				if first {
					first = false
					met.Done()
					met.Wait()
				}
				_, err = tx.ExecContext(ctx, "INSERT INTO n VALUES (?)", n)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := number(t, d, "SELECT SUM(v) FROM n"); got != 1 || runs.Load() < 3 {
		t.Errorf("the sum is %d after %d runs: one did not see the other", got, runs.Load())
	}
}

// TestABusyFileIsTriedAgain has another program hold the file for longer than
// SQLite waits.
func TestABusyFileIsTriedAgain(t *testing.T) {
	url := file(t)
	d, other := open(t, db.Config{URL: url, MaxConns: 1}), open(t, db.Config{URL: url})
	exec(t, d, "CREATE TABLE n (v BIGINT NOT NULL)")
	exec(t, d, "PRAGMA busy_timeout = 1")
	runs := 0
	insert := func(ctx context.Context, conn bun.IDB) error {
		runs++
		_, err := conn.ExecContext(ctx, "INSERT INTO n VALUES (1)")
		return err
	}
	var err error
	if held := other.Transact(t.Context(), func(context.Context, bun.Tx) error {
		err = d.Single(t.Context(), insert)
		return nil
	}); held != nil {
		t.Fatal(held)
	}
	if err == nil || runs != 8 {
		t.Errorf("%d runs, %v", runs, err)
	}
	if err := d.Single(t.Context(), insert); err != nil {
		t.Errorf("the file is free again: %v", err)
	}
}

func TestErrorsOfKeysAreTold(t *testing.T) {
	onBoth(t, func(t *testing.T, d *db.DB) {
		exec(t, d, "CREATE TABLE a (id TEXT PRIMARY KEY, u TEXT UNIQUE)")
		exec(t, d, "CREATE TABLE b (id TEXT REFERENCES a (id))")
		exec(t, d, "INSERT INTO a VALUES ('x', 'y')")
		for statement, want := range map[string][2]bool{
			"INSERT INTO a VALUES ('x', 'z')":  {true, false},
			"INSERT INTO a VALUES ('z', 'y')":  {true, false},
			"INSERT INTO b VALUES ('nothing')": {false, true},
			"INSERT INTO nowhere VALUES (1)":   {false, false},
		} {
			_, err := d.SQL().ExecContext(t.Context(), statement)
			if got := [2]bool{db.IsUnique(err), db.IsForeignKey(err)}; got != want || err == nil {
				t.Errorf("%s: unique, foreign key = %v, want %v; %v", statement, got, want, err)
			}
		}
	})
}

func TestCheckAsksTheDatabaseOnceASecond(t *testing.T) {
	d := open(t, db.Config{URL: file(t)})
	if err := d.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.SQL().Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Check(t.Context()); err != nil {
		t.Errorf("asked again within a second: %v", err)
	}
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	late := time.After(5 * time.Second)
	for d.Check(t.Context()) == nil {
		select {
		case <-again.C:
		case <-late:
			t.Fatal("a closed database is well")
		}
	}
}

// TestSpansCarryStatementsWithoutValues writes something private by both ways
// there are to write it, and looks for it in all that is traced.
func TestSpansCarryStatementsWithoutValues(t *testing.T) {
	for _, url := range []string{file(t), pgtest.Database(t)} {
		exporter := tracetest.NewInMemoryExporter()
		provider := trace.NewTracerProvider(trace.WithSyncer(exporter))
		d := open(t, db.Config{URL: url, Tracer: provider})
		exec(t, d, "CREATE TABLE habits (id BIGINT, note TEXT, email TEXT)")
		if got := len(exporter.GetSpans()); got != 0 {
			t.Errorf("%s: %d spans outside of a trace", d.Dialect(), got)
		}
		ctx, span := provider.Tracer("test").Start(t.Context(), "request")
		if _, err := d.SQL().ExecContext(ctx, "INSERT INTO habits VALUES ($1, $2, $3)", 314159, "my secret", "mira@example.com"); err != nil {
			t.Fatal(err)
		}
		err := d.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.NewUpdate().Table("habits").Set("note = ?", "it's my secret").
				Where("id IN (?)", bun.List([]int{314159, 2})).Where("email = ?", "mira@example.com").Exec(ctx)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		span.End()
		var texts []string
		for _, s := range exporter.GetSpans() {
			if !s.Parent.IsValid() && s.Name != "request" {
				t.Errorf("%s: span %s has no parent", d.Dialect(), s.Name)
			}
			for _, a := range append(s.Attributes, attribute.String("name", s.Name)) {
				if v := a.Value.String(); strings.Contains(v, "secret") || strings.Contains(v, "mira") || strings.Contains(v, "314159") {
					t.Errorf("%s: %s holds a value: %s", d.Dialect(), a.Key, v)
				}
				if a.Key == "db.query.text" {
					texts = append(texts, s.Name+" | "+a.Value.AsString())
				}
			}
		}
		all := strings.Join(texts, "\n")
		for _, want := range []string{
			"INSERT habits | INSERT INTO habits VALUES ($1, $2, $3)",
			`UPDATE habits | UPDATE "habits" SET note = ? WHERE (id IN (?)) AND (email = ?)`,
		} {
			if !strings.Contains(all, want) {
				t.Errorf("%s: %q is not in\n%s", d.Dialect(), want, all)
			}
		}
	}
}
