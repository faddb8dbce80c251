package db_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/db"
	"github.com/crewbeat/crewbeat/services/internal/pgtest"
)

// onWrite calls itself with each line that is logged.
type onWrite func(line string)

func (f onWrite) Write(p []byte) (int, error) { f(string(p)); return len(p), nil }

func TestAServerThatIsStillStartingIsAwaited(t *testing.T) {
	server, err := url.Parse(pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	lc := net.ListenConfig{}
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	late, target := l.Addr().String(), server.Host
	if err := l.Close(); err != nil { // the server comes up when it is missed
		t.Fatal(err)
	}
	var door forwarder
	t.Cleanup(door.close)
	log := slog.New(slog.NewTextHandler(onWrite(func(line string) {
		if strings.Contains(line, "waiting for the database") {
			door.open(t, late, target)
		}
	}), nil))
	server.Host = late
	d, err := db.Open(t.Context(), db.Config{URL: server.String(), Wait: time.Minute, Log: log})
	if err != nil {
		t.Fatalf("the server came up, but: %v", err)
	}
	if !door.opened() {
		t.Error("nobody was told that it waits")
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestAWrongDatabaseIsNotAwaited(t *testing.T) {
	begun := time.Now()
	wrong := strings.Replace(pgtest.Start(t), "/postgres?", "/beat?", 1)
	if _, err := db.Open(t.Context(), db.Config{URL: wrong, Wait: time.Hour}); err == nil {
		t.Error("opened")
	}
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("it took %v to say so", took)
	}
}

// forwarder passes connections on to another address.
type forwarder struct {
	mu       sync.Mutex
	listener net.Listener
	conns    []net.Conn
	wg       sync.WaitGroup
}

func (f *forwarder) open(t *testing.T, at, to string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lc := net.ListenConfig{}
	l, err := lc.Listen(context.WithoutCancel(t.Context()), "tcp", at)
	if err != nil {
		t.Errorf("open the door: %v", err)
		return
	}
	f.listener = l
	f.wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			var d net.Dialer
			out, err := d.DialContext(context.WithoutCancel(t.Context()), "tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			f.mu.Lock()
			f.conns = append(f.conns, in, out)
			f.mu.Unlock()
			f.wg.Go(func() { _, _ = io.Copy(out, in); _ = out.Close() })
			f.wg.Go(func() { _, _ = io.Copy(in, out); _ = in.Close() })
		}
	})
}

func (f *forwarder) opened() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.listener != nil
}

func (f *forwarder) close() {
	f.mu.Lock()
	if f.listener != nil {
		_ = f.listener.Close()
	}
	for _, c := range f.conns {
		_ = c.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
}
