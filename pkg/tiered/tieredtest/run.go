package tieredtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// Run calls f where there is no test: in an Example, a TestMain or a program.
// What f starts with its t ends when f does. Run returns what f reported by
// Error and Fatal, the latter of which ends f; nil if it reported nothing. Of
// [testing.TB], t lacks Setenv, Chdir, Skip and what is for the output of tests;
// Log goes nowhere.
func Run(f func(t testing.TB)) error {
	t := &outside{}
	var cancel context.CancelFunc
	t.ctx, cancel = context.WithCancel(context.Background())
	t.await(func() { f(t) })
	cancel()
	for end := t.last(); end != nil; end = t.last() {
		t.await(end)
	}
	return errors.Join(t.errs...)
}

// outside is a test's t without a test.
type outside struct {
	testing.TB // has a method that nobody else can have
	ctx        context.Context
	mu         sync.Mutex // guards what follows
	ends       []func()
	errs       []error
}

// await runs f in a goroutine of its own, which Fatal may end.
func (t *outside) await(f func()) {
	var wg sync.WaitGroup
	wg.Go(f)
	wg.Wait()
}

func (t *outside) last() (end func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.ends); n > 0 {
		end, t.ends = t.ends[n-1], t.ends[:n-1]
	}
	return end
}

func (t *outside) report(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.errs = append(t.errs, errors.New(strings.TrimSuffix(text, "\n")))
}

func (t *outside) Cleanup(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ends = append(t.ends, f)
}

func (t *outside) Failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.errs) > 0
}

func (t *outside) TempDir() string {
	dir, err := os.MkdirTemp("", "tieredtest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (t *outside) Context() context.Context     { return t.ctx }
func (t *outside) Error(args ...any)            { t.report(fmt.Sprintln(args...)) }
func (t *outside) Errorf(f string, args ...any) { t.report(fmt.Sprintf(f, args...)) }
func (t *outside) Fail()                        { t.report("failed") }
func (t *outside) FailNow()                     { t.Fatal("failed") }
func (t *outside) Fatal(args ...any)            { t.Error(args...); runtime.Goexit() }
func (t *outside) Fatalf(f string, args ...any) { t.Errorf(f, args...); runtime.Goexit() }
func (t *outside) Helper()                      {}
func (t *outside) Log(...any)                   {}
func (t *outside) Logf(string, ...any)          {}
func (t *outside) Name() string                 { return "outside of a test" }
