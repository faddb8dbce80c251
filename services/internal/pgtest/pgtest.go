// Package pgtest gives tests a real PostgreSQL of their own.
//
// One server is started per test binary, at the first call, on a free loopback
// port and in a temporary folder. It runs as an unprivileged user even when
// the tests run as root, because PostgreSQL refuses to be root. It ends with
// the test binary however that ends, by a panic or a kill as well: the server
// hangs on a pipe that the kernel closes.
//
// The server's locale is en-US by ICU and not C, so that a query that leans on
// byte order without saying so is found here and not at a customer's.
package pgtest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

var shared struct {
	sync.Mutex
	server *server
	err    error
}

// Main runs the tests of m and then stops the server, if one was started. It
// returns the exit code:
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
func Main(m *testing.M) int { return Tests{m}.Run() }

// Tests are the tests of a package, after which the server is stopped. They
// can be given to what runs them and looks for leaks then:
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Tests{M: m}) }
type Tests struct{ *testing.M }

// Run runs the tests, stops the server and returns the exit code.
func (t Tests) Run() int {
	code := t.M.Run()
	if err := Stop(); err != nil && code == 0 {
		fmt.Println("pgtest:", err) // there is no test left to tell it to
		return 1
	}
	return code
}

// Start returns the URL of the running server's maintenance database, and
// starts the server if this is the first call. It fails t if that cannot be
// done: a test that needs PostgreSQL is never skipped.
func Start(t testing.TB) string {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = launch()
	}
	if shared.err != nil {
		t.Fatalf("start PostgreSQL: %v", shared.err)
	}
	return shared.server.url("postgres")
}

// Stop ends the server and removes its folder. It does nothing if none runs.
func Stop() error {
	shared.Lock()
	defer shared.Unlock()
	s := shared.server
	if s == nil {
		return nil
	}
	shared.server = nil
	return s.stop()
}

// Database returns the URL of a new, empty database, which is dropped when t
// ends.
func Database(t testing.TB) string {
	t.Helper()
	maintenance := Start(t)
	name := "t_" + strings.ToLower(rand.Text()[:16])
	if err := administer(t.Context(), maintenance, "CREATE DATABASE "+name); err != nil {
		t.Fatalf("create a database for the test: %v", err)
	}
	t.Cleanup(func() {
		// t.Context() has ended by now.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
		defer cancel()
		if err := administer(ctx, maintenance, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop the database of the test: %v", err)
		}
	})
	return shared.server.url(name)
}

// administer runs one statement on a connection of its own.
func administer(ctx context.Context, url, statement string) error {
	db, err := sql.Open("pgx", url)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, statement)
	return errors.Join(err, db.Close())
}
