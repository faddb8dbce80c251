// Package cluster_test installs the chart on a kind cluster and uses it.
package cluster_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/tests/e2e/internal/crew"
	"github.com/crewbeat/crewbeat/tests/e2e/internal/stack"
)

const (
	namespace = "crew"
	release   = "crewbeat"
	chart     = "../../../charts/crewbeat"
)

// helm runs the program at $HELM, which `make e2e` builds, or the one on PATH.
func helm(ctx context.Context, t *testing.T, c *kindCluster, args ...string) string {
	t.Helper()
	program := os.Getenv("HELM")
	if program == "" {
		program = "helm"
	}
	cmd := exec.CommandContext(ctx, program, append(args, "--namespace", namespace, "--kubeconfig", c.kubeconfig)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// orElse returns a variable, or what to take without it.
func orElse(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// The chart comes up on a fresh cluster with the evaluation stores, in a
// namespace that enforces the restricted Pod Security Standard; people use it;
// no container has been restarted; `helm test` agrees; an upgrade keeps
// everybody signed in; and uninstalling leaves volumes alone.
func TestChartOnAFreshCluster(t *testing.T) {
	image := os.Getenv("E2E_IMAGE")
	if image == "" {
		t.Fatal("E2E_IMAGE names no image: run this with `make e2e`, which builds it")
	}
	api := nodePort{30080, int32(stack.FreePort(t))}
	realtime := nodePort{30081, int32(stack.FreePort(t))}
	site := crew.Site{API: fmt.Sprintf("http://127.0.0.1:%d", api.here), Realtime: fmt.Sprintf("http://127.0.0.1:%d", realtime.here)}
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()

	c := newCluster(t, api, realtime)
	images := []string{image}
	for _, name := range []string{"E2E_REDIS_IMAGE", "E2E_POSTGRES_IMAGE", "E2E_BUSYBOX_IMAGE"} {
		if local := os.Getenv(name); local != "" {
			images = append(images, local)
		}
	}
	c.load(ctx, images...)
	c.kubectl("create", "namespace", namespace)
	c.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted", "pod-security.kubernetes.io/warn=restricted")

	repository, tag, _ := strings.Cut(image, ":")
	values := []string{
		"--set", "image.repository=" + repository, "--set-string", "image.tag=" + tag,
		"--set", "postgresql.enabled=true,redis.enabled=true,demo.enabled=true",
		"--set", "redis.image=" + orElse("E2E_REDIS_IMAGE", "redis:7-alpine"),
		"--set", "postgresql.image=" + orElse("E2E_POSTGRES_IMAGE", "postgres:16-alpine"),
		"--set", "test.image=" + orElse("E2E_BUSYBOX_IMAGE", "busybox:1.37"),
		"--set", "api.proxyRealtime=true",
		"--set", "publicURL=" + site.API, "--set", "allowedOrigins={" + site.Realtime + "}",
		"--set", fmt.Sprintf("api.service.type=NodePort,api.service.nodePort=%d", api.inside),
		"--set", fmt.Sprintf("realtime.service.type=NodePort,realtime.service.nodePort=%d", realtime.inside),
	}
	began := time.Now()
	notes := helm(ctx, t, c, append([]string{"install", release, chart, "--wait", "--timeout", "5m"}, values...)...)
	t.Logf("installed and ready in %v", time.Since(began).Round(time.Second))
	if strings.Contains(notes, "would violate PodSecurity") {
		t.Errorf("the install warns:\n%s", notes)
	}
	if !strings.Contains(notes, "FOR EVALUATION ONLY") {
		t.Errorf("the notes do not say that the stores are for evaluation only:\n%s", notes)
	}

	began = time.Now()
	if err := crew.Story(ctx, site, "kind", t.Logf); err != nil {
		t.Fatalf("the story: %v", err)
	}
	if err := crew.Story(ctx, crew.Site{API: site.API, Realtime: site.API}, "door", t.Logf); err != nil {
		t.Fatalf("the story by one door: %v", err)
	}
	mira, err := crew.SignIn(ctx, site, "mira@demo.crewbeat.example", "crewbeat-demo")
	if err != nil {
		t.Fatalf("sign in to the demo: %v", err)
	}
	t.Logf("used in %v", time.Since(began).Round(time.Second))
	noRestarts(t, c)

	began = time.Now()
	helm(ctx, t, c, "test", release, "--timeout", "2m")
	t.Logf("helm test in %v", time.Since(began).Round(time.Second))

	began = time.Now()
	secret := c.kubectl("get", "secret", release+"-secret", "-n", namespace, "-o", "jsonpath={.data}")
	helm(ctx, t, c, append([]string{"upgrade", release, chart, "--wait", "--timeout", "5m", "--set", "log.level=debug"}, values...)...)
	if c.kubectl("get", "secret", release+"-secret", "-n", namespace, "-o", "jsonpath={.data}") != secret {
		t.Error("the upgrade has replaced a generated secret: everybody is signed out")
	}
	if err := mira.Do(ctx, "GET", "/api/v1/me", nil, nil); err != nil {
		t.Errorf("signed out by an upgrade: %v", err)
	}
	t.Logf("upgraded in %v", time.Since(began).Round(time.Second))
	noRestarts(t, c)

	began = time.Now()
	c.kubectl("delete", "pod", release+"-test", "-n", namespace, "--ignore-not-found") // hooks are not the release's
	helm(ctx, t, c, "uninstall", release, "--wait", "--timeout", "3m")
	left := c.kubectl("get", "all,configmap,secret,networkpolicy,pdb,pvc", "-n", namespace, "-o", "name")
	for line := range strings.FieldsSeq(left) {
		if !strings.HasPrefix(line, "persistentvolumeclaim/") && line != "configmap/kube-root-ca.crt" && !terminating(c, line) {
			t.Errorf("uninstalling leaves %s", line)
		}
	}
	if !strings.Contains(left, "persistentvolumeclaim/") {
		t.Error("uninstalling has deleted the volumes")
	}
	t.Logf("uninstalled in %v", time.Since(began).Round(time.Second))
}

// terminating reports whether an object is going away, or gone by now.
func terminating(c *kindCluster, name string) bool {
	out, err := c.tryKubectl("get", name, "-n", namespace, "-o", "jsonpath={.metadata.deletionTimestamp}")
	return err != nil || out != ""
}

type pod struct {
	Metadata struct{ Name string }
	Status   struct {
		InitContainerStatuses, ContainerStatuses []struct {
			Name         string
			RestartCount int
			State        map[string]struct{ Reason, Message string }
		}
	}
}

// noRestarts claims that every container came up the first time, those that
// prepare the database included.
func noRestarts(t *testing.T, c *kindCluster) {
	t.Helper()
	pods := objects[pod](c, "pods")
	if len(pods) < 4 {
		t.Errorf("%d pods, want those of two services and two stores", len(pods))
	}
	for _, p := range pods {
		for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
			if s.RestartCount > 0 {
				out, _ := c.tryKubectl("logs", p.Metadata.Name, "-c", s.Name, "-n", namespace, "--previous")
				t.Errorf("%s/%s was restarted %d times: %v\n%s", p.Metadata.Name, s.Name, s.RestartCount, s.State, out)
			}
		}
	}
}
