package alert_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/crewbeat/crewbeat/services/internal/alert"
	"github.com/crewbeat/crewbeat/services/internal/env"
)

func notice() alert.Notice {
	at := time.Date(2026, time.March, 2, 6, 0, 0, 0, time.UTC)
	return alert.Notice{ID: "0195-abc", Kind: "firing", At: at, Site: "https://crew.example.org", Alert: alert.Alert{
		ID: "x", Name: "redis_away", Severity: alert.Critical, Summary: "Redis cannot be reached: <3> & more",
		Advice: "Run crewbeat doctor.", Runbook: "https://crew.example.org/manual#redis_away", Subject: "api-1", Value: 4, Threshold: 3, StartedAt: at, LastBadAt: at,
	}}
}

// receiver is a web server that keeps what it got.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	heads  []http.Header
	bodies [][]byte
}

func receive(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{status: http.StatusOK}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var body io.Reader = req.Body
		if req.Header.Get("Content-Encoding") == "gzip" {
			body, _ = gzip.NewReader(req.Body)
		}
		b, _ := io.ReadAll(body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.heads, r.bodies = append(r.heads, req.Header), append(r.bodies, b)
		if r.status/100 == 3 {
			w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
		}
		w.WriteHeader(r.status)
		_, _ = io.WriteString(w, `{"id":"1"}`)
	}))
	t.Cleanup(func() {
		r.Close()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	return r
}

func sentry(t *testing.T, dsn string) alert.Sink {
	t.Helper()
	s, err := alert.SentrySink(dsn, "crewbeat@1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.(io.Closer).Close() })
	return s
}

func TestWebhooksAreSignedJSON(t *testing.T) {
	r := receive(t)
	if err := alert.WebhookSink(r.URL+"/hook", "a secret").Send(t.Context(), notice()); err != nil {
		t.Fatal(err)
	}
	var got struct {
		ID, Kind, Site string
		Alert          struct{ Name, Severity, Advice string }
	}
	if err := json.Unmarshal(r.bodies[0], &got); err != nil || got.ID != "0195-abc" || got.Kind != "firing" || got.Alert.Name != "redis_away" || got.Alert.Severity != "critical" {
		t.Errorf("got %s (%v)", r.bodies[0], err)
	}
	h := r.heads[0]
	mac := hmac.New(sha256.New, []byte("a secret"))
	mac.Write([]byte("0195-abc." + h.Get("Webhook-Timestamp") + "." + string(r.bodies[0])))
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); h.Get("Webhook-Signature") != want || h.Get("Webhook-Id") != "0195-abc" {
		t.Errorf("the signature is %q, want %q", h.Get("Webhook-Signature"), want)
	}
	if err := alert.WebhookSink(r.URL, "").Send(t.Context(), notice()); err != nil || r.heads[1].Get("Webhook-Signature") != "" {
		t.Errorf("without a secret: %v, signature %q", err, r.heads[1].Get("Webhook-Signature"))
	}
}

func TestSlackShowsTheAlertAndNoMarkupOfOthers(t *testing.T) {
	r := receive(t)
	if err := alert.SlackSink(r.URL).Send(t.Context(), notice()); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Text   string
		Blocks []struct{ Type string }
	}
	if err := json.Unmarshal(r.bodies[0], &got); err != nil {
		t.Fatal(err)
	}
	if want := ":rotating_light: critical: Redis cannot be reached: &lt;3&gt; &amp; more"; got.Text != want || len(got.Blocks) != 2 {
		t.Errorf("got %+v, want the text %q and two blocks", got, want)
	}
}

func TestARefusedNoticeIsAnErrorWithoutTheAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + l.Addr().String()
	_ = l.Close()
	r := receive(t)
	for _, status := range []int{302, 400, 404, 429, 500} {
		r.mu.Lock()
		r.status = status
		r.mu.Unlock()
		sinks := []alert.Sink{alert.WebhookSink(r.URL+"/T0/secret-path", "k"), alert.SlackSink(r.URL + "/T0/secret-path")}
		if status != 429 { // which Sentry's client remembers
			sinks = append(sinks, sentry(t, strings.Replace(r.URL, "://", "://secret-path@", 1)+"/1"))
		}
		for _, s := range sinks {
			if err := s.Send(t.Context(), notice()); err == nil || strings.Contains(err.Error(), "secret-path") {
				t.Errorf("%s answered with %d: %v, want an error without the address", s.Name(), status, err)
			}
		}
	}
	for _, s := range []alert.Sink{
		alert.WebhookSink(nobody+"/secret-path", ""), alert.SlackSink(nobody + "/secret-path"),
		sentry(t, strings.Replace(nobody, "://", "://secret-path@", 1)+"/1"),
	} {
		if err := s.Send(t.Context(), notice()); err == nil || strings.Contains(err.Error(), "secret-path") {
			t.Errorf("%s without a server: %v, want an error without the address", s.Name(), err)
		}
	}
}

func TestSentryGetsAMessageOfItsOwnGroup(t *testing.T) {
	r := receive(t)
	s := sentry(t, strings.Replace(r.URL, "://", "://key@", 1)+"/42")
	n := notice()
	n.ID = "01950000-0000-7000-8000-000000000001"
	if err := s.Send(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(r.bodies[0], []byte("\n")) // an envelope: a header, and a header before each item
	if len(lines) < 3 {
		t.Fatalf("got %s", r.bodies[0])
	}
	var event struct {
		EventID                 string `json:"event_id"`
		Message, Level, Release string
		Fingerprint             []string
		Tags                    map[string]string
		User                    map[string]any
		ServerName              string `json:"server_name"`
	}
	if err := json.Unmarshal(lines[2], &event); err != nil {
		t.Fatalf("%v: %s", err, lines[2])
	}
	if event.EventID != "01950000000070008000000000000001" || event.Message != n.Title() || event.Level != "fatal" || event.Release != "crewbeat@1" ||
		strings.Join(event.Fingerprint, " ") != "crewbeat redis_away critical" || event.Tags["state"] != "firing" {
		t.Errorf("got %+v", event)
	}
}

// post is a mail server that keeps what it got.
type post struct {
	mu       sync.Mutex
	messages []string
	to       []string
	user     string
}

func (p *post) NewSession(*smtp.Conn) (smtp.Session, error) { return &letter{p}, nil }

type letter struct{ p *post }

func (*letter) AuthMechanisms() []string { return []string{sasl.Plain} }
func (l *letter) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "crew" || password != "p@ss word" {
			return smtp.ErrAuthFailed
		}
		l.p.user = user
		return nil
	}), nil
}
func (*letter) Mail(string, *smtp.MailOptions) error { return nil }
func (l *letter) Rcpt(to string, _ *smtp.RcptOptions) error {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	l.p.to = append(l.p.to, to)
	return nil
}
func (l *letter) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	l.p.messages = append(l.p.messages, string(b))
	return err
}
func (*letter) Reset()        {}
func (*letter) Logout() error { return nil }

// postOffice runs a mail server with STARTTLS, and returns what trusts it.
func postOffice(t *testing.T) (p *post, addr string, trust *tls.Config) {
	t.Helper()
	certified := httptest.NewTLSServer(nil) // for its certificate
	t.Cleanup(certified.Close)
	pool := x509.NewCertPool()
	pool.AddCert(certified.Certificate())
	p = &post{}
	s := smtp.NewServer(p)
	s.Domain = "localhost"
	s.TLSConfig = &tls.Config{Certificates: certified.TLS.Certificates, MinVersion: tls.VersionTLS12}
	s.ErrorLog = quiet{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(l) // ends with Close
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-served
	})
	return p, l.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "example.com", MinVersion: tls.VersionTLS12}
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

func TestMailIsSentWithTLSAndAPassword(t *testing.T) {
	p, addr, trust := postOffice(t)
	s, err := alert.MailSink(alert.Mail{
		Server: "smtp://crew:p%40ss%20word@" + addr, From: "Crewbeat <crewbeat@example.org>", To: []string{"mira@example.org", "jonas@example.org"}, TLS: trust,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), notice()); err != nil {
		t.Fatal(err)
	}
	if p.user != "crew" || len(p.messages) != 1 || strings.Join(p.to, " ") != "mira@example.org jonas@example.org" {
		t.Fatalf("user %q, to %v, %d messages", p.user, p.to, len(p.messages))
	}
	for _, want := range []string{"Subject: [Crewbeat] critical: Redis cannot be reached", "Message-ID: <0195-abc@crewbeat>", "Auto-Submitted: auto-generated", "What to do: Run crewbeat doctor."} {
		if !strings.Contains(p.messages[0], want) {
			t.Errorf("the mail does not have %q:\n%s", want, p.messages[0])
		}
	}
}

func TestMailThatIsRefusedIsAnErrorWithoutThePassword(t *testing.T) {
	p, addr, trust := postOffice(t)
	for name, m := range map[string]alert.Mail{
		"wrong password":        {Server: "smtp://crew:wrong-secret@" + addr, TLS: trust},
		"untrusted certificate": {Server: "smtp://crew:wrong-secret@" + addr},
		"password without TLS":  {Server: "smtp+plain://crew:wrong-secret@" + addr},
		"nobody listens":        {Server: "smtp://crew:wrong-secret@127.0.0.1:1"},
	} {
		t.Run(name, func(t *testing.T) {
			m.From, m.To = "crewbeat@example.org", []string{"mira@example.org"}
			s, err := alert.MailSink(m)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Send(t.Context(), notice()); err == nil || strings.Contains(err.Error(), "wrong-secret") {
				t.Errorf("%v, want an error without the password", err)
			}
		})
	}
	if len(p.messages) > 0 {
		t.Errorf("%d messages got through", len(p.messages))
	}
}

func TestTheLogTellsBySeverity(t *testing.T) {
	var b bytes.Buffer
	s := alert.LogSink(slog.New(slog.NewTextHandler(&b, nil)))
	n := notice()
	for _, change := range []func(){func() {}, func() { n.Alert.Severity = alert.Warning }, func() { n.Kind = "resolved" }} {
		change()
		if err := s.Send(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	lines := bufio.NewScanner(&b)
	for _, want := range []string{"level=ERROR", "level=WARN", "level=INFO"} {
		if lines.Scan(); !strings.Contains(lines.Text(), want) {
			t.Errorf("%q, want %s", lines.Text(), want)
		}
	}
}

func TestTheEnvironmentNamesTheSinks(t *testing.T) {
	set := map[string]string{
		"ALERT_WEBHOOK_URL": "https://hooks.example.org/x", "ALERT_SLACK_URL": "https://chat.example.org/y", "SENTRY_DSN": "https://key@sentry.example.org/1",
		"ALERT_MAIL_SERVER": "smtps://crew:word@mail.example.org", "ALERT_MAIL_FROM": "crewbeat@example.org", "ALERT_MAIL_TO": "mira@example.org, jonas@example.org",
	}
	r := env.New(func(name string) string { return set[name] })
	settings := alert.FromEnv(r)
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	sinks, err := settings.Sinks(slog.New(slog.DiscardHandler), "1")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range sinks {
		if c, ok := s.(io.Closer); ok {
			_ = c.Close()
		}
		names = append(names, s.Name())
	}
	if got := strings.Join(names, " "); got != "log webhook slack mail sentry" {
		t.Errorf("the sinks are %s", got)
	}
	for name, value := range map[string]string{
		"ALERT_WEBHOOK_URL": "ftp://hidden-word", "ALERT_SLACK_URL": "hidden-word", "SENTRY_DSN": "https://hidden-word", "ALERT_MAIL_SERVER": "smtp://a:hidden-word@/x",
	} {
		r := env.New(func(n string) string {
			if n == name {
				return value
			}
			return ""
		})
		alert.FromEnv(r)
		if err := r.Err(); err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "hidden-word") {
			t.Errorf("%s: %v, want an error that names it and not its value", name, err)
		}
	}
}

func TestRunMeasuresAndSendsUntilItsContextEnds(t *testing.T) {
	w := newWorld(t, "sqlite:"+filepath.Join(t.TempDir(), "c.db"))
	s := &bell{rung: make(chan struct{})}
	e := w.node(t, "a", s)
	w.set("redis_consecutive_failures", 3)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	select {
	case <-s.rung:
	case <-ctx.Done():
		t.Error("nothing was told within a minute")
	}
	stop()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

type bell struct {
	once sync.Once
	rung chan struct{}
}

func (*bell) Name() string { return "bell" }
func (b *bell) Send(context.Context, alert.Notice) error {
	b.once.Do(func() { close(b.rung) })
	return nil
}

// A database that takes no readings, but has notices to send, made the log
// repeat itself each minute.
func TestWhatDoesNotWorkIsSaidOnceUntilItWorksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "sqlite:"+filepath.Join(t.TempDir(), "c.db"))
		var log strings.Builder
		e, err := alert.New(alert.Config{
			DB: w.db, Node: "a", Signals: w.signals(), Sinks: []alert.Sink{&ear{name: "ear"}}, Now: w.clock, Log: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		rename := func(from, to string) {
			if _, err := w.db.ExecContext(t.Context(), "ALTER TABLE "+from+" RENAME TO "+to); err != nil {
				t.Fatal(err)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }()
		said := func(what string, want int) {
			t.Helper()
			<-time.After(10 * time.Minute)
			synctest.Wait()
			if got := strings.Count(log.String(), what); got != want {
				t.Errorf("%q is said %d times, want %d:\n%s", what, got, want, log.String())
			}
		}
		said("alerts do not work", 0)
		rename("alert_readings", "gone")
		said("step=measure", 1)
		rename("gone", "alert_readings")
		said("alerts do not work", 1)
		rename("alert_notices", "gone")
		said("step=send", 1)
		rename("alert_readings", "gone_too")
		said("step=measure", 2)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
