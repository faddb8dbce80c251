package alert

import (
	"log/slog"

	"github.com/crewbeat/crewbeat/services/internal/env"
)

// Settings say whom alerts are told.
type Settings struct {
	Webhook, WebhookSecret string
	Slack                  string
	Mail                   Mail
	Sentry                 string
}

// FromEnv reads the ALERT_* variables and SENTRY_DSN. What is wrong with them
// is in r.Err.
func FromEnv(r *env.Reader) Settings {
	s := Settings{
		Webhook:       r.Secret("ALERT_WEBHOOK_URL", "address that alerts are posted to as JSON"),
		WebhookSecret: r.Secret("ALERT_WEBHOOK_SECRET", "signs what is posted, as the Standard Webhooks specification says"),
		Slack:         r.Secret("ALERT_SLACK_URL", "incoming webhook of Slack or Mattermost"),
		Sentry:        r.Secret("SENTRY_DSN", "Sentry project that alerts are reported to"),
		Mail: Mail{
			Server: r.Secret("ALERT_MAIL_SERVER", "smtp://USER:PASSWORD@HOST:587, smtps:// or smtp+plain://"),
			From:   r.String("ALERT_MAIL_FROM", "", "sender of alerts by e-mail"),
			To:     r.List("ALERT_MAIL_TO", "receivers of alerts by e-mail, separated by commas"),
		},
	}
	for name, address := range map[string]string{"ALERT_WEBHOOK_URL": s.Webhook, "ALERT_SLACK_URL": s.Slack} {
		if address != "" && !isHTTP(address) {
			r.Reject(name, "an http:// or https:// address")
		}
	}
	if s.Mail.Server != "" {
		if _, err := MailSink(s.Mail); err != nil {
			r.Reject("ALERT_MAIL_SERVER", "smtp://USER:PASSWORD@HOST:587, smtps:// or smtp+plain://, with ALERT_MAIL_FROM and ALERT_MAIL_TO; "+err.Error())
		}
	}
	if s.Sentry != "" && !isDSN(s.Sentry) {
		r.Reject("SENTRY_DSN", "https://KEY@HOST/PROJECT")
	}
	return s
}

// Sinks are the log and all that the settings name.
func (s Settings) Sinks(log *slog.Logger, release string) ([]Sink, error) {
	sinks := []Sink{LogSink(log)}
	if s.Webhook != "" {
		sinks = append(sinks, WebhookSink(s.Webhook, s.WebhookSecret))
	}
	if s.Slack != "" {
		sinks = append(sinks, SlackSink(s.Slack))
	}
	if s.Mail.Server != "" {
		sink, err := MailSink(s.Mail)
		if err != nil {
			return nil, err
		}
		sinks = append(sinks, sink)
	}
	if s.Sentry != "" {
		sink, err := SentrySink(s.Sentry, release)
		if err != nil {
			return nil, err
		}
		sinks = append(sinks, sink)
	}
	return sinks, nil
}
