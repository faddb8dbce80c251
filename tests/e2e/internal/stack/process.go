// Package stack runs what Crewbeat runs on, as real processes on free loopback
// ports and in temporary folders: PostgreSQL, Redis and Crewbeat itself. All
// of it ends with the test that started it.
package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a running program whose output goes to a file.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
	err  error         // how; read after done
}

// launch starts a program, as another user if cred is not nil. What it writes
// goes to the end of the file log.
func launch(log string, env []string, cred *syscall.Credential, name string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer out.Close() // the program has its own
	p := &process{cmd: exec.Command(name, args...), log: log, done: make(chan struct{})}
	p.cmd.Env = env
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred, Setpgid: true}
	if cred != nil {
		p.cmd.Dir = filepath.Dir(log)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// signal sends a signal and waits until the process has ended; after the
// patience it is killed, which is an error.
func (p *process) signal(s syscall.Signal, patience time.Duration) error {
	select {
	case <-p.done:
		return p.err
	default:
	}
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.cmd.Path, err)
	}
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case <-p.done:
		return p.err
	case <-limit.C:
		_ = p.cmd.Process.Kill() // it may end at this very moment
		<-p.done
		return fmt.Errorf("%s has not stopped %v after signal %v", p.cmd.Path, patience, s)
	}
}

// ended reports whether the process has ended by itself.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// tail is the end of the process's output.
func (p *process) tail() string { return tailOf(p.log) }

func tailOf(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const most = 8 << 10
	if at, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, at-most), io.SeekStart) // reading says what is wrong
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// ports keeps two programs of this test run from getting the same free port.
var ports struct {
	sync.Mutex
	given map[int]bool
}

// FreePort returns a loopback port that nothing listens on.
func FreePort(t testing.TB) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatalf("find a free port: %v", err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		_ = l.Close() // only its number is wanted
		if !ports.given[port] {
			if ports.given == nil {
				ports.given = map[int]bool{}
			}
			ports.given[port] = true
			return port
		}
	}
	t.Fatal("find a free port: every one was given away already")
	return 0
}

// Eventually polls until the condition gives no error, and fails the test with
// its last error when the time is up.
func Eventually(t testing.TB, within time.Duration, what string, condition func(context.Context) error) time.Duration {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition(ctx)
		if err == nil {
			return time.Since(began)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %v: %v", what, within, err)
		case <-tick.C:
		}
	}
}

// dialed reports whether a server accepts connections on the port.
func dialed(ctx context.Context, port int) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address(port))
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	return c.Close()
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
