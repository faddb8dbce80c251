//go:build mutation

package tiered_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// All mutants are compiled at once into one program, where an environment
// variable says whose turn it is (mutant schemata: Untch, Offutt and Harrold,
// 1993). So each costs no more than its test. First the tests must pass in that
// program with no mutant's turn.
//
//	go test -tags mutation -run TestEveryMutationIsFound .
func TestEveryMutationIsFound(t *testing.T) {
	began := time.Now()
	program := compileMutants(t)
	t.Logf("compiled %d mutants in %v", len(mutants), time.Since(began).Round(time.Second))
	turns := make(chan struct{}, 2*runtime.NumCPU()) // they wait more than they work
	t.Run("all", func(t *testing.T) {
		var control []string
		for _, m := range mutants {
			if !slices.Contains(control, m.tests) {
				control = append(control, m.tests)
			}
		}
		slices.Sort(control)
		t.Run("none", func(t *testing.T) {
			t.Parallel()
			for part := range slices.Chunk(control, (len(control)+3)/4) {
				t.Run("control", func(t *testing.T) {
					t.Parallel()
					turns <- struct{}{}
					defer func() { <-turns }()
					if out, err := program.run(t, "", strings.Join(part, "|"), 5*time.Minute); err != nil {
						t.Errorf("the tests fail without any bug: %v\n%s", err, out)
					}
				})
			}
		})
		for i, m := range mutants {
			t.Run(m.name, func(t *testing.T) {
				t.Parallel()
				turns <- struct{}{}
				defer func() { <-turns }()
				limit := 2 * time.Minute
				if m.hangs {
					limit = 20 * time.Second
				}
				out, err := program.run(t, fmt.Sprint(i), m.tests, limit)
				var failed *exec.ExitError
				hung := strings.Contains(out, "panic: test timed out")
				switch {
				case err == nil && strings.Contains(out, "no tests to run"):
					t.Errorf("there is no test %s", m.tests)
				case err == nil:
					t.Errorf("%s passes nevertheless", m.tests)
				case hung && !m.hangs:
					t.Errorf("%s hangs:\n%s", m.tests, out)
				case !errors.As(err, &failed) || !hung && !strings.Contains(out, "--- FAIL"):
					t.Errorf("%s did not run: %v\n%s", m.tests, err, out)
				}
			})
		}
	})
	t.Logf("all in %v", time.Since(began).Round(time.Second))
}

// program is the package's tests with all mutants in them.
type program struct{ dir, bin string }

func (p program) run(t *testing.T, turn, tests string, limit time.Duration) (out string, err error) {
	ctx, cancel := context.WithTimeout(t.Context(), limit+time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, p.bin, "-test.run=^("+tests+")$", "-test.failfast", "-test.timeout="+limit.String())
	c.Dir, c.Env = p.dir, append(os.Environ(), "TIERED_MUTANT="+turn)
	b, err := c.CombinedOutput()
	return string(b), err
}

// compileMutants makes the program in a copy of this module.
func compileMutants(t *testing.T) program {
	t.Helper()
	dir := t.TempDir()
	must(t, copyModule(dir))
	texts := map[string]string{}
	read := func(file string) string {
		b, err := os.ReadFile(filepath.Join(dir, file))
		must(t, err)
		return string(b)
	}
	var scripts strings.Builder
	for i, m := range mutants {
		if texts[m.file] == "" {
			texts[m.file] = read(m.file)
		}
		if n := strings.Count(read(m.file), m.old); n != 1 {
			t.Fatalf("%s: %s has %d times, want once: %s", m.name, m.file, n, m.old)
		}
		if strings.HasSuffix(m.file, ".lua") {
			was := read(m.file)
			fmt.Fprintf(&scripts, "\t\"%d\": {%q, %q},\n", i, was, strings.Replace(was, m.old, m.bug, 1))
			continue
		}
		if !strings.Contains(texts[m.file], m.old) {
			t.Fatalf("%s: two mutants change the same place in %s: %s", m.name, m.file, m.old)
		}
		bug := strings.ReplaceAll(m.bug, "MUTANT", fmt.Sprintf("mutated(\"%d\")", i))
		texts[m.file] = strings.Replace(texts[m.file], m.old, bug, 1)
	}
	entries, err := filepath.Glob(filepath.Join(dir, "*.go"))
	must(t, err)
	for _, path := range entries { // scripts are made by ours
		file := filepath.Base(path)
		if texts[file] == "" {
			texts[file] = read(file)
		}
		texts[file] = strings.ReplaceAll(texts[file], "redis.NewScript(", "mutatedScript(")
	}
	for file, text := range texts {
		must(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
	}
	must(t, os.WriteFile(filepath.Join(dir, "mutants.go"), []byte(mutantsSource+scripts.String()+"}\n"), 0o600))
	p := program{dir: dir, bin: filepath.Join(dir, "mutants.test")}
	c := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-o", p.bin, ".")
	c.Dir, c.Env = dir, append(os.Environ(), "GOWORK=off")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("compile: %v\n%s", err, out)
	}
	return p
}

// copyModule copies what the tests need, which is not the modules below.
func copyModule(to string) error {
	return fs.WalkDir(os.DirFS("."), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && exists(filepath.Join(path, "go.mod")):
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, path), 0o700)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, path), b, 0o600)
	})
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

const mutantsSource = `package tiered

import (
	"os"
	"strings"

	"github.com/redis/go-redis/v9"
)

var turn = os.Getenv("TIERED_MUTANT")

func mutated(n string) bool { return turn == n }

// either is for a bug in an expression.
func either[T any](bug bool, wrong, right T) T {
	if bug {
		return wrong
	}
	return right
}

func mutatedScript(text string) *redis.Script {
	m := mutatedScripts[turn]
	return redis.NewScript(strings.Replace(text, m[0], m[1], 1))
}

var mutatedScripts = map[string][2]string{
`
