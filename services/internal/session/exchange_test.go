package session_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/session"
)

// with is a request that comes with a token.
func with(t *testing.T, token string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.Header.Set("Cookie", "crewbeat.sid="+token)
	return r
}

// Whose answer with the new token was lost is told it again, by every node and
// as often as it takes; and nobody is, once it has been used.
func TestAnExchangedTokenIsSaidAgainUntilItIsUsed(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		old, row := f.signIn(t, "mira")
		stranger, _ := f.signIn(t, "jonas")
		f.clock.Advance(time.Hour)
		token, fresh, err := f.Exchange(t.Context(), row)
		if err != nil || token == old || fresh.ID == row.ID {
			t.Fatalf("exchanged for %q, %+v, %v", token, fresh, err)
		}
		wantReplaced(t, f.Sessions, old, "the old token opens nothing")
		rotated := f.config
		rotated.Secrets = append([]string{"a secret that came since, of a decent length"}, f.config.Secrets...)
		for name, node := range map[string]*session.Sessions{"here": f.Sessions, "elsewhere": f.other(t, f.config), "with another secret": f.other(t, rotated)} {
			again, got, err := node.Resume(t.Context(), with(t, old))
			if again != token || got.ID != fresh.ID || got.UserID != "mira" || err != nil {
				t.Errorf("%s: said again: %q of %+v, %v", name, again, public(got), err)
			}
		}
		for why, forged := range map[string]string{"no token": "", "a made-up one": strings.Repeat("A", 43), "somebody else's": stranger, "the new one": token} {
			if again, _, err := f.Resume(t.Context(), with(t, forged)); again != "" || !errors.Is(err, session.ErrReplaced) {
				t.Errorf("%s is exchanged for %q, %v", why, again, err)
			}
		}
		if _, touched, err := f.Touch(t.Context(), wantAlive(t, f.Sessions, token, "the new token")); !touched || err != nil {
			t.Fatalf("its first use is noted: %t, %v", touched, err)
		}
		if again, _, err := f.Resume(t.Context(), with(t, old)); again != "" || !errors.Is(err, session.ErrReplaced) {
			t.Errorf("used, it is said again: %q, %v", again, err)
		}
	})
}

// What somebody asked for was answered, and is nobody else's: the token before
// is worth nothing.
func TestATokenThatWasAskedForIsNotSaidAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		for name, give := range map[string]func(session.Session) (string, session.Session, error){
			"rotated": func(old session.Session) (string, session.Session, error) { return f.Rotate(t.Context(), old) },
			"replaced": func(old session.Session) (string, session.Session, error) {
				return f.Replace(t.Context(), old, "mira", "", "")
			},
		} {
			old, row := f.signIn(t, "mira")
			if _, _, err := give(row); err != nil {
				t.Fatal(err)
			}
			if again, _, err := f.Resume(t.Context(), with(t, old)); again != "" || !errors.Is(err, session.ErrReplaced) {
				t.Errorf("%s: said again: %q, %v", name, again, err)
			}
		}
		// Nor one of a session that was ended since.
		old, row := f.signIn(t, "mira")
		_, fresh, err := f.Exchange(t.Context(), row)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Revoke(t.Context(), "mira", fresh.ID); err != nil {
			t.Fatal(err)
		}
		if again, _, err := f.Resume(t.Context(), with(t, old)); again != "" || !errors.Is(err, session.ErrReplaced) {
			t.Errorf("revoked, it is said again: %q, %v", again, err)
		}
	})
}
