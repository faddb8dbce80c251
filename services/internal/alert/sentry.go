package alert

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/getsentry/sentry-go"
)

// SentrySink reports notices to Sentry, as messages that it groups by alert.
// The client is its own: nothing else of the process is reported.
func SentrySink(dsn, release string) (Sink, error) {
	if !isDSN(dsn) {
		return nil, errors.New("SENTRY_DSN: expected https://KEY@HOST/PROJECT") // and no word of the key
	}
	s := &sentrySink{next: http.DefaultTransport}
	client, err := sentry.NewClient(sentry.ClientOptions{
		Dsn: dsn, Release: release, Transport: sentry.NewHTTPSyncTransport(),
		HTTPClient: &http.Client{Transport: s, Timeout: 10 * time.Second},
		// Its own integrations add the machine's environment and modules.
		Integrations: func([]sentry.Integration) []sentry.Integration { return nil },
	})
	if err != nil {
		return nil, fmt.Errorf("make Sentry's client: %w", err)
	}
	s.client = client
	return s, nil
}

func isDSN(s string) bool {
	_, err := sentry.NewDsn(s)
	return err == nil
}

// sentrySink is also the client's way to the network: Sentry's client does not
// say whether what it sent was taken.
type sentrySink struct {
	client *sentry.Client
	next   http.RoundTripper

	mu      sync.Mutex // held while sending
	outcome error      // of the request
}

func (*sentrySink) Name() string { return "sentry" }

// Close ends the client's background work.
func (s *sentrySink) Close() error {
	s.client.Close()
	return nil
}

func (s *sentrySink) Send(ctx context.Context, n Notice) error {
	e := sentry.NewEvent()
	e.EventID = sentry.EventID(fmt.Sprintf("%.32s", withoutDashes(n.ID))) // Sentry drops a repetition
	e.Message = n.Title()
	e.Timestamp = n.At
	e.Level = sentry.LevelWarning
	switch {
	case n.Kind == isOver:
		e.Level = sentry.LevelInfo
	case n.Alert.Severity == Critical:
		e.Level = sentry.LevelFatal
	}
	e.Logger = "crewbeat.alert"
	e.Fingerprint = []string{"crewbeat", n.Alert.Name, string(n.Alert.Severity)}
	e.Tags = map[string]string{"alert": n.Alert.Name, "severity": string(n.Alert.Severity), "state": string(n.Kind)}
	e.Contexts["alert"] = sentry.Context{
		"value": n.Alert.Value, "threshold": n.Alert.Threshold, "subject": n.Alert.Subject,
		"started_at": n.Alert.StartedAt, "advice": n.Alert.Advice, "runbook": n.Alert.Runbook, "site": n.Site,
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.outcome = errors.New("sentry's client did not send it: it was told to slow down")
	s.client.CaptureEvent(e, &sentry.EventHint{Context: ctx}, nil)
	return s.outcome
}

// RoundTrip sends a request for the client and notes how it went. Send has mu.
func (s *sentrySink) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := s.next.RoundTrip(r)
	switch {
	case err != nil:
		s.outcome = err
	case res.StatusCode >= 300:
		s.outcome = fmt.Errorf("%s answered %s", r.URL.Host, res.Status)
	default:
		s.outcome = nil
	}
	return res, err
}

func withoutDashes(id string) string {
	b := make([]byte, 0, len(id))
	for _, c := range []byte(id) {
		if c != '-' {
			b = append(b, c)
		}
	}
	return string(b)
}
