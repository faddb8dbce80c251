package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	rediscache "github.com/go-redis/cache/v9"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
)

// wire is a redis-server of its own and the clients that are compared on it.
type wire struct {
	server *tieredtest.Redis
	dir    string
	bare   *redis.Client
	piped  *redis.AutoPipeliner
	aside  rueidis.Client
	store  *tiered.Store

	listener *redis.PubSub
}

func openWire() (*wire, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, fmt.Errorf("make folder for redis: %w", err)
	}
	w := &wire{dir: dir}
	if w.server, err = tieredtest.LaunchRedis(dir); err != nil {
		return nil, fmt.Errorf("bench redis: %w", err)
	}
	o := w.server.Options()
	o.ReadTimeout, o.WriteTimeout = 5*time.Second, 5*time.Second
	w.bare = redis.NewClient(o)
	if w.piped, err = w.bare.AutoPipeline(); err != nil {
		w.close()
		return nil, fmt.Errorf("open pipelined client: %w", err)
	}
	if w.aside, err = rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{w.server.Addr()}}); err != nil {
		w.close()
		return nil, fmt.Errorf("open rueidis: %w", err)
	}
	if w.store, err = tiered.Open(context.Background(), tiered.WithRedis(w.bare), tiered.WithL2Timeout(5*time.Second)); err != nil {
		w.close()
		return nil, fmt.Errorf("bench tiered: %w", err)
	}
	w.listener = w.bare.Subscribe(context.Background(), heard)
	go func(messages <-chan *redis.Message) {
		for range messages { // until it is closed
		}
	}(w.listener.Channel())
	return w, nil
}

func (w *wire) close() {
	if w.listener != nil {
		_ = w.listener.Close()
	}
	if w.store != nil {
		closeStore(w.store)
	}
	if w.aside != nil {
		w.aside.Close()
	}
	if w.piped != nil {
		_ = w.piped.Close()
	}
	if w.bare != nil {
		_ = w.bare.Close()
	}
	w.server.Close()
	_ = os.RemoveAll(w.dir)
}

// serverTime is the processor time that Redis has had.
func (w *wire) serverTime() time.Duration {
	info, err := w.bare.Info(context.Background(), "cpu").Result()
	if err != nil {
		return 0
	}
	var sum float64
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_user" || name == "used_cpu_sys" {
			s, _ := strconv.ParseFloat(value, 64)
			sum += s
		}
	}
	return time.Duration(sum * float64(time.Second))
}

// fresh gives keys that nobody has had.
var fresh atomic.Int64

func (w *wire) cache(name string) *tiered.Cache[string, string] { return cacheOf[string](w, name) }

func cacheOf[V any](w *wire, name string, opts ...tiered.CacheOption) *tiered.Cache[string, V] {
	c, err := tiered.New[string, V](w.store, name, append(opts, tiered.WithDefaults(tiered.TTL(ttl), tiered.L1TTL(ttl)))...)
	if err != nil {
		panic(err) // a name twice: a bug here
	}
	return c
}

// crowd is how many callers go-redis's pool and tiered are compared with.
const crowd = 64

// byCrowd is each by so many callers at once, of whom each has a number.
func byCrowd(f func(caller int)) work {
	return all(func(n int) {
		var left atomic.Int64
		left.Store(int64(n))
		var wg sync.WaitGroup
		for caller := range crowd {
			wg.Go(func() {
				for left.Add(-1) >= 0 {
					f(caller)
				}
			})
		}
		wg.Wait()
	})
}

func each(f func()) work {
	return all(func(n int) {
		for range n {
			f()
		}
	})
}

// until is the time that each takes up to a point in it, which it reports.
func until(f func(here func())) work {
	return func(n int) (counted time.Duration) {
		for range n {
			began := time.Now()
			f(func() { counted += time.Since(began) })
		}
		return counted
	}
}

// missSubjects: the first is the bare command that the others are compared to.
func (w *wire) missSubjects(value string) []subject {
	ctx := context.Background()
	c, leased := w.cache("miss"), w.cache("leased")
	load := func(context.Context, string, *tiered.Load[string]) (string, error) { return value, nil }
	key := func() string { return "k" + strconv.FormatInt(fresh.Add(1), 10) }
	rc := rediscache.New(&rediscache.Options{Redis: w.bare, LocalCache: rediscache.NewTinyLFU(1000, ttl)})
	return []subject{
		{"bare GET, absent", each(func() { _ = w.bare.Get(ctx, key()).Err() })},
		{"bare GET, then SET (by hand)", each(func() {
			k := key()
			_ = w.bare.Get(ctx, k).Err()
			_ = w.bare.Set(ctx, k, value, ttl).Err()
		})},
		{"a script of GET alone", each(func() { _ = onlyGet.Run(ctx, w.bare, []string{key()}).Err() })},
		{"two scripts of GET alone", each(func() {
			k := key()
			_ = onlyGet.Run(ctx, w.bare, []string{k}).Err()
			_ = onlyGet.Run(ctx, w.bare, []string{k}).Err()
		})},
		{"**tiered** Get, absent", each(func() { _, _ = c.Get(ctx, key()) })},
		{"**tiered** GetOrLoad, up to its loader: the lease", until(func(here func()) {
			_, _ = leased.GetOrLoad(ctx, key(), func(context.Context, string, *tiered.Load[string]) (string, error) {
				here()
				return value, nil
			})
		})},
		{"**tiered** GetOrLoad: lease alone, load not stored", each(func() {
			_, _ = leased.GetOrLoad(ctx, key(), func(_ context.Context, _ string, l *tiered.Load[string]) (string, error) {
				l.Set(tiered.TTL(0))
				return value, nil
			})
		})},
		{"**tiered** GetOrLoad: lease, load, fenced store", each(func() { _, _ = leased.GetOrLoad(ctx, key(), load) })},
		{"go-redis/cache Once", each(func() {
			var v string
			_ = rc.Once(&rediscache.Item{Ctx: ctx, Key: key(), Value: &v, TTL: ttl,
				Do: func(*rediscache.Item) (any, error) { return value, nil }})
		})},
		{"rueidis DoCache, absent", each(func() {
			_ = w.aside.DoCache(ctx, w.aside.B().Get().Key(key()).Cache(), ttl).Error()
		})},
	}
}

// What a server charges for a script, whatever it is for.
var (
	onlyGet    = redis.NewScript(`return redis.call('GET', KEYS[1])`)
	onlyMGet   = redis.NewScript(`return redis.call('MGET', unpack(KEYS))`)
	onlySet    = redis.NewScript(`return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])`)
	setAndTell = redis.NewScript(`redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return redis.call('PUBLISH', ARGV[3], KEYS[1])`)
)

// heard is a channel that somebody listens to, as somebody does to tiered's.
const heard = "heard"

func (w *wire) setSubjects(value string) []subject {
	ctx := context.Background()
	c := w.cache("set" + strconv.Itoa(len(value)))
	return []subject{
		{"bare SET", each(func() { _ = w.bare.Set(ctx, "bare", value, ttl).Err() })},
		{"bare SET and PUBLISH, pipelined", each(func() {
			p := w.bare.Pipeline()
			p.Set(ctx, "bare", value, ttl)
			p.Publish(ctx, "bench", "bare")
			_, _ = p.Exec(ctx)
		})},
		{"the same, with one subscriber", each(func() {
			p := w.bare.Pipeline()
			p.Set(ctx, "bare", value, ttl)
			p.Publish(ctx, heard, "bare")
			_, _ = p.Exec(ctx)
		})},
		{"a script of SET alone", each(func() { _ = onlySet.Run(ctx, w.bare, []string{"bare"}, value, ttl.Milliseconds()).Err() })},
		{"a script of SET and PUBLISH, one subscriber", each(func() {
			_ = setAndTell.Run(ctx, w.bare, []string{"bare"}, value, ttl.Milliseconds(), heard).Err()
		})},
		{"**tiered** Set", each(func() { _ = c.Set(ctx, "k", value) })},
		{"**tiered** Delete", each(func() { _ = c.Delete(ctx, "k") })},
	}
}

// crowdSubjects are writes of many callers, of whom each has a key.
func (w *wire) crowdSubjects(value string) []subject {
	ctx := context.Background()
	c := w.cache("crowd")
	keys := names(crowd)
	return []subject{
		{"bare SET", byCrowd(func(i int) { _ = w.bare.Set(ctx, "bare"+keys[i], value, ttl).Err() })},
		{"bare SET and PUBLISH, pipelined, one subscriber", byCrowd(func(i int) {
			p := w.bare.Pipeline()
			p.Set(ctx, "bare"+keys[i], value, ttl)
			p.Publish(ctx, heard, keys[i])
			_, _ = p.Exec(ctx)
		})},
		{"bare SET by go-redis's AutoPipeline", byCrowd(func(i int) { _ = w.piped.Set(ctx, "bare"+keys[i], value, ttl).Err() })},
		{"**tiered** Set", byCrowd(func(i int) { _ = c.Set(ctx, keys[i], value) })},
		{"**tiered** Delete", byCrowd(func(i int) { _ = c.Delete(ctx, keys[i]) })},
	}
}

func (w *wire) bulkSubjects(value string) []subject {
	ctx := context.Background()
	c := w.cache("bulk")
	bare, own, values := make([]string, 100), make([]string, 100), make(map[string]string, 100)
	for i := range bare {
		own[i] = strconv.Itoa(i)
		bare[i] = "bare" + own[i]
		values[own[i]] = value
		_ = w.bare.Set(ctx, bare[i], value, ttl).Err()
	}
	_ = c.SetMany(ctx, values)
	stored, coded := make([]string, len(own)), make([]string, len(own))
	for i, k := range own {
		stored[i], coded[i] = "tc:{bulk:"+k+"}", "json"+k
		b, _ := json.Marshal(value) // a string can be encoded
		_ = w.bare.Set(ctx, coded[i], b, ttl).Err()
	}
	load := func(context.Context, []string) (map[string]string, error) {
		return nil, errors.New("they are in redis")
	}
	plain := cacheOf[[]byte](w, "raw", tiered.WithCodec(tiered.Raw, 0))
	for _, k := range own {
		_ = plain.Set(ctx, k, []byte(value))
	}
	return []subject{
		{"MGET of 100", each(func() { _ = w.bare.MGet(ctx, bare...).Err() })},
		{"MGET of 100, of as many bytes as tiered's entries", each(func() { _ = w.bare.MGet(ctx, stored...).Err() })},
		{"MGET of 100, decoded into a map by hand", each(func() {
			found := make(map[string]string, len(bare))
			for i, v := range w.bare.MGet(ctx, coded...).Val() {
				var text string
				s, _ := v.(string)
				if json.Unmarshal([]byte(s), &text) == nil {
					found[own[i]] = text
				}
			}
		})},
		{"MGET of 100, put into a map by hand", each(func() {
			found := make(map[string]string, len(bare))
			for i, v := range w.bare.MGet(ctx, bare...).Val() {
				found[own[i]], _ = v.(string)
			}
		})},
		{"a script of MGET alone", each(func() { _ = onlyMGet.Run(ctx, w.bare, bare).Err() })},
		{"pipeline of 100 GET", each(func() {
			p := w.bare.Pipeline()
			for _, k := range bare {
				p.Get(ctx, k)
			}
			_, _ = p.Exec(ctx)
		})},
		{"**tiered** GetMany of 100, from Redis", each(func() { _, _ = c.GetMany(ctx, own, tiered.SkipL1()) })},
		{"**tiered** GetMany of 100 []byte, Raw, from Redis", each(func() { _, _ = plain.GetMany(ctx, own, tiered.SkipL1()) })},
		{"**tiered** GetOrLoadMany of 100, from Redis", each(func() { _, _ = c.GetOrLoadMany(ctx, own, load, tiered.SkipL1()) })},
		{"**tiered** GetMany of 100, from memory", each(func() { _, _ = c.GetMany(ctx, own) })},
		{"100 GET, one by one", each(func() {
			for _, k := range bare {
				_ = w.bare.Get(ctx, k).Err()
			}
		})},
	}
}

// nearSubjects are hits in the memory of caches that have Redis behind them.
func (w *wire) nearSubjects(value string) []subject {
	ctx := context.Background()
	const keys = 16 << 10
	c := w.cache("near")
	rc := rediscache.New(&rediscache.Options{Redis: w.bare, LocalCache: rediscache.NewTinyLFU(2*keys, ttl)})
	trace, own := zipf(1, 1<<18, keys, 1.1), names(keys)
	for k := range keys {
		_ = c.Set(ctx, own[k], value)
		_ = rc.Set(&rediscache.Item{Ctx: ctx, Key: own[k], Value: value, TTL: ttl})
		_ = w.bare.Set(ctx, "r"+own[k], value, ttl).Err()
	}
	at := func(do func(k int)) work {
		i := 0
		return each(func() {
			i++
			do(trace[i%len(trace)])
		})
	}
	load := func(context.Context, string, *tiered.Load[string]) (string, error) { return value, nil }
	return []subject{
		{"**tiered** Get", at(func(k int) { _, _ = c.Get(ctx, own[k]) })},
		{"**tiered** GetOrLoad", at(func(k int) { _, _ = c.GetOrLoad(ctx, own[k], load) })},
		{"go-redis/cache Get", at(func(k int) { var v string; _ = rc.Get(ctx, own[k], &v) })},
		{"rueidis DoCache", at(func(k int) {
			_, _ = w.aside.DoCache(ctx, w.aside.B().Get().Key("r"+own[k]).Cache(), ttl).ToString()
		})},
	}
}

// openSubjects are misses while the breaker is open, beside those of a store
// that has no Redis: the difference is what the breaker costs.
func openSubjects() (all []subject, end func(), err error) {
	ctx := context.Background()
	dead := redis.NewClient(&redis.Options{
		Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1, DialTimeout: 100 * time.Millisecond, ContextTimeoutEnabled: true,
	})
	away, err := tiered.Open(ctx, tiered.WithRedis(dead), tiered.WithL2Timeout(100*time.Millisecond),
		tiered.WithBreaker(breakerFor(time.Hour)))
	if err != nil {
		return nil, nil, fmt.Errorf("open without redis: %w", err)
	}
	c, err := tiered.New[int, int](away, "open")
	if err != nil {
		return nil, nil, fmt.Errorf("open without redis: %w", err)
	}
	for away.Health().Breaker != "open" {
		_, _ = c.Get(ctx, 1, tiered.SkipL1())
	}
	none, without := memoryOnly[int](1<<20, 0)
	return []subject{
		{"**tiered** Get, absent, no Redis configured", each(func() { _, _ = without.Get(ctx, 1) })},
		{"**tiered** Get, absent, breaker open", each(func() { _, _ = c.Get(ctx, 1) })},
	}, func() { closeStore(away); closeStore(none); _ = dead.Close() }, nil
}
