package redisconn_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/env"
	"github.com/crewbeat/crewbeat/services/internal/redisconn"
)

func TestAddressesAreReadInEveryForm(t *testing.T) {
	for _, tt := range []struct {
		name string
		vars map[string]string
		want redisconn.Config
		tls  bool
	}{
		{"nothing", nil, redisconn.Config{Mode: redisconn.Single}, false},
		{"host", map[string]string{"REDIS_HOST": "cache"}, redisconn.Config{Mode: redisconn.Single, Addrs: []string{"cache:6379"}}, false},
		{
			"host and the rest", map[string]string{"REDIS_HOST": "cache", "REDIS_PORT": "7000", "REDIS_DB": "2", "REDIS_USERNAME": "app", "REDIS_PASSWORD": "pw"},
			redisconn.Config{Mode: redisconn.Single, Addrs: []string{"cache:7000"}, DB: 2, Username: "app", Password: "pw"}, false,
		},
		{
			"URL", map[string]string{"REDIS_URL": "redis://app:p%40w@cache/3"},
			redisconn.Config{Mode: redisconn.Single, Addrs: []string{"cache:6379"}, DB: 3, Username: "app", Password: "p@w"}, false,
		},
		{
			"URL with the password beside it", map[string]string{"REDIS_URL": "redis://cache:6380", "REDIS_PASSWORD": "pw"},
			redisconn.Config{Mode: redisconn.Single, Addrs: []string{"cache:6380"}, Password: "pw"}, false,
		},
		{
			"URL over the port that Kubernetes sets", map[string]string{"REDIS_URL": "redis://cache", "REDIS_PORT": "tcp://10.96.0.7:6379"},
			redisconn.Config{Mode: redisconn.Single, Addrs: []string{"cache:6379"}}, false,
		},
		{"TLS", map[string]string{"REDIS_URL": "rediss://cache"}, redisconn.Config{Mode: redisconn.Single, Addrs: []string{"cache:6379"}}, true},
		{"IPv6", map[string]string{"REDIS_URL": "redis://[::1]:6380"}, redisconn.Config{Mode: redisconn.Single, Addrs: []string{"[::1]:6380"}}, false},
		{"socket", map[string]string{"REDIS_URL": "unix:///run/redis.sock"}, redisconn.Config{Mode: redisconn.Single, Addrs: []string{"/run/redis.sock"}}, false},
		{
			"Sentinels", map[string]string{"REDIS_URL": "redis+sentinel://:pw@a,b:26380/1?master=crew", "REDIS_SENTINEL_PASSWORD": "spw"},
			redisconn.Config{
				Mode: redisconn.Sentinel, Addrs: []string{"a:26379", "b:26380"}, MasterName: "crew", DB: 1, Password: "pw", SentinelPassword: "spw",
			}, false,
		},
		{
			"Cluster", map[string]string{"REDIS_URL": "rediss+cluster://a:7000,b:7001"},
			redisconn.Config{Mode: redisconn.Cluster, Addrs: []string{"a:7000", "b:7001"}}, true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := config(t, tt.vars)
			if (got.TLS != nil) != tt.tls {
				t.Errorf("TLS = %v", got.TLS)
			}
			if got.Mode != tt.want.Mode || !slices.Equal(got.Addrs, tt.want.Addrs) || got.MasterName != tt.want.MasterName || got.DB != tt.want.DB ||
				got.Username != tt.want.Username || got.Password != tt.want.Password || got.SentinelPassword != tt.want.SentinelPassword {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
			if got.HealthInterval != 30*time.Second || got.MaxConnections != 20 || got.Required || got.Enabled() != (len(tt.want.Addrs) > 0) {
				t.Errorf("defaults: %+v", got)
			}
		})
	}
}

func TestWhatCannotBeIsReportedWithoutSecrets(t *testing.T) {
	for _, tt := range []struct {
		name string
		vars map[string]string
		want []string // parts of the report
	}{
		{"not a URL", map[string]string{"REDIS_URL": "cache:6379"}, []string{"REDIS_URL", "redis://user:password@host:6379/0"}},
		{"another scheme", map[string]string{"REDIS_URL": "http://cache"}, []string{"REDIS_URL"}},
		{"a port out of range", map[string]string{"REDIS_URL": "redis://cache:99999"}, []string{"REDIS_URL"}},
		{"a name for a database", map[string]string{"REDIS_URL": "redis://cache/main"}, []string{"a database number"}},
		{"two servers", map[string]string{"REDIS_URL": "redis://:hunter2@a,b"}, []string{"redis+cluster"}},
		{"Sentinels of no group", map[string]string{"REDIS_URL": "redis+sentinel://a"}, []string{"?master=NAME"}},
		{"two passwords", map[string]string{"REDIS_URL": "redis://:hunter2@a", "REDIS_PASSWORD": "hunter22"}, []string{"REDIS_PASSWORD", "the same password"}},
		{"a Cluster's database", map[string]string{"REDIS_URL": "redis+cluster://a,b", "REDIS_DB": "1"}, []string{"REDIS_DB"}},
		{"a number of no database", map[string]string{"REDIS_URL": "redis://cache/99999"}, []string{"from 0 to 1023"}},
		{"an address for a host", map[string]string{"REDIS_HOST": "redis://:hunter2@cache"}, []string{"REDIS_HOST", "a host alone", "REDIS_URL"}},
		{"host with a port", map[string]string{"REDIS_HOST": "cache:6380"}, []string{"REDIS_HOST", "REDIS_PORT"}},
		{"the port of Kubernetes", map[string]string{"REDIS_HOST": "redis", "REDIS_PORT": "tcp://10.96.0.7:6379"}, []string{"enableServiceLinks: false"}},
		{"more kept than allowed", map[string]string{"REDIS_MIN_CONNECTIONS": "30"}, []string{"REDIS_MIN_CONNECTIONS", "20"}},
		{"seconds for milliseconds", map[string]string{"REDIS_HEALTH_CHECK_INTERVAL": "30s"}, []string{"milliseconds"}},
		{"no time at all", map[string]string{"REDIS_COMMAND_TIMEOUT": "0s", "REDIS_CONNECT_TIMEOUT": "60000", "REDIS_POOL_TIMEOUT": "-1s", "REDIS_KEEP_ALIVE": "1ms", "REDIS_IDLE_TIMEOUT": "x"},
			[]string{"5 settings", "REDIS_COMMAND_TIMEOUT", "at least 1ms", "REDIS_CONNECT_TIMEOUT", "REDIS_POOL_TIMEOUT", "REDIS_KEEP_ALIVE", "at least 1s", "REDIS_IDLE_TIMEOUT"}},
		{"a monitor that never rests", map[string]string{"REDIS_MONITOR_INTERVAL": "5ms"}, []string{"REDIS_MONITOR_INTERVAL", "at least 1s"}},
		{"no check of certificates in production", map[string]string{"REDIS_URL": "rediss://:hunter2@cache", "REDIS_TLS_INSECURE": "true", "CREWBEAT_ENV": "production"},
			[]string{"REDIS_TLS_INSECURE", "production", "REDIS_TLS_CA"}},
		{"no check of certificates that are not there", map[string]string{"REDIS_URL": "redis://cache", "REDIS_TLS_INSECURE": "true"}, []string{"REDIS_TLS_INSECURE", "rediss://"}},
		{"no such file", map[string]string{"REDIS_TLS_CA": "/nowhere/ca.pem"}, []string{"REDIS_TLS_CA", "does not exist"}},
		{"not a certificate", map[string]string{"REDIS_TLS_CA": "-----BEGIN hunter2"}, []string{"REDIS_TLS_CA", "PEM certificate"}},
		{"half a client certificate", map[string]string{"REDIS_TLS_KEY": "-----BEGIN hunter2"}, []string{"REDIS_TLS_CERT"}},
		{"everything", map[string]string{"REDIS_URL": "x", "REDIS_DB": "x", "REDIS_REQUIRED": "x"}, []string{"3 settings", "REDIS_URL", "REDIS_DB", "REDIS_REQUIRED"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := env.New(func(name string) string { return tt.vars[name] })
			redisconn.FromEnv(r)
			err := r.Err()
			if err == nil {
				t.Fatal("no problem was seen")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is shown: %v", err)
			}
		})
	}
}

func TestTimesAreThoseOfTheVariables(t *testing.T) {
	got := config(t, map[string]string{
		"REDIS_URL": "rediss://cache", "REDIS_CONNECT_TIMEOUT": "2s", "REDIS_COMMAND_TIMEOUT": "1s", "REDIS_POOL_TIMEOUT": "3s", "REDIS_KEEP_ALIVE": "9s",
		"REDIS_IDLE_TIMEOUT": "1m", "REDIS_MONITOR_INTERVAL": "0s", "REDIS_TLS_INSECURE": "true",
	})
	if got.ConnectTimeout != 2*time.Second || got.CommandTimeout != time.Second || got.PoolTimeout != 3*time.Second || got.KeepAlive != 9*time.Second ||
		got.IdleTimeout != time.Minute || got.MonitorInterval != 0 || !got.TLS.InsecureSkipVerify {
		t.Errorf("got %+v", got)
	}
	got = config(t, map[string]string{"REDIS_URL": "rediss://cache"})
	if got.ConnectTimeout != 500*time.Millisecond || got.CommandTimeout != 250*time.Millisecond || got.PoolTimeout != 300*time.Millisecond ||
		got.KeepAlive != 30*time.Second || got.IdleTimeout != 5*time.Minute || got.MonitorInterval != 15*time.Second || got.TLS.InsecureSkipVerify {
		t.Errorf("defaults: %+v", got)
	}
}
