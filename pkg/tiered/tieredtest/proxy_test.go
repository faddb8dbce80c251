package tieredtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/redis/go-redis/v9"
)

// through returns a client that goes through p, with one connection if single.
func through(t *testing.T, p *tieredtest.Proxy, patience time.Duration) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: p.Addr(), MaxRetries: -1, DialerRetries: 1, PoolSize: 1,
		DialTimeout: 10 * time.Second, ReadTimeout: patience, WriteTimeout: patience})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

const (
	patient   = 20 * time.Second
	impatient = 100 * time.Millisecond
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAProxyChangesNothing(t *testing.T) {
	r := tieredtest.StartRedis(t)
	inner := tieredtest.StartProxy(t, r.Addr())
	p := tieredtest.StartProxy(t, inner.Addr()) // what it does to the bytes, the other must put together again
	for name, f := range map[string]tieredtest.Fault{
		"plain":      {},
		"in slices":  {Slice: 3},
		"one by one": {Slice: 1, Pause: time.Microsecond},
		"with waits": {Latency: time.Millisecond, Jitter: time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			defer p.Inject(tieredtest.Both, f)()
			c := through(t, p, patient)
			pipe := c.Pipeline()
			want := make(map[string]string)
			for i := range 50 {
				b := make([]byte, rand.N(200))
				for j := range b {
					b[j] = byte(rand.N(256))
				}
				key := fmt.Sprint("k", i)
				want[key] = string(b)
				pipe.Set(t.Context(), key, b, 0)
			}
			if f.Pause == 0 {
				want["large"] = strings.Repeat("\r\n*$\x00", 50_000)
				pipe.Set(t.Context(), "large", want["large"], 0)
			}
			_, err := pipe.Exec(t.Context())
			must(t, err)
			for key, v := range want {
				if got := c.Get(t.Context(), key).Val(); got != v {
					t.Fatalf("%s: got %d bytes, want %d", key, len(got), len(v))
				}
			}
		})
	}
}

// What is not RESP goes through as well.
func TestAProxyPassesWhatItDoesNotUnderstand(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	p := tieredtest.StartProxy(t, echo.Addr().String())
	for _, said := range []string{"PING\r\n", "\x16\x03\x01\x02\x00", "*1\r\n$4\r\nPING\r\nPING\r\n", "*-1\r\n", "*9999999999999999999\r\n", "*1\r\n$-5\r\n", strings.Repeat("*", 100)} {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.Addr())
		must(t, err)
		_, err = io.WriteString(c, said)
		must(t, err)
		must(t, c.SetReadDeadline(time.Now().Add(patient)))
		got := make([]byte, len(said))
		if _, err = io.ReadFull(c, got); err != nil || !bytes.Equal(got, []byte(said)) {
			t.Errorf("said %q, heard %q, %v", said, got, err)
		}
		must(t, c.Close())
	}
}

func TestLatencyAndBandwidthTakeTheirTime(t *testing.T) {
	r := tieredtest.StartRedis(t)
	p := tieredtest.StartProxy(t, r.Addr())
	c := through(t, p, patient)
	must(t, c.Set(t.Context(), "k", strings.Repeat("x", 20_000), 0).Err())
	took := func() time.Duration {
		began := time.Now()
		must(t, c.Get(t.Context(), "k").Err())
		return time.Since(began)
	}
	heal := p.Slow(30*time.Millisecond, 5*time.Millisecond)
	if d := took(); d < 50*time.Millisecond {
		t.Errorf("a round trip took %v, want twice 25 ms at least", d)
	}
	heal()
	heal = p.Inject(tieredtest.Down, tieredtest.Fault{Bandwidth: 200_000})
	if d := took(); d < 80*time.Millisecond {
		t.Errorf("20 kB at 200 kB/s took %v, want about 100 ms", d)
	}
	heal()
}

func TestAHalfOpenConnectionHearsNothing(t *testing.T) {
	r := tieredtest.StartRedis(t)
	direct := r.Client(t)
	p := tieredtest.StartProxy(t, r.Addr())
	c := through(t, p, impatient)
	must(t, c.Ping(t.Context()).Err())
	p.Blackhole(tieredtest.Down)
	var timeout net.Error
	if err := c.Set(t.Context(), "k", 1, 0).Err(); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("got %v, want a timeout", err)
	}
	tieredtest.Eventually(t, "it was done nevertheless", func() bool { return direct.Get(t.Context(), "k").Val() == "1" })
	p.Heal()
	tieredtest.Eventually(t, "new connections work", func() bool { return c.Ping(t.Context()).Err() == nil })

	p.Blackhole(tieredtest.Up)
	if err := c.Set(t.Context(), "k", 2, 0).Err(); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("got %v, want a timeout", err)
	}
	if got := direct.Get(t.Context(), "k").Val(); got != "1" {
		t.Errorf("a command went through the hole: %q", got)
	}
}

func TestWhatCameAfterAHoleIsNeverDelivered(t *testing.T) {
	r := tieredtest.StartRedis(t)
	p := tieredtest.StartProxy(t, r.Addr())
	c := through(t, p, patient)
	must(t, c.Ping(t.Context()).Err())
	heal := p.Blackhole(tieredtest.Down)
	failed := make(chan error, 1)
	go func() { failed <- c.Ping(t.Context()).Err() }()
	tieredtest.Eventually(t, "the reply is lost", func() bool { return p.Lost() })
	heal()
	if err := <-failed; !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want that the connection is broken", err)
	}
	must(t, c.Ping(t.Context()).Err())
}

func TestAFaultCanBeOnlyForSubscribers(t *testing.T) {
	r := tieredtest.StartRedis(t)
	p := tieredtest.StartProxy(t, r.Addr())
	c := through(t, p, patient)
	sub := c.Subscribe(t.Context(), "ch")
	defer sub.Close()
	_, err := sub.ReceiveTimeout(t.Context(), patient)
	must(t, err)
	heal := p.Blackhole(tieredtest.Down, tieredtest.Subscribers)
	must(t, c.Publish(t.Context(), "ch", "m").Err())
	if m, err := sub.ReceiveTimeout(t.Context(), impatient); err == nil {
		t.Errorf("received %v", m)
	}
	heal()
	_, err = sub.ReceiveTimeout(t.Context(), patient) // the connection that lost the message is reset
	if err == nil {
		t.Error("a connection that lost a message goes on")
	}
	must(t, c.Ping(t.Context()).Err())
}

func TestConnectionsEndByWhatTheySent(t *testing.T) {
	r := tieredtest.StartRedis(t)
	p := tieredtest.StartProxy(t, r.Addr())
	c := through(t, p, patient)
	must(t, c.Ping(t.Context()).Err())
	sub := c.Subscribe(t.Context(), "ch")
	defer sub.Close()
	_, err := sub.ReceiveTimeout(t.Context(), patient)
	must(t, err)
	p.Reset(tieredtest.Subscribers)
	var timeout net.Error
	if _, err = sub.ReceiveTimeout(t.Context(), patient); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("the subscriber got %v, want that its connection has ended", err)
	}
	if n := p.Connections(); n < 1 {
		t.Errorf("%d connections left: the other's has ended too", n)
	}
	must(t, c.Ping(t.Context()).Err())
}

func TestWhatIsFrozenArrivesLater(t *testing.T) {
	r := tieredtest.StartRedis(t)
	p := tieredtest.StartProxy(t, r.Addr())
	c := through(t, p, patient)
	must(t, c.Ping(t.Context()).Err())
	heal := p.Inject(tieredtest.Both, tieredtest.Fault{Freeze: true})
	done := make(chan error, 1)
	go func() { done <- c.Set(t.Context(), "k", 1, 0).Err() }()
	direct := r.Client(t)
	select {
	case err := <-done:
		t.Errorf("it ended while frozen: %v", err)
	case <-time.After(impatient):
	}
	if n := direct.Exists(t.Context(), "k").Val(); n != 0 {
		t.Error("a command went through")
	}
	heal()
	must(t, <-done)
}

func TestConnectionsEndAsTold(t *testing.T) {
	r := tieredtest.StartRedis(t)
	p := tieredtest.StartProxy(t, r.Addr())
	for name, tt := range map[string]struct {
		end  func(...tieredtest.Match)
		want error
	}{
		"reset": {p.Reset, syscall.ECONNRESET},
		"cut":   {p.Cut, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			tieredtest.Eventually(t, "the last one is gone", func() bool { return p.Connections() == 0 })
			c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.Addr())
			must(t, err)
			defer c.Close()
			tieredtest.Eventually(t, "it is connected", func() bool { return p.Connections() == 1 })
			tt.end()
			must(t, c.SetReadDeadline(time.Now().Add(patient)))
			if _, err = c.Read(make([]byte, 1)); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	c := through(t, p, patient)
	p.Refuse()
	if err := c.Ping(t.Context()).Err(); err == nil {
		t.Error("a new connection was accepted")
	}
	p.Heal()
	// A client whose dials failed may go on failing until it tries again by itself.
	tieredtest.Eventually(t, "new connections work", func() bool { return c.Ping(t.Context()).Err() == nil })
	r.Kill()
	if err := c.Ping(t.Context()).Err(); err == nil {
		t.Error("the server's end was not passed on")
	}
}

func TestACommandOrItsReplyCanBeHeld(t *testing.T) {
	r := tieredtest.StartRedis(t)
	direct := r.Client(t)
	p := tieredtest.StartProxy(t, r.Addr())
	for _, tt := range []struct {
		name  string
		hold  func(tieredtest.Match) *tieredtest.Hold
		end   func(*tieredtest.Hold)
		there string // at the server while held
		after string // when it has ended
		fails bool
	}{
		{"the reply, released", p.HoldReply, (*tieredtest.Hold).Release, "1", "1", false},
		{"the reply, dropped", p.HoldReply, (*tieredtest.Hold).Drop, "1", "1", true},
		{"the command, released", p.HoldCommand, (*tieredtest.Hold).Release, "", "1", false},
		{"the command, dropped", p.HoldCommand, (*tieredtest.Hold).Drop, "", "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			must(t, direct.Del(t.Context(), "k").Err())
			c := through(t, p, patient)
			h := tt.hold(tieredtest.Command("set", "k"))
			must(t, c.Set(t.Context(), "other", 1, 0).Err())
			done := make(chan error, 1)
			go func() { done <- c.Set(t.Context(), "k", 1, 0).Err() }()
			h.Await(t)
			tieredtest.Eventually(t, "the server has what it shall have", func() bool { return direct.Get(t.Context(), "k").Val() == tt.there })
			select {
			case err := <-done:
				t.Fatalf("it ended while held: %v", err)
			default:
			}
			tt.end(h)
			if err := <-done; (err != nil) != tt.fails {
				t.Errorf("got %v", err)
			}
			if got := direct.Get(t.Context(), "k").Val(); got != tt.after {
				t.Errorf("in the end there is %q, want %q", got, tt.after)
			}
			must(t, c.Set(context.WithoutCancel(t.Context()), "k", 2, 0).Err()) // not held any more
		})
	}
}
