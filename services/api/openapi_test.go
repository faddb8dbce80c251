package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/crewbeat/crewbeat/services/api"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestTheOpenAPIFileIsWhatIsServed(t *testing.T) {
	got, err := api.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("openapi.json", got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("openapi.json is not what the API serves: run go test ./services/api -run OpenAPI -update")
	}
}

// document is the part of the OpenAPI document that tests look at.
type document struct {
	Paths map[string]map[string]struct {
		OperationID string
		Summary     string
		Tags        []string
		Security    []map[string][]string
		Parameters  []struct{ Name, In string }
	}
	Components struct {
		Schemas map[string]struct {
			Properties map[string]map[string]any
		}
	}
}

func readDocument(t *testing.T) document {
	t.Helper()
	raw, err := api.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var d document
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestTheDocumentServesClientGenerators(t *testing.T) {
	d := readDocument(t)
	param := regexp.MustCompile(`\{(\w+)\}`)
	for path, item := range d.Paths {
		for method, op := range item {
			if op.OperationID == "" || op.Summary == "" || len(op.Tags) != 1 {
				t.Errorf("%s %s lacks an id, a summary or a tag", method, path)
			}
			for _, name := range param.FindAllStringSubmatch(path, -1) {
				documented := false
				for _, p := range op.Parameters {
					documented = documented || p.In == "path" && p.Name == name[1]
				}
				if !documented {
					t.Errorf("%s %s does not describe its parameter %s", method, path, name[1])
				}
			}
		}
	}
	for name, s := range d.Components.Schemas {
		for field, p := range s.Properties {
			if types, ok := p["type"].([]any); ok && slices.Contains(types, any("array")) {
				t.Errorf("%s.%s may be null: lists are empty instead", name, field)
			}
		}
		if _, ok := s.Properties["$schema"]; ok {
			t.Errorf("%s has a $schema link", name)
		}
	}
}
