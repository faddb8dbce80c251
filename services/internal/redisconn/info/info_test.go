package info_test

import (
	"testing"

	"github.com/crewbeat/crewbeat/services/internal/redisconn/info"
)

// The guide cuts lines at every colon and keeps the second part.
func TestValuesMayHoldColons(t *testing.T) {
	in := info.Parse("# Server\r\nredis_version:7.0.15\r\nexecutable:/srv/a:b:c\r\n\r\n# Replication\r\nmaster_host:::1\r\n" +
		"slave0:ip=::1,port=6380,state=online,offset=12,lag=1\r\n# Keyspace\r\ndb0:keys=3,expires=1,avg_ttl=0\r\ndb12:keys=1,expires=0,avg_ttl=0\r\n")
	for name, want := range map[string]string{"redis_version": "7.0.15", "executable": "/srv/a:b:c", "master_host": "::1"} {
		if in[name] != want {
			t.Errorf("%s = %q, want %q", name, in[name], want)
		}
	}
	if len(in) != 6 {
		t.Errorf("got %v", in)
	}
	if replica := in.Numbered("slave")[0]; replica["ip"] != "::1" || replica.Int("lag") != 1 {
		t.Errorf("slave0 = %v", replica)
	}
	if dbs := in.Numbered("db"); len(dbs) != 2 || dbs[12].Int("keys") != 1 || dbs[0].Int("expires") != 1 {
		t.Errorf("databases = %v", dbs)
	}
}

func TestWhatIsMissingIsZero(t *testing.T) {
	in := info.Parse("used_memory:42\r\nmem_fragmentation_ratio:1.25\r\nrdb_last_bgsave_status:ok\r\naof_last_write_status:err\r\nrdb_last_save_time:0\r\n")
	if in.Int("used_memory") != 42 || in.Float("mem_fragmentation_ratio") != 1.25 || !in.Yes("rdb_last_bgsave_status") || in.Yes("aof_last_write_status") {
		t.Errorf("got %v", in)
	}
	if in.Has("maxmemory") || in.Int("maxmemory") != 0 || in.Float("x") != 0 || !in.Time("rdb_last_save_time").IsZero() || in.Yes("x") || len(in.Fields("x")) != 0 {
		t.Error("a value out of nothing")
	}
}
