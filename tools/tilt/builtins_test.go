package tilt_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.starlark.net/starlark"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	helmrelease "helm.sh/helm/v3/pkg/release"
	"sigs.k8s.io/yaml"
)

// signatures are the parameters that Tilt's builtins take, in order, as far as
// a Tiltfile of ours may use them (https://docs.tilt.dev/api.html).
var signatures = map[string][]string{
	"allow_k8s_contexts": {"contexts"},
	"local_resource": {
		"name", "cmd", "deps", "trigger_mode", "resource_deps", "ignore", "auto_init", "serve_cmd", "cmd_bat", "serve_cmd_bat",
		"allow_parallel", "links", "labels", "env", "serve_env", "readiness_probe", "dir", "serve_dir",
	},
	"docker_build": {
		"ref", "context", "build_args", "dockerfile", "dockerfile_contents", "live_update", "match_in_env_vars", "ignore", "only",
		"entrypoint", "target", "ssh", "network", "secret", "extra_tag", "container_args", "cache_from", "pull", "platform", "extra_hosts",
	},
	"k8s_yaml": {"yaml", "allow_duplicates"},
	"helm":     {"pathToChart", "name", "namespace", "values", "set", "kube_version", "skip_crds"},
	"k8s_resource": {
		"workload", "new_name", "port_forwards", "extra_pod_selectors", "trigger_mode", "resource_deps", "objects", "auto_init",
		"pod_readiness", "links", "labels", "discovery_strategy",
	},
	"link":            {"url", "name"},
	"probe":           {"initial_delay_secs", "timeout_secs", "period_secs", "success_threshold", "failure_threshold", "exec", "http_get", "tcp_socket"},
	"http_get_action": {"port", "host", "scheme", "path"},
}

// tiltfile is what running a Tiltfile has declared.
type tiltfile struct {
	root      string
	resources map[string]bool   // of local_resource and of the render
	workloads map[string][]int  // of the render: their container ports
	images    map[string]bool   // of docker_build
	rendered  map[string]bool   // repositories of images in the render
	deps      map[string]string // resource -> another that it waits for
	ports     map[int]string    // ports of this machine that are taken
	problems  []string
}

func (f *tiltfile) problem(format string, args ...any) {
	f.problems = append(f.problems, fmt.Sprintf(format, args...))
}

// check runs a Tiltfile and returns what is wrong with it.
func check(root, source string) []string {
	f := &tiltfile{
		root: root, resources: map[string]bool{}, workloads: map[string][]int{}, images: map[string]bool{},
		rendered: map[string]bool{}, deps: map[string]string{}, ports: map[int]string{},
	}
	env := starlark.StringDict{
		"TRIGGER_MODE_MANUAL": starlark.String("manual"),
		"TRIGGER_MODE_AUTO":   starlark.String("auto"),
	}
	for name, params := range signatures {
		env[name] = starlark.NewBuiltin(name, func(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			given, err := bind(b.Name(), params, args, kwargs)
			if err != nil {
				return nil, err
			}
			return f.call(b.Name(), given)
		})
	}
	thread := &starlark.Thread{Name: "Tiltfile", Print: func(*starlark.Thread, string) {}}
	if _, err := starlark.ExecFile(thread, "Tiltfile", source, env); err != nil { //nolint:staticcheck // Tilt's dialect is the package's default
		f.problem("%v", err)
	}
	f.finish()
	return f.problems
}

// bind gives arguments their names, and refuses those that Tilt would.
func bind(name string, params []string, args starlark.Tuple, kwargs []starlark.Tuple) (map[string]starlark.Value, error) {
	given := map[string]starlark.Value{}
	if len(args) > len(params) {
		return nil, fmt.Errorf("%s takes %d arguments, got %d", name, len(params), len(args))
	}
	for i, a := range args {
		given[params[i]] = a
	}
	for _, kw := range kwargs {
		key := string(kw[0].(starlark.String))
		if !slices.Contains(params, key) {
			return nil, fmt.Errorf("%s has no parameter %q", name, key)
		}
		if given[key] != nil {
			return nil, fmt.Errorf("%s got %q twice", name, key)
		}
		given[key] = kw[1]
	}
	return given, nil
}

func (f *tiltfile) call(name string, given map[string]starlark.Value) (starlark.Value, error) {
	switch name {
	case "local_resource":
		f.localResource(given)
	case "docker_build":
		f.images[text(given["ref"])] = true
		f.exists("docker_build", text(given["dockerfile"]))
	case "helm":
		return f.helm(given)
	case "k8s_resource":
		f.k8sResource(given)
	}
	return starlark.String(name), nil
}

func (f *tiltfile) localResource(given map[string]starlark.Value) {
	name := text(given["name"])
	if f.resources[name] {
		f.problem("local_resource %s is declared twice", name)
	}
	f.resources[name] = true
	for _, dep := range texts(given["deps"]) {
		f.exists("local_resource "+name, dep)
	}
	f.exists("local_resource "+name, text(given["serve_dir"]))
	f.exists("local_resource "+name, text(given["dir"]))
	for word := range strings.FieldsSeq(text(given["cmd"])) {
		if strings.HasPrefix(word, "scripts/") {
			f.exists("local_resource "+name, word)
		}
	}
	f.waits(name, given)
	if _, after, ok := strings.Cut(text(given["serve_cmd"]), "--port "); ok {
		number, _, _ := strings.Cut(after, " ")
		f.take(number, name)
	}
}

func (f *tiltfile) k8sResource(given map[string]starlark.Value) {
	name := text(given["workload"])
	inside, ok := f.workloads[name]
	if !ok {
		f.problem("k8s_resource %s: the render has no such workload", name)
	}
	f.waits(name, given)
	for _, forward := range texts(given["port_forwards"]) {
		here, there, _ := strings.Cut(forward, ":")
		f.take(here, name)
		if port, err := strconv.Atoi(there); err != nil || ok && !slices.Contains(inside, port) {
			f.problem("k8s_resource %s: no container listens on %s", name, there)
		}
	}
}

func (f *tiltfile) waits(name string, given map[string]starlark.Value) {
	for _, dep := range texts(given["resource_deps"]) {
		f.deps[name+" "+dep] = dep
	}
}

func (f *tiltfile) take(number, who string) {
	port, err := strconv.Atoi(number)
	if err != nil {
		f.problem("%s: port %q is not a number", who, number)
		return
	}
	if other := f.ports[port]; other != "" {
		f.problem("port %d is taken by %s and by %s", port, other, who)
	}
	f.ports[port] = who
}

func (f *tiltfile) exists(who, path string) {
	if path == "" || strings.HasPrefix(path, "bin/") { // made by a build
		return
	}
	if _, err := os.Stat(filepath.Join(f.root, path)); err != nil {
		f.problem("%s: there is no %s", who, path)
	}
}

// helm renders the chart as Tilt does, with its hooks.
func (f *tiltfile) helm(given map[string]starlark.Value) (starlark.Value, error) {
	ch, err := loader.Load(filepath.Join(f.root, text(given["pathToChart"])))
	if err != nil {
		return nil, fmt.Errorf("helm: %w", err)
	}
	values := map[string]any{}
	for _, file := range texts(given["values"]) {
		v, err := chartutil.ReadValuesFile(filepath.Join(f.root, file))
		if err != nil {
			return nil, fmt.Errorf("helm: %w", err)
		}
		values = chartutil.CoalesceTables(v.AsMap(), values)
	}
	in := action.NewInstall(&action.Configuration{Log: func(string, ...any) {}})
	in.DryRun, in.ClientOnly, in.Replace = true, true, true
	in.ReleaseName, in.Namespace = text(given["name"]), text(given["namespace"])
	in.KubeVersion = &chartutil.KubeVersion{Version: "v1.34.0", Major: "1", Minor: "34"}
	release, err := in.Run(ch, values)
	if err != nil {
		return nil, fmt.Errorf("helm: %w", err)
	}
	manifests := strings.Split(release.Manifest, "\n---\n")
	for _, h := range release.Hooks {
		if !slices.Contains(h.Events, helmrelease.HookTest) { // Tilt leaves the pods of helm test out
			manifests = append(manifests, h.Manifest)
		}
	}
	for _, m := range manifests {
		if err := f.workload(m); err != nil {
			return nil, err
		}
	}
	return starlark.String("manifest"), nil
}

// workload notes a workload of the render with its ports and images.
func (f *tiltfile) workload(manifest string) error {
	type podSpec struct {
		Containers, InitContainers []struct {
			Image string
			Ports []struct{ ContainerPort int }
		}
	}
	var o struct {
		Kind     string
		Metadata struct{ Name string }
		Spec     struct {
			podSpec
			Template struct{ Spec podSpec }
		}
	}
	if err := yaml.Unmarshal([]byte(manifest), &o); err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	spec := o.Spec.Template.Spec
	switch o.Kind {
	case "Deployment", "StatefulSet", "Job":
	case "Pod":
		spec = o.Spec.podSpec
	default:
		return nil
	}
	f.resources[o.Metadata.Name] = true
	f.workloads[o.Metadata.Name] = []int{}
	for _, c := range append(spec.InitContainers, spec.Containers...) {
		repository, _, _ := strings.Cut(c.Image, ":")
		f.rendered[repository] = true
		for _, p := range c.Ports {
			f.workloads[o.Metadata.Name] = append(f.workloads[o.Metadata.Name], p.ContainerPort)
		}
	}
	return nil
}

// finish checks what can be known only at the end.
func (f *tiltfile) finish() {
	for image := range f.images {
		if !f.rendered[image] {
			f.problem("docker_build %s: no workload of the render uses it", image)
		}
	}
	for who, dep := range f.deps {
		if !f.resources[dep] {
			f.problem("%s: there is no resource %s to wait for", strings.Fields(who)[0], dep)
		}
	}
	slices.Sort(f.problems)
}

func text(v starlark.Value) string {
	s, _ := starlark.AsString(v)
	return s
}

// texts returns a list of strings, also if it is a single one.
func texts(v starlark.Value) []string {
	if s, ok := starlark.AsString(v); ok {
		return []string{s}
	}
	list, ok := v.(*starlark.List)
	if !ok {
		return nil
	}
	var all []string
	for e := range list.Elements() {
		all = append(all, text(e))
	}
	return all
}
