package chart_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)

var copyRules = flag.Bool("copy-rules", false, "copy the rules of alerts into the chart")

// rulesFile is what the program goes by. Helm reads nothing outside the chart,
// so that the chart has a copy:
//
//	go test ./chart -run TestThePrometheusRules -copy-rules -update
const rulesFile = "../../services/internal/alert/rules.json"

func TestThePrometheusRulesAreTheProgramsOwn(t *testing.T) {
	own, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	if *copyRules {
		if err := os.WriteFile(chartDir+"/alert-rules.json", own, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if copied, err := os.ReadFile(chartDir + "/alert-rules.json"); err != nil || !bytes.Equal(own, copied) {
		t.Errorf("alert-rules.json is not %s (%v): run go test ./chart -run TestThePrometheusRules -copy-rules", rulesFile, err)
	}
	var file struct {
		KeepFiring int `json:"keep_firing_seconds"`
		Rules      []struct {
			Name, Severity, Comparison, Summary string
			Threshold                           float64
			For                                 int `json:"for_seconds"`
		}
	}
	if err := json.Unmarshal(own, &file); err != nil {
		t.Fatal(err)
	}
	var groups []monitoring.RuleGroup
	for _, o := range decode(t, mustRender(t, "monitoring")) {
		if rule, ok := o.(*monitoring.PrometheusRule); ok {
			groups = append(groups, rule.Spec.Groups...)
		}
	}
	if len(groups) != 1 || len(groups[0].Rules) != len(file.Rules) || len(file.Rules) < 6 {
		t.Fatalf("%d groups of rules, for %d rules", len(groups), len(file.Rules))
	}
	sign := map[string]string{"above": ">", "at_least": ">="}
	for i, got := range groups[0].Rules {
		want := file.Rules[i]
		if got.Alert != want.Name || got.Labels["severity"] != want.Severity || got.Annotations["summary"] != want.Summary ||
			!strings.HasSuffix(got.Annotations["runbook_url"], "#"+want.Name) {
			t.Errorf("%s %s: %+v", want.Name, want.Severity, got)
		}
		expr := got.Expr.String()
		if end := fmt.Sprintf(" %s %v", sign[want.Comparison], want.Threshold); !strings.HasSuffix(expr, end) {
			t.Errorf("%s %s: %s, want it to end in %q", want.Name, want.Severity, expr, end)
		}
		if strings.Contains(expr, "$") || !strings.Contains(expr, `namespace="`) {
			t.Errorf("%s: it looks at other installations: %s", want.Name, expr)
		}
		if string(*got.For) != fmt.Sprintf("%ds", want.For) || string(*got.KeepFiringFor) != fmt.Sprintf("%ds", file.KeepFiring) {
			t.Errorf("%s %s: for %s, kept %s", want.Name, want.Severity, *got.For, *got.KeepFiringFor)
		}
	}
}
