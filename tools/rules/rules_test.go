package rules_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

// rendered is the chart as it is installed with monitoring.
const rendered = "../chart/testdata/monitoring.yaml"

// chartRules are the groups of the chart's PrometheusRule, in the form of
// Prometheus's own files.
func chartRules(t *testing.T) []byte {
	t.Helper()
	f, err := os.Open(rendered)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for d := yaml.NewDecoder(f); ; {
		var object struct {
			Kind string
			Spec map[string]any
		}
		if err := d.Decode(&object); err != nil {
			t.Fatalf("find the PrometheusRule of the chart: %v", err)
		}
		if object.Kind != "PrometheusRule" {
			continue
		}
		text, err := yaml.Marshal(object.Spec)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
}

func TestPrometheusTakesTheRulesOfTheChart(t *testing.T) {
	groups, errs := rulefmt.Parse(chartRules(t), false, model.LegacyValidation, parser.NewParser(parser.Options{}), promslog.NewNopLogger())
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if len(groups.Groups) != 1 || len(groups.Groups[0].Rules) < 6 {
		t.Fatalf("%+v, want a group of six alerts", groups)
	}
}

// The manuals quote expressions to be copied.
func TestPrometheusTakesWhatTheManualsQuote(t *testing.T) {
	quoted := regexp.MustCompile("`([^`]*(?:rate|increase|histogram_quantile)\\([^`]*)`")
	found := 0
	for _, page := range []string{"../../pkg/tiered/METRICS.md", "../../pkg/tiered/README.md", "../../docs/operations.md", "../../services/realtime/bench/README.md"} {
		text, err := os.ReadFile(page)
		if os.IsNotExist(err) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		for _, m := range quoted.FindAllStringSubmatch(string(text), -1) {
			found++
			if _, err := parser.NewParser(parser.Options{}).ParseExpr(m[1]); err != nil {
				t.Errorf("%s: %s: %v", page, m[1], err)
			}
		}
	}
	if found == 0 {
		t.Error("no page quotes an expression any more: remove this test")
	}
}
