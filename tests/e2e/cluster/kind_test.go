package cluster_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
	"sigs.k8s.io/kind/pkg/cluster"
	"sigs.k8s.io/kind/pkg/cluster/nodes"
	"sigs.k8s.io/kind/pkg/cluster/nodeutils"
	"sigs.k8s.io/kind/pkg/log"
)

// nodePort is where a service of the chart is reached on this machine.
type nodePort struct{ inside, here int32 }

// kindCluster is a cluster of one node that ends with the test.
type kindCluster struct {
	t          *testing.T
	provider   *cluster.Provider
	name       string
	node       nodes.Node
	kubeconfig string
	logs       string // folder for the logs of a cluster that failed
}

// newCluster makes a cluster whose node ports are reachable here. A cluster
// that does not come up is tried once more; its logs are kept.
func newCluster(t *testing.T, ports ...nodePort) *kindCluster {
	t.Helper()
	c := &kindCluster{
		t: t, name: fmt.Sprintf("crewbeat-e2e-%d", os.Getpid()), kubeconfig: filepath.Join(t.TempDir(), "kubeconfig"),
		provider: cluster.NewProvider(cluster.ProviderWithDocker(), cluster.ProviderWithLogger(kindLog{t})),
	}
	if c.logs = os.Getenv("E2E_LOGS"); c.logs == "" {
		c.logs = filepath.Join(os.TempDir(), c.name+"-logs")
	}
	began := time.Now()
	err := c.create(ports)
	if err != nil {
		t.Logf("the cluster did not come up: %v", err)
		c.keepLogs("first-try")
		c.delete()
		if err = c.create(ports); err != nil {
			c.keepLogs("second-try")
			c.delete()
			t.Fatalf("make cluster, twice: %v", err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			c.keepLogs("failed")
		}
		began := time.Now()
		c.delete()
		t.Logf("cluster deleted in %v", time.Since(began).Round(time.Second))
	})
	list, err := c.provider.ListInternalNodes(c.name)
	if err != nil || len(list) != 1 {
		t.Fatalf("list nodes: %d, %v", len(list), err)
	}
	c.node = list[0]
	t.Logf("cluster up in %v", time.Since(began).Round(time.Second))
	return c
}

func (c *kindCluster) create(ports []nodePort) error {
	node := v1alpha4.Node{Role: v1alpha4.ControlPlaneRole}
	for _, p := range ports {
		node.ExtraPortMappings = append(node.ExtraPortMappings, v1alpha4.PortMapping{
			ContainerPort: p.inside, HostPort: p.here, ListenAddress: "127.0.0.1", Protocol: v1alpha4.PortMappingProtocolTCP,
		})
	}
	config := &v1alpha4.Cluster{
		TypeMeta: v1alpha4.TypeMeta{Kind: "Cluster", APIVersion: "kind.x-k8s.io/v1alpha4"},
		Nodes:    []v1alpha4.Node{node},
	}
	return c.provider.Create(c.name,
		cluster.CreateWithV1Alpha4Config(config),
		cluster.CreateWithNodeImage(os.Getenv("E2E_NODE_IMAGE")), // empty: kind's own
		cluster.CreateWithKubeconfigPath(c.kubeconfig),
		cluster.CreateWithWaitForReady(4*time.Minute),
		cluster.CreateWithRetain(true), // for its logs; delete takes it away
		cluster.CreateWithDisplayUsage(false), cluster.CreateWithDisplaySalutation(false))
}

func (c *kindCluster) delete() {
	if err := c.provider.Delete(c.name, c.kubeconfig); err != nil {
		c.t.Errorf("delete cluster: %v", err)
	}
	left, err := c.provider.ListNodes(c.name)
	if err != nil || len(left) > 0 {
		c.t.Errorf("after deleting the cluster %d nodes are left (%v)", len(left), err)
	}
}

// keepLogs writes down what the cluster knows about itself.
func (c *kindCluster) keepLogs(why string) {
	dir := filepath.Join(c.logs, why)
	if err := c.provider.CollectLogs(c.name, dir); err != nil {
		c.t.Logf("collect logs: %v", err)
	}
	if c.node != nil {
		for _, args := range [][]string{{"get", "all,pvc,netpol,events", "-A", "-o", "wide"}, {"describe", "pods", "-n", namespace}} {
			if out, err := c.tryKubectl(args...); err == nil {
				c.t.Logf("kubectl %s:\n%s", strings.Join(args, " "), out)
			}
		}
	}
	c.t.Logf("logs of the cluster are in %s", dir)
}

// kubectl runs it in the node, where it is at hand in the cluster's version.
func (c *kindCluster) kubectl(args ...string) string {
	c.t.Helper()
	out, err := c.tryKubectl(args...)
	if err != nil {
		c.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (c *kindCluster) tryKubectl(args ...string) (string, error) {
	var out bytes.Buffer
	cmd := c.node.Command("kubectl", append([]string{"--kubeconfig", "/etc/kubernetes/admin.conf"}, args...)...)
	err := cmd.SetStdout(&out).SetStderr(&out).Run()
	return out.String(), err
}

// objects decodes a list that kubectl gets.
func objects[T any](c *kindCluster, kind string) []T {
	c.t.Helper()
	var list struct{ Items []T }
	out := c.kubectl("get", kind, "-n", namespace, "-o", "json")
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		c.t.Fatalf("decode %s: %v", kind, err)
	}
	return list.Items
}

// load puts images of the local engine into the node. Those that are not
// there, the node pulls by itself.
func (c *kindCluster) load(ctx context.Context, images ...string) {
	c.t.Helper()
	began := time.Now()
	archive := filepath.Join(c.t.TempDir(), "images.tar")
	if out, err := exec.CommandContext(ctx, "docker", append([]string{"save", "-o", archive}, images...)...).CombinedOutput(); err != nil {
		c.t.Fatalf("docker save %v: %v\n%s", images, err, out)
	}
	f, err := os.Open(archive)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	if err := nodeutils.LoadImageArchive(c.node, f); err != nil {
		c.t.Fatalf("load %v: %v", images, err)
	}
	c.t.Logf("loaded %v in %v", images, time.Since(began).Round(time.Second))
}

// kindLog passes what kind says on to the test.
type kindLog struct{ t *testing.T }

func (l kindLog) Warn(message string)               { l.t.Log(message) }
func (l kindLog) Warnf(format string, args ...any)  { l.t.Logf(format, args...) }
func (l kindLog) Error(message string)              { l.t.Log(message) }
func (l kindLog) Errorf(format string, args ...any) { l.t.Logf(format, args...) }
func (l kindLog) V(level log.Level) log.InfoLogger  { return kindInfo{l.t, level <= 0} }

type kindInfo struct {
	t  *testing.T
	on bool
}

func (i kindInfo) Enabled() bool { return i.on }
func (i kindInfo) Info(message string) {
	if i.on {
		i.t.Log(message)
	}
}
func (i kindInfo) Infof(format string, args ...any) {
	if i.on {
		i.t.Logf(format, args...)
	}
}
