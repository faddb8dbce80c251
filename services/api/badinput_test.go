package api_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// Bad input is answered with a problem that says what to change: never with a
// 500, never with what was secret in it.
func TestBadInputIsToldWhatToChange(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "Europe/Berlin")
	habit := p.habit(t, nil)
	count := p.habit(t, object{"kind": "count", "target_milli": 20000, "unit": "pages"})
	record := "/habits/" + habit + "/records/2026-11-18"
	valid := func(change object) object {
		o := object{"name": "Run", "schedule": daily()}
		maps.Copy(o, change)
		return o
	}
	register := func(change object) object {
		o := object{"email": "new@example.org", "name": "New", "password": "long enough to be one", "tz": "Europe/Berlin"}
		maps.Copy(o, change)
		return o
	}
	for _, tt := range []struct {
		name, method, path string
		body               any
		headers            []string
		status             int
		code               string
		says               string // in the detail: what to change
	}{
		{"unknown field", "POST", "/habits", valid(object{"colour": "red"}), nil, 422, "validation-failed", "colour: unexpected property"},
		{"field in another case", "POST", "/habits", valid(object{"Visibility": "team"}), nil, 422, "validation-failed", "Visibility: unexpected"},
		{"unknown nested field", "POST", "/habits", valid(object{"schedule": object{"type": "daily", "every": 2}}), nil, 422, "validation-failed", "every"},
		{"unknown query parameter", "GET", "/dashboard?date=2026-11-18", nil, nil, 422, "validation-failed", "date"},
		{"missing field", "POST", "/habits", object{"name": "Run"}, nil, 422, "validation-failed", "schedule"},
		{"wrong type", "POST", "/habits", valid(object{"name": 7}), nil, 422, "validation-failed", "name: expected string"},
		{"wrong type deep", "POST", "/habits", valid(object{"schedule": object{"type": "weekdays", "weekdays": []any{"mon"}}}), nil, 422, "validation-failed", "expected integer"},
		{"null for a value", "POST", "/habits", valid(object{"name": nil}), nil, 422, "validation-failed", "name"},
		{"a list for an object", "POST", "/habits", []any{1}, nil, 422, "validation-failed", "object"},
		{"a fraction of a thousandth", "PATCH", record, object{"delta_milli": 1.5, "client_op_id": op()}, nil, 422, "validation-failed", "integer"},
		{"a number out of range", "PATCH", record, `{"delta_milli": 1e300, "client_op_id": "aaaaaaaa"}`, nil, 422, "validation-failed", "delta_milli"},
		{"not JSON", "POST", "/habits", `{"name": `, nil, 400, "malformed", ""},
		{"two documents", "POST", "/habits", `{"name":"a","schedule":{"type":"daily"}}{}`, nil, 400, "malformed", ""},
		{"no body", "POST", "/habits", nil, nil, 400, "malformed", "body"},
		{"not JSON by its type", "POST", "/habits", `name=Run`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "unsupported-media-type", "JSON"},
		{"a body over the limit", "POST", "/habits", valid(object{"name": strings.Repeat("x", 70<<10)}), nil, 413, "body-too-large", "64 KiB"},
		{"nothing in the name", "POST", "/habits", valid(object{"name": "   "}), nil, 422, "validation-failed", "1 to 80"},
		{"a name that is too long", "POST", "/habits", valid(object{"name": strings.Repeat("é", 81)}), nil, 422, "validation-failed", "80"},
		{"a name with a NUL", "POST", "/habits", valid(object{"name": "Run\x00"}), nil, 422, "validation-failed", "plain text"},
		{"a schedule without days", "POST", "/habits", valid(object{"schedule": object{"type": "weekdays", "weekdays": []int{}}}), nil, 422, "validation-failed", "at least one"},
		{"a schedule without days, left out", "POST", "/habits", valid(object{"schedule": object{"type": "weekdays"}}), nil, 422, "validation-failed", "at least one"},
		{"a day that is none", "POST", "/habits", valid(object{"schedule": object{"type": "weekdays", "weekdays": []int{7}}}), nil, 422, "validation-failed", "6"},
		{"eight times a week", "POST", "/habits", valid(object{"schedule": object{"type": "n_per_week", "n": 8}}), nil, 422, "validation-failed", "send 1 to 7"},
		{"no times a week", "POST", "/habits", valid(object{"schedule": object{"type": "n_per_week"}}), nil, 422, "validation-failed", "send 1 to 7"},
		{"days that do not belong", "POST", "/habits", valid(object{"schedule": object{"type": "daily", "weekdays": []int{1}}}), nil, 422, "validation-failed", "weekdays"},
		{"an unknown schedule", "POST", "/habits", valid(object{"schedule": object{"type": "hourly"}}), nil, 422, "validation-failed", "daily"},
		{"an unknown kind", "POST", "/habits", valid(object{"kind": "mood"}), nil, 422, "validation-failed", "yesno"},
		{"no target", "POST", "/habits", valid(object{"kind": "count"}), nil, 422, "validation-failed", "target_milli"},
		{"a target of nothing", "POST", "/habits", valid(object{"kind": "count", "target_milli": 0}), nil, 422, "validation-failed", "above zero"},
		{"a target below zero", "POST", "/habits", valid(object{"kind": "count", "target_milli": -1}), nil, 422, "validation-failed", "target_milli"},
		{"a limit for a yes/no habit", "POST", "/habits", valid(object{"target_type": "at_most"}), nil, 422, "validation-failed", "count or duration"},
		{"an end before the start", "POST", "/habits", valid(object{"start_day": "2026-11-18", "end_day": "2026-11-17"}), nil, 422, "validation-failed", "later day"},
		{"named teams without a team", "POST", "/habits", valid(object{"visibility": "named"}), nil, 422, "validation-failed", "at least one team"},
		{"a team of others", "POST", "/habits", valid(object{"visibility": "named", "team_ids": []string{"x\x00y"}}), nil, 422, "validation-failed", "do not belong"},
		{"the 30th of February", "POST", "/habits", valid(object{"start_day": "2026-02-30"}), nil, 422, "validation-failed", "date"},
		{"a day before all days", "POST", "/habits", valid(object{"start_day": "1969-12-31"}), nil, 422, "validation-failed", "YYYY-MM-DD"},
		{"a day in the future", "PUT", "/habits/" + habit + "/records/2026-11-19", object{"client_op_id": op()}, nil, 422, "validation-failed", "in the future: it is 2026-11-18"},
		{"a day that is no day", "PUT", "/habits/" + habit + "/records/today", object{"client_op_id": op()}, nil, 422, "validation-failed", "YYYY-MM-DD"},
		{"no operation id", "PUT", record, object{}, nil, 422, "validation-failed", "client_op_id"},
		{"a short operation id", "PUT", record, object{"client_op_id": "1"}, nil, 422, "validation-failed", "client_op_id"},
		{"no operation id on delete", "DELETE", record, nil, nil, 422, "validation-failed", "client_op_id"},
		{"an amount for yes/no", "PUT", record, object{"value_milli": 5000, "client_op_id": op()}, nil, 422, "validation-failed", "leave it out"},
		{"adding to yes/no", "PATCH", record, object{"delta_milli": 1000, "client_op_id": op()}, nil, 422, "validation-failed", "PUT"},
		{"an amount for a skip", "PUT", "/habits/" + count + "/records/2026-11-18", object{"state": "skip", "value_milli": 5, "client_op_id": op()}, nil, 422, "validation-failed", "state done"},
		{"an empty note", "PUT", record, object{"state": "note", "client_op_id": op()}, nil, 422, "validation-failed", "note"},
		{"an unknown state", "PUT", record, object{"state": "meh", "client_op_id": op()}, nil, 422, "validation-failed", "done"},
		{"records without a range", "GET", "/habits/" + habit + "/records", nil, nil, 422, "validation-failed", "from"},
		{"a range backwards", "GET", "/habits/" + habit + "/records?from=2026-11-18&to=2026-11-01", nil, nil, 422, "validation-failed", "after"},
		{"a range without end", "GET", "/habits/" + habit + "/records?from=1970-01-01&to=9999-12-31", nil, nil, 422, "validation-failed", "at most 1100"},
		{"an unknown zone", "POST", "/auth/register", register(object{"tz": "Europe/Atlantis"}), nil, 422, "validation-failed", "Europe/Berlin"},
		{"the zone Local", "PATCH", "/me", object{"tz": "Local"}, []string{"If-Match", `"1"`}, 422, "validation-failed", "Europe/Berlin"},
		{"a zone that climbs", "PATCH", "/me", object{"tz": "../../etc/passwd"}, []string{"If-Match", `"1"`}, 422, "validation-failed", "Europe/Berlin"},
		{"no address", "POST", "/auth/register", register(object{"email": "mira"}), nil, 422, "validation-failed", "mira@example.org"},
		{"an address with a name", "POST", "/auth/register", register(object{"email": "Mira <mira@example.org>"}), nil, 422, "validation-failed", "mira@example.org"},
		{"a short password", "POST", "/auth/register", register(object{"password": "hunter2"}), nil, 422, "validation-failed", "password"},
		{"a day that starts in the afternoon", "PATCH", "/me", object{"day_start_min": 721}, []string{"If-Match", `"1"`}, 422, "validation-failed", "720"},
		{"no If-Match", "PATCH", "/me", object{"name": "M"}, nil, 428, "if-match-missing", "ETag"},
		{"another If-Match", "PATCH", "/me", object{"name": "M"}, []string{"If-Match", `"7"`}, 412, "stale", "read it again"},
		{"an If-Match that is no version", "PATCH", "/me", object{"name": "M"}, []string{"If-Match", `"abc"`}, 412, "stale", "read it again"},
		{"no If-Match on archiving", "DELETE", "/habits/" + habit, nil, nil, 428, "if-match-missing", "ETag"},
		{"a wrong password", "POST", "/auth/login", object{"email": p.user.Email, "password": "not the one"}, nil, 401, "credentials-wrong", "wrong"},
		{"a NUL for an address", "POST", "/auth/login", object{"email": "a\x00b", "password": "not the one"}, nil, 401, "credentials-wrong", "wrong"},
		{"the present password wrong", "POST", "/me/password", object{"current": "not the one", "new": "long enough to be one"}, nil, 422, "validation-failed", "present password"},
		{"an id that is none", "GET", "/habits/%00", nil, nil, 422, "validation-failed", "id"},
		{"an id of nothing", "GET", "/habits/019aa000-0000-7000-8000-000000000000", nil, nil, 404, "not-found", "not yours"},
		{"an address of nothing", "GET", "/habit", nil, nil, 404, "no-such-address", "/docs"},
		{"a method of nothing", "PUT", "/habits", object{}, nil, 405, "method-not-allowed", "Allow"},
		{"a cursor that is none", "GET", "/teams/x/activity?before=first", nil, nil, 422, "validation-failed", "before"},
		{"a page of none", "GET", "/teams/x/activity?limit=0", nil, nil, 422, "validation-failed", "limit"},
		{"an invitation that is none", "POST", "/invites/lookup", object{"token": "0123456789abcdef"}, nil, 404, "invite-invalid", "new link"},
		{"an operation id of another change", "PUT", record, object{"client_op_id": "used-before", "state": "skip"}, nil, 422, "operation-reused", "new id"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.code == "operation-reused" {
				p.do(t, "PUT", record, object{"client_op_id": "used-before"}).want(t, 200)
			}
			r := p.do(t, tt.method, tt.path, tt.body, tt.headers...)
			r.wantProblem(t, tt.status, tt.code)
			doc := r.doc(t)
			detail := doc["detail"].(string)
			if !strings.Contains(detail, tt.says) {
				t.Errorf("detail = %q, want it to say %q", detail, tt.says)
			}
			for _, secret := range []string{"hunter2", "not the one", "long enough to be one"} {
				if strings.Contains(string(r.body), secret) {
					t.Errorf("the answer repeats a secret: %s", r.body)
				}
			}
		})
	}
	if strings.Contains(w.log.String(), "level=ERROR") {
		t.Errorf("bad input was logged as our error:\n%s", w.log)
	}
}

func TestAForgedCookieIsNoSession(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "Europe/Berlin")
	name := w.sessions.Expired().Name
	var token string
	req, err := http.NewRequest(http.MethodGet, w.url, nil)
	must(t, err)
	for _, c := range p.client.Jar.Cookies(req.URL) {
		token = c.Value
	}
	for _, forged := range []string{"", "x", strings.Repeat("A", 43), token[1:], token + "A", strings.ToLower(token), strings.Repeat("a", 5000), `"` + token[:10]} {
		r := w.stranger(t).do(t, "GET", "/me", nil, "Cookie", name+"="+forged)
		r.wantProblem(t, http.StatusUnauthorized, "unauthenticated")
	}
	p.do(t, "GET", "/me", nil).want(t, http.StatusOK)
}

func TestChangesFromOtherSitesAreRefused(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "Europe/Berlin")
	body := object{"name": "Run", "schedule": daily()}
	for _, tt := range []struct {
		name    string
		headers []string
		status  int
	}{
		{"another site", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"a sibling subdomain", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"an old browser on another site", []string{"Origin", "https://evil.example.org"}, 403},
		{"no origin to tell", []string{"Origin", "null"}, 403},
		{"a suffix of ours", []string{"Origin", "https://crew.example.org.evil.example"}, 403},
		{"another port of ours", []string{"Origin", "https://crew.example.org:444"}, 403},
		{"our scheme, but plain", []string{"Origin", "http://crew.example.org"}, 403},
		{"our page", []string{"Sec-Fetch-Site", "same-origin"}, 201},
		{"our page behind a proxy", []string{"Origin", "https://crew.example.org"}, 201},
		{"no browser", nil, 201},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := p.do(t, "POST", "/habits", body, tt.headers...).want(t, tt.status)
			if tt.status == 403 {
				r.wantProblem(t, 403, "cross-origin")
			}
		})
	}
}

func TestAnswersCarryNoLinksMadeOfTheHostHeader(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "Europe/Berlin")
	r := p.do(t, "GET", "/me", nil).want(t, 200)
	if strings.Contains(string(r.body), "$schema") || r.header.Get("Link") != "" {
		t.Errorf("answer links to a schema: %v %s", r.header, r.body)
	}
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
		"Cache-Control": "private, no-store", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
	} {
		if got := r.header.Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
}

func TestTheDocsNeedNothingFromElsewhere(t *testing.T) {
	w := newWorld(t, sqlite(t))
	r := w.stranger(t).do(t, "GET", "/docs", nil).want(t, 200)
	page := string(r.body)
	for _, elsewhere := range []string{"http://", "https://", "<script", "style="} {
		if strings.Contains(page, elsewhere) {
			t.Errorf("the docs hold %q", elsewhere)
		}
	}
	d := readDocument(t)
	for path, item := range d.Paths {
		for _, op := range item {
			if !strings.Contains(page, `id="`+op.OperationID+`"`) {
				t.Errorf("the docs lack %s %s", op.OperationID, path)
			}
		}
	}
	if csp := r.header.Values("Content-Security-Policy"); !slices.Equal(csp, []string{"default-src 'none'; style-src 'self'; frame-ancestors 'none'"}) {
		t.Errorf("policy = %q", csp)
	}
	w.stranger(t).do(t, "GET", "/docs/docs.css", nil).want(t, 200)
	w.stranger(t).do(t, "GET", "/openapi.json", nil).want(t, 200)
}
