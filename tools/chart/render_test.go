package chart_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/strvals"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

const chartDir = "../../charts/crewbeat"

// kubeVersion is what the chart is rendered for; the end-to-end tests install
// it on the same release.
var kubeVersion = chartutil.KubeVersion{Version: "v1.34.0", Major: "1", Minor: "34"}

// ciFiles are the example values, by their short names.
func ciFiles(t testing.TB) map[string]string {
	t.Helper()
	files, err := filepath.Glob(chartDir + "/ci/*-values.yaml")
	if err != nil || len(files) < 6 {
		t.Fatalf("find example values: %d files, %v", len(files), err)
	}
	byName := map[string]string{}
	for _, f := range files {
		byName[strings.TrimSuffix(filepath.Base(f), "-values.yaml")] = f
	}
	return byName
}

// forEveryExample runs a claim on the render of each file of ci.
func forEveryExample(t *testing.T, claim func(*testing.T, objects)) {
	files := ciFiles(t)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			claim(t, decode(t, mustRender(t, name)))
		})
	}
}

// render renders the chart with an example's values and settings in the form
// of --set.
func render(example string, settings ...string) (string, error) {
	values, err := chartutil.ReadValuesFile(chartDir + "/ci/" + example + "-values.yaml")
	if err != nil {
		return "", err
	}
	return renderValues(values, settings...)
}

func renderValues(values map[string]any, settings ...string) (string, error) {
	for _, s := range settings {
		if err := strvals.ParseInto(s, values); err != nil {
			return "", err
		}
	}
	ch, err := loader.Load(chartDir)
	if err != nil {
		return "", err
	}
	in := action.NewInstall(&action.Configuration{Log: func(string, ...any) {}})
	in.DryRun, in.ClientOnly, in.Replace = true, true, true
	in.ReleaseName, in.Namespace, in.KubeVersion = "crewbeat", "crew", &kubeVersion
	rel, err := in.Run(ch, values)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(rel.Manifest)
	for _, h := range rel.Hooks {
		b.WriteString("---\n# Source: " + h.Path + "\n" + h.Manifest + "\n")
	}
	return b.String(), nil
}

func mustRender(t testing.TB, example string, settings ...string) string {
	t.Helper()
	out, err := render(example, settings...)
	if err != nil {
		t.Fatalf("render %s with %v: %v", example, settings, err)
	}
	return out
}

// objects is a render, decoded.
type objects []runtime.Object

// find returns the object of a type with this name.
func find[T any, P interface {
	*T
	runtime.Object
	GetName() string
}](t testing.TB, os objects, name string) P {
	t.Helper()
	for o := range all[P](os) {
		if o.GetName() == name {
			return o
		}
	}
	t.Fatalf("the render has no %T %s", *new(T), name)
	return nil
}

// all yields the objects of one type.
func all[P runtime.Object](os objects) func(func(P) bool) {
	return func(yield func(P) bool) {
		for _, o := range os {
			if p, ok := o.(P); ok && !yield(p) {
				return
			}
		}
	}
}

// strict decodes as an API server with field validation Strict does: unknown
// and doubled fields are errors.
var strict = func() runtime.Decoder {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, gateway.Install, monitoring.AddToScheme} {
		if err := add(s); err != nil {
			panic(err)
		}
	}
	return json.NewSerializerWithOptions(json.DefaultMetaFactory, s, s, json.SerializerOptions{Yaml: true, Strict: true})
}()

func decode(t testing.TB, manifest string) objects {
	t.Helper()
	var os objects
	seen := map[string]bool{}
	r := yaml.NewYAMLReader(newReader(manifest))
	for {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			return os
		}
		if err != nil {
			t.Fatalf("split manifest: %v", err)
		}
		if onlyComments(doc) {
			continue
		}
		o, kind, err := strict.Decode(doc, nil, nil)
		if err != nil {
			t.Fatalf("decode manifest: %v\n%s", err, doc)
		}
		if id := identity(o, kind); seen[id] {
			t.Fatalf("%s is rendered twice", id)
		} else {
			seen[id] = true
		}
		os = append(os, o)
	}
}

func identity(o runtime.Object, kind *schema.GroupVersionKind) string {
	named, ok := o.(interface{ GetName() string })
	if !ok {
		return kind.String()
	}
	return kind.Kind + "/" + named.GetName()
}

func onlyComments(doc []byte) bool {
	for line := range bytes.Lines(doc) {
		if l := bytes.TrimSpace(line); len(l) > 0 && l[0] != '#' && !bytes.Equal(l, []byte("---")) {
			return false
		}
	}
	return true
}

// golden compares with a recorded file, or records it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("read the recorded render: %v (go test ./chart -update records it)", err)
	}
	if got == string(want) {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("%s differs from line %d on:\n got %q\nwant %q\n(go test ./chart -update records the new one)", file, i+1, line(g, i), line(w, i))
		}
	}
}

func line(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(end)"
}

// pods yields what every workload of a render makes, by workload name.
func pods(os objects) map[string]corev1.PodTemplateSpec {
	found := map[string]corev1.PodTemplateSpec{}
	for _, o := range os {
		if name, pod, ok := podOf(o); ok {
			found[name] = pod
		}
	}
	return found
}
