package socket_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/realtime/internal/feed"
	"github.com/crewbeat/crewbeat/services/realtime/internal/hub"
	"github.com/crewbeat/crewbeat/services/realtime/internal/quota"
	"github.com/crewbeat/crewbeat/services/realtime/internal/socket"
)

// everybody may connect and follow anything.
type everybody struct{}

func (everybody) Identify(context.Context, *http.Request) (socket.Identity, error) {
	return socket.Identity{UserID: "mira", SessionID: "s"}, nil
}

func (everybody) Redeem(context.Context, string) (socket.Identity, error) {
	return socket.Identity{}, socket.ErrUnauthenticated
}
func (everybody) Recheck(context.Context, socket.Identity) error        { return nil }
func (everybody) Allowed(context.Context, string, string) (bool, error) { return true, nil }
func (everybody) Take(context.Context, string, int) (quota.Place, bool) { return quota.Place{}, true }
func (everybody) Give(quota.Place)                                      {}

// narrow is a listener whose connections take little at a time, and may hide
// that they can be written to without waiting.
type narrow struct {
	net.Listener
	hidden bool
}

func (l narrow) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	_ = c.(*net.TCPConn).SetWriteBuffer(16 << 10)
	if l.hidden {
		c = struct{ net.Conn }{c}
	}
	return c, nil
}

// slowly hands out little at a time.
type slowly struct {
	net.Conn
	pace *time.Ticker
}

func (s slowly) Read(b []byte) (int, error) {
	<-s.pace.C
	return s.Conn.Read(b[:min(len(b), 1+rand.IntN(8<<10))])
}

// TestNothingWritesOverWhatWaits sends events that carry their own checksum to
// readers so slow that the kernel takes nothing for most of the time, while
// others write over every pooled buffer that is free: a buffer that was given
// back too early, or a frame that is changed for one reader while it waits for
// another, would show.
func TestNothingWritesOverWhatWaits(t *testing.T) {
	const (
		readers = 3 // of each kind
		events  = 100
		channel = "team:harbor:activity"
	)
	broker, err := event.NewMemory(event.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	reader := sdkmetric.NewManualReader()
	var server *socket.Server
	f, err := feed.New(t.Context(), feed.Options{Broker: broker, Delivered: func(m event.Message) { server.Delivered(m) }, Interrupted: func(string) {}})
	if err != nil {
		t.Fatal(err)
	}
	h := hub.New(t.Context(), f)
	defer h.Close()
	server, err = socket.New(t.Context(), socket.Config{
		Hub: h, Auth: everybody{}, Quota: everybody{}, PerUser: 1000, QueueBytes: 64 << 10,
		Meter: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)),
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/ws", server)
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		if wait := server.ServeEvents(w, r); wait != nil {
			wait()
		}
	})
	var hosts []string
	for _, hidden := range []bool{false, true} {
		web := httptest.NewUnstartedServer(mux)
		web.Listener = narrow{web.Listener, hidden}
		web.Start()
		defer web.Close()
		hosts = append(hosts, web.Listener.Addr().String())
	}
	defer server.Close()

	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { socket.Scribble(stop) })
	}
	defer wg.Wait()
	defer close(stop)

	dial := func(host, path, rest string) io.Reader {
		c, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.TCPConn).SetReadBuffer(16 << 10)
		_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
		if _, err := fmt.Fprintf(c, "GET /%s HTTP/1.1\r\nHost: %s\r\n%s", path, host, rest); err != nil {
			t.Fatal(err)
		}
		pace := time.NewTicker(time.Millisecond)
		t.Cleanup(func() { pace.Stop(); _ = c.Close() })
		return slowly{c, pace}
	}
	subscribe := `{"type":"subscribe","channels":["` + channel + `"]}`
	var ready, done sync.WaitGroup
	read := make(chan struct{}) // closed when more has come than the kernel takes
	for i := range 2 * readers {
		host := hosts[i%2]
		for _, kind := range []struct {
			path, rest string
			next       func(*bufio.Reader) ([]byte, error)
		}{
			{"events?channels=" + channel, "\r\n", nextData},
			{"ws", "Origin: http://" + host + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
				"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81" + string([]byte{byte(0x80 | len(subscribe))}) + "\x00\x00\x00\x00" + subscribe, nextText},
		} {
			c := dial(host, kind.path, kind.rest)
			ready.Add(1)
			done.Go(func() {
				if err := check(bufio.NewReader(c), kind.next, func() { ready.Done(); <-read }, events); err != nil {
					t.Error(err)
				}
			})
		}
	}
	ready.Wait()
	publish := func(from, to int) {
		for n := from; n < to; n++ {
			if _, err := broker.Publish(t.Context(), summed(channel, n)); err != nil {
				t.Error(err)
			}
		}
	}
	publish(0, events/2)
	limit := time.After(20 * time.Second) // they are cut off after 30
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := false; !late && waiting(t, reader) == 0; {
		select {
		case <-tick.C:
		case <-limit:
			late = true
			t.Error("nothing waits: the test shows nothing")
		}
	}
	close(read)
	publish(events/2, events)
	done.Wait()
}

// summed is an event of random text, with its checksum.
func summed(channel string, n int) event.Event {
	text := make([]byte, 1000+rand.IntN(3000))
	for i := range text {
		text[i] = byte('a' + rand.IntN(26))
	}
	return event.Event{
		ID: fmt.Sprint("e", n), Channel: channel, Name: "x", At: time.Now(),
		Data: fmt.Appendf(nil, `{"n":%d,"sum":%d,"text":%q}`, n, crc32.ChecksumIEEE(text), text),
	}
}

// check reads n events, each whole and in order.
func check(r *bufio.Reader, next func(*bufio.Reader) ([]byte, error), ready func(), n int) error {
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode > 200 {
		ready()
		return fmt.Errorf("answered %+v: %w", resp, err)
	}
	once := sync.OnceFunc(ready)
	defer once()
	for want := 0; want < n; {
		b, err := next(r)
		if err != nil {
			return fmt.Errorf("before event %d: %w", want, err)
		}
		var m struct {
			Type, Event string
			Data        struct {
				N    int
				Sum  uint32
				Text string
			}
		}
		if err := json.Unmarshal(b, &m); err != nil {
			return fmt.Errorf("before event %d: %.200q: %w", want, b, err)
		}
		switch {
		case m.Type == "subscribed":
			once()
		case m.Type != "":
		case m.Data.N != want || crc32.ChecksumIEEE([]byte(m.Data.Text)) != m.Data.Sum:
			return fmt.Errorf("event %d came as %.200q", want, b)
		default:
			want++
		}
	}
	return nil
}

// nextText reads a text frame of a server.
func nextText(r *bufio.Reader) ([]byte, error) {
	h, err := ws.ReadHeader(r)
	if err != nil {
		return nil, err
	}
	if h.Length > 64<<10 || !h.Fin || h.Rsv != 0 || h.Masked || h.OpCode != ws.OpText {
		return nil, fmt.Errorf("a frame %+v", h)
	}
	b := make([]byte, h.Length)
	_, err = io.ReadFull(r, b)
	return b, err
}

// nextData reads the data of an event of a stream.
func nextData(r *bufio.Reader) ([]byte, error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, err
		}
		switch field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); field {
		case "data":
			return []byte(value), nil
		case "id", "retry", "", ":":
		default:
			return nil, fmt.Errorf("a line %.200q", line)
		}
	}
}

// waiting returns the bytes that wait for slow readers.
func waiting(t *testing.T, reader sdkmetric.Reader) (n int64) {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if sum, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == "realtime.queue" {
				for _, p := range sum.DataPoints {
					n += p.Value
				}
			}
		}
	}
	return n
}
