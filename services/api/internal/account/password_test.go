package account_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/crewbeat/crewbeat/services/api/internal/account"
)

func TestAPasswordHasItsOwnHashOnly(t *testing.T) {
	h, err := account.NewHasher(2)
	if err != nil {
		t.Fatal(err)
	}
	one, err := h.Hash(t.Context(), "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(one, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hash = %s, want argon2id with the costs that are recommended", one)
	}
	two, err := h.Hash(t.Context(), "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if one == two {
		t.Error("two hashes of a password are the same: no salt")
	}
	for password, want := range map[string]bool{"correct horse": true, "correct horse ": false, "Correct horse": false, "": false} {
		if ok, err := h.Verify(t.Context(), password, one); err != nil || ok != want {
			t.Errorf("verify %q = %v, %v, want %v", password, ok, err, want)
		}
	}
}

func TestAHashOfOtherCostsIsVerifiedWithThose(t *testing.T) {
	h, err := account.NewHasher(1)
	if err != nil {
		t.Fatal(err)
	}
	// The reference implementation's: argon2 somesalt -id -t 2 -m 16 -p 1 < password
	const reference = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	if ok, err := h.Verify(t.Context(), "password", reference); err != nil || !ok {
		t.Errorf("verify = %v, %v", ok, err)
	}
}

func TestABrokenHashIsAnErrorAndNoPanic(t *testing.T) {
	h, err := account.NewHasher(1)
	if err != nil {
		t.Fatal(err)
	}
	for _, hash := range []string{
		"", "x", "$2a$10$abc", "$argon2id$v=18$m=16,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=19$m=16,t=0,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=19$m=4294967295,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=19$m=16,t=2,p=1$%$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "$argon2id$v=19$m=16,t=2,p=1$c29tZXNhbHQ$",
	} {
		if ok, err := h.Verify(t.Context(), "password", hash); err == nil || ok {
			t.Errorf("verify against %q = %v, %v, want an error", hash, ok, err)
		}
	}
}

// However many sign in at once, only so many hashes are made at a time; who
// gives up waiting is let go.
func TestHashesAreMadeAFewAtATime(t *testing.T) {
	h, err := account.NewHasher(2)
	if err != nil {
		t.Fatal(err)
	}
	var now, most atomic.Int64
	h.Watch(func(delta int64) {
		n := now.Add(delta)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
	})
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			if _, err := h.Hash(t.Context(), "correct horse"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if most.Load() != 2 {
		t.Errorf("%d at a time, want 2", most.Load())
	}
	release := h.Fill()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Hash(ctx, "correct horse"); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want that of the context", err)
	}
	release()
}
