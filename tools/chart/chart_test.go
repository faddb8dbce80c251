package chart_test

import (
	"bufio"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

var update = flag.Bool("update", false, "record the renders in testdata anew")

func newReader(s string) *bufio.Reader { return bufio.NewReader(strings.NewReader(s)) }

// podOf returns the pod that a workload makes.
func podOf(o runtime.Object) (string, corev1.PodTemplateSpec, bool) {
	switch w := o.(type) {
	case *appsv1.Deployment:
		return w.Name, w.Spec.Template, true
	case *appsv1.StatefulSet:
		return w.Name, w.Spec.Template, true
	case *batchv1.Job:
		return w.Name, w.Spec.Template, true
	case *corev1.Pod:
		return w.Name, corev1.PodTemplateSpec{ObjectMeta: w.ObjectMeta, Spec: w.Spec}, true
	}
	return "", corev1.PodTemplateSpec{}, false
}

func TestEveryExampleLintsWithoutAWarning(t *testing.T) {
	for name, file := range ciFiles(t) {
		t.Run(name, func(t *testing.T) {
			values, err := chartutil.ReadValuesFile(file)
			if err != nil {
				t.Fatal(err)
			}
			l := action.NewLint()
			l.Strict, l.KubeVersion = true, &kubeVersion
			result := l.Run([]string{chartDir}, values)
			for _, m := range result.Messages {
				if m.Severity > support.InfoSev {
					t.Error(m)
				}
			}
			if len(result.Errors) > 0 {
				t.Error(result.Errors)
			}
		})
	}
}

func TestEveryExampleRendersAsRecorded(t *testing.T) {
	for name := range ciFiles(t) {
		t.Run(name, func(t *testing.T) { golden(t, name+".yaml", mustRender(t, name)) })
	}
}

func TestRenderIsTheSameEachTime(t *testing.T) {
	if first, second := mustRender(t, "ha-external"), mustRender(t, "ha-external"); first != second {
		t.Error("two renders of the same values differ")
	}
}

func TestPodsMeetTheRestrictedStandard(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := psa.LevelVersion{Level: psa.LevelRestricted, Version: psa.LatestVersion()}
	forEveryExample(t, func(t *testing.T, os objects) {
		for name, pod := range pods(os) {
			for _, r := range evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec) {
				if !r.Allowed {
					t.Errorf("pod %s: %s: %s", name, r.ForbiddenReason, r.ForbiddenDetail)
				}
			}
		}
	})
}

func TestSchemaRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, example, set, want string
	}{
		{"a key that does not exist", "minimal", "api.replica=3", "'replica' not allowed"},
		{"a key that does not exist, on top", "minimal", "replicas=3", "'replicas' not allowed"},
		{"a tag that YAML read as a number", "minimal", "image.tag=110", "/image/tag"},
		{"a digest without its algorithm", "minimal", "image.digest=0123", "/image/digest"},
		{"no replicas", "minimal", "api.replicas=0", "/api/replicas"},
		{"a word for a number", "minimal", "realtime.replicas=two", "/realtime/replicas"},
		{"a short session secret", "minimal", "session.secret=secret", "/session/secret"},
		{"two session secrets", "minimal", "session.existingSecret.name=other", "/session"},
		{"two databases", "minimal", "postgresql.enabled=true", "oneOf"},
		{"two databases by secret", "minimal", "database.existingSecret.name=db", "oneOf"},
		{"no database", "minimal", "database.url=", "oneOf"},
		{"a database of another make", "minimal", "database.url=mysql://db/crew", "/database/url"},
		{"an unknown driver", "minimal", "database.driver=mysql", "/database/driver"},
		{"two Redis", "minimal", "redis.enabled=true", "oneOf"},
		{"no Redis for two services", "minimal", "redis.url=", "oneOf"},
		{"a word for a truth", "minimal", "redis.required=yes please", "/redis/required"},
		{"sqlite with another database", "sqlite", "postgresql.enabled=true", "/postgresql/enabled"},
		{"sqlite with Redis", "sqlite", "redis.enabled=true", "/redis/enabled"},
		{"sqlite that requires Redis", "sqlite", "redis.required=true", "/redis/required"},
		{"sqlite on several pods", "sqlite", "autoscaling.mode=hpa", "/autoscaling/mode"},
		{"a hook without the database's secret", "hook", "database.existingSecret.name=", "/database"},
		{"a hook on the evaluation database", "eval", "migrations.mode=hook", "/database/existingSecret/name"},
		{"an unknown way to migrate", "minimal", "migrations.mode=always", "/migrations/mode"},
		{"keda, which is not there yet", "minimal", "autoscaling.mode=keda", "/autoscaling/mode"},
		{"an ingress without a host", "minimal", "ingress.enabled=true", "/ingress/host"},
		{"a route without a gateway", "minimal", "httpRoute.enabled=true", "/httpRoute/parentRefs"},
		{"an address without a scheme", "minimal", "publicURL=crew.example.org", "/publicURL"},
		{"an origin with a path", "minimal", "allowedOrigins[0]=https://a.example/x", "/allowedOrigins/0"},
		{"no memory limit", "minimal", "api.resources.limits.memory=null", "/api/resources/limits"},
		{"memory in a unit without a binary prefix", "minimal", "api.resources.limits.memory=1G", "/api/resources/limits/memory"},
		{"a node port out of range", "minimal", "api.service.nodePort=80", "/api/service/nodePort"},
		{"a grace period below what shutting down takes", "minimal", "api.shutdown.graceSeconds=35", "set graceSeconds above the sum"},
		{"more at least than at most", "ha-external", "api.autoscaling.minReplicas=20", "above maxReplicas"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := render(tt.example, tt.set)
			if err == nil {
				t.Fatalf("--set %s was accepted", tt.set)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("--set %s: the error does not say %q:\n%v", tt.set, tt.want, err)
			}
		})
	}
}

func TestNoValuesAtAllIsRefusedWithWhatIsMissing(t *testing.T) {
	_, err := renderValues(map[string]any{})
	if err == nil {
		t.Fatal("the chart installs without a database")
	}
	for _, want := range []string{"/database/url", "/postgresql/enabled", "/redis/url", "/redis/enabled"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s:\n%v", want, err)
		}
	}
}

func TestGeneratedSecretsAreLongAndDiffer(t *testing.T) {
	secret := func() map[string]string {
		out := decode(t, mustRender(t, "eval", "session.secret=", "postgresql.password="))
		return find[corev1.Secret](t, out, "crewbeat-secret").StringData
	}
	first, second := secret(), secret()
	for _, key := range []string{"SESSION_SECRET", "POSTGRES_PASSWORD"} {
		if len(first[key]) < 32 || first[key] == second[key] {
			t.Errorf("%s: %d characters, the same twice: %v", key, len(first[key]), first[key] == second[key])
		}
	}
	if want := "crewbeat:" + first["POSTGRES_PASSWORD"] + "@crewbeat-postgresql:5432"; !strings.Contains(first["DATABASE_URL"], want) {
		t.Error("DATABASE_URL does not carry the password that PostgreSQL is given")
	}
}

func TestPasswordIsEscapedInTheDatabaseURL(t *testing.T) {
	out := decode(t, mustRender(t, "eval", `postgresql.password=p@ss/w:rd`))
	url := find[corev1.Secret](t, out, "crewbeat-secret").StringData["DATABASE_URL"]
	if want := "crewbeat:p%40ss%2Fw%3Ard@"; !strings.Contains(url, want) {
		t.Errorf("DATABASE_URL %q, want %q in it", url, want)
	}
}

func TestLongReleaseNamesStayValid(t *testing.T) {
	long := strings.Repeat("a-very-long-name", 6)
	for name := range pods(decode(t, mustRender(t, "eval", "fullnameOverride="+long))) {
		if len(name) > 63 || strings.HasSuffix(name, "-") {
			t.Errorf("name %q has %d characters", name, len(name))
		}
	}
}

func sortedNames[V any](m map[string]V) string { return fmt.Sprint(slices.Sorted(maps.Keys(m))) }
