package httpapi

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"
)

//go:embed docs.html
var docsPage string

//go:embed docs.css
var docsStyle []byte

// docs are the pages that describe the API. They load nothing from elsewhere,
// so that they work without the internet and under a strict policy.
type docs struct{ page, spec []byte }

// operation is an operation as the page shows it.
type operation struct {
	ID, Method, Path, Summary, Doc string
	Open                           bool
	Params                         []*huma.Param
	Body                           string
	Answers                        []answer
}

type answer struct{ Status, Schema string }

type schemaDoc struct {
	Name, Doc string
	Fields    []fieldDoc
}

type fieldDoc struct {
	Name, Type, Doc string
	Required        bool
}

func newDocs(o *huma.OpenAPI, spec []byte) (*docs, error) {
	t, err := template.New("docs").Parse(docsPage)
	if err != nil {
		return nil, fmt.Errorf("read docs page: %w", err)
	}
	type group struct {
		Tag, Doc   string
		Operations []operation
	}
	var groups []group
	for _, tag := range o.Tags {
		groups = append(groups, group{tag.Name, tag.Description, operationsOf(o, tag.Name)})
	}
	var page bytes.Buffer
	if err := t.Execute(&page, map[string]any{"Info": o.Info, "Groups": groups, "Schemas": schemasOf(o)}); err != nil {
		return nil, fmt.Errorf("write docs page: %w", err)
	}
	return &docs{page.Bytes(), spec}, nil
}

func (d *docs) mount(engine *gin.Engine) {
	serve := func(path, contentType string, body []byte) {
		engine.GET(path, func(g *gin.Context) {
			g.Header("Content-Security-Policy", "default-src 'none'; style-src 'self'; frame-ancestors 'none'")
			g.Header("Cache-Control", "no-cache")
			g.Data(http.StatusOK, contentType, body)
		})
	}
	serve("/openapi.json", "application/vnd.oai.openapi+json", d.spec)
	serve("/docs", "text/html; charset=utf-8", d.page)
	serve("/docs/docs.css", "text/css; charset=utf-8", docsStyle)
}

func operationsOf(o *huma.OpenAPI, tag string) []operation {
	var out []operation
	for _, path := range slices.Sorted(maps.Keys(o.Paths)) {
		item := o.Paths[path]
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if op == nil || !slices.Contains(op.Tags, tag) {
				continue
			}
			shown := operation{
				ID: op.OperationID, Method: op.Method, Path: path, Summary: op.Summary, Doc: op.Description,
				Open: len(op.Security) == 0, Params: op.Parameters,
			}
			if op.RequestBody != nil {
				shown.Body = schemaName(op.RequestBody.Content["application/json"])
			}
			for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
				a := answer{Status: status}
				for _, media := range op.Responses[status].Content {
					a.Schema = schemaName(media)
				}
				shown.Answers = append(shown.Answers, a)
			}
			out = append(out, shown)
		}
	}
	return out
}

func schemasOf(o *huma.OpenAPI) []schemaDoc {
	var out []schemaDoc
	all := o.Components.Schemas.Map()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		s := all[name]
		shown := schemaDoc{Name: name, Doc: s.Description}
		for _, field := range slices.Sorted(maps.Keys(s.Properties)) {
			p := s.Properties[field]
			shown.Fields = append(shown.Fields, fieldDoc{field, typeName(p), p.Description, slices.Contains(s.Required, field)})
		}
		out = append(out, shown)
	}
	return out
}

func schemaName(m *huma.MediaType) string {
	if m == nil || m.Schema == nil {
		return ""
	}
	return typeName(m.Schema)
}

func typeName(s *huma.Schema) string {
	switch {
	case s.Ref != "":
		return s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]
	case len(s.AnyOf) > 0:
		names := make([]string, len(s.AnyOf))
		for i, sub := range s.AnyOf {
			names[i] = typeName(sub)
		}
		return strings.Join(names, " or ")
	case s.Type == huma.TypeArray:
		return "list of " + typeName(s.Items)
	case len(s.Enum) > 0:
		return strings.ReplaceAll(strings.Trim(fmt.Sprint(s.Enum...), "[]"), " ", " | ")
	}
	name := s.Type
	if s.Format != "" {
		name += " (" + s.Format + ")"
	}
	if s.Nullable {
		name += " or null"
	}
	return name
}
