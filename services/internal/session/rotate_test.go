package session_test

import (
	"errors"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/session"
)

func wantReplaced(t *testing.T, s *session.Sessions, token, why string) {
	t.Helper()
	if row, err := s.Lookup(t.Context(), token); !errors.Is(err, session.ErrReplaced) || !errors.Is(err, session.ErrNone) {
		t.Errorf("%s: %+v, %v, want ErrReplaced", why, row, err)
	}
}

func TestARotatedSessionHasANewTokenAndTheOldOneIsDead(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		old, row := f.signIn(t, "mira")
		wantAlive(t, f.Sessions, old, "before")
		f.clock.Advance(time.Hour)
		token, fresh, err := f.Rotate(t.Context(), row)
		if err != nil {
			t.Fatal(err)
		}
		wantReplaced(t, f.Sessions, old, "the old token")
		wantReplaced(t, f.other(t, f.config), old, "the old token elsewhere")
		got := wantAlive(t, f.Sessions, token, "the new token")
		want := public(row)
		want.ID, want.LastSeenAt, want.IdleExpiresAt = fresh.ID, f.clock.Now(), f.clock.Now().Add(24*time.Hour)
		if got != fresh || public(got) != want || got.ID == row.ID {
			t.Errorf("rotated to %+v, want %+v", got, want)
		}
		if list, err := f.List(t.Context(), "mira"); err != nil || len(list) != 1 {
			t.Errorf("listed %+v, %v; want the new one alone", list, err)
		}
		if _, _, err := f.Rotate(t.Context(), row); !errors.Is(err, session.ErrReplaced) {
			t.Errorf("rotated again: %v", err)
		}
		if err := f.Revoke(t.Context(), "mira", fresh.ID); err != nil {
			t.Fatal(err)
		}
		if _, _, err := f.Rotate(t.Context(), got); !errors.Is(err, session.ErrNone) || errors.Is(err, session.ErrReplaced) {
			t.Errorf("a revoked session was rotated: %v", err)
		}
	})
}

// However often a session is rotated, it ends a week after the sign-in.
func TestRotatingDoesNotPutOffTheLastEnd(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		token, row := f.signIn(t, "mira")
		for range 8 {
			f.clock.Advance(20 * time.Hour)
			var err error
			if token, row, err = f.Rotate(t.Context(), row); err != nil {
				t.Fatal(err)
			}
		}
		wantAlive(t, f.Sessions, token, "after 160 of 168 hours")
		f.clock.Advance(8 * time.Hour)
		wantNone(t, f.Sessions, token, "a week after the sign-in")
	})
}

func TestOfManyWhoRotateASessionOneDoes(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		_, row := f.signIn(t, "mira")
		var done atomic.Int32
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				switch _, _, err := f.Rotate(t.Context(), row); {
				case err == nil:
					done.Add(1)
				case !errors.Is(err, session.ErrReplaced):
					t.Error(err)
				}
			})
		}
		all.Wait()
		list, err := f.List(t.Context(), "mira")
		if done.Load() != 1 || len(list) != 1 || err != nil {
			t.Errorf("%d of 10 rotated it, %d sessions, %v", done.Load(), len(list), err)
		}
	})
}

// The guide kept the id that the browser came with: whoever had planted it was
// signed in with the victim.
func TestASignInEndsTheSessionThatTheBrowserHad(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		for _, planted := range []string{"jonas", "mira"} {
			token, row := f.signIn(t, planted)
			victim, fresh, err := f.Replace(t.Context(), row, "mira", "192.0.2.9", "Chrome")
			if err != nil {
				t.Fatal(err)
			}
			if victim == token || fresh.ID == row.ID || fresh.UserID != "mira" || !fresh.AbsExpiresAt.Equal(f.clock.Now().Add(7*24*time.Hour)) {
				t.Errorf("signed in with %+v", fresh)
			}
			if planted == "mira" {
				wantReplaced(t, f.Sessions, token, "the own session before")
			} else if _, err := f.Lookup(t.Context(), token); errors.Is(err, session.ErrReplaced) || !errors.Is(err, session.ErrNone) {
				t.Errorf("the planted one: %v, want that it has ended for good", err)
			}
			if got := wantAlive(t, f.Sessions, victim, "the new one"); got != fresh {
				t.Errorf("got %+v, want %+v", got, fresh)
			}
			// One that has ended already is no reason not to sign in.
			if _, again, err := f.Replace(t.Context(), row, "mira", "", ""); err != nil || again.UserID != "mira" {
				t.Errorf("%+v, %v", again, err)
			}
		}
	})
}

func TestARenewalIsAskedOfEverySessionOfTheUser(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		phone, _ := f.signIn(t, "mira")
		laptop, _ := f.signIn(t, "mira")
		other, _ := f.signIn(t, "jonas")
		for _, token := range []string{phone, laptop, other} {
			if wantAlive(t, f.Sessions, token, "before").Renew {
				t.Error("to be renewed before anything has changed")
			}
		}
		if err := f.Renew(t.Context(), "mira"); err != nil {
			t.Fatal(err)
		}
		for _, token := range []string{phone, laptop} {
			row := wantAlive(t, f.Sessions, token, "marked")
			if !row.Renew {
				t.Error("not to be renewed")
			}
			_, fresh, err := f.Rotate(t.Context(), row)
			if err != nil || fresh.Renew {
				t.Errorf("%+v, %v", fresh, err)
			}
		}
		if wantAlive(t, f.Sessions, other, "somebody else").Renew {
			t.Error("somebody else is to be renewed")
		}
	})
}

// In the guide, an update could carry a userId, which then was the user's.
func TestNothingThatACallerHoldsChangesWhoseASessionIs(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		token, row := f.signIn(t, "mira")
		forged := row
		forged.UserID, forged.AbsExpiresAt = "jonas", row.AbsExpiresAt.AddDate(1, 0, 0)
		f.clock.Advance(time.Hour)
		if _, _, err := f.Touch(t.Context(), forged); err != nil {
			t.Fatal(err)
		}
		if got := wantAlive(t, f.Sessions, token, "touched"); got.UserID != "mira" || !got.AbsExpiresAt.Equal(row.AbsExpiresAt) {
			t.Errorf("touched into %+v", got)
		}
		token, _, err := f.Rotate(t.Context(), forged)
		if err != nil {
			t.Fatal(err)
		}
		if got := wantAlive(t, f.Sessions, token, "rotated"); got.UserID != "mira" || !got.AbsExpiresAt.Equal(row.AbsExpiresAt) {
			t.Errorf("rotated into %+v", got)
		}
	})
	for field := range reflect.TypeFor[session.Session]().Fields() {
		if k := field.Type.Kind(); k == reflect.Map || k == reflect.Interface || k == reflect.Slice {
			t.Errorf("%s could carry data of callers: see the package's documentation", field.Name)
		}
	}
}

func TestAProfileSaysHowCookiesAndKeysAreNamed(t *testing.T) {
	f := start(t, "sqlite:"+filepath.Join(t.TempDir(), "c.db"))
	for _, tt := range []struct {
		why    string
		change func(*session.Config)
		name   string
	}{
		{"Crewbeat", func(*session.Config) {}, "crewbeat.sid"},
		{"Crewbeat over HTTPS", func(c *session.Config) { c.Secure = true }, "__Host-crewbeat.sid"},
		{"the crew guide", func(c *session.Config) { c.Profile = session.Crew }, "crewplots.sid"},
		{"the crew guide over HTTPS", func(c *session.Config) { c.Profile, c.Secure = session.Crew, true }, "crewplots.sid"},
		{"a name of one's own", func(c *session.Config) { c.CookieName, c.Secure = "sid", true }, "sid"},
		{"a name of one's own on this host", func(c *session.Config) { c.CookieName, c.Secure = "__Host-sid", true }, "__Host-sid"},
	} {
		c := f.config
		tt.change(&c)
		s := f.other(t, c)
		token, row, err := s.Create(t.Context(), "mira", "", "")
		if err != nil {
			t.Fatal(err)
		}
		secure := ""
		if c.Secure {
			secure = " Secure;"
		}
		want := tt.name + "=" + token + "; Path=/; Max-Age=86400; HttpOnly;" + secure + " SameSite=Lax"
		if got := s.Cookie(token, row).String(); got != want {
			t.Errorf("%s: %s, want %s", tt.why, got, want)
		}
	}
}
