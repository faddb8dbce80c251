package tieredtest_test

import (
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/redis/go-redis/v9"
)

func TestConformance(t *testing.T) {
	t.Run("without redis", func(t *testing.T) { tieredtest.Conformance(t, nil) })
	r := tieredtest.StartRedis(t)
	t.Run("single", func(t *testing.T) {
		tieredtest.Conformance(t, func(t testing.TB) redis.UniversalClient { return r.Connect(t, nil) })
	})
	t.Run("sentinel", func(t *testing.T) {
		s := tieredtest.StartSentinel(t, 1)
		tieredtest.Conformance(t, func(t testing.TB) redis.UniversalClient { return s.Client(t) })
	})
	t.Run("cluster", func(t *testing.T) {
		c := tieredtest.StartCluster(t, 3, 0)
		tieredtest.Conformance(t, func(t testing.TB) redis.UniversalClient { return c.Client(t) })
	})
	t.Run("far away", func(t *testing.T) {
		tieredtest.Conformance(t, func(t testing.TB) redis.UniversalClient {
			p := tieredtest.StartNetwork(t)
			p.Slow(3*time.Millisecond, 2*time.Millisecond)
			return r.Connect(t, p.DialContext)
		})
	})
}

func TestOurCodecsConform(t *testing.T) {
	type user struct {
		Name string
		Tags []string
		Data []byte
	}
	for name, codec := range map[string]tiered.Codec{"json": tiered.JSON, "msgpack": tiered.MsgPack} {
		t.Run(name, func(t *testing.T) {
			tieredtest.ConformCodec(t, codec, user{"ada", []string{"a", "ü"}, []byte{0, 1, 255}}, user{Name: "\x00"})
			tieredtest.ConformCodec(t, codec, []byte("bytes"))
			tieredtest.ConformCodec(t, codec, map[string]int{"a": 1})
			tieredtest.ConformCodec(t, codec, "", "*", "null")
		})
	}
}

// blob and name are types of one's own.
type (
	blob []byte
	name string
)

func TestTheRawCodecConforms(t *testing.T) {
	tieredtest.ConformCodec(t, tiered.Raw, []byte("value"), []byte{0, 0xff}, []byte("\"{"))
	tieredtest.ConformCodec(t, tiered.Raw, "value", "\x00\xff", "\"{")
	tieredtest.ConformCodec(t, tiered.Raw, blob("value"))
	tieredtest.ConformCodec(t, tiered.Raw, name("value"))
}
