package session_test

import (
	"database/sql"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
	"go.uber.org/goleak"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/db"
	"github.com/crewbeat/crewbeat/services/internal/pgtest"
	"github.com/crewbeat/crewbeat/services/internal/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Tests{M: m}, dialling) }

const (
	secret    = "the first secret, of a decent length"
	oldSecret = "an older secret, of a decent length"
)

var monday = time.Date(2026, time.March, 2, 6, 0, 0, 0, time.UTC)

// fixture is a node with two users and a clock that a test moves.
type fixture struct {
	*session.Sessions
	config session.Config
	clock  *tieredtest.Clock
	db     *sql.DB
}

// onBoth runs a test with SQLite and with PostgreSQL, each with a cache in
// memory in front.
func onBoth(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, start(t, "sqlite:"+filepath.Join(t.TempDir(), "c.db"))) })
	t.Run("postgres", func(t *testing.T) { test(t, start(t, pgtest.Database(t))) })
}

func start(t *testing.T, url string) *fixture {
	t.Helper()
	f := &fixture{clock: tieredtest.NewClock(monday), db: migrated(t, url)}
	f.config = session.Config{
		DB: f.db, Cache: cache(t, tiered.WithClock(f.clock)), Secrets: []string{secret, oldSecret}, Now: f.clock.Now,
	}
	f.Sessions = f.node(t, f.config)
	return f
}

// migrated returns a database with the schema that ships, and the users mira
// and jonas.
func migrated(t *testing.T, url string) *sql.DB {
	t.Helper()
	d, err := db.Open(t.Context(), db.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	dialect := map[string]goose.Dialect{db.Postgres: goose.DialectPostgres, db.SQLite: goose.DialectSQLite3}[d.Dialect()]
	p, err := goose.NewProvider(dialect, d.SQL(), os.DirFS("../../api/internal/store/migrations/"+d.Dialect()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mira", "jonas"} {
		_, err := d.SQL().ExecContext(t.Context(), `INSERT INTO users (id, email, email_norm, name, tz, version, created_at, updated_at)
			VALUES ($1, $1, $1, $1, 'UTC', 1, 0, 0)`, name)
		if err != nil {
			t.Fatal(err)
		}
	}
	return d.SQL()
}

func cache(t *testing.T, opts ...tiered.Option) *tiered.Store {
	t.Helper()
	c, err := tiered.Open(t.Context(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(t.Context()) })
	return c
}

// other returns a node with another configuration and a cache of its own.
func (f *fixture) other(t *testing.T, c session.Config) *session.Sessions {
	t.Helper()
	c.Cache = cache(t, tiered.WithClock(f.clock))
	return f.node(t, c)
}

func (f *fixture) node(t *testing.T, c session.Config) *session.Sessions {
	t.Helper()
	s, err := session.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (f *fixture) signIn(t *testing.T, user string) (string, session.Session) {
	t.Helper()
	token, row, err := f.Create(t.Context(), user, "192.0.2.7", "Firefox")
	if err != nil {
		t.Fatal(err)
	}
	return token, row
}

func wantNone(t *testing.T, s *session.Sessions, token, why string) {
	t.Helper()
	if row, err := s.Lookup(t.Context(), token); !errors.Is(err, session.ErrNone) {
		t.Errorf("%s: %+v, %v, want ErrNone", why, row, err)
	}
}

func wantAlive(t *testing.T, s *session.Sessions, token, why string) session.Session {
	t.Helper()
	row, err := s.Lookup(t.Context(), token)
	if err != nil {
		t.Errorf("%s: %v", why, err)
	}
	return row
}

func TestASessionIsFoundByItsToken(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		token, created := f.signIn(t, "mira")
		want := session.Session{
			ID: created.ID, UserID: "mira", CreatedAt: monday, LastSeenAt: monday,
			IdleExpiresAt: monday.Add(24 * time.Hour), AbsExpiresAt: monday.Add(7 * 24 * time.Hour),
			IP: "192.0.2.7", UserAgent: "Firefox",
		}
		for _, why := range []string{"from the database", "from the cache"} {
			row := wantAlive(t, f.Sessions, token, why)
			if row != created {
				t.Errorf("%s: %+v, created %+v", why, row, created)
			}
			if got := public(row); got != want {
				t.Errorf("%s: %+v, want %+v", why, got, want)
			}
		}
		if other, _ := f.signIn(t, "mira"); other == token || len(token) != 43 {
			t.Errorf("tokens %q and %q", token, other)
		}
	})
}

// public returns what others see of a session.
func public(s session.Session) session.Session {
	return session.Session{
		ID: s.ID, UserID: s.UserID, CreatedAt: s.CreatedAt, LastSeenAt: s.LastSeenAt,
		IdleExpiresAt: s.IdleExpiresAt, AbsExpiresAt: s.AbsExpiresAt, IP: s.IP, UserAgent: s.UserAgent,
	}
}

func TestAForgedTokenOpensNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		token, row := f.signIn(t, "mira")
		var stored string
		if err := f.db.QueryRowContext(t.Context(), "SELECT token_hash FROM sessions").Scan(&stored); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(stored, token) {
			t.Error("the database holds the token")
		}
		flipped := "A" + token[1:]
		if token[0] == 'A' {
			flipped = "B" + token[1:]
		}
		for _, forged := range []string{
			"", row.ID, stored, flipped, token[:42], token + "A", strings.Repeat("A", 43), strings.Repeat("'", 43),
			"' OR 1=1 --", strings.Repeat("\x00", 43), token + "\n", strings.Repeat("x", 1<<20),
		} {
			wantNone(t, f.Sessions, forged, "forged "+forged[:min(len(forged), 50)])
		}
		foreign := f.config
		foreign.Secrets = []string{"another application's secret, long enough"}
		wantNone(t, f.other(t, foreign), token, "signed with another secret")
		wantAlive(t, f.Sessions, token, "the real one")
	})
}

func TestASecretIsReplacedWithoutSigningPeopleOut(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		before := f.config
		before.Secrets = []string{oldSecret}
		token, row, err := f.other(t, before).Create(t.Context(), "mira", "", "")
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			wantAlive(t, f.Sessions, token, "signed with the secret of before")
		}
		if err := f.Revoke(t.Context(), "mira", row.ID); err != nil {
			t.Fatal(err)
		}
		wantNone(t, f.Sessions, token, "revoked")
		token, _ = f.signIn(t, "mira")
		wantNone(t, f.other(t, before), token, "new tokens are signed with the first secret")
	})
}

func TestARevokedSessionIsDeadAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		token, row := f.signIn(t, "mira")
		other, _ := f.signIn(t, "mira")
		wantAlive(t, f.Sessions, token, "before")
		if err := f.Revoke(t.Context(), "jonas", row.ID); !errors.Is(err, session.ErrNone) {
			t.Errorf("jonas revokes mira's session: %v", err)
		}
		wantAlive(t, f.Sessions, token, "after jonas tried")
		for range 2 {
			if err := f.Revoke(t.Context(), "mira", row.ID); err != nil {
				t.Fatal(err)
			}
			wantNone(t, f.Sessions, token, "revoked")
		}
		wantAlive(t, f.Sessions, other, "another session of the user")
		f.clock.Advance(2 * time.Minute)
		if _, touched, err := f.Touch(t.Context(), row); touched || err != nil {
			t.Errorf("a revoked session is touched: %t, %v", touched, err)
		}
		wantNone(t, f.Sessions, token, "after the touch")
	})
}

func TestRevokeAllLeavesTheOneInUse(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		phone, _ := f.signIn(t, "mira")
		laptop, here := f.signIn(t, "mira")
		jonas, _ := f.signIn(t, "jonas")
		for _, token := range []string{phone, laptop, jonas} {
			wantAlive(t, f.Sessions, token, "before")
		}
		ids, err := f.RevokeAll(t.Context(), "mira", here.ID)
		if err != nil || len(ids) != 1 || ids[0] == here.ID {
			t.Fatalf("ended %q, %v; want the phone's", ids, err)
		}
		wantNone(t, f.Sessions, phone, "the phone")
		wantAlive(t, f.Sessions, laptop, "the one in use")
		wantAlive(t, f.Sessions, jonas, "somebody else's")
		if ids, err := f.RevokeAll(t.Context(), "mira", ""); err != nil || len(ids) != 1 || ids[0] != here.ID {
			t.Fatalf("ended %q, %v; want the laptop's", ids, err)
		}
		wantNone(t, f.Sessions, laptop, "with no exception")
	})
}

func TestASessionEndsWhenItIsNotUsedAndAtTheLatestAfterAWeek(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		idle, _ := f.signIn(t, "mira")
		used, row := f.signIn(t, "mira")
		end := monday.Add(7 * 24 * time.Hour)
		for now := monday; now.Before(end.Add(-20 * time.Hour)); now = f.clock.Now() {
			f.clock.Advance(20 * time.Hour)
			row = wantAlive(t, f.Sessions, used, f.clock.Now().String())
			var touched bool
			var err error
			if row, touched, err = f.Touch(t.Context(), row); !touched || err != nil {
				t.Fatalf("touched %t, %v", touched, err)
			}
		}
		wantNone(t, f.Sessions, idle, "not used for days")
		if !row.IdleExpiresAt.Equal(end) || !row.ExpiresAt().Equal(end) {
			t.Errorf("ends %s, at the latest %s", row.IdleExpiresAt, end)
		}
		f.clock.Advance(end.Sub(f.clock.Now()) - time.Millisecond)
		wantAlive(t, f.Sessions, used, "just before the end")
		f.clock.Advance(time.Millisecond)
		wantNone(t, f.Sessions, used, "after a week, from the cache")
	})
}

func TestTouchIsNotedOnceAMinuteByOneNode(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		token, row := f.signIn(t, "mira")
		f.clock.Advance(59 * time.Second)
		if _, touched, err := f.Touch(t.Context(), row); touched || err != nil {
			t.Errorf("touched %t, %v within the minute", touched, err)
		}
		f.clock.Advance(time.Second)
		var times atomic.Int32
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				row, touched, err := f.Touch(t.Context(), row)
				if err != nil {
					t.Error(err)
				}
				if touched {
					times.Add(1)
					if !row.LastSeenAt.Equal(f.clock.Now()) || !row.IdleExpiresAt.Equal(f.clock.Now().Add(24*time.Hour)) {
						t.Errorf("touched to %+v", row)
					}
				}
			})
		}
		all.Wait()
		if times.Load() != 1 {
			t.Errorf("%d of 20 noted it", times.Load())
		}
		if row := wantAlive(t, f.Sessions, token, "after"); !row.LastSeenAt.Equal(f.clock.Now()) {
			t.Errorf("last seen %s, touched %s", row.LastSeenAt, f.clock.Now())
		}
	})
}

// TestASessionTouchedElsewhereDoesNotEndByTheCache: what is cached here says
// that the session has ended, but another node has put its end off.
func TestASessionTouchedElsewhereDoesNotEndByTheCache(t *testing.T) {
	f := start(t, "sqlite:"+filepath.Join(t.TempDir(), "c.db"))
	short := f.config
	short.Idle = 900 * time.Millisecond
	here := f.other(t, short)
	token, row, err := here.Create(t.Context(), "mira", "", "")
	if err != nil {
		t.Fatal(err)
	}
	wantAlive(t, here, token, "cached")
	if _, err := f.db.ExecContext(t.Context(), "UPDATE sessions SET idle_expires_at = abs_expires_at"); err != nil {
		t.Fatal(err)
	}
	f.clock.Advance(950 * time.Millisecond)
	if got := wantAlive(t, here, token, "put off elsewhere"); got.ID != row.ID {
		t.Errorf("got %+v", got)
	}
}

func TestAUserSeesTheSessionsThatAreAlive(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		_, ended := f.signIn(t, "mira")
		f.clock.Advance(25 * time.Hour)
		_, revoked := f.signIn(t, "mira")
		if err := f.Revoke(t.Context(), "mira", revoked.ID); err != nil {
			t.Fatal(err)
		}
		f.signIn(t, "jonas")
		var want []string
		for range 3 {
			f.clock.Advance(time.Second)
			_, row := f.signIn(t, "mira")
			want = append([]string{row.ID}, want...)
		}
		list, err := f.List(t.Context(), "mira")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, row := range list {
			got = append(got, row.ID)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("listed %v, want %v; %s has ended", got, want, ended.ID)
		}
	})
}

func TestSweepRemovesSessionsThatEndedAWeekAgo(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.signIn(t, "mira")
		f.clock.Advance(24*time.Hour + 7*24*time.Hour)
		f.signIn(t, "mira")
		for _, want := range []int64{0, 1, 0} {
			if got, err := f.Sweep(t.Context()); got != want || err != nil {
				t.Errorf("removed %d, %v, want %d", got, err, want)
			}
			f.clock.Advance(time.Millisecond)
		}
	})
}

func TestWhatAClientSaysOfItselfIsCutAndCleaned(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		_, row, err := f.Create(t.Context(), "mira", strings.Repeat("9", 100), "a\x00b\xff\x1b[31m\u202e水'"+strings.Repeat("ü", 300))
		if err != nil {
			t.Fatal(err)
		}
		if want := "ab[31m水'" + strings.Repeat("ü", 248); row.UserAgent != want || len(row.IP) != 64 {
			t.Errorf("user agent %q, ip %q", row.UserAgent, row.IP)
		}
	})
}

func TestNobodyHasASessionWithoutAnAccount(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		if _, _, err := f.Create(t.Context(), "nobody", "", ""); err == nil {
			t.Error("a session of nobody")
		}
	})
}

// The guide returns the id of a session that its store did not take.
func TestASessionThatIsNotStoredIsNoSession(t *testing.T) {
	f := start(t, "sqlite:"+filepath.Join(t.TempDir(), "c.db"))
	if err := f.db.Close(); err != nil {
		t.Fatal(err)
	}
	if token, s, err := f.Create(t.Context(), "mira", "192.0.2.1", "test"); err == nil || token != "" || s.ID != "" {
		t.Errorf("token %q, session %q, error %v", token, s.ID, err)
	}
}

func TestADatabaseThatIsAwaySignsNobodyOut(t *testing.T) {
	f := start(t, "sqlite:"+filepath.Join(t.TempDir(), "c.db"))
	token, _ := f.signIn(t, "mira")
	wantAlive(t, f.Sessions, token, "before")
	if err := f.db.Close(); err != nil {
		t.Fatal(err)
	}
	wantAlive(t, f.Sessions, token, "from the cache")
	f.clock.Advance(time.Minute)
	if _, err := f.Lookup(t.Context(), token); err == nil || errors.Is(err, session.ErrNone) {
		t.Errorf("error %v, want one that does not say that nobody is signed in", err)
	}
}

func TestNewRefusesWhatWouldNotBeSafe(t *testing.T) {
	d := new(sql.DB)
	for want, c := range map[string]session.Config{
		"SESSION_SECRET is empty":      {DB: d},
		"secret 2 of 2 has 0":          {DB: d, Secrets: []string{"dev", ""}},
		"secret 1 of 1 has 5":          {DB: d, Secrets: []string{"short"}, Secure: true},
		"need a database":              {Secrets: []string{secret}},
		"__Host-x is only for HTTPS":   {DB: d, Secrets: []string{secret}, CookieName: "__Host-x"},
		"__Secure-x is only for HTTPS": {DB: d, Secrets: []string{secret}, CookieName: "__Secure-x"},
		"the cookie name \"a;b\"":      {DB: d, Secrets: []string{secret}, CookieName: "a;b"},
		"the name \"Crew:\"":           {DB: d, Secrets: []string{secret}, CacheName: "Crew:"},
	} {
		_, err := session.New(c)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "short") {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestTheCookieIsOnlyForTheServer(t *testing.T) {
	f := start(t, "sqlite:"+filepath.Join(t.TempDir(), "c.db"))
	token, row := f.signIn(t, "mira")
	f.clock.Advance(time.Hour)
	if got, want := f.Cookie(token, row).String(), "crewbeat.sid="+token+"; Path=/; Max-Age=82800; HttpOnly; SameSite=Lax"; got != want {
		t.Errorf("cookie %s, want %s", got, want)
	}
	if got, want := f.Expired().String(), "crewbeat.sid=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"; got != want {
		t.Errorf("cookie %s, want %s", got, want)
	}
	production := f.config
	production.Secure = true
	if got, want := f.other(t, production).Cookie(token, row).String(),
		"__Host-crewbeat.sid="+token+"; Path=/; Max-Age=82800; HttpOnly; Secure; SameSite=Lax"; got != want {
		t.Errorf("cookie %s, want %s", got, want)
	}
}

func TestARequestIsWhoseCookieIsGood(t *testing.T) {
	f := start(t, "sqlite:"+filepath.Join(t.TempDir(), "c.db"))
	token, row := f.signIn(t, "mira")
	request := func(cookies ...string) *http.Request {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		for _, c := range cookies {
			r.Header.Add("Cookie", c)
		}
		return r
	}
	got, who, err := f.FromRequest(t.Context(), request("crewbeat.sid=forged", "other=1; crewbeat.sid="+token))
	if got != token || who.ID != row.ID || err != nil {
		t.Errorf("%q, %+v, %v", got, who, err)
	}
	for _, r := range []*http.Request{request(), request("crewbeat.sid="), request("crewbeat.sid=forged"), request("sid=" + token)} {
		if _, _, err := f.FromRequest(t.Context(), r); !errors.Is(err, session.ErrNone) {
			t.Errorf("%v: %v", r.Header, err)
		}
	}
}

// dialling outlives a closed client by up to a second, in go-redis itself.
var dialling = goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial")
