package redisconn_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/redisconn"
)

// roles counts the nodes of a report by role and status.
func roles(r redisconn.Report) map[string]int {
	n := map[string]int{}
	for _, node := range r.Details.Nodes {
		n[node.Role+" "+node.Status]++
	}
	return n
}

// ask is a report, with the time that the handler took checked: it must not
// depend on any node.
func ask(t *testing.T, conn *redisconn.Conn) (int, string) {
	t.Helper()
	begin := time.Now()
	code, body := health(t, conn)
	if took := time.Since(begin); took > 200*time.Millisecond {
		t.Errorf("the report took %v", took)
	}
	return code, body["status"].(string)
}

// idOf is a node's id in the cluster.
func idOf(t *testing.T, r *tieredtest.Redis) string {
	t.Helper()
	id, err := r.Client(t).Do(t.Context(), "CLUSTER", "MYID").Text()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestAClusterIsToldNodeByNode(t *testing.T) {
	t.Parallel()
	cluster := tieredtest.StartCluster(t, 3, 0, tieredtest.WithArgs("--cluster-require-full-coverage", "no", "--cluster-node-timeout", "1000"))
	var log journal
	conn := open(t, redisconn.Config{Mode: redisconn.Cluster, Addrs: cluster.Addrs(), MaxConnections: 4, HealthInterval: 200 * time.Millisecond}, logTo(&log))
	eventually(t, "three well masters", 20*time.Second, func() bool {
		r := conn.Report()
		return r.Status == "healthy" && roles(r)["master healthy"] == 3 && len(r.Details.Nodes) == 3
	})

	t.Run("slot move", func(t *testing.T) {
		const key = "crewbeat:moved"
		if err := conn.Client().Set(t.Context(), key, "v", time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		slot := cluster.Slot(t, key)
		from, to := cluster.Owner(t, slot), cluster.Nodes()[0]
		if from == to {
			to = cluster.Nodes()[1]
		}
		read := func() {
			eventually(t, "the key is read", 10*time.Second, func() bool {
				v, err := conn.Client().Get(t.Context(), key).Result()
				return err == nil && v == "v"
			})
		}
		cluster.MoveSlot(t, slot, to, read)
		read()
		if s := conn.Status(); !s.Up {
			t.Errorf("status = %+v", s)
		}
		if code, status := ask(t, conn); code != http.StatusOK || status != "healthy" {
			t.Errorf("health = %d %s", code, status)
		}
	})

	for _, fault := range []struct {
		name        string
		cause       redisconn.Cause
		break_, end func(*testing.T, *tieredtest.Redis)
	}{
		{"hung master", redisconn.CauseTimeout, func(t *testing.T, r *tieredtest.Redis) { r.Stop(t) }, func(t *testing.T, r *tieredtest.Redis) { r.Cont(t) }},
		{"dead master", redisconn.CauseRefused, func(_ *testing.T, r *tieredtest.Redis) { r.Kill() }, func(t *testing.T, r *tieredtest.Redis) { r.Restart(t) }},
	} {
		t.Run(fault.name, func(t *testing.T) {
			victim := cluster.Nodes()[2]
			id := idOf(t, victim)
			fault.break_(t, victim)
			eventually(t, "unhealthy, by name", 20*time.Second, func() bool {
				code, status := ask(t, conn)
				r := conn.Report()
				return code == http.StatusServiceUnavailable && status == "unhealthy" && roles(r)["master unhealthy"] == 1 &&
					nodeNamed(r, id).Error == string(fault.cause) && !nodeNamed(r, id).Ping
			})
			// It stays so whatever the check's key happens to hit.
			looks := map[time.Time]bool{}
			eventually(t, "more checks", 20*time.Second, func() bool {
				r := conn.Report()
				if looks[r.Timestamp] = true; r.Status != "unhealthy" {
					t.Fatalf("a check whose key is served makes it %s", r.Status)
				}
				return len(looks) >= 6
			})
			// The others serve what is theirs, and that is told too.
			if r := conn.Report(); roles(r)["master healthy"] != 2 {
				t.Errorf("nodes = %+v", r.Details.Nodes)
			}
			if !strings.Contains(log.String(), victim.Addr()) {
				t.Errorf("the log does not say where the node is:\n%s", log.String())
			}
			fault.end(t, victim)
			eventually(t, "healthy", 30*time.Second, func() bool {
				r := conn.Report()
				return r.Status == "healthy" && roles(r)["master healthy"] == 3 && conn.Status().Up
			})
		})
	}
}

func nodeNamed(r redisconn.Report, name string) redisconn.ReportNode {
	for _, n := range r.Details.Nodes {
		if n.Name == name {
			return n
		}
	}
	return redisconn.ReportNode{}
}

func TestASentinelGroupIsToldNodeByNodeAndFollowed(t *testing.T) {
	t.Parallel()
	group := tieredtest.StartSentinel(t, 1)
	conn := open(t, redisconn.Config{
		Mode: redisconn.Sentinel, Addrs: group.Addrs(), MasterName: group.MasterName(), MaxConnections: 4, HealthInterval: 200 * time.Millisecond,
	}, redisconn.Options{})
	all := func() bool {
		r := conn.Report()
		n := roles(r)
		return r.Status == "healthy" && n["master healthy"] == 1 && n["replica healthy"] == 1 && n["sentinel healthy"] == 3 && len(r.Details.Nodes) == 5
	}
	eventually(t, "all five", 20*time.Second, all)

	// One Sentinel is no loss, and named.
	group.Sentinels()[1].Stop(t)
	eventually(t, "degraded", 20*time.Second, func() bool {
		code, status := ask(t, conn)
		return code == http.StatusOK && status == "degraded" && nodeNamed(conn.Report(), "sentinel-2").Error == string(redisconn.CauseTimeout)
	})
	group.Sentinels()[1].Cont(t)
	eventually(t, "all five again", 20*time.Second, all)

	old := group.Master(t)
	old.Kill()
	eventually(t, "the master is named", 20*time.Second, func() bool {
		_, status := ask(t, conn)
		return status == "unhealthy" && roles(conn.Report())["master unhealthy"] == 1
	})
	group.AwaitMaster(t, old)
	eventually(t, "it follows", 30*time.Second, func() bool {
		r := conn.Report()
		return conn.Status().Up && conn.Client().Set(t.Context(), "k", "v", time.Minute).Err() == nil &&
			r.Status == "degraded" && roles(r)["master healthy"] == 1 && roles(r)["replica unhealthy"] == 1
	})
}
