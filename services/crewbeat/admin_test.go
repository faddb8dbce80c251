package main

import (
	"strings"
	"testing"
)

func TestWhoRunsTheInstallationIsSaidOnTheServer(t *testing.T) {
	data := t.TempDir()
	lap := start(t, nil, "--addr", "127.0.0.1:0", "--data", data, "--demo=false")
	type m = map[string]any
	people := map[string]m{}
	browsers := map[string]func(method, path string, body any) (int, m){}
	for _, name := range []string{"mira", "jonas"} {
		c := browser(t)
		browsers[name] = func(method, path string, body any) (int, m) {
			return call(t, c, method, lap.url+"/api/v1"+path, body)
		}
		people[name] = m{"email": name + "@example.com", "name": name, "password": "a long enough password", "tz": "UTC"}
		if status, answer := browsers[name]("POST", "/auth/register", people[name]); status != 201 {
			t.Fatalf("register %s: %d %v", name, status, answer)
		}
	}
	sees := func(name string) int {
		t.Helper()
		login := m{"email": people[name]["email"], "password": people[name]["password"]}
		if status, answer := browsers[name]("POST", "/auth/login", login); status != 200 {
			t.Fatalf("login %s: %d %v", name, status, answer)
		}
		status, _ := browsers[name]("GET", "/admin/cache", nil)
		return status
	}
	command := func(args ...string) (string, error) {
		var stdout, stderr text
		err := run(t.Context(), append([]string{"admin"}, args...), func(string) string { return "" }, &stdout, &stderr, nil)
		return stdout.String(), err
	}
	if first, second := sees("mira"), sees("jonas"); first != 200 || second != 403 {
		t.Errorf("the first account gets %d, the second %d", first, second)
	}
	if said, err := command("--email", "jonas@example.com", "--data", data); err != nil || !strings.Contains(said, "may run this installation") {
		t.Fatalf("%q, %v", said, err)
	}
	if status := sees("jonas"); status != 200 {
		t.Errorf("after the grant: %d", status)
	}
	if said, err := command("--email", "jonas@example.com", "--data", data, "--revoke"); err != nil || !strings.Contains(said, "no longer") {
		t.Fatalf("%q, %v", said, err)
	}
	if status := sees("jonas"); status != 403 {
		t.Errorf("after it was taken back: %d", status)
	}
	for args, want := range map[string]string{
		"":                                     "say who: --email",
		"--email x@example.com":                "name the folder with --data, or set DATABASE_URL",
		"--email x@example.com --data " + data: "there is no account of x@example.com",
	} {
		if _, err := command(strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("crewbeat admin %s: %v, want %q", args, err, want)
		}
	}
}
