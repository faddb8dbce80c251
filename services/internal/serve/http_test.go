package serve_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/serve"
)

// running is a program with one HTTP part, and how to end it.
type running struct {
	url     string
	signals chan os.Signal
	ended   chan error
}

func run(t *testing.T, opts serve.Options, h http.Handler, more ...serve.Part) *running {
	t.Helper()
	r := &running{signals: make(chan os.Signal, 2), ended: make(chan error, 1)}
	ready := make(chan string, 1)
	opts.Signals = r.signals
	opts.Ready = func(addrs map[string]string) { ready <- addrs["api"] }
	go func() {
		r.ended <- serve.Run(t.Context(), opts, append([]serve.Part{serve.HTTP("api", "127.0.0.1:0", h, serve.HTTPOptions{BodyTimeout: 200 * time.Millisecond})}, more...)...)
	}()
	select {
	case addr := <-ready:
		r.url = "http://" + addr
	case err := <-r.ended:
		t.Fatal(err)
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return r
}

func fetch(ctx context.Context, method, url string, body io.Reader) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return fmt.Sprintf("%d %s", resp.StatusCode, b), err
}

func TestARequestUnderWayIsAnsweredBeforeTheStoreCloses(t *testing.T) {
	closed, entered, release := make(chan struct{}), make(chan struct{}), make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-release
		select {
		case <-closed:
			http.Error(w, "the store is closed", http.StatusInternalServerError)
		default:
			_, _ = io.WriteString(w, "saved")
		}
		if r.Context().Err() != nil {
			t.Error("the request was told to end")
		}
	})
	store := serve.Closer("store", func(context.Context) error { close(closed); return nil })
	signals, ended, ready := make(chan os.Signal, 1), make(chan error, 1), make(chan string, 1)
	go func() {
		ended <- serve.Run(t.Context(), serve.Options{Signals: signals, Ready: func(a map[string]string) { ready <- a["api"] }},
			store, serve.HTTP("api", "127.0.0.1:0", h, serve.HTTPOptions{}))
	}()
	url := "http://" + <-ready
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	answer := make(chan string, 1)
	go func() {
		s, err := fetch(t.Context(), http.MethodGet, url, nil)
		answer <- fmt.Sprint(s, err)
	}()
	<-entered
	signals <- syscall.SIGTERM
	until(t, func() bool { // no new connections
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	close(release)
	if got := <-answer; got != "200 saved<nil>" {
		t.Errorf("answer = %s", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func until(t *testing.T, ok func() bool) {
	t.Helper()
	tick, limit := time.NewTicker(5*time.Millisecond), time.After(5*time.Second)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("not within 5 s")
		}
	}
}

func TestARequestThatDoesNotEndIsToldToAndCutOff(t *testing.T) {
	entered, told := make(chan struct{}), make(chan struct{})
	r := run(t, serve.Options{ShutdownTimeout: time.Second}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		close(told)
	}))
	go func() { _, _ = fetch(t.Context(), http.MethodGet, r.url, nil) }()
	<-entered
	r.signals <- syscall.SIGTERM
	if err := <-r.ended; !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "stop api: requests were still under way") {
		t.Errorf("err = %v", err)
	}
	<-told
}

func TestATakenPortSaysWhatToDo(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().String()
	err = serve.Run(t.Context(), serve.Options{}, serve.HTTP("api", addr, http.NotFoundHandler(), serve.HTTPOptions{}))
	want := "start api: listen on " + addr + ": the port is taken by another program; stop that one, or choose another port with --addr HOST:PORT"
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	err = serve.Run(t.Context(), serve.Options{}, serve.HTTP("api", "8080", http.NotFoundHandler(), serve.HTTPOptions{}))
	if err == nil || !strings.Contains(err.Error(), "expected HOST:PORT") {
		t.Errorf("err = %v", err)
	}
}

func TestABodyThatTricklesIsCutOffButALongAnswerIsNot(t *testing.T) {
	r := run(t, serve.Options{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			if _, err := io.ReadAll(r.Body); err != nil {
				w.WriteHeader(http.StatusRequestTimeout)
			}
			return
		}
		flusher := http.NewResponseController(w)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for range 10 { // longer than a body may take
			_, _ = io.WriteString(w, ".")
			_ = flusher.Flush()
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	}))
	slow, feed := io.Pipe()
	defer feed.Close()
	go func() { _, _ = feed.Write([]byte("a")) }()
	got, err := fetch(t.Context(), http.MethodPost, r.url, slow)
	if err == nil && got != "408 " {
		t.Errorf("a trickling body: %s", got)
	}
	got, err = fetch(t.Context(), http.MethodGet, r.url, nil)
	if err != nil || got != "200 .........." {
		t.Errorf("a long answer: %s %v", got, err)
	}
	r.signals <- syscall.SIGTERM
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}
