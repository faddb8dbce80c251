package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/crewbeat/crewbeat/services/realtime/internal/socket"
)

const (
	beaconBytes = 512
	// latest is the most that is believed, in ms: of a page that was asleep,
	// the time says nothing of the way.
	latest = 10 * 60 * 1000
)

// beacon is what a page says of an event, of one in a hundred: how long after
// it had happened it was received, and shown, both in ms.
type beacon struct {
	Received float64 `json:"received_ms"`
	Rendered float64 `json:"rendered_ms"`
}

func (b beacon) validate() error {
	if b.Received < 0 || b.Rendered < b.Received || b.Rendered > latest {
		return fmt.Errorf("want 0 ≤ received_ms ≤ rendered_ms ≤ %d", latest)
	}
	return nil
}

// beacons measures what pages say.
type beacons struct {
	latency            metric.Float64Histogram
	received, rendered metric.MeasurementOption
}

func newBeacons(p metric.MeterProvider) (beacons, error) {
	if p == nil {
		p = noop.NewMeterProvider()
	}
	latency, err := p.Meter("github.com/crewbeat/crewbeat/services/realtime").Float64Histogram("realtime.render.latency", metric.WithUnit("s"),
		metric.WithDescription("Time from an event to its reception by a page, and to the screen, as one in a hundred is reported, by stage."),
		metric.WithExplicitBucketBoundaries(.01, .025, .05, .1, .2, .3, .5, .75, 1, 2, 5, 10, 30, 60))
	if err != nil {
		return beacons{}, fmt.Errorf("create instrument: %w", err)
	}
	stage := func(s string) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(attribute.String("stage", s)))
	}
	return beacons{latency: latency, received: stage("received"), rendered: stage("rendered")}, nil
}

func (b beacons) record(ctx context.Context, said beacon) {
	b.latency.Record(ctx, said.Received/1000, b.received)
	b.latency.Record(ctx, said.Rendered/1000, b.rendered)
}

// serveBeacon takes {"received_ms":12.5,"rendered_ms":31} of a page whose
// person is signed in. There is no answer but 204.
func (s *Server) serveBeacon(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		socket.Problem(w, http.StatusMethodNotAllowed, "method-not-allowed", "Latencies are sent with POST", "Send a POST request.")
		return
	}
	if !s.sockets.Owns(r) {
		socket.Problem(w, http.StatusForbidden, "origin-refused", "This origin may not report", "Report from a page of this server, or of one of ALLOWED_ORIGINS.")
		return
	}
	if _, err := s.auth.Identify(r.Context(), r); errors.Is(err, socket.ErrUnauthenticated) {
		socket.Problem(w, http.StatusUnauthorized, "unauthenticated", "Nobody is signed in", "Sign in, then report.")
		return
	} else if err != nil {
		s.c.Log.DebugContext(r.Context(), "latency not taken", slog.Any("error", err))
		w.Header().Set("Retry-After", "60")
		socket.Problem(w, http.StatusServiceUnavailable, "unavailable", "Sign-ins cannot be checked at the moment", "There is no need to report again.")
		return
	}
	var said beacon
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, beaconBytes)).Decode(&said)
	if err == nil {
		err = said.validate()
	}
	if err != nil {
		socket.Problem(w, http.StatusBadRequest, "bad-request", "The report is not understood", `Send {"received_ms":12.5,"rendered_ms":31}: `+err.Error())
		return
	}
	s.beacons.record(s.ctx, said)
	w.WriteHeader(http.StatusNoContent)
}
