package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// ran runs a command to its end and returns what it wrote.
func ran(t *testing.T, environment map[string]string, args ...string) (string, error) {
	t.Helper()
	var out, errs bytes.Buffer
	err := run(t.Context(), args, func(name string) string { return environment[name] }, &out, &errs, nil)
	return out.String(), err
}

func TestABackupOfARunningLaptopIsADataFolder(t *testing.T) {
	data, copied := t.TempDir(), filepath.Join(t.TempDir(), "monday")
	c := browser(t)
	lap := start(t, nil, "--addr", "127.0.0.1:0", "--data", data, "--demo=false")
	register := map[string]any{"email": "ada@example.com", "name": "Ada", "password": "a long enough one", "tz": "Europe/Zurich"}
	if status, answer := call(t, c, "POST", lap.url+"/api/v1/auth/register", register); status != http.StatusCreated {
		t.Fatalf("register: %d %v", status, answer)
	}
	habit := func(n int64) (int, map[string]any) {
		return call(t, c, "POST", lap.url+"/api/v1/habits", map[string]any{"name": fmt.Sprint("Habit ", n), "schedule": map[string]any{"type": "daily"}})
	}
	for n := range int64(3) {
		if status, answer := habit(n); status != http.StatusCreated {
			t.Fatalf("make a habit: %d %v", status, answer)
		}
	}

	// Somebody writes all the while.
	var made atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for n := int64(3); ctx.Err() == nil; n++ {
			if status, _ := habit(n); status != http.StatusCreated {
				return // refused for their number, at some time
			}
			made.Add(1)
		}
	}()
	out, err := ran(t, nil, "backup", "--data", data, "--to", copied)
	stop()
	<-ended
	if err != nil || !strings.Contains(out, "--data "+copied) {
		t.Fatalf("backup: %v\n%s", err, out)
	}
	for _, name := range []string{databaseFile, secretFile} {
		info, err := os.Stat(filepath.Join(copied, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s is %v, want it readable by its owner only", name, info.Mode())
		}
	}
	if left, _ := filepath.Glob(filepath.Join(copied, "*.part")); len(left) > 0 {
		t.Errorf("the backup left %v", left)
	}
	_ = lap.stop()

	again := start(t, nil, "--addr", "127.0.0.1:0", "--data", copied, "--demo=false")
	if status, answer := call(t, c, "GET", again.url+"/api/v1/me", nil); status != http.StatusOK || answer["email"] != "ada@example.com" {
		t.Errorf("with the backup: %d %v, want Ada, signed in still", status, answer)
	}
	_, answer := call(t, c, "GET", again.url+"/api/v1/habits", nil)
	items, _ := answer["items"].([]any)
	if n := int64(len(items)); n < 3 || n > 3+made.Load() {
		t.Errorf("the backup has %d habits, want the 3 from before it and at most the %d made during it", n, made.Load())
	}
}

func TestBackupSaysWhatIsWrong(t *testing.T) {
	data, full := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "precious"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	lap := start(t, nil, "--addr", "127.0.0.1:0", "--data", data, "--demo=false")
	_ = lap.stop()
	for name, tt := range map[string]struct {
		env  map[string]string
		args []string
		want string
	}{
		"no target":   {nil, []string{"backup", "--data", data}, "--to FOLDER"},
		"no database": {nil, []string{"backup", "--data", full, "--to", filepath.Join(full, "b")}, "there is no database in " + full},
		"full target": {nil, []string{"backup", "--data", data, "--to", full}, "is not empty"},
		"a server": {map[string]string{"DATABASE_URL": "postgres://u:secret-word@db/x"}, []string{"backup", "--to", filepath.Join(full, "b")},
			"pg_dump"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ran(t, tt.env, tt.args...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("backup: %v, want it to say %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret-word") {
				t.Error("the error shows a password")
			}
		})
	}
	if b, err := os.ReadFile(filepath.Join(full, "precious")); err != nil || string(b) != "x" {
		t.Errorf("a refused backup touched what was there: %q, %v", b, err)
	}
}
