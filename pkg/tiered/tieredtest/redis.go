package tieredtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis is a redis-server process of its own, on a loopback port of its own,
// with a temporary folder of its own. It ends with the test.
type Redis struct {
	port int
	dir  string
	args []string
	log  lockedBuffer

	mu   sync.Mutex // guards cmd and done
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has been awaited
}

// RedisOption configures StartRedis.
type RedisOption func(*Redis)

// WithArgs adds arguments to the command line, such as "--maxmemory", "8mb".
func WithArgs(args ...string) RedisOption {
	return func(r *Redis) { r.args = append(r.args, args...) }
}

// WithPersistence makes every write reach the append-only file before it is
// acknowledged, so that data survive Kill and Restart.
func WithPersistence() RedisOption {
	return WithArgs("--appendonly", "yes", "--appendfsync", "always")
}

// StartRedis starts a redis-server and waits until it answers. It fails the
// test if there is no redis-server on this machine.
func StartRedis(t testing.TB, opts ...RedisOption) *Redis {
	t.Helper()
	r, err := LaunchRedis(t.TempDir(), opts...)
	if err != nil {
		t.Fatalf("start redis: %v", err)
	}
	t.Cleanup(func() {
		r.Close()
		if t.Failed() {
			t.Logf("redis-server on port %d:\n%s", r.port, r.log.String())
		}
	})
	return r
}

// LaunchRedis is StartRedis without a test, for a TestMain that shares one
// server. The caller calls Close.
func LaunchRedis(dir string, opts ...RedisOption) (*Redis, error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, fmt.Errorf("redis-server is not on PATH (on Debian and Ubuntu: apt-get install redis-server): %w", err)
	}
	r := &Redis{dir: dir}
	for _, opt := range opts {
		opt(r)
	}
	// The port is free when asked, but another process may take it before
	// redis-server does: then it exits at once, and another port is tried.
	var err error
	for range 5 {
		if r.port, err = freePort(); err != nil {
			return nil, err
		}
		if err = r.start(); err == nil {
			return r, nil
		}
	}
	return nil, err
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Addr returns "127.0.0.1:port". It stays the same over Restart.
func (r *Redis) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port)) }

// URL returns the address as redis://127.0.0.1:port/0.
func (r *Redis) URL() string { return "redis://" + r.Addr() + "/0" }

// Options returns client options with the short timeouts a cache wants.
func (r *Redis) Options() *redis.Options {
	return &redis.Options{
		Addr:                  r.Addr(),
		DialTimeout:           500 * time.Millisecond,
		ReadTimeout:           250 * time.Millisecond,
		WriteTimeout:          250 * time.Millisecond,
		MaxRetries:            -1,
		DialerRetries:         1,
		ContextTimeoutEnabled: true,
	}
}

// Client returns a client that is closed with the test.
func (r *Redis) Client(t testing.TB) *redis.Client {
	t.Helper()
	c := redis.NewClient(r.Options())
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Kill ends the server at once, as a crash would.
func (r *Redis) Kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kill()
}

// Restart ends the server if it runs and starts it again on the same port.
// Without WithPersistence it comes back empty.
func (r *Redis) Restart(t testing.TB) {
	t.Helper()
	r.Kill()
	if err := r.start(); err != nil {
		t.Fatalf("restart redis: %v", err)
	}
}

// Stop freezes the server: connections stay open and nothing answers, as with
// a network that swallows packets. Cont thaws it.
func (r *Redis) Stop(t testing.TB) { t.Helper(); r.signal(t, syscall.SIGSTOP) }

// Cont lets a stopped server go on.
func (r *Redis) Cont(t testing.TB) { t.Helper(); r.signal(t, syscall.SIGCONT) }

// Close ends the server.
func (r *Redis) Close() { r.Kill() }

func (r *Redis) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cmd == nil {
		t.Fatalf("signal redis: it is not running")
	}
	if err := r.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("signal redis: %v", err)
	}
}

// kill awaits the end of the process. It needs mu.
func (r *Redis) kill() {
	if r.cmd == nil {
		return
	}
	_ = r.cmd.Process.Kill() // SIGKILL also ends a stopped process
	<-r.done
	r.cmd = nil
}

func (r *Redis) start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	args := append([]string{
		"--bind", "127.0.0.1", "--port", strconv.Itoa(r.port), "--dir", r.dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no",
	}, r.args...)
	cmd := exec.Command("redis-server", args...)
	cmd.Stdout, cmd.Stderr = &r.log, &r.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // not ended by the terminal's ^C before its clients
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start redis-server: %w", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	r.cmd, r.done = cmd, done
	if err := r.await(); err != nil {
		r.kill()
		return fmt.Errorf("%w; its log:\n%s", err, r.log.String())
	}
	return nil
}

// await pings until the server answers, has ended or ten seconds have passed.
func (r *Redis) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c := redis.NewClient(r.Options())
	defer func() { _ = c.Close() }() // the test's own clients matter
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		// A plain connection first: the client would log every refusal.
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", r.Addr())
		if err == nil {
			_ = conn.Close()
			err = r.identify(ctx, c)
		}
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-r.done:
			return errors.New("redis-server ended at once")
		case <-ctx.Done():
			return fmt.Errorf("redis-server does not answer: %w", err)
		}
	}
}

// identify tells our server from one that took the port first, by its process.
func (r *Redis) identify(ctx context.Context, c *redis.Client) error {
	info, err := c.Info(ctx, "server").Result()
	if err != nil {
		return err
	}
	if !strings.Contains(info, fmt.Sprintf("process_id:%d\r", r.cmd.Process.Pid)) {
		return errors.New("another server has the port")
	}
	return nil
}

// lockedBuffer keeps the last part of the server's log.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.buf.Len() > 64<<10 {
		b.buf.Reset()
	}
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
