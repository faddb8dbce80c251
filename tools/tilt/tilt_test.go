package tilt_test

import (
	"os"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

func source(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(root + "/Tiltfile")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTiltfileFitsTheChartAndTheRepository(t *testing.T) {
	for _, p := range check(root, source(t)) {
		t.Error(p)
	}
}

func TestCheckFindsWhatIsWrong(t *testing.T) {
	for _, tt := range []struct{ name, old, new, want string }{
		{"a parameter that Tilt does not have", "resource_deps=['crewbeat-api'])", "depends_on=['crewbeat-api'])", `no parameter "depends_on"`},
		{"a workload that the chart does not render", "k8s_resource('crewbeat-redis'", "k8s_resource('crewbeat-valkey'", "crewbeat-valkey: the render has no such workload"},
		{"the pod of helm test, which Tilt leaves out", "k8s_resource('crewbeat-redis'", "k8s_resource('crewbeat-test'", "crewbeat-test: the render has no such workload"},
		{"an image that nobody runs", "docker_build(\n    'crewbeat'", "docker_build(\n    'crewbeat-api'", "no workload of the render uses it"},
		{"a folder that is not there", "'pkg/tiered'", "'pkg/cache'", "there is no pkg/cache"},
		{"a script that is not there", "scripts/build.sh", "scripts/make.sh", "there is no scripts/make.sh"},
		{"two forwards on one port", "'16379:6379'", "'15432:6379'", "port 15432 is taken by"},
		{"a port that no container listens on", "'19091:9090'", "'19091:9091'", "no container listens on 9091"},
		{"waiting for nothing", "resource_deps=['compile', 'crewbeat-postgresql'], port_forwards", "resource_deps=['compiler'], port_forwards", "no resource compiler"},
		{"values that are not there", "ci/tilt-values.yaml", "ci/tilt.yaml", "ci/tilt.yaml"},
		{"a word too much", "values = ", "values == ", "undefined: values"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			broken := strings.Replace(source(t), tt.old, tt.new, 1)
			if broken == source(t) {
				t.Fatalf("the Tiltfile does not hold %q", tt.old)
			}
			problems := check(root, broken)
			if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, tt.want) }) {
				t.Errorf("found %q, want one with %q", problems, tt.want)
			}
		})
	}
}

// Tilt refuses to deploy anywhere else, so that nobody deploys to production
// by accident.
func TestTiltfileNamesOnlyLocalClusters(t *testing.T) {
	first, _, ok := strings.Cut(source(t), "\nvalues")
	if !ok || !strings.Contains(first, "allow_k8s_contexts(['kind-crewbeat'") {
		t.Error("the Tiltfile does not begin with the clusters that it may deploy to")
	}
}
