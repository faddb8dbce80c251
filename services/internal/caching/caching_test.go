package caching_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/services/internal/caching"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type good struct {
	ID      string
	At      time.Time
	Parts   []part
	ByDay   map[string]*part
	Again   *good  // types may hold themselves
	Token   string `json:"-"`
	private string //nolint:unused // is not encoded
}

type part struct{ N int }

func TestOnlyWhatMayBeSeenIsCached(t *testing.T) {
	store, err := tiered.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close(t.Context()) }()
	if _, err := caching.Open[good](store, caching.Space{Name: "good", Class: caching.Flash}); err != nil {
		t.Errorf("a type that may be cached: %v", err)
	}
	refused := func(what string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want it to name %s", err, what)
		}
	}
	s := caching.Space{Name: "bad", Class: caching.Flash}
	_, err = caching.Open[struct{ PasswordHash string }](store, s)
	refused(".PasswordHash has the name of a secret", err)
	_, err = caching.Open[[]struct{ Deep struct{ APIKey string } }](store, s)
	refused(".Deep.APIKey", err)
	_, err = caching.Open[map[string]struct{ SessionToken string }](store, s)
	refused(".SessionToken", err)
	_, err = caching.Open[struct {
		Harmless string `json:"secret"`
	}](store, s)
	refused(".Harmless", err)
	_, err = caching.Open[struct{ Extra any }](store, s)
	refused(".Extra is a interface", err)
	_, err = caching.Open[struct{ Extra map[string]any }](store, s)
	refused(".Extra[] is a interface", err)
}

func TestEverySpaceIsDescribedAndEnds(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range caching.Spaces {
		if s.Name == "" || s.Key == "" || s.Holds == "" || s.Ends == "" || seen[s.Name] {
			t.Errorf("%+v: want a name of its own, and everything said of it", s)
		}
		if s.Class == 0 && len(s.Options) == 0 {
			t.Errorf("%s: want a class, or options that say how long it lives", s.Name)
		}
		seen[s.Name] = true
	}
	for _, f := range caching.Families() {
		if _, err := regexp.Compile(f.Pattern); err != nil || f.Holds == "" {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

func TestADigestTellsPartsKindsAndSecretsApart(t *testing.T) {
	all := map[string]string{}
	for name, d := range map[string]string{
		"it":             caching.Digest("s", "user", "mira"),
		"another person": caching.Digest("s", "user", "jonas"),
		"another secret": caching.Digest("t", "user", "mira"),
		"shifted parts":  caching.Digest("s", "userm", "ira"),
		"one part":       caching.Digest("s", "usermira"),
	} {
		if len(d) != 22 || all[d] != "" {
			t.Errorf("%s: %q, want 22 characters that %q does not have", name, d, all[d])
		}
		all[d] = name
	}
	if first, again := caching.Digest("s", "user", "mira"), caching.Digest("s", "user", "mira"); first != again {
		t.Error("the same gives another digest")
	}
}
