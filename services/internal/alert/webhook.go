package alert

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// LogSink writes alerts to the log: critical ones as errors, others as
// warnings, and what is over as information.
func LogSink(log *slog.Logger) Sink { return logSink{log} }

type logSink struct{ log *slog.Logger }

func (logSink) Name() string { return "log" }

func (s logSink) Send(ctx context.Context, n Notice) error {
	level := slog.LevelWarn
	switch {
	case n.Kind == isOver:
		level = slog.LevelInfo
	case n.Alert.Severity == Critical:
		level = slog.LevelError
	}
	s.log.Log(ctx, level, n.Title(), slog.String("alert", n.Alert.Name), slog.String("state", string(n.Kind)), //nolint:sloglint // what an operator reads first
		slog.String("severity", string(n.Alert.Severity)), slog.String("subject", n.Alert.Subject), slog.String("advice", n.Alert.Advice), slog.String("runbook", n.Alert.Runbook))
	return nil
}

// WebhookSink posts notices as JSON. With a secret they are signed as the
// Standard Webhooks specification says (https://www.standardwebhooks.com): the
// headers webhook-id, webhook-timestamp and webhook-signature, which is
// "v1," and the base64 of HMAC-SHA256 over "id.timestamp.body". The id is the
// notice's, so that a receiver can tell a repetition.
func WebhookSink(address, secret string) Sink {
	return &webhook{name: "webhook", address: address, secret: secret, body: func(n Notice) any { return n }, client: client()}
}

// SlackSink posts notices to an incoming webhook of Slack, or of what
// understands the same (Mattermost, Rocket.Chat).
func SlackSink(address string) Sink {
	return &webhook{name: "slack", address: address, body: slackBody, client: client()}
}

type webhook struct {
	name, address, secret string
	body                  func(Notice) any
	client                *http.Client
}

// client follows no redirection: the notice was meant for this address.
func client() *http.Client {
	return &http.Client{
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSHandshakeTimeout: 5 * time.Second},
	}
}

func (w *webhook) Name() string { return w.name }

func (w *webhook) Send(ctx context.Context, n Notice) error {
	body, err := json.Marshal(w.body(n))
	if err != nil {
		return fmt.Errorf("encode notice: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.address, bytes.NewReader(body))
	if err != nil {
		return errors.New("the address is not a URL") // err has the address, which may hold a secret
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Crewbeat")
	if w.secret != "" {
		at := strconv.FormatInt(time.Now().Unix(), 10)
		req.Header.Set("webhook-id", n.ID)
		req.Header.Set("webhook-timestamp", at)
		req.Header.Set("webhook-signature", "v1,"+sign(w.secret, n.ID, at, body))
	}
	res, err := w.client.Do(req)
	if err != nil {
		return withoutAddress(err)
	}
	defer res.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(res.Body, 200)) // only to say it again
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("%s answered %s %q", req.URL.Host, res.Status, said)
	}
	return nil
}

func sign(secret, id, at string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", id, at, body) // never fails
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// withoutAddress is an error of an HTTP client less the URL in it: the path of
// a webhook is as good as a password.
func withoutAddress(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

func slackBody(n Notice) any {
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
	mark := map[Severity]string{Warning: ":warning:", Critical: ":rotating_light:"}[n.Alert.Severity]
	if n.Kind == isOver {
		mark = ":white_check_mark:"
	}
	details := []string{}
	if n.Kind == fires && n.Alert.Advice != "" {
		details = append(details, escape.Replace(n.Alert.Advice))
	}
	if n.Alert.Runbook != "" {
		details = append(details, "<"+escape.Replace(n.Alert.Runbook)+"|what to do>")
	}
	details = append(details, "since "+n.Alert.StartedAt.Format("2006-01-02 15:04 MST"))
	if n.Site != "" {
		details = append(details, escape.Replace(n.Site))
	}
	title := escape.Replace(n.Title())
	return map[string]any{
		"text": mark + " " + title, // what notifications show
		"blocks": []any{
			map[string]any{"type": "section", "text": map[string]any{"type": "mrkdwn", "text": mark + " *" + title + "*"}},
			map[string]any{"type": "context", "elements": []any{map[string]any{"type": "mrkdwn", "text": strings.Join(details, " · ")}}},
		},
	}
}

func isHTTP(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}
