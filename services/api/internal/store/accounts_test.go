package store_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/api/internal/account"
	"github.com/crewbeat/crewbeat/services/api/internal/fault"
	"github.com/crewbeat/crewbeat/services/internal/event"
)

func TestAUserIsReadAsItWasCreated(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		mira := f.user(t, "Mira")
		got, err := f.Accounts().User(t.Context(), mira.ID)
		if err != nil || got != mira {
			t.Errorf("by id: %+v, %v", got, err)
		}
		got, hash, err := f.Accounts().UserByEmail(t.Context(), " MIRA@demo.crewbeat.EXAMPLE")
		if err != nil || got != mira || hash != "hash of Mira" {
			t.Errorf("by e-mail: %+v, %q, %v", got, hash, err)
		}
		_, err = f.Accounts().User(t.Context(), "nobody")
		wantError(t, err, fault.ErrNotFound)
		_, _, err = f.Accounts().UserByEmail(t.Context(), "nobody@example.com")
		wantError(t, err, fault.ErrNotFound)
		if strings.Contains(err.Error(), "example.com") {
			t.Errorf("the error tells the address: %v", err)
		}
	})
}

func TestAnAddressHasOneAccountWhateverItsCase(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		mira, jonas := f.user(t, "mira"), f.user(t, "jonas")
		twin := mira
		twin.ID, twin.Email = f.id(), "Mira@Demo.Crewbeat.Example"
		wantError(t, f.Accounts().CreateUser(t.Context(), twin, "x"), account.ErrEmailTaken)
		jonas.Email, jonas.Version = "MIRA@demo.crewbeat.example", 2
		wantError(t, f.Accounts().SaveUser(t.Context(), jonas), account.ErrEmailTaken)
	})
}

func TestSavingAUserNeedsTheVersionBefore(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		mira := f.user(t, "mira")
		mira.Name, mira.TZ, mira.WeekStart, mira.IsAdmin = "Mira ' L", "Pacific/Apia", time.Sunday, true
		mira.Version, mira.UpdatedAt = 2, dawn.Add(time.Hour)
		e := event.Event{ID: "e1", Channel: "user:x:session", Name: "user_updated", Data: []byte(`{"version":2}`), At: dawn}
		if err := f.Accounts().SaveUser(t.Context(), mira, e); err != nil {
			t.Fatal(err)
		}
		got, hash, err := f.Accounts().UserByEmail(t.Context(), mira.Email)
		if err != nil || got != mira || hash != "hash of mira" {
			t.Errorf("saved as %+v, %q, %v", got, hash, err)
		}
		e.ID = "e2"
		wantError(t, f.Accounts().SaveUser(t.Context(), mira, e), fault.ErrStale)
		mira.ID = "nobody"
		wantError(t, f.Accounts().SaveUser(t.Context(), mira, e), fault.ErrNotFound)

		e.ID, e.Class = "e1", event.Durable
		if got := f.pending(t); len(got) != 1 || !reflect.DeepEqual(got[0], e) {
			t.Errorf("pending %+v, want only %+v", got, e)
		}
	})
}

func TestThePasswordIsChangedOfOneUser(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		mira, jonas := f.user(t, "mira"), f.user(t, "jonas")
		if err := f.Accounts().SetPasswordHash(t.Context(), mira.ID, "new"); err != nil {
			t.Fatal(err)
		}
		for email, want := range map[string]string{mira.Email: "new", jonas.Email: "hash of jonas"} {
			if _, got, err := f.Accounts().UserByEmail(t.Context(), email); got != want || err != nil {
				t.Errorf("%s has %q, %v, want %q", email, got, err, want)
			}
		}
		wantError(t, f.Accounts().SetPasswordHash(t.Context(), "nobody", "new"), fault.ErrNotFound)
	})
}

func TestARightComesWithANoteAndEndsSessions(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		mira := f.user(t, "mira")
		if err := f.Accounts().SetAdmin(t.Context(), mira.ID, true); err != nil {
			t.Fatal(err)
		}
		got, err := f.Accounts().User(t.Context(), mira.ID)
		if err != nil || !got.IsAdmin || got.Version != mira.Version+1 {
			t.Errorf("saved as %+v, %v", got, err)
		}
		wantError(t, f.Accounts().SetAdmin(t.Context(), "nobody", true), fault.ErrNotFound)
		log, err := f.Audit().Entries(t.Context(), 0, 10)
		if err != nil || len(log) != 1 || log[0].Action != "admin.grant" || log[0].Subject != "user:"+mira.ID || log[0].UserID != "" {
			t.Errorf("audit log = %+v, %v", log, err)
		}
	})
}
