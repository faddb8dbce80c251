package httpapi

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// documentRealtime describes the routes of the realtime service, which answers
// them itself, beside those of this API: clients are generated from one
// document. What they speak is in docs/events.md.
func documentRealtime(o *huma.OpenAPI) {
	problem := func(description string) *huma.Response {
		return &huma.Response{Description: description, Content: map[string]*huma.MediaType{
			"application/problem+json": {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}},
		}}
	}
	text := func(description string) *huma.Schema {
		return &huma.Schema{Type: huma.TypeString, Description: description}
	}
	o.AddOperation(&huma.Operation{
		OperationID: "streamEvents", Method: http.MethodGet, Path: "/rt/v1/events", Tags: []string{"events"},
		Summary:     "Follow channels as server-sent events",
		Description: "A stream of events and of messages about it, each one event of the type message whose data is JSON. Its id is a cursor over all channels. The same events come over a WebSocket at /rt/v1/ws.",
		Security:    signedIn,
		Parameters: []*huma.Param{
			{Name: "channels", In: "query", Description: "At most 16 names, joined by commas, each with @ and a position if the client has one. It may be missing with own.",
				Schema: text(""), Example: "team:ID:activity,user:ID:habits@k2x9.1746081000123-0"},
			{Name: "own", In: "query", Description: "1: follow, beside channels, all that is one's own, also teams that are joined later.",
				Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"1"}}},
			{Name: "cursor", In: "query", Description: "The last id, where headers cannot be set.", Schema: text("")},
			{Name: "Last-Event-ID", In: "header", Description: "The last id. It wins over the query.", Schema: text("")},
		},
		Responses: map[string]*huma.Response{
			"200": {Description: "The stream. It ends with a message close that says whether to come again.", Content: map[string]*huma.MediaType{
				"text/event-stream": {Schema: text("")},
			}},
			"204": {Description: "Do not come again: the sign-in is over."},
			"400": problem("The request is not understood."),
			"401": problem("Nobody is signed in."),
			"403": problem("The page is of an origin that may not connect."),
			"429": problem("Too many connections."),
		},
	})
	o.AddOperation(&huma.Operation{
		OperationID: "createTicket", Method: http.MethodPost, Path: "/rt/v1/ticket", Tags: []string{"events"},
		Summary:     "Get a ticket for one connection",
		Description: "For clients that cookies do not go with: it is good once, for half a minute, as Authorization: Ticket, or as a subprotocol of the WebSocket.",
		Security:    signedIn,
		Responses: map[string]*huma.Response{
			"200": {Description: "The ticket.", Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{
				Type: huma.TypeObject, Required: []string{"ticket", "expires_in_ms"},
				Properties: map[string]*huma.Schema{
					"ticket":        text("43 letters, digits, - and _."),
					"expires_in_ms": {Type: huma.TypeInteger, Format: "int64", Description: "How long it is good, in ms."},
				},
			}}}},
			"401": problem("Nobody is signed in."),
			"403": problem("The page is of an origin that may not ask."),
			"429": problem("Too many tries."),
			"503": problem("Tickets are not available at the moment."),
		},
	})
}
