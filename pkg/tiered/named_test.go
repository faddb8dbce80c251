package tiered_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/crewbeat/crewbeat/pkg/tiered"
)

// What the documents say of tests and examples is so: those that they name
// exist, each feature has both, and every example is run and is in the list.
func TestWhatTheDocumentsNameExists(t *testing.T) {
	tests, examples := map[string]bool{}, map[string]bool{}
	for _, dir := range []string{".", "tieredtest", "metricstest"} {
		paths, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		must(t, err)
		for _, path := range paths {
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
			must(t, err)
			for _, decl := range file.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil {
					tests[f.Name.Name] = true
				}
			}
			for _, e := range doc.Examples(file) {
				examples["Example"+e.Name] = true
				if e.Output == "" && !e.EmptyOutput {
					t.Errorf("%s: Example%s is compiled and not run: it has no output to compare", path, e.Name)
				}
			}
		}
	}
	name := regexp.MustCompile("`((?:Test|Fuzz|Benchmark|Example)(?:[A-Z_]\\w*)?)`")
	named := map[string]bool{}
	for _, path := range []string{"FEATURES.md", "CORRECTNESS.md", "README.md", "METRICS.md", "CHANGELOG.md"} {
		text, err := os.ReadFile(path)
		must(t, err)
		for _, m := range name.FindAllStringSubmatch(string(text), -1) {
			named[m[1]] = true
			if !tests[m[1]] {
				t.Errorf("%s names %s, which is not there", path, m[1])
			}
		}
	}
	for e := range examples {
		if !named[e] {
			t.Errorf("FEATURES.md lacks %s", e)
		}
	}
	text, err := os.ReadFile("FEATURES.md")
	must(t, err)
	rows := 0
	for line := range strings.Lines(string(text)) {
		if !regexp.MustCompile(`^\| \d+ \|`).MatchString(line) {
			continue
		}
		rows++
		if cells := strings.Split(line, " | "); len(cells) != 4 || !strings.Contains(cells[2], "`Example") || !strings.Contains(cells[3], "`Test") {
			t.Errorf("no example, or no test: %s", line)
		}
	}
	if rows != 22 {
		t.Errorf("%d features, want 22", rows)
	}
}

// The figures that the documentation gives are those of the code.
func TestTheFiguresOfTheDocumentsAreThoseOfTheCode(t *testing.T) {
	for path, figures := range tiered.Figures() {
		text, err := os.ReadFile(path)
		must(t, err)
		plain := strings.Join(strings.Fields(strings.ReplaceAll(string(text), "//", " ")), " ")
		for _, figure := range figures {
			if !strings.Contains(plain, figure) {
				t.Errorf("%s does not say: %s", path, figure)
			}
		}
	}
}
