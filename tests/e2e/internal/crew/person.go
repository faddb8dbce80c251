// Package crew plays the people who use Crewbeat: it speaks the HTTP API and
// holds sockets as a browser does.
package crew

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"
)

// Site is where Crewbeat answers. API and Realtime may be the same address.
type Site struct {
	API      string // http://host:port, without a path
	Realtime string // http://host:port, without a path
}

// Person is one signed-in browser.
type Person struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email"`
	Today string `json:"today"` // YYYY-MM-DD in the person's zone

	site Site
	http *http.Client
}

// ProblemError is an answer of 400 or more.
type ProblemError struct {
	Method, Path string
	Status       int
	Code         string
	Detail       string
	Body         string
}

func (p *ProblemError) Error() string {
	return fmt.Sprintf("%s %s: %d %s: %s %s", p.Method, p.Path, p.Status, p.Code, p.Detail, p.Body)
}

// Visitor returns a browser that is not signed in.
func Visitor(site Site) *Person {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err) // without options it cannot fail
	}
	return &Person{site: site, http: &http.Client{Jar: jar, Timeout: 15 * time.Second}}
}

// Password is that of everyone who registers here.
const Password = "correct-horse-battery"

// Register makes an account and signs in. The name is also the local part of
// the address, in lower case.
func Register(ctx context.Context, site Site, name string) (*Person, error) {
	p := Visitor(site)
	in := map[string]any{
		"name": name, "email": strings.ToLower(name) + "@e2e.example", "password": Password, "tz": "Europe/Berlin",
	}
	err := p.Do(ctx, http.MethodPost, "/api/v1/auth/register", in, &struct{ User *Person }{p})
	return p, err
}

// SignIn signs in to an account that exists.
func SignIn(ctx context.Context, site Site, email, password string) (*Person, error) {
	p := Visitor(site)
	in := map[string]any{"email": email, "password": password}
	err := p.Do(ctx, http.MethodPost, "/api/v1/auth/login", in, &struct{ User *Person }{p})
	return p, err
}

// At is the same browser, with the same cookies, on another address of
// Crewbeat: after a restore, say.
func (p *Person) At(site Site) *Person {
	moved := *p
	moved.site = site
	return &moved
}

// Do calls the API and decodes the answer into out, unless out is nil. An
// answer of 400 or more is a [*ProblemError].
func (p *Person) Do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode %s %s: %w", method, path, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, p.site.API+path, body)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Origin", p.site.API)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	res, err := p.http.Do(req)
	if err != nil {
		return fmt.Errorf("call the API: %w", err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("read the answer of %s %s: %w", method, path, err)
	}
	if res.StatusCode >= 400 {
		problem := &ProblemError{Method: method, Path: path, Status: res.StatusCode}
		if json.Unmarshal(answer, problem) != nil {
			problem.Body = string(answer)
		}
		return problem
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("decode the answer of %s %s: %w", method, path, err)
	}
	return nil
}

// Habit is as much of one as the tests look at.
type Habit struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	StartDay string `json:"start_day"`
}

// NewHabit makes a daily yes/no habit that began on startDay, shared with
// the teams named, if any.
func (p *Person) NewHabit(ctx context.Context, name, startDay string, teams ...string) (Habit, error) {
	in := map[string]any{"name": name, "schedule": map[string]any{"type": "daily"}, "start_day": startDay}
	if len(teams) > 0 {
		in["visibility"], in["team_ids"] = "named", teams
	}
	var h Habit
	err := p.Do(ctx, http.MethodPost, "/api/v1/habits", in, &h)
	return h, err
}

// Ticked is the answer to a tick.
type Ticked struct {
	Record    *struct{ Day, State string }
	Duplicate bool
	Streak    struct{ Current int }
}

// Tick marks a day as done. The operation id makes repeating it harmless.
func (p *Person) Tick(ctx context.Context, habit, day, op string) (Ticked, error) {
	var out Ticked
	err := p.Do(ctx, http.MethodPut, "/api/v1/habits/"+habit+"/records/"+day, map[string]any{"state": "done", "client_op_id": op}, &out)
	return out, err
}

// Untick takes a tick back.
func (p *Person) Untick(ctx context.Context, habit, day, op string) error {
	return p.Do(ctx, http.MethodDelete, "/api/v1/habits/"+habit+"/records/"+day+"?client_op_id="+url.QueryEscape(op), nil, nil)
}

// Team is as much of one as the tests look at.
type Team struct {
	Team struct{ ID, Name string }
	Role string
}

// NewTeam makes a team that p owns.
func (p *Person) NewTeam(ctx context.Context, name string) (Team, error) {
	var t Team
	err := p.Do(ctx, http.MethodPost, "/api/v1/teams", map[string]any{"name": name}, &t)
	return t, err
}

// Invite returns the token of a new invite to the team.
func (p *Person) Invite(ctx context.Context, team string) (string, error) {
	var out struct{ Token, Link string }
	if err := p.Do(ctx, http.MethodPost, "/api/v1/teams/"+team+"/invites", map[string]any{}, &out); err != nil {
		return "", err
	}
	if !strings.HasSuffix(out.Link, "/join#"+out.Token) {
		return "", fmt.Errorf("the invite's link %q does not end in its token", out.Link)
	}
	return out.Token, nil
}

// Join accepts an invite.
func (p *Person) Join(ctx context.Context, token string) error {
	return p.Do(ctx, http.MethodPost, "/api/v1/invites/accept", map[string]any{"token": token}, nil)
}
