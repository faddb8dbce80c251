package httpapi_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/crewbeat/crewbeat/services/api/internal/account"
	"github.com/crewbeat/crewbeat/services/api/internal/admin"
	"github.com/crewbeat/crewbeat/services/api/internal/fault"
	"github.com/crewbeat/crewbeat/services/api/internal/habit"
	"github.com/crewbeat/crewbeat/services/api/internal/httpapi"
	"github.com/crewbeat/crewbeat/services/api/internal/team"
	"github.com/crewbeat/crewbeat/services/internal/session"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Codes, statuses and titles are part of the API.
func TestTheTableOfProblemsStaysAsItIs(t *testing.T) {
	var got bytes.Buffer
	for _, p := range httpapi.Problems() {
		fmt.Fprintf(&got, "%d %s\n\t%s\n\t%s\n", p.Status, p.Code, p.Title, p.Detail)
	}
	const golden = "testdata/problems.txt"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the table has changed; if that is meant, run this test with -update:\n%s", got.Bytes())
	}
}

func TestEveryErrorHasItsProblem(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
		code   string
	}{
		{fault.ErrNotFound, 404, "not-found"},
		{fmt.Errorf("x: %w", admin.ErrSettled), 409, "alert-settled"},
		{fmt.Errorf("x: %w", admin.ErrDiagnosing), 409, "diagnosis-running"},
		{fmt.Errorf("x: %w", admin.ErrIncomplete), 503, "invalidation-incomplete"},
		{fault.ErrForbidden, 403, "forbidden"},
		{fault.ErrStale, 412, "stale"},
		{fault.ErrConflict, 409, "conflict"},
		{fault.Invalidf("name", "send one"), 422, "validation-failed"},
		{account.ErrCredentials, 401, "credentials-wrong"},
		{account.ErrEmailTaken, 409, "email-taken"},
		{account.ErrBusy, 503, "busy"},
		{session.ErrNone, 401, "unauthenticated"},
		{session.ErrReplaced, 401, "session-replaced"},
		{habit.ErrArchived, 409, "habit-archived"},
		{habit.ErrOpReused, 422, "operation-reused"},
		{team.ErrInvite, 404, "invite-invalid"},
		{team.ErrLastOwner, 409, "last-owner"},
		{context.Canceled, 499, "cancelled"},
		{context.DeadlineExceeded, 503, "timeout"},
		{errors.New("disk full at /var/lib/x"), 500, "internal"},
	} {
		wrapped := fmt.Errorf("rename habit 7: %w", tt.err)
		p := httpapi.ProblemOf(wrapped)
		if p.Status != tt.status || p.Code != tt.code {
			t.Errorf("%v = %d %s, want %d %s", tt.err, p.Status, p.Code, tt.status, tt.code)
		}
		if !errors.Is(p, tt.err) {
			t.Errorf("%v is lost in its problem", tt.err)
		}
		if tt.status == 500 && p.Detail != httpapi.ProblemOf(errors.New("other")).Detail {
			t.Errorf("the words of an error of ours reach strangers: %s", p.Detail)
		}
	}
}
