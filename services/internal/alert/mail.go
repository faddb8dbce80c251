package alert

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"
)

// Mail says how e-mail is sent.
type Mail struct {
	// Server is smtp://USER:PASSWORD@HOST:PORT with STARTTLS demanded,
	// smtps:// for TLS from the start, or smtp+plain:// without any TLS, for a
	// relay on the same machine or network.
	Server string
	From   string   // "Crewbeat <crewbeat@example.org>" or a bare address
	To     []string // likewise
	TLS    *tls.Config
}

// MailSink sends notices by e-mail, or says what is wrong with m.
func MailSink(m Mail) (Sink, error) {
	u, err := url.Parse(m.Server)
	if err != nil || u.Hostname() == "" {
		return nil, errors.New("the mail server has no host") // err may hold the password
	}
	options := []mail.Option{mail.WithTimeout(10 * time.Second)}
	port := 587
	switch u.Scheme {
	case "smtp":
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	case "smtps":
		port = 465
		options = append(options, mail.WithSSL())
	case "smtp+plain":
		port = 25
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		return nil, fmt.Errorf("the scheme of the mail server is %q", u.Scheme)
	}
	if p := u.Port(); p != "" {
		if port, err = strconv.Atoi(p); err != nil {
			return nil, fmt.Errorf("the port of the mail server is %q", p)
		}
	}
	options = append(options, mail.WithPort(port))
	if m.TLS != nil {
		options = append(options, mail.WithTLSConfig(m.TLS))
	}
	if password, given := u.User.Password(); given {
		auth := mail.SMTPAuthAutoDiscover // refuses to send a password without TLS
		options = append(options, mail.WithSMTPAuth(auth), mail.WithUsername(u.User.Username()), mail.WithPassword(password))
	}
	client, err := mail.NewClient(u.Hostname(), options...)
	if err != nil {
		return nil, fmt.Errorf("mail server: %w", err)
	}
	s := &mailSink{client: client, m: m}
	if _, err := s.message(Notice{ID: "trial"}); err != nil {
		return nil, err
	}
	return s, nil
}

type mailSink struct {
	client *mail.Client
	m      Mail
}

func (*mailSink) Name() string { return "mail" }

func (s *mailSink) message(n Notice) (*mail.Msg, error) {
	msg := mail.NewMsg()
	if err := msg.From(s.m.From); err != nil {
		return nil, fmt.Errorf("mail from %q: expected an address: %w", s.m.From, err)
	}
	if len(s.m.To) == 0 {
		return nil, errors.New("mail to nobody: expected at least one address")
	}
	if err := msg.To(s.m.To...); err != nil {
		return nil, fmt.Errorf("mail to %q: expected addresses: %w", s.m.To, err)
	}
	msg.Subject("[Crewbeat] " + n.Title())
	msg.SetMessageIDWithValue(n.ID + "@crewbeat") // a repetition can be told
	msg.SetGenHeader(mail.Header("Auto-Submitted"), "auto-generated")
	if n.Alert.Severity == Critical && n.Kind == fires {
		msg.SetImportance(mail.ImportanceHigh)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nSince: %s\n", n.Title(), n.Alert.StartedAt.Format(time.RFC1123))
	if n.Alert.ResolvedAt != nil {
		fmt.Fprintf(&b, "Until: %s\n", n.Alert.ResolvedAt.Format(time.RFC1123))
	}
	for _, line := range []struct{ label, text string }{{"What to do", n.Alert.Advice}, {"Manual", n.Alert.Runbook}, {"On", n.Alert.Subject}, {"Site", n.Site}} {
		if line.text != "" {
			fmt.Fprintf(&b, "%s: %s\n", line.label, line.text)
		}
	}
	msg.SetBodyString(mail.TypeTextPlain, b.String())
	return msg, nil
}

func (s *mailSink) Send(ctx context.Context, n Notice) error {
	msg, err := s.message(n)
	if err != nil {
		return err
	}
	if err := s.client.DialAndSendWithContext(ctx, msg); err != nil {
		return fmt.Errorf("send mail: %w", err)
	}
	return nil
}
