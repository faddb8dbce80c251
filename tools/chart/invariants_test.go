package chart_test

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

func containers(pod corev1.PodTemplateSpec) []corev1.Container {
	return slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers)
}

func env(c corev1.Container, name string) string {
	for _, e := range c.Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

func TestPodsHaveNoTokenAndNoServiceLinks(t *testing.T) {
	forEveryExample(t, func(t *testing.T, os objects) {
		for name, pod := range pods(os) {
			if p := pod.Spec.AutomountServiceAccountToken; p == nil || *p {
				t.Errorf("pod %s gets a token of its service account", name)
			}
			// A service called redis would otherwise set REDIS_PORT=tcp://….
			if p := pod.Spec.EnableServiceLinks; p == nil || *p {
				t.Errorf("pod %s gets variables for every service", name)
			}
		}
	})
}

func TestContainersAreBounded(t *testing.T) {
	forEveryExample(t, func(t *testing.T, os objects) {
		for name, pod := range pods(os) {
			for _, c := range containers(pod) {
				limit, request := c.Resources.Limits.Memory(), c.Resources.Requests.Memory()
				if limit.IsZero() || !limit.Equal(*request) {
					t.Errorf("%s/%s: memory limit %v, request %v; want them equal", name, c.Name, limit, request)
				}
				if s := c.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
					t.Errorf("%s/%s can write to its root", name, c.Name)
				}
				if strings.HasSuffix(c.Image, ":latest") || !strings.ContainsAny(c.Image, ":@") {
					t.Errorf("%s/%s: image %s has no fixed tag", name, c.Name, c.Image)
				}
			}
		}
	})
}

func TestServicesAreTunedToTheirLimits(t *testing.T) {
	forEveryExample(t, func(t *testing.T, os objects) {
		for d := range all[*appsv1.Deployment](os) {
			c := d.Spec.Template.Spec.Containers[0]
			mib, err := strconv.ParseInt(strings.TrimSuffix(env(c, "GOMEMLIMIT"), "MiB"), 10, 64)
			if limit := c.Resources.Limits.Memory().Value(); err != nil || mib<<20 > limit*9/10 || mib<<20 < limit*85/100 {
				t.Errorf("%s: GOMEMLIMIT %q (%v), want about 0.9 of %d", d.Name, env(c, "GOMEMLIMIT"), err, limit)
			}
			grace := *d.Spec.Template.Spec.TerminationGracePeriodSeconds
			var sum int64
			for _, name := range []string{"DRAIN_DELAY", "SHUTDOWN_TIMEOUT"} {
				s, err := strconv.ParseInt(strings.TrimSuffix(env(c, name), "s"), 10, 64)
				if err != nil || s < 1 {
					t.Errorf("%s: %s=%q: %v", d.Name, name, env(c, name), err)
				}
				sum += s
			}
			if grace <= sum {
				t.Errorf("%s is killed after %d s but takes %d s to stop", d.Name, grace, sum)
			}
		}
	})
}

func TestProbesAskTheRightQuestion(t *testing.T) {
	forEveryExample(t, func(t *testing.T, os objects) {
		for d := range all[*appsv1.Deployment](os) {
			c := d.Spec.Template.Spec.Containers[0]
			for path, probe := range map[string]*corev1.Probe{"/startupz": c.StartupProbe, "/livez": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
				if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path || probe.HTTPGet.Port != intstr.FromString("http") {
					t.Errorf("%s: the probe for %s is %+v", d.Name, path, probe)
				}
			}
		}
	})
}

// A reference to something that nobody makes leaves a pod waiting for ever.
func TestEveryReferenceIsMadeOrNamedByTheUser(t *testing.T) {
	users := []string{"crewbeat-session", "crewbeat-database", "crewbeat-redis", "registry"} // existingSecret names in ci
	forEveryExample(t, func(t *testing.T, os objects) {
		keys := map[string]map[string]bool{}
		for s := range all[*corev1.Secret](os) {
			keys[s.Name] = map[string]bool{}
			for k := range s.StringData {
				keys[s.Name][k] = true
			}
		}
		maps_, accounts, claims := map[string]bool{}, map[string]bool{"": true}, map[string]bool{}
		for c := range all[*corev1.ConfigMap](os) {
			maps_[c.Name] = true
		}
		for a := range all[*corev1.ServiceAccount](os) {
			accounts[a.Name] = true
		}
		for c := range all[*corev1.PersistentVolumeClaim](os) {
			claims[c.Name] = true
		}
		for name, pod := range pods(os) {
			if a := pod.Spec.ServiceAccountName; !accounts[a] {
				t.Errorf("%s: service account %s is not made", name, a)
			}
			for _, v := range pod.Spec.Volumes {
				if c := v.PersistentVolumeClaim; c != nil && !claims[c.ClaimName] {
					t.Errorf("%s: volume claim %s is not made", name, c.ClaimName)
				}
			}
			for _, c := range containers(pod) {
				for _, f := range c.EnvFrom {
					if f.ConfigMapRef != nil && !maps_[f.ConfigMapRef.Name] {
						t.Errorf("%s/%s: config map %s is not made", name, c.Name, f.ConfigMapRef.Name)
					}
				}
				for _, e := range c.Env {
					if e.ValueFrom == nil || e.ValueFrom.SecretKeyRef == nil {
						continue
					}
					if r := e.ValueFrom.SecretKeyRef; !slices.Contains(users, r.Name) && !keys[r.Name][r.Key] {
						t.Errorf("%s/%s: %s wants key %s of secret %s, which is not made", name, c.Name, e.Name, r.Key, r.Name)
					}
				}
			}
		}
	})
}

func TestSecretsAreOnlyInSecrets(t *testing.T) {
	secret := []string{"SESSION_SECRET", "DATABASE_URL", "REDIS_URL", "POSTGRES_PASSWORD"}
	forEveryExample(t, func(t *testing.T, os objects) {
		for c := range all[*corev1.ConfigMap](os) {
			for key := range c.Data {
				if slices.Contains(secret, key) {
					t.Errorf("config map %s holds %s", c.Name, key)
				}
			}
		}
		for name, pod := range pods(os) {
			for _, c := range containers(pod) {
				for _, e := range c.Env {
					if slices.Contains(secret, e.Name) && e.Value != "" {
						t.Errorf("%s/%s holds %s as text", name, c.Name, e.Name)
					}
				}
			}
		}
	})
}

func TestServicesFindTheirPodsAndPorts(t *testing.T) {
	forEveryExample(t, func(t *testing.T, os objects) {
		made := pods(os)
		for s := range all[*corev1.Service](os) {
			matched := 0
			for _, pod := range made {
				if !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(pod.Labels)) {
					continue
				}
				matched++
				for _, p := range s.Spec.Ports {
					if !hasPort(pod, p.TargetPort.StrVal) {
						t.Errorf("service %s: its pod has no port %q", s.Name, p.TargetPort.StrVal)
					}
				}
			}
			if matched != 1 {
				t.Errorf("service %s selects the pods of %d workloads, want 1", s.Name, matched)
			}
		}
	})
}

func hasPort(pod corev1.PodTemplateSpec, name string) bool {
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == name })
	})
}

// A selector cannot be changed after the install, so nothing that changes with
// a version may be in it.
func TestSelectorsAreStable(t *testing.T) {
	forEveryExample(t, func(t *testing.T, os objects) {
		for d := range all[*appsv1.Deployment](os) {
			want := []string{"app.kubernetes.io/component", "app.kubernetes.io/instance", "app.kubernetes.io/name"}
			if got := slices.Sorted(maps.Keys(d.Spec.Selector.MatchLabels)); !slices.Equal(got, want) {
				t.Errorf("%s selects by %v, want %v", d.Name, got, want)
			}
		}
	})
}

// Every workload is behind a policy that names both directions, but the pod of
// `helm test`, which plays a client.
func TestEveryWorkloadHasAPolicyForBothDirections(t *testing.T) {
	forEveryExample(t, func(t *testing.T, os objects) {
		for name, pod := range pods(os) {
			if strings.HasSuffix(name, "-test") {
				continue
			}
			directions := map[networkingv1.PolicyType]bool{}
			for p := range all[*networkingv1.NetworkPolicy](os) {
				sel, err := metav1.LabelSelectorAsSelector(&p.Spec.PodSelector)
				if err != nil {
					t.Fatal(err)
				}
				if sel.Matches(labels.Set(pod.Labels)) {
					for _, d := range p.Spec.PolicyTypes {
						directions[d] = true
					}
				}
			}
			if len(directions) != 2 {
				t.Errorf("%s: policies for %v, want both directions", name, directions)
			}
		}
	})
}

func TestPolicyOfTheServicesNamesTheirStores(t *testing.T) {
	out := decode(t, mustRender(t, "ha-external"))
	p := find[networkingv1.NetworkPolicy](t, out, "crewbeat-realtime")
	var ports []int32
	for _, rule := range p.Spec.Egress {
		for _, port := range rule.Ports {
			ports = append(ports, port.Port.IntVal)
		}
	}
	if want := []int32{53, 53, 5432, 6380, 4317}; !slices.Equal(ports, want) {
		t.Errorf("egress to ports %v, want %v (DNS, database, Redis, traces)", ports, want)
	}
	eval := decode(t, mustRender(t, "eval"))
	redis := find[networkingv1.NetworkPolicy](t, eval, "crewbeat-redis")
	if len(redis.Spec.Egress) != 0 || len(redis.Spec.Ingress) != 1 || len(redis.Spec.Ingress[0].From) != 1 {
		t.Errorf("the policy of Redis is %+v, want one peer in and none out", redis.Spec)
	}
}

func TestTracesPortIsThatOfTheEndpoint(t *testing.T) {
	for _, tt := range []struct {
		endpoint, protocol string
		want               int32
	}{
		{"http://collector:4317", "grpc", 4317},
		{"http://collector:9999/base", "grpc", 9999},
		{"http://collector", "grpc", 4317},
		{"https://collector.example.org", "http/protobuf", 4318},
	} {
		out := decode(t, mustRender(t, "minimal", "otel.endpoint="+tt.endpoint, "otel.protocol="+tt.protocol))
		rules := find[networkingv1.NetworkPolicy](t, out, "crewbeat-api").Spec.Egress
		if got := rules[len(rules)-1].Ports[0].Port.IntVal; got != tt.want {
			t.Errorf("%s by %s: egress to %d, want %d", tt.endpoint, tt.protocol, got, tt.want)
		}
	}
}

func TestAutoscalerOwnsTheReplicas(t *testing.T) {
	out := decode(t, mustRender(t, "ha-external"))
	for _, name := range []string{"crewbeat-api", "crewbeat-realtime"} {
		if d := find[appsv1.Deployment](t, out, name); d.Spec.Replicas != nil {
			t.Errorf("%s sets %d replicas under an autoscaler: every upgrade would undo its work", name, *d.Spec.Replicas)
		}
		h := find[autoscalingv2.HorizontalPodAutoscaler](t, out, name)
		if h.Spec.ScaleTargetRef.Name != name || *h.Spec.MinReplicas != 3 {
			t.Errorf("autoscaler %s: %+v", name, h.Spec)
		}
	}
}

func TestBudgetsComeFromTheLeastNumberOfPods(t *testing.T) {
	count := func(os objects) (n int) {
		for b := range all[*policyv1.PodDisruptionBudget](os) {
			n++
			if b.Spec.MaxUnavailable.IntVal != 1 || *b.Spec.UnhealthyPodEvictionPolicy != policyv1.AlwaysAllow {
				t.Errorf("budget %s: %+v", b.Name, b.Spec)
			}
		}
		return n
	}
	for _, tt := range []struct {
		example, set string
		want         int
	}{
		{"minimal", "api.replicas=2", 2},
		{"minimal", "api.replicas=1", 1}, // with one pod a budget would only block node drains
		{"ha-external", "api.autoscaling.minReplicas=1", 1},
		{"sqlite", "pdb.enabled=true", 0},
		{"minimal", "pdb.enabled=false", 0},
	} {
		if got := count(decode(t, mustRender(t, tt.example, tt.set))); got != tt.want {
			t.Errorf("%s with %s: %d budgets, want %d", tt.example, tt.set, got, tt.want)
		}
	}
}

func TestSqliteIsOnePodThatIsReplacedNotRolled(t *testing.T) {
	out := decode(t, mustRender(t, "sqlite"))
	d := find[appsv1.Deployment](t, out, "crewbeat")
	if *d.Spec.Replicas != 1 || d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		t.Errorf("%d replicas with strategy %s: two writers would meet on one file", *d.Spec.Replicas, d.Spec.Strategy.Type)
	}
	for name := range pods(out) {
		if name != "crewbeat" && name != "crewbeat-test" {
			t.Errorf("sqlite also runs %s", name)
		}
	}
	claim := find[corev1.PersistentVolumeClaim](t, out, "crewbeat-data")
	if claim.Annotations["helm.sh/resource-policy"] != "keep" {
		t.Error("uninstalling would delete everybody's records")
	}
}

func TestOneAddressReachesBothServices(t *testing.T) {
	ha := decode(t, mustRender(t, "ha-external"))
	rules := find[networkingv1.Ingress](t, ha, "crewbeat").Spec.Rules[0].HTTP.Paths
	if got := [2]string{rules[0].Path, rules[0].Backend.Service.Name}; got != [2]string{"/rt/v1", "crewbeat-realtime"} {
		t.Errorf("first rule %v", got)
	}
	if got := [2]string{rules[1].Path, rules[1].Backend.Service.Name}; got != [2]string{"/", "crewbeat-api"} {
		t.Errorf("second rule %v", got)
	}
	for _, tt := range []struct{ example, api, realtime string }{
		{"monitoring", "crewbeat-api", "crewbeat-realtime"},
		{"sqlite", "crewbeat", "crewbeat"},
	} {
		route := find[gateway.HTTPRoute](t, decode(t, mustRender(t, tt.example)), "crewbeat")
		names := []string{string(route.Spec.Rules[0].BackendRefs[0].Name), string(route.Spec.Rules[1].BackendRefs[0].Name)}
		if want := []string{tt.realtime, tt.api}; !slices.Equal(names, want) {
			t.Errorf("%s routes to %v, want %v", tt.example, names, want)
		}
	}
}

func TestPublicAddressFollowsTheRoute(t *testing.T) {
	for _, tt := range []struct{ example, set, want string }{
		{"ha-external", "ingress.enabled=true", "https://crew.example.org"},
		{"ha-external", "ingress.tls.enabled=false", "http://crew.example.org"},
		{"sqlite", "demo.enabled=false", "https://crew.example.org"},
		{"eval", "demo.enabled=false", "http://localhost:8080"},
		{"eval", "publicURL=https://other.example.org/", "https://other.example.org"},
	} {
		c := find[corev1.ConfigMap](t, decode(t, mustRender(t, tt.example, tt.set)), "crewbeat-config")
		if got := c.Data["PUBLIC_URL"]; got != tt.want {
			t.Errorf("%s with %s: PUBLIC_URL %q, want %q", tt.example, tt.set, got, tt.want)
		}
	}
}

func TestMigrationModes(t *testing.T) {
	for _, tt := range []struct {
		example, set string
		init, job    bool
	}{
		{"minimal", "migrations.mode=init", true, false},
		{"minimal", "migrations.mode=none", false, false},
		{"hook", "migrations.mode=hook", false, true},
	} {
		made := pods(decode(t, mustRender(t, tt.example, tt.set)))
		for _, name := range []string{"crewbeat-api", "crewbeat-realtime"} {
			if got := len(made[name].Spec.InitContainers) > 0; got != tt.init {
				t.Errorf("%s: %s migrates before it starts: %v, want %v", tt.set, name, got, tt.init)
			}
		}
		if _, got := made["crewbeat-migrate"]; got != tt.job {
			t.Errorf("%s: the render has a job: %v, want %v; it has %s", tt.set, got, tt.job, sortedNames(made))
		}
	}
}

func TestSettingsThatChangeRestartThePods(t *testing.T) {
	sums := func(settings ...string) [2]string {
		a := pods(decode(t, mustRender(t, "minimal", settings...)))["crewbeat-api"].Annotations
		return [2]string{a["checksum/config"], a["checksum/secret"]}
	}
	before := sums()
	if got := sums("log.level=debug"); got[0] == before[0] || got[1] != before[1] {
		t.Error("another log level leaves the pods as they are, or changes the secret's sum")
	}
	if got := sums("redis.url=redis://other:6379/0"); got[1] == before[1] {
		t.Error("another Redis leaves the pods as they are")
	}
}
