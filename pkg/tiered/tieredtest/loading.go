package tieredtest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// WithSlowLoading lets the server load its data slowly: see Load. It needs
// Redis 7.
func WithSlowLoading() RedisOption {
	return WithArgs("--enable-debug-command", "yes", "--loading-process-events-interval-bytes", "1024")
}

// Load adds n keys of its own to the server, has it read all its data again, at
// about 2 ms a key, and returns once it refuses commands with LOADING, as a
// server does that has just started. wait waits until it has loaded them. The
// server must have been started WithSlowLoading.
func (r *Redis) Load(t testing.TB, n int) (wait func()) {
	t.Helper()
	o := r.Options()
	o.ReadTimeout, o.WriteTimeout = time.Minute, time.Minute
	patient := redis.NewClient(o)
	pipe := patient.Pipeline()
	for i := range n {
		pipe.Set(t.Context(), fmt.Sprint("loaded:", i), strings.Repeat("x", 100), time.Hour)
	}
	_, err := pipe.Exec(t.Context())
	must(t, "fill redis", err)
	must(t, "make loading slow", patient.ConfigSet(t.Context(), "key-load-delay", "2000").Err())
	var loading sync.WaitGroup
	loading.Go(func() { _ = patient.Do(t.Context(), "DEBUG", "RELOAD").Err() })
	hurry := r.Client(t)
	t.Cleanup(func() { // it may have long to go; or it is gone
		_ = hurry.ConfigSet(context.WithoutCancel(t.Context()), "key-load-delay", "0").Err()
		loading.Wait()
		_ = patient.Close()
	})
	await(t, "redis answers LOADING", func(ctx context.Context) bool {
		err := patient.Get(ctx, "loaded:0").Err()
		return err != nil && strings.HasPrefix(err.Error(), "LOADING")
	}, func() { t.Log(r.log.String()) })
	return loading.Wait
}
