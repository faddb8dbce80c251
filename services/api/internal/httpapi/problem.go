package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"go.opentelemetry.io/otel/trace"

	"github.com/crewbeat/crewbeat/services/api/internal/account"
	"github.com/crewbeat/crewbeat/services/api/internal/admin"
	"github.com/crewbeat/crewbeat/services/api/internal/fault"
	"github.com/crewbeat/crewbeat/services/api/internal/habit"
	"github.com/crewbeat/crewbeat/services/api/internal/team"
	"github.com/crewbeat/crewbeat/services/internal/session"
)

// Problem is an error as the API tells it: RFC 9457, with a code that stays
// the same for as long as the API does, so that programs can branch on it.
type Problem struct { //nolint:errname // the name of RFC 9457, and of the schema in openapi.json
	Type    string         `json:"type" format:"uri-reference" doc:"Identifies the kind of problem; its last part is the code." example:"/problems/validation-failed"`
	Title   string         `json:"title" doc:"The kind of problem in a few words." example:"Some values cannot be accepted"`
	Status  int            `json:"status" minimum:"400" maximum:"599" doc:"The HTTP status." example:"422"`
	Code    string         `json:"code" doc:"The kind of problem for programs; stable." example:"validation-failed"`
	Detail  string         `json:"detail" doc:"What went wrong here, and what to change."`
	Errors  []ProblemError `json:"errors,omitempty" doc:"The values at fault, one by one."`
	TraceID string         `json:"trace_id,omitempty" doc:"Names the request in traces and logs."`

	header http.Header
	cause  error
}

// ProblemError is one value that cannot be accepted.
type ProblemError struct {
	Location string `json:"location" doc:"Where the value stands." example:"body.schedule.weekdays"`
	Message  string `json:"message" doc:"What is wrong with it, or what is expected."`
	Value    any    `json:"value,omitempty" doc:"What was sent, if it is short and no secret."`
}

// Error returns the detail.
func (p *Problem) Error() string { return p.Detail }

// Unwrap returns the error that the problem was made from.
func (p *Problem) Unwrap() error { return p.cause }

// GetStatus implements [huma.StatusError].
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders implements [huma.HeadersError].
func (p *Problem) GetHeaders() http.Header { return p.header }

// ContentType implements [huma.ContentTypeFilter].
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// kind is a sort of problem. Codes are part of the API: they are added, never
// renamed.
type kind struct {
	status int
	code   string
	title  string
	is     error  // the errors it stands for; nil for those that HTTP makes
	detail string // said instead of the error's own words
}

// kinds is the one table from errors to answers. The first match counts.
var kinds = []kind{
	{http.StatusUnprocessableEntity, "validation-failed", "Some values cannot be accepted", nil, ""},
	{http.StatusUnauthorized, "credentials-wrong", "Sign-in failed", account.ErrCredentials, "the e-mail address or the password is wrong: check both and try again"},
	{http.StatusServiceUnavailable, "busy", "Too many sign-ins at once", account.ErrBusy, "many people are signing in right now: try again in a few seconds"},
	{http.StatusConflict, "email-taken", "The address has an account", account.ErrEmailTaken, "an account with this e-mail address exists: sign in, or use another address"},
	{http.StatusUnauthorized, "session-replaced", "The session has a new cookie", session.ErrReplaced, "another answer brings a new session cookie, since your rights have changed or you have signed in again: send the request again with it"},
	{http.StatusUnauthorized, "unauthenticated", "Not signed in", session.ErrNone, "sign in with POST /api/v1/auth/login and send the session cookie"},
	{http.StatusConflict, "habit-archived", "The habit is archived", habit.ErrArchived, "the habit is archived: take it back first with PATCH {\"archived\": false}"},
	{http.StatusUnprocessableEntity, "operation-reused", "The operation id was used before", habit.ErrOpReused, "this client_op_id belongs to another change: make a new id for every change, and repeat one only to retry the same change"},
	{http.StatusNotFound, "invite-invalid", "The invitation does not work", team.ErrInvite, "this invitation is unknown, expired or revoked: ask the team for a new link"},
	{http.StatusConflict, "last-owner", "A team needs an owner", team.ErrLastOwner, "this is the team's only owner: make somebody else an owner first"},
	{http.StatusForbidden, "admins-only", "For admins only", errAdminsOnly, "only those who run this installation may do this: `crewbeat admin --email ADDRESS` on the server makes somebody one"},
	{http.StatusConflict, "alert-settled", "There is no alert to acknowledge", admin.ErrSettled, "no alert of this id fires and waits for somebody: read the list again"},
	{http.StatusConflict, "diagnosis-running", "A diagnosis is under way", admin.ErrDiagnosing, "another diagnosis runs in this process and ends within a quarter of a minute: try again then"},
	{http.StatusServiceUnavailable, "invalidation-incomplete", "Not all was invalidated", admin.ErrIncomplete, "Redis failed before all was done; this server's memory has none of it any more: send the same again once Redis is back"},
	{http.StatusForbidden, "forbidden", "Not allowed", fault.ErrForbidden, "your role does not allow this: ask an owner of the team"},
	{http.StatusNotFound, "not-found", "Not found", fault.ErrNotFound, "there is nothing here, or it is not yours to see: check the address"},
	{http.StatusPreconditionFailed, "stale", "It has changed meanwhile", fault.ErrStale, "somebody changed it since you read it: read it again and send its ETag as If-Match"},
	{http.StatusConflict, "conflict", "Something stands in the way", fault.ErrConflict, "it clashes with something that exists: read it again, then retry"},
	{http.StatusPreconditionRequired, "if-match-missing", "If-Match is missing", errIfMatch, "send the ETag of what you read as the header If-Match, so that no change of somebody else is lost"},
	{http.StatusForbidden, "cross-origin", "The request came from another site", errOrigin, "this browser page belongs to another site: open Crewbeat under its own address (PUBLIC_URL)"},
	{http.StatusTooManyRequests, "quota-exceeded", "Too many requests", errQuota, "that was a lot in a short time: wait for as many seconds as the header Retry-After says, then try again"},
	{499, "cancelled", "The request was given up", context.Canceled, "the request was given up before it was answered"},
	{http.StatusServiceUnavailable, "timeout", "It took too long", context.DeadlineExceeded, "it took too long: try again"},
	{http.StatusBadRequest, "malformed", "The request cannot be read", nil, ""},
	{http.StatusNotFound, "no-such-address", "No such address", nil, "there is nothing at this address: see /docs for what there is"},
	{http.StatusMethodNotAllowed, "method-not-allowed", "Not this way", nil, "this address does not take this method: see the header Allow"},
	{http.StatusNotAcceptable, "not-acceptable", "Only JSON is spoken here", nil, "answers are JSON: accept application/json"},
	{http.StatusRequestTimeout, "body-too-slow", "The body did not arrive in time", nil, "send the whole body within five seconds"},
	{http.StatusRequestEntityTooLarge, "body-too-large", "The body is too large", nil, fmt.Sprintf("send at most %d KiB", maxBody>>10)},
	{http.StatusUnsupportedMediaType, "unsupported-media-type", "Only JSON is understood here", nil, "send JSON, with Content-Type: application/json"},
	{http.StatusInternalServerError, "internal", "Something broke", nil, "something broke on our side; it is logged with the trace_id of this answer"},
}

var (
	errIfMatch = errors.New("no If-Match header")
	errOrigin  = errors.New("cross-origin request refused")
	errQuota   = errors.New("quota exceeded")

	errAdminsOnly = errors.New("the asker is no admin")
)

// problem turns any error into what the asker is told. What is not in the
// table is our fault, and its words stay in the log.
func problem(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	if in, ok := errors.AsType[*fault.InvalidError](err); ok {
		p := newProblem(kinds[0], err)
		p.Detail = in.Error()
		p.Errors = []ProblemError{{Location: "body." + in.Field, Message: in.Detail}}
		return p
	}
	for _, k := range kinds {
		if k.is != nil && errors.Is(err, k.is) {
			return newProblem(k, err)
		}
	}
	return newProblem(kinds[len(kinds)-1], err)
}

func newProblem(k kind, cause error) *Problem {
	return &Problem{
		Type: "/problems/" + k.code, Title: k.title, Status: k.status,
		Code: k.code, Detail: k.detail, cause: cause,
	}
}

// ofStatus makes the problem of an error that HTTP or the OpenAPI document
// decided on: an unreadable body, a missing property.
func ofStatus(status int, detail string) *Problem {
	for _, k := range kinds {
		if k.is == nil && k.status == status {
			p := newProblem(k, nil)
			if p.Detail == "" {
				p.Detail = detail
			}
			return p
		}
	}
	p := newProblem(kinds[len(kinds)-1], nil)
	if status < 500 {
		p.Status, p.Title, p.Code, p.Detail = status, http.StatusText(status), "refused", detail
	}
	return p
}

// humaError is what huma calls for the problems that it finds itself.
func humaError(status int, msg string, errs ...error) huma.StatusError {
	p := ofStatus(status, msg)
	for _, err := range errs {
		var d huma.ErrorDetailer
		switch {
		case err == nil:
		case errors.As(err, &d):
			p.Errors = append(p.Errors, problemError(d.ErrorDetail()))
		default:
			p.cause = errors.Join(p.cause, err)
			if status < 500 {
				p.Errors = append(p.Errors, ProblemError{Location: "body", Message: err.Error()})
			}
		}
	}
	if n := len(p.Errors); n > 0 && (p.Status == http.StatusUnprocessableEntity || p.Status == http.StatusBadRequest) {
		e := p.Errors[0]
		p.Detail = strings.TrimPrefix(e.Location, "body.") + ": " + e.Message
		if n > 1 {
			p.Detail += fmt.Sprintf(" (and %d more, see errors)", n-1)
		}
	}
	return p
}

// problemError keeps what was sent only if it is one short value that cannot
// be a secret.
func problemError(d *huma.ErrorDetail) ProblemError {
	e := ProblemError{Location: d.Location, Message: d.Message}
	if secret(d.Location) {
		return e
	}
	switch v := d.Value.(type) {
	case string:
		if len(v) <= 100 {
			e.Value = v
		}
	case bool, float64, int, int64:
		e.Value = v
	}
	return e
}

func secret(location string) bool {
	for _, word := range []string{"password", "token", "current", "new", "cookie"} {
		if strings.Contains(location, word) {
			return true
		}
	}
	return false
}

// write sends p where no huma context exists (yet).
func (p *Problem) write(w http.ResponseWriter, r *http.Request) {
	p.TraceID = traceID(r.Context())
	maps.Copy(w.Header(), p.header)
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	// The asker may have gone; there is nobody else to tell.
	_ = json.NewEncoder(w).Encode(p)
}

func traceID(ctx context.Context) string {
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		return sc.TraceID().String()
	}
	return ""
}
