package guides_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../../.."

// page returns the rows of the two tables of docs/guides.md.
func page(t *testing.T) (functions, bugs [][2]string) {
	t.Helper()
	text, err := os.ReadFile(root + "/docs/guides.md")
	must(t, err)
	before, after, ok := strings.Cut(string(text), "\n## Bugs\n")
	if !ok {
		t.Fatal("docs/guides.md has no list of bugs")
	}
	rows := func(part string) (all [][2]string) {
		for _, m := range regexp.MustCompile(`(?m)^\| (.*?) \| (.*) \|$`).FindAllStringSubmatch(part, -1)[1:] {
			all = append(all, [2]string{m[1], m[2]})
		}
		return all
	}
	return rows(before), rows(after)
}

// tests are the names of all there are.
func tests(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	for _, top := range []string{"services", "pkg/tiered", "tests", "tools"} {
		must(t, filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range declared.FindAllSubmatch(text, -1) {
				all[string(m[1])] = true
			}
			return err
		}))
	}
	return all
}

func TestEveryBugHasAClaimAndATest(t *testing.T) {
	_, bugs := page(t)
	var listed, claimed []string
	there := tests(t)
	for _, row := range bugs {
		listed = append(listed, row[0])
		names := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(row[1], -1)
		if len(names) == 0 {
			t.Errorf("%s: no test is named", row[0])
		}
		for _, m := range names {
			if !there[m[1]] {
				t.Errorf("%s: there is no %s", row[0], m[1])
			}
		}
	}
	for _, c := range claims() {
		claimed = append(claimed, c.bug)
	}
	slices.Sort(listed)
	slices.Sort(claimed)
	if !slices.Equal(listed, claimed) {
		for _, bug := range listed {
			if !slices.Contains(claimed, bug) {
				t.Errorf("docs/guides.md has a bug that no code of the guides shows: %s", bug)
			}
		}
		for _, bug := range claimed {
			if !slices.Contains(listed, bug) {
				t.Errorf("docs/guides.md does not have the bug: %s", bug)
			}
		}
		t.Errorf("%d bugs are listed, %d shown", len(listed), len(claimed))
	}
}

func TestEveryFunctionIsWhereThePageSays(t *testing.T) {
	functions, _ := page(t)
	for _, row := range functions {
		places := regexp.MustCompile("`((?:services|pkg|charts|docs)/[^`]+|compose.yaml)`").FindAllStringSubmatch(row[1], -1)
		if len(places) == 0 {
			t.Errorf("%s: no place is named", row[0])
		}
		for _, m := range places {
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s: %v", row[0], err)
			}
		}
	}
}
