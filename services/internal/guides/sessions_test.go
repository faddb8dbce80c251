package guides_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// sessionManager is that of the guide.
type sessionManager struct {
	store
	now     func() time.Time
	between func() // where other requests may come in
}

func managing(t *testing.T) sessionManager {
	t.Helper()
	return sessionManager{guide(t), time.Now, func() {}}
}

func (m sessionManager) createSession(ctx context.Context, userID string, data object) string {
	id := rand.Text()
	ok := m.set(ctx, "session:"+id, object{"userId": userID}.with(data).with(object{"createdAt": m.now().UnixMilli()}), 24*time.Hour)
	if ok {
		m.r.SAdd(ctx, "user:"+userID+":sessions", id)
	}
	return id
}

func (m sessionManager) getSession(ctx context.Context, id string) (object, bool) {
	return m.get(ctx, "session:"+id)
}

func (m sessionManager) updateSession(ctx context.Context, id string, updates object) bool {
	session, ok := m.getSession(ctx, id)
	if !ok {
		return false
	}
	m.between()
	return m.set(ctx, "session:"+id, session.with(updates).with(object{"updatedAt": m.now().UnixMilli()}), 24*time.Hour)
}

func (m sessionManager) getUserSessions(ctx context.Context, userID string) []string {
	return m.r.SMembers(ctx, "user:"+userID+":sessions").Val()
}

// cleanupExpiredSessions is the guide's, whole.
func (m sessionManager) cleanupExpiredSessions() {}

// redisStore is express-session with connect-redis, as the crew guide sets them
// up: what matters of sessionOptions.
type redisStore struct {
	r      redis.UniversalClient
	secret string // process.env.SESSION_SECRET!
}

func (s redisStore) sign(id string) string {
	mac := hmac.New(sha256.New, []byte(s.secret))
	mac.Write([]byte(id))
	return id + "." + hex.EncodeToString(mac.Sum(nil))
}

// session finds or begins the session of a request. Without rolling: true the
// cookie is sent once, when the session begins; the store is touched each time.
func (s redisStore) session(w http.ResponseWriter, r *http.Request) (id string) {
	if c, err := r.Cookie("crewplots.sid"); err == nil && len(c.Value) > 26 && s.sign(c.Value[:26]) == c.Value {
		id = c.Value[:26]
		s.r.Expire(r.Context(), "crewplots:"+id, 24*time.Hour)
		return id
	}
	id = rand.Text()
	s.r.Set(r.Context(), "crewplots:"+id, `{}`, 24*time.Hour)
	http.SetCookie(w, &http.Cookie{Name: "crewplots.sid", Value: s.sign(id), MaxAge: 86400, HttpOnly: true})
	return id
}

// login is req.session.user = …, without req.session.regenerate.
func (s redisStore) login(w http.ResponseWriter, r *http.Request) {
	s.r.Set(r.Context(), "crewplots:"+s.session(w, r), `{"user":"mira"}`, 24*time.Hour)
}

func visit(t *testing.T, h http.HandlerFunc, cookie *http.Cookie) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	if cookie != nil {
		r.AddCookie(cookie)
	}
	w := httptest.NewRecorder()
	h(w, r)
	return w.Result()
}

func onlyCookie(t *testing.T, res *http.Response) *http.Cookie {
	t.Helper()
	defer res.Body.Close()
	if len(res.Cookies()) != 1 {
		t.Fatalf("%d cookies", len(res.Cookies()))
	}
	return res.Cookies()[0]
}

var sessions = []claim{
	{"an id is returned although the store failed", func(t *testing.T) string {
		m := managing(t)
		must(t, m.r.Close())
		id := m.createSession(t.Context(), "mira", nil)
		return says(id != "", "the session %s… is nowhere", id[:4])
	}},
	{"session data overrides whose it is", func(t *testing.T) string {
		m := managing(t)
		s, _ := m.getSession(t.Context(), m.createSession(t.Context(), "mira", object{"userId": "root"}))
		return says(s["userId"] == "root", "mira's session is root's")
	}},
	{"updates of a session race", func(t *testing.T) string {
		m := managing(t)
		id := m.createSession(t.Context(), "race", nil)
		n := together(2, "read", func(between func(string)) bool {
			own := m
			own.between = func() { between("read") }
			name := rand.Text()
			return own.updateSession(t.Context(), id, object{name: true})
		})
		s, _ := m.getSession(t.Context(), id)
		return says(n == 2 && len(s) == 4, "two updates succeeded, and the session has the fields of one: %v", s)
	}},
	{"a session is extended without end", func(t *testing.T) string {
		m := managing(t)
		m.now = func() time.Time { return time.Now().Add(-300 * 24 * time.Hour) }
		id := m.createSession(t.Context(), "old", nil)
		m.now = time.Now
		m.updateSession(t.Context(), id, object{"seen": true})
		left := m.r.TTL(t.Context(), "session:"+id).Val()
		return says(left > 23*time.Hour, "300 days old, it lives for %v more", left)
	}},
	{"dead ids stay in the user's set", func(t *testing.T) string {
		m := managing(t)
		id := m.createSession(t.Context(), "dead", nil)
		must(t, m.r.Del(t.Context(), "session:"+id).Err()) // as when its TTL is over
		_, alive := m.getSession(t.Context(), id)
		return says(!alive && len(m.getUserSessions(t.Context(), "dead")) == 1, "a session that has ended is listed")
	}},
	{"the list of sessions opens them", func(t *testing.T) string {
		m := managing(t)
		m.createSession(t.Context(), "listed", nil)
		for _, id := range m.getUserSessions(t.Context(), "listed") {
			if s, ok := m.getSession(t.Context(), id); ok {
				return says(s["userId"] == "listed", "who sees the list is signed in by it")
			}
		}
		return ""
	}},
	{"the clean-up does nothing", func(t *testing.T) string {
		m := managing(t)
		id := m.createSession(t.Context(), "unclean", nil)
		must(t, m.r.Del(t.Context(), "session:"+id).Err())
		m.cleanupExpiredSessions()
		return says(len(m.getUserSessions(t.Context(), "unclean")) == 1, "what has ended is still there after it")
	}},
	{"the secret of cookies may be undefined", func(t *testing.T) string {
		unset := redisStore{client(t, shared), processEnv("SESSION_SECRET")}
		id := rand.Text()
		forged := redisStore{secret: ""}.sign(id) // by anybody
		res := visit(t, func(w http.ResponseWriter, r *http.Request) { unset.session(w, r) }, &http.Cookie{Name: "crewplots.sid", Value: forged})
		defer res.Body.Close()
		return says(len(res.Cookies()) == 0, "a cookie that anybody can sign is taken")
	}},
	{"signing in keeps the session that the browser came with", func(t *testing.T) string {
		s := redisStore{client(t, shared), rand.Text()}
		planted := onlyCookie(t, visit(t, func(w http.ResponseWriter, r *http.Request) { s.session(w, r) }, nil))
		res := visit(t, s.login, planted) // the victim, with the attacker's cookie
		defer res.Body.Close()
		text := s.r.Get(t.Context(), "crewplots:"+planted.Value[:26]).Val()
		return says(text == `{"user":"mira"}`, "whoever planted the cookie is signed in as mira")
	}},
	{"touching renews the store and not the browser's cookie", func(t *testing.T) string {
		s := redisStore{client(t, shared), rand.Text()}
		c := onlyCookie(t, visit(t, s.login, nil))
		res := visit(t, func(w http.ResponseWriter, r *http.Request) { s.session(w, r) }, c)
		defer res.Body.Close()
		return says(len(res.Cookies()) == 0, "the browser drops its cookie after a day, however often it is used")
	}},
}

// processEnv is process.env in a deployment that has forgotten the variable.
func processEnv(string) string { return "" }
