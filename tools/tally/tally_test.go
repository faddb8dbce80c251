package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// passes is a package with three tests, one of them with two subtests.
const passes = `{"Action":"start","Package":"a"}
{"Action":"run","Package":"a","Test":"TestOne"}
{"Action":"output","Package":"a","Test":"TestOne","Output":"=== RUN   TestOne\n"}
{"Action":"pass","Package":"a","Test":"TestOne","Elapsed":0.1}
{"Action":"pass","Package":"a","Test":"TestTwo/x","Elapsed":0.1}
{"Action":"pass","Package":"a","Test":"TestTwo/y","Elapsed":0.1}
{"Action":"pass","Package":"a","Test":"TestTwo","Elapsed":0.1}
{"Action":"output","Package":"a","Test":"TestThree","Output":"    a_test.go:9: not on this machine\n"}
{"Action":"skip","Package":"a","Test":"TestThree","Elapsed":0}
{"Action":"pass","Package":"a","Elapsed":1.5}
`

func TestGoResultsAreCounted(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     counts
		says     string
	}{
		{"subtests count, their parents do not", passes, counts{3, 0, 1}, "ok   a"},
		{"a skip says why", passes, counts{3, 0, 1}, "skip a TestThree: not on this machine"},
		{
			"a failed subtest shows its output",
			`{"Action":"output","Package":"a","Test":"T/x","Output":"    got 1, want 2\n"}
{"Action":"fail","Package":"a","Test":"T/x"}
{"Action":"pass","Package":"a","Test":"T/y"}
{"Action":"fail","Package":"a","Test":"T"}
{"Action":"fail","Package":"a"}
`,
			counts{1, 1, 0}, "got 1, want 2",
		},
		{
			"a package that does not build",
			`{"ImportPath":"a","Action":"build-output","Output":"a.go:1: undefined: x\n"}
{"ImportPath":"a","Action":"build-fail"}
{"Action":"start","Package":"a"}
{"Action":"output","Package":"a","Output":"FAIL\ta [build failed]\n"}
{"Action":"fail","Package":"a","FailedBuild":"a"}
`,
			counts{0, 1, 0}, "undefined: x",
		},
		{
			"a package that fails after its tests have passed",
			`{"Action":"pass","Package":"a","Test":"T"}
{"Action":"output","Package":"a","Output":"goleak: found unexpected goroutines\n"}
{"Action":"fail","Package":"a"}
`,
			counts{1, 1, 0}, "unexpected goroutines",
		},
		{"a package that never ended", `{"Action":"pass","Package":"a","Test":"T"}` + "\n", counts{0, 1, 0}, "has not ended"},
		{"a package without tests", `{"Action":"skip","Package":"a"}` + "\n", counts{}, ""},
		{"what the go command says itself", "go: no such tool\n", counts{}, "go: no such tool"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			got, err := countGo(strings.NewReader(tt.in), &out)
			if err != nil || got != tt.want {
				t.Errorf("counted %+v (%v), want %+v", got, err, tt.want)
			}
			if !strings.Contains(out.String(), tt.says) {
				t.Errorf("it does not say %q:\n%s", tt.says, &out)
			}
		})
	}
}

func TestVitestReportsAreCounted(t *testing.T) {
	for _, tt := range []struct {
		name, report string
		want         counts
		fails        bool
	}{
		{"passed, failed and left out", `{"numPassedTests":3,"numFailedTests":1,"numPendingTests":1,"numTodoTests":1,
			"testResults":[{"name":"a.ts","status":"failed","assertionResults":[{"fullName":"a b","status":"failed"}]}]}`, counts{3, 1, 2}, false},
		{"a file that does not load", `{"numPassedTests":3,"testResults":[{"name":"a.ts","status":"failed","message":"no such module"}]}`, counts{3, 1, 0}, false},
		{"no test at all", `{"numPassedTests":0,"testResults":[]}`, counts{}, true},
		{"not a report", `oh no`, counts{}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "report.json")
			if err := os.WriteFile(file, []byte(tt.report), 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := countVitest(file, io.Discard)
			if got != tt.want || (err != nil) != tt.fails {
				t.Errorf("counted %+v (%v), want %+v", got, err, tt.want)
			}
		})
	}
}

func TestTheLastLineSumsUp(t *testing.T) {
	for _, tt := range []struct {
		name  string
		steps [][]string
		code  int
		last  string
		says  string
	}{
		{"all is well", [][]string{{"-plan", "a,b"}, {"-name", "a", "run", "true"}, {"-name", "b", "run", "true"}}, 0, "2 passed, 0 failed", ""},
		{"a failure", [][]string{{"-name", "a", "run", "true"}, {"-name", "b", "run", "false"}}, 1, "1 passed, 1 failed", ""},
		{"a step that did not run", [][]string{{"-plan", "a,b"}, {"-name", "a", "run", "true"}}, 1, "1 passed, 0 failed", "1 steps did not run"},
		{"a step that was cut", [][]string{{"-plan", "a,b"}, {"-name", "a", "run", "true"}, {"-name", "b", "cut", "no time"}}, 1, "1 passed, 0 failed", "b was cut: no time"},
		{"nothing ran", nil, 1, "0 passed, 0 failed", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "counts")
			for _, args := range tt.steps {
				if _, err := run(append([]string{"-to", file}, args...), strings.NewReader(""), io.Discard); err != nil {
					t.Fatal(err)
				}
			}
			var out strings.Builder
			code, err := run([]string{"-to", file, "sum"}, nil, &out)
			if err != nil || code != tt.code {
				t.Errorf("exit code %d (%v), want %d", code, err, tt.code)
			}
			lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
			if got := lines[len(lines)-1]; got != tt.last {
				t.Errorf("the last line is %q, want %q", got, tt.last)
			}
			if !strings.Contains(out.String(), tt.says) {
				t.Errorf("it does not say %q:\n%s", tt.says, &out)
			}
		})
	}
}
