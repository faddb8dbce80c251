package tieredtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
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
	program string
	port    int
	bus     bool // a cluster's node: port+10000 must be free as well
	dir     string
	args    []string
	conf    string     // text of the configuration file; "" for none
	tls     *authority // nil without TLS
	admin   string     // password of the default user; "" for none
	users   []User
	log     lockedBuffer

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

// WithServer runs another program than redis-server, such as "valkey-server".
// It must understand redis-server's arguments.
func WithServer(program string) RedisOption {
	return func(r *Redis) { r.program = program }
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
	r := newRedis(dir, opts)
	if err := r.launch(); err != nil {
		return nil, err
	}
	return r, nil
}

func newRedis(dir string, opts []RedisOption) *Redis {
	r := &Redis{program: "redis-server", dir: dir}
	for _, opt := range opts {
		opt(r)
	}
	return r
}

func (r *Redis) launch() (err error) {
	if _, err := exec.LookPath(r.program); err != nil {
		return fmt.Errorf("%s is not on PATH (on Debian and Ubuntu: apt-get install %[1]s): %w", r.program, err)
	}
	if err := r.tls.write(r.dir); err != nil {
		return err
	}
	// The port is free when asked, but another process may take it before
	// redis-server does: then it exits at once, and another port is tried.
	for range 5 {
		if r.port, err = freePort(r.bus); err != nil {
			return err
		}
		if err = r.start(); err == nil {
			return nil
		}
	}
	return err
}

// busOffset is between a cluster node's port and that of its bus.
const busOffset = 10_000

// freePort finds a port that nobody has; with bus, one whose bus port nobody
// has either.
func freePort(bus bool) (port int, err error) {
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close() // only now, so that the next one is another
		port = l.Addr().(*net.TCPAddr).Port
		if !bus {
			return port, nil
		}
		if port+busOffset > 65535 {
			continue
		}
		b, err := net.Listen("tcp", loopback(port+busOffset))
		if err == nil {
			_ = b.Close()
			return port, nil
		}
	}
	return 0, errors.New("find a free port: none has a free one 10000 above it")
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// Addr returns "127.0.0.1:port". It stays the same over Restart.
func (r *Redis) Addr() string { return loopback(r.port) }

// URL returns the address as redis://127.0.0.1:port/0, or rediss with TLS.
func (r *Redis) URL() string {
	if r.tls != nil {
		return "rediss://" + r.Addr() + "/0"
	}
	return "redis://" + r.Addr() + "/0"
}

// Options returns client options with the short timeouts a cache wants, as the
// user who may do everything. See UserOptions for others.
func (r *Redis) Options() *redis.Options {
	return &redis.Options{
		Addr:                  r.Addr(),
		Password:              r.admin,
		TLSConfig:             r.TLSConfig(),
		DialTimeout:           500 * time.Millisecond,
		ReadTimeout:           250 * time.Millisecond,
		WriteTimeout:          250 * time.Millisecond,
		MaxRetries:            -1,
		DialerRetries:         1,
		ContextTimeoutEnabled: true,
	}
}

// patient are options whose timeouts are generous, for a busy machine is no outage.
func (r *Redis) patient(dial DialFunc) *redis.Options {
	o := r.Options()
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = 5*time.Second, 5*time.Second, 5*time.Second
	o.Dialer = over(dial, o.TLSConfig)
	return o
}

// Client returns a client with generous timeouts that is closed with the test.
func (r *Redis) Client(t testing.TB) *redis.Client {
	return closing(t, redis.NewClient(r.patient(nil)))
}

// closing has c closed with the test.
func closing[C io.Closer](t testing.TB, c C) C {
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

// running reports whether the server was started and not killed; a stopped one runs.
func (r *Redis) running() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cmd != nil
}

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
	args, err := r.arguments()
	if err != nil {
		return err
	}
	cmd := exec.Command(r.program, args...)
	cmd.Stdout, cmd.Stderr = &r.log, &r.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // not ended by the terminal's ^C before its clients
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", r.program, err)
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

// arguments is the command line. A Sentinel writes its file itself once it
// runs, so it is made only once.
func (r *Redis) arguments() ([]string, error) {
	var args []string
	if r.conf != "" {
		file := filepath.Join(r.dir, "server.conf")
		if _, err := os.Stat(file); err != nil {
			if err := os.WriteFile(file, []byte(r.conf), 0o600); err != nil {
				return nil, fmt.Errorf("write configuration: %w", err)
			}
		}
		args = append(args, file)
	} else {
		args = append(args, "--save", "", "--appendonly", "no")
	}
	args = append(args, "--bind", "127.0.0.1", "--dir", r.dir, "--daemonize", "no")
	if r.tls == nil {
		args = append(args, "--port", strconv.Itoa(r.port))
	} else {
		args = append(args, "--port", "0", "--tls-port", strconv.Itoa(r.port))
		args = append(args, r.tls.arguments(r.dir)...)
	}
	args = append(args, r.aclArguments()...)
	return append(args, r.args...), nil
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
