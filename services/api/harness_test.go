package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/services/api"
	"github.com/crewbeat/crewbeat/services/api/internal/account"
	"github.com/crewbeat/crewbeat/services/api/internal/store"
	"github.com/crewbeat/crewbeat/services/api/internal/team"
	"github.com/crewbeat/crewbeat/services/internal/db"
	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/internal/pgtest"
	"github.com/crewbeat/crewbeat/services/internal/session"
)

func TestMain(m *testing.M) {
	code := pgtest.Main(m)
	if code == 0 {
		if err := goleak.Find(dialling); err != nil {
			slog.Error("goroutines are left", "error", err)
			code = 1
		}
	}
	os.Exit(code)
}

// clock is what a world's time is read from.
type clock struct{ now atomic.Int64 }

func (c *clock) Now() time.Time          { return time.Unix(0, c.now.Load()).UTC() }
func (c *clock) Set(t time.Time)         { c.now.Store(t.UnixNano()) }
func (c *clock) Advance(d time.Duration) { c.now.Add(int64(d)) }

// world is a whole API: real database, cache, sessions and broker, served
// over HTTP. Its clock starts on Wednesday 2026-11-18, 12:00 UTC.
type world struct {
	url      string
	api      *api.API
	db       *db.DB
	store    *store.Store
	cache    *tiered.Store
	sessions *session.Sessions
	broker   event.Broker
	clock    *clock
	log      *logBuffer
	away     atomic.Bool            // the broker answers nothing
	asked    atomic.Pointer[func()] // called when a position is asked for, before it is read
}

// brokerOf lets a test take a world's broker away.
type brokerOf struct {
	event.Broker
	w *world
}

func (b brokerOf) Position(ctx context.Context, channel string) (event.Position, error) {
	if b.w.away.Load() {
		return event.Position{}, event.ErrClosed
	}
	if f := b.w.asked.Swap(nil); f != nil {
		(*f)()
	}
	return b.Broker.Position(ctx, channel)
}

// logBuffer keeps what was logged.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func sqlite(t *testing.T) string {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "crewbeat.db")
}

// databases runs a test on both.
func databases(t *testing.T, f func(t *testing.T, url string)) {
	t.Run("sqlite", func(t *testing.T) { f(t, sqlite(t)) })
	t.Run("postgres", func(t *testing.T) { f(t, pgtest.Database(t)) })
}

func newWorld(t *testing.T, url string, tracers ...trace.TracerProvider) *world {
	t.Helper()
	// The tests of other things ask all within one moment of the world's clock.
	return newWorldOf(t, url, func(c *api.Config) { c.Limits.Login = 500 }, tracers...)
}

// newWorldOf makes a world whose API is set up as change says.
func newWorldOf(t *testing.T, url string, change func(*api.Config), tracers ...trace.TracerProvider) *world {
	t.Helper()
	ctx := t.Context()
	w := &world{clock: &clock{}, log: &logBuffer{}}
	w.clock.Set(time.Date(2026, time.November, 18, 12, 0, 0, 0, time.UTC))
	log := slog.New(slog.NewTextHandler(w.log, nil))
	c := db.Config{URL: url}
	cached := []tiered.Option{tiered.WithL1(16 << 20)}
	if len(tracers) > 0 {
		c.Tracer = tracers[0]
		cached = append(cached, tiered.WithTracerProvider(tracers[0]))
	}
	var err error
	if w.db, err = db.Open(ctx, c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, w.db.Close()) })
	if _, _, err := api.Migrate(ctx, w.db); err != nil {
		t.Fatal(err)
	}
	w.store = store.New(w.db, store.Options{Now: w.clock.Now})
	if w.cache, err = tiered.Open(ctx, cached...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, w.cache.Close(context.WithoutCancel(ctx))) })
	memory, err := event.NewMemory(event.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.broker = brokerOf{memory, w}
	t.Cleanup(func() { must(t, w.broker.Close()) })
	w.sessions, err = session.New(session.Config{
		DB: w.db.SQL(), Cache: w.cache, Secrets: []string{"a secret for tests, long enough to be one"}, Now: w.clock.Now, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	parts := api.Config{
		DB: w.db, Cache: w.cache, Sessions: w.sessions, Broker: w.broker,
		PublicURL: "https://crew.example.org", Version: "test", Log: log, Now: w.clock.Now,
	}
	change(&parts)
	a, err := api.New(parts)
	if err != nil {
		t.Fatal(err)
	}
	w.api = a
	srv := httptest.NewServer(a.Handler())
	t.Cleanup(srv.Close)
	w.url = srv.URL
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// passwordHash is that of "correct horse", made once: hashing is slow on purpose.
var passwordHash = sync.OnceValues(func() (string, error) {
	return account.HashPassword(context.Background(), password)
})

const password = "correct horse"

// person is somebody with a browser.
type person struct {
	w       *world
	user    account.User
	session session.Session
	client  *http.Client
}

// stranger has no account.
func (w *world) stranger(t *testing.T) *person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	must(t, err)
	transport := &http.Transport{MaxConnsPerHost: 64, MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	return &person{w: w, client: &http.Client{Jar: jar, Transport: transport}}
}

// join makes an account and signs in, past the hashing.
func (w *world) join(t *testing.T, name, tz string) *person {
	t.Helper()
	hash, err := passwordHash()
	must(t, err)
	p := w.stranger(t)
	now := w.clock.Now()
	id := uuid.Must(uuid.NewV7()).String()
	p.user = account.User{
		ID: id, Email: strings.ToLower(name) + "-" + id + "@example.org", Name: name, TZ: tz, WeekStart: time.Monday,
		Locale: "en", Version: 1, CreatedAt: now, UpdatedAt: now,
	}
	must(t, w.store.Accounts().CreateUser(t.Context(), p.user, hash))
	p.signIn(t)
	return p
}

func (p *person) signIn(t *testing.T) {
	t.Helper()
	token, s, err := p.w.sessions.Create(t.Context(), p.user.ID, "192.0.2.1", "Mozilla/5.0 (test)")
	must(t, err)
	p.session = s
	r, err := http.NewRequest(http.MethodGet, p.w.url, nil)
	must(t, err)
	p.client.Jar.SetCookies(r.URL, []*http.Cookie{p.w.sessions.Cookie(token, s)})
}

// reply is what was answered.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// doc returns the body as JSON.
func (r reply) doc(t *testing.T) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal(r.body, &out); err != nil {
		t.Fatalf("answer %d is no JSON object: %q", r.status, r.body)
	}
	return out
}

// at returns what stands at a path like "user.name" or "items.0.id".
func (r reply) at(t *testing.T, path string) any {
	t.Helper()
	var v any
	must(t, json.Unmarshal(r.body, &v))
	for part := range strings.SplitSeq(path, ".") {
		switch node := v.(type) {
		case map[string]any:
			v = node[part]
		case []any:
			var i int
			if _, err := fmt.Sscan(part, &i); err != nil || i >= len(node) {
				t.Fatalf("no %q in %s", path, r.body)
			}
			v = node[i]
		default:
			t.Fatalf("no %q in %s", path, r.body)
		}
	}
	return v
}

func (r reply) want(t *testing.T, status int) reply {
	t.Helper()
	if r.status != status {
		t.Fatalf("status = %d, want %d: %s", r.status, status, r.body)
	}
	return r
}

// wantProblem checks that the answer is a problem of the code.
func (r reply) wantProblem(t *testing.T, status int, code string) reply {
	t.Helper()
	r.want(t, status)
	if ct := r.header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("content type = %q, want a problem", ct)
	}
	p := r.doc(t)
	if p["code"] != code || p["detail"] == "" || p["title"] == "" || p["status"] != float64(status) {
		t.Errorf("problem = %s, want code %s and a detail", r.body, code)
	}
	return r
}

// do sends a request. Body is a JSON value, or a string that is sent as it is;
// headers come in pairs.
func (p *person) do(t *testing.T, method, path string, body any, headers ...string) reply {
	t.Helper()
	r, err := p.try(t.Context(), method, path, body, headers...)
	must(t, err)
	return r
}

func (p *person) try(ctx context.Context, method, path string, body any, headers ...string) (reply, error) {
	var content io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			return reply{}, err
		}
		content = bytes.NewReader(raw)
	}
	if !strings.HasPrefix(path, "/api/") && !strings.HasPrefix(path, "/docs") && !strings.HasPrefix(path, "/openapi") {
		path = "/api/v1" + path
	}
	req, err := http.NewRequestWithContext(ctx, method, p.w.url+path, content)
	if err != nil {
		return reply{}, err
	}
	if content != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := p.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	return reply{res.StatusCode, res.Header, raw}, err
}

type object = map[string]any

func daily() object { return object{"type": "daily"} }

// habit makes a habit and returns its id. Fields override the plain one.
func (p *person) habit(t *testing.T, fields object) string {
	t.Helper()
	body := object{"name": "Run", "schedule": daily()}
	maps.Copy(body, fields)
	return p.do(t, "POST", "/habits", body).want(t, http.StatusCreated).at(t, "id").(string)
}

var ops atomic.Int64

// op returns a new operation id.
func op() string { return fmt.Sprintf("test-op-%06d", ops.Add(1)) }

func (p *person) tick(t *testing.T, habitID, day string) reply {
	t.Helper()
	return p.do(t, "PUT", "/habits/"+habitID+"/records/"+day, object{"client_op_id": op()}).want(t, http.StatusOK)
}

// crew makes a team of everybody, owned by p, and returns its id.
func (p *person) crew(t *testing.T, members map[*person]string) string {
	t.Helper()
	id := p.do(t, "POST", "/teams", object{"name": "Harbor Crew"}).want(t, http.StatusCreated).at(t, "team.id").(string)
	must(t, p.w.store.Teams().Change(t.Context(), func(ctx context.Context, tx team.Tx) error {
		for m, role := range members {
			if _, err := tx.AddMember(ctx, id, m.user.ID, role, p.w.clock.Now()); err != nil {
				return err
			}
		}
		return nil
	}))
	return id
}

// emitted returns how many events of a name are in the outbox.
func (w *world) emitted(t *testing.T, name string) (n int) {
	t.Helper()
	must(t, w.db.SQL().QueryRowContext(t.Context(), `SELECT count(*) FROM outbox WHERE event = $1`, name).Scan(&n))
	return n
}

func (w *world) count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	must(t, w.db.SQL().QueryRowContext(t.Context(), query, args...).Scan(&n))
	return n
}

// dialling outlives a closed client by up to a second, in go-redis itself.
var dialling = goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial")

// number writes a JSON number as it stands in an address.
func number(v any) string { return strconv.FormatFloat(v.(float64), 'f', -1, 64) }
