package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/api"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, dialling)
}

// text is a writer that a test may read while a program writes to it.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *text) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(p)
}

func (t *text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// started is a program that serves.
type started struct {
	url    string
	stdout *text
	stderr *text
	stop   func() error // ends it and returns what run returned
}

// start runs the program in this process until the test ends.
func start(t *testing.T, environment map[string]string, args ...string) started {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := started{stdout: &text{}, stderr: &text{}}
	addr, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- run(ctx, args, func(name string) string { return environment[name] }, s.stdout, s.stderr,
			func(a string) { addr <- a })
	}()
	s.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := s.stop(); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the program ended with %v\n%s", err, s.stderr)
		}
	})
	select {
	case a := <-addr:
		s.url = "http://" + a
	case err := <-ended:
		ended <- err
		t.Fatalf("the program ended before it served: %v\n%s", err, s.stderr)
	case <-time.After(30 * time.Second):
		t.Fatalf("the program does not serve\n%s", s.stderr)
	}
	return s
}

// browser is a client with cookies.
func browser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Jar: jar, Transport: transport, Timeout: 10 * time.Second}
}

// call sends body as JSON and returns the status and the decoded answer.
func call(t *testing.T, c *http.Client, method, url string, body any) (int, map[string]any) {
	t.Helper()
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer map[string]any
	_ = json.Unmarshal(b, &answer) // pages and empty answers are not JSON
	return res.StatusCode, answer
}

func TestLaptopKeepsItsDataAndItsSessions(t *testing.T) {
	data := t.TempDir()
	c := browser(t)
	register := map[string]any{"email": "ada@example.com", "name": "Ada", "password": "a long enough one", "tz": "Europe/Zurich"}

	first := start(t, nil, "--addr", "127.0.0.1:0", "--data", data, "--demo=false")
	if status, answer := call(t, c, "POST", first.url+"/api/v1/auth/register", register); status != http.StatusCreated {
		t.Fatalf("register: %d %v", status, answer)
	}
	if err := first.stop(); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}

	_, port, _ := strings.Cut(strings.TrimPrefix(first.url, "http://"), ":")
	second := start(t, nil, "serve", "--addr", "127.0.0.1:"+port, "--data", data)
	status, answer := call(t, c, "GET", second.url+"/api/v1/me", nil)
	if status != http.StatusOK || answer["email"] != "ada@example.com" {
		t.Errorf("after a restart: %d %v, want Ada, signed in", status, answer)
	}
	if strings.Contains(second.stdout.String(), "demo") {
		t.Errorf("a database that has no demo team is offered one:\n%s", second.stdout)
	}
}

func TestLaptopTakesDemoWithoutAWord(t *testing.T) {
	data := t.TempDir()
	first := start(t, nil, "--addr", "127.0.0.1:0", "--data", data, "--demo=false")
	if err := first.stop(); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	second := start(t, nil, "--demo", "--addr", "127.0.0.1:0", "--data", data)
	if !strings.Contains(second.stdout.String(), "demo sign-in") {
		t.Errorf("said %s", second.stdout)
	}
}

func TestLaptopAnswersEverywhere(t *testing.T) {
	s := start(t, nil, "--addr", "127.0.0.1:0", "--data", t.TempDir())
	if out := s.stdout.String(); !strings.Contains(out, "listening on "+s.url) || !strings.Contains(out, "demo sign-in: ") {
		t.Errorf("it does not say where it is and how to sign in:\n%s", out)
	}
	c := browser(t)
	for _, path := range []string{"/api/health", "/openapi.json", "/docs", "/livez", "/readyz", "/startupz", "/metrics"} {
		if status, answer := call(t, c, "GET", s.url+path, nil); status != http.StatusOK {
			t.Errorf("GET %s: %d %v", path, status, answer)
		}
	}
	for _, path := range []string{"/api/v1/me", "/traces", "/traces/api/traces"} {
		if status, _ := call(t, c, "GET", s.url+path, nil); status != http.StatusUnauthorized {
			t.Errorf("GET %s without a session: %d, want 401", path, status)
		}
	}
	call(t, c, "POST", s.url+"/api/v1/auth/login", map[string]any{"email": api.DemoEmail, "password": api.DemoPassword})
	for _, path := range []string{"/api/v1/me", "/traces", "/traces/api/traces"} {
		if status, answer := call(t, c, "GET", s.url+path, nil); status != http.StatusOK {
			t.Errorf("GET %s, signed in: %d %v", path, status, answer)
		}
	}
}

func TestTheEnvironmentSetsTheLimits(t *testing.T) {
	s := start(t, map[string]string{"RATE_LIMIT_LOGIN": "1", "RATE_LIMIT_ANONYMOUS": "2", "RATE_LIMIT_USER": "3"},
		"--addr", "127.0.0.1:0", "--data", t.TempDir())
	c := browser(t)
	ask := func(method, path string, body any, want ...int) {
		t.Helper()
		for i, status := range want {
			if got, answer := call(t, c, method, s.url+path, body); got != status {
				t.Errorf("%s %s, call %d: %d %v, want %d", method, path, i+1, got, answer, status)
			}
		}
	}
	ask("GET", "/api/v1/habits", nil, 401, 401, 429)
	ask("POST", "/api/v1/auth/login", map[string]any{"email": api.DemoEmail, "password": api.DemoPassword}, 200, 429)
	ask("GET", "/api/v1/me", nil, 200, 200, 200, 429)
}

func TestDemoIsForThisMachineOnly(t *testing.T) {
	s := start(t, nil, "--addr", ":0", "--data", t.TempDir())
	if out := s.stdout.String(); strings.Contains(out, "demo") {
		t.Errorf("the demo's password is known to everybody, and this address is reachable by everybody:\n%s", out)
	}
}

func TestProgramSaysWhatIsWrong(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "a-file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		env  map[string]string
		want []string
	}{
		{"a port that is taken", []string{"--addr", taken.Addr().String(), "--data", t.TempDir()}, nil,
			[]string{"taken", "--addr", "make run ARGS="}},
		{"a data folder that is a file", []string{"--addr", "127.0.0.1:0", "--data", file}, nil, []string{"data folder", "--data"}},
		{"an unknown command", []string{"server"}, nil, []string{`"server"`}},
		{"an unknown option", []string{"serve", "--port", "80"}, nil, []string{"-port", "crewbeat serve -h"}},
		{"a word too much", []string{"api", "now"}, nil, []string{`"now"`, "crewbeat api -h"}},
		{"a demo that is neither", []string{"--demo=maybe"}, nil, []string{"--demo=maybe", "true, false or auto"}},
		{"a service without anything", []string{"api"}, nil,
			[]string{"DATABASE_URL is not set", "REDIS_URL is not set", "SESSION_SECRET is not set"}},
		{"several wrong settings at once", []string{"realtime"},
			map[string]string{"DATABASE_URL": "postgres://u:hunter2@h/d", "LOG_LEVEL": "loud", "DRAIN_DELAY": "5", "REDIS_URL": "redis://:hunter2@127.0.0.1:1", "REDIS_REQUIRED": "perhaps", "RATE_LIMIT_USER": "none", "TRUSTED_PROXIES": "10.0.0.0/8,the proxy"},
			[]string{"TRUSTED_PROXIES", `"the proxy" is neither`, "LOG_LEVEL", "loud", "DRAIN_DELAY", "REDIS_REQUIRED", "perhaps", "RATE_LIMIT_USER"}},
		{"an address of Redis that is none", []string{"api"}, map[string]string{"REDIS_URL": "redis://:hunter2@local host:6379"}, []string{"REDIS_URL=", "DATABASE_URL is not set"}},
		{"production without https", []string{"api"},
			map[string]string{"CREWBEAT_ENV": "production", "PUBLIC_URL": "http://x.example", "SESSION_SECRET": strings.Repeat("a", 40)},
			[]string{"PUBLIC_URL", "https://", "SESSION_SECRET number 1 is too weak"}},
		{"a database that is not there", []string{"migrate"}, map[string]string{"DATABASE_URL": "postgres://crew:hunter2@127.0.0.1:1/crewbeat", "DATABASE_WAIT": "0s"},
			[]string{"127.0.0.1", "refused"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out text
			err := run(t.Context(), tt.args, func(name string) string { return tt.env[name] }, io.Discard, &out, nil)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q, want %q in it", err, want)
				}
			}
			for name := range tt.env {
				if strings.Contains(err.Error(), name+" is not set") {
					t.Errorf("error %q, and %s is set", err, name)
				}
			}
			if strings.Contains(err.Error()+out.String(), "hunter2") {
				t.Errorf("the password is shown: %v\n%s", err, &out)
			}
		})
	}
}

func TestDoctorTellsTheWellFromTheSick(t *testing.T) {
	var out text
	err := run(t.Context(), []string{"doctor", "--data", t.TempDir()}, func(string) string { return "" }, &out, io.Discard, nil)
	if err != nil || strings.Contains(out.String(), "FAIL") {
		t.Errorf("a fresh laptop is unwell: %v\n%s", err, &out)
	}
	out = text{}
	settings := map[string]string{"DATABASE_URL": "postgres://crew:hunter2@127.0.0.1:1/crewbeat", "REDIS_URL": "redis://:hunter2@127.0.0.1:1", "REDIS_REQUIRED": "true"}
	err = run(t.Context(), []string{"doctor"}, func(name string) string { return settings[name] }, &out, io.Discard, nil)
	if !errors.Is(err, errUnwell) {
		t.Errorf("error %v, want errUnwell", err)
	}
	for _, want := range []string{"FAIL  database", "FAIL  redis", "refused"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("want %q in:\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "hunter2") {
		t.Errorf("a password is shown:\n%s", &out)
	}
}

func TestTheDoctorTellsProgramsToo(t *testing.T) {
	server := tieredtest.StartRedis(t, tieredtest.WithUsers(tieredtest.User{Name: "app", Password: "hunter2", Rules: []string{"~*", "&*", "+@all", "-set"}}))
	settings := map[string]string{"REDIS_URL": "redis://app:hunter2@" + server.Addr(), "REDIS_REQUIRED": "true"}
	var out text
	err := run(t.Context(), []string{"doctor", "--json", "--data", t.TempDir()}, func(name string) string { return settings[name] }, &out, io.Discard, nil)
	if !errors.Is(err, errUnwell) {
		t.Errorf("error %v, want errUnwell", err)
	}
	var body struct {
		Status string
		Checks []struct {
			Subject, Status string
			Redis           *struct {
				Findings []struct{ ID, Severity string }
			}
		}
	}
	if err := json.Unmarshal([]byte(out.String()), &body); err != nil {
		t.Fatalf("%v in:\n%s", err, &out)
	}
	found := false
	for _, c := range body.Checks {
		if c.Subject == "redis" && c.Status == "failed" && c.Redis != nil {
			for _, f := range c.Redis.Findings {
				found = found || f.ID == "connection.acl" && f.Severity == "critical"
			}
		}
	}
	if body.Status != "failed" || !found {
		t.Errorf("got:\n%s", &out)
	}
	if strings.Contains(out.String(), "hunter2") {
		t.Errorf("a password is shown:\n%s", &out)
	}
}

// dialling outlives a closed client by up to a second, in go-redis itself.
var dialling = goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial")
