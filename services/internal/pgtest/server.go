package pgtest

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
	"slices"
	"strconv"
	"time"
)

const startTimeout = 60 * time.Second

// supervise runs the server and waits until its own input ends, which happens
// when the test binary closes the pipe or dies. Then it stops the server at
// once and removes the folder.
const supervise = `
dir=$1; shift
"$@" </dev/null & pid=$!
(while kill -0 $pid 2>/dev/null; do sleep 1; done; kill $$ 2>/dev/null) </dev/null & guard=$!
trap 'exit 1' TERM
read -r _
kill $guard 2>/dev/null
kill -INT $pid 2>/dev/null
wait $pid
rm -rf "$dir"
`

type server struct {
	dir    string
	port   int
	input  io.Closer     // closing it ends the server
	exited chan struct{} // closed when it has
	err    error         // of its end; read only after exited
	log    *bytes.Buffer // read only after exited
}

func (s *server) url(database string) string {
	return fmt.Sprintf("postgres://crewbeat@127.0.0.1:%d/%s?sslmode=disable", s.port, database)
}

func (s *server) stop() error {
	if err := s.input.Close(); err != nil {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	select {
	case <-s.exited:
		// Gone already, unless its user may not write beside it.
		return os.RemoveAll(s.dir)
	case <-time.After(startTimeout):
		return errors.New("stop PostgreSQL: it does not end")
	}
}

// launch makes a cluster and starts a server on it. A port that was free when
// asked for may be taken a moment later; then the next one is tried.
func launch() (*server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "crewbeat-pg-")
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	if err := initialise(bin, dir, data); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	for range 3 {
		var s *server
		if s, err = serve(bin, dir, data); err == nil {
			return s, nil
		}
	}
	return nil, errors.Join(err, os.RemoveAll(dir))
}

func initialise(bin, dir, data string) error {
	credential, err := unprivileged(dir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	args := []string{"-D", data, "-U", "crewbeat", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"}
	icu := append(slices.Clone(args), "--locale-provider=icu", "--icu-locale=en-US")
	var out []byte
	for _, args := range [][]string{icu, args} { // a build without ICU still serves
		cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), args...)
		cmd.Dir = dir
		cmd.SysProcAttr = credential
		if out, err = cmd.CombinedOutput(); err == nil {
			return nil
		}
		if e := os.RemoveAll(data); e != nil {
			return e
		}
	}
	return fmt.Errorf("initdb: %w\n%s", err, out)
}

func serve(bin, dir, data string) (*server, error) {
	credential, err := unprivileged(dir)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir, port: port, exited: make(chan struct{}), log: new(bytes.Buffer)}
	args := []string{"-c", supervise, "pgtest", dir, filepath.Join(bin, "postgres"), "-D", data, "-p", strconv.Itoa(port)}
	for _, setting := range []string{
		"listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300",
		"shared_buffers=64MB", "fsync=off", "synchronous_commit=off", "full_page_writes=off",
		"deadlock_timeout=100ms", "autovacuum=off", "log_min_messages=fatal",
	} {
		args = append(args, "-c", setting)
	}
	cmd := exec.Command("/bin/sh", args...) // ends with its input, not with a context
	cmd.Dir = dir
	cmd.SysProcAttr = credential
	cmd.Stdout, cmd.Stderr = s.log, s.log
	if s.input, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	go func() {
		s.err = cmd.Wait()
		close(s.exited)
	}()
	return s, s.await()
}

// await returns when the server answers queries.
func (s *server) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	var last error
	for {
		select {
		case <-s.exited:
			return fmt.Errorf("postgres ended: %w\n%s", s.err, s.log)
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("postgres does not answer: %w", last), s.stop())
		case <-again.C:
			if last = administer(ctx, s.url("postgres"), "SELECT 1"); last == nil {
				return nil
			}
		}
	}
}

func freePort() (int, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// binaries returns the folder of initdb and postgres: the one on PATH, or the
// newest that a distribution has installed out of the way.
func binaries() (string, error) {
	if p, err := exec.LookPath("initdb"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil && isFile(filepath.Join(filepath.Dir(p), "postgres")) {
			return filepath.Dir(p), nil
		}
	}
	var found []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin",
		"/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
	} {
		dirs, _ := filepath.Glob(pattern) // fails only for a bad pattern
		for _, dir := range dirs {
			if isFile(filepath.Join(dir, "initdb")) && isFile(filepath.Join(dir, "postgres")) {
				found = append(found, dir)
			}
		}
	}
	if len(found) == 0 {
		return "", errors.New("initdb and postgres are neither on PATH nor in the usual folders; " +
			"install PostgreSQL 15 or newer: `apt-get install postgresql` or `brew install postgresql@17`")
	}
	return slices.Max(found), nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
