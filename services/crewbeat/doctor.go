package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/crewbeat/crewbeat/services/api"
	"github.com/crewbeat/crewbeat/services/crewbeat/page"
	"github.com/crewbeat/crewbeat/services/internal/db"
	"github.com/crewbeat/crewbeat/services/internal/redisconn/diagnose"
)

// errUnwell reports that the doctor has found something that keeps Crewbeat
// from working.
var errUnwell = errors.New("something is wrong; see above")

// finding is what the doctor says of one thing.
type finding struct {
	subject string
	err     error  // nil: it is well
	said    string // what was found when it is well
	warning bool   // Crewbeat works without it
	redis   *diagnose.Report
}

// doctor looks at the settings and at what they name, and says for each what
// is wrong and what to do. It changes nothing, but for keys in Redis that it
// deletes again.
func doctor(ctx context.Context, in invocation) error {
	var data, addr string
	var asJSON bool
	err := in.parse("doctor", func(f *flag.FlagSet) {
		f.StringVar(&data, "data", "data", "the data `FOLDER` of the all-in-one, if DATABASE_URL is not set")
		f.BoolVar(&asJSON, "json", false, "print one JSON object, for programs")
		f.StringVar(&addr, "addr", "", "also see whether `HOST:PORT` is free")
	})
	if err != nil {
		return err
	}
	c, err := readConfig(in.getenv, program{})
	findings := []finding{{subject: "settings", err: err, said: "every variable can be used"}}
	if err == nil {
		findings = append(findings, examineSecrets(c), examineDatabase(ctx, c, data), examineRedis(ctx, c))
	}
	_, err = page.New()
	findings = append(findings, finding{subject: "page", err: err, said: "built into this binary", warning: true})
	if addr != "" {
		findings = append(findings, examineAddr(ctx, addr))
	}
	if asJSON {
		return reportJSON(in.stdout, findings)
	}
	return report(in.stdout, findings)
}

// reportJSON prints what [report] does, for programs: what is well or not, by
// subject, and all that was found about Redis.
func reportJSON(w io.Writer, findings []finding) error {
	type check struct {
		Subject string           `json:"subject"`
		Status  string           `json:"status"` // ok, warning or failed
		Text    string           `json:"text"`
		Redis   *diagnose.Report `json:"redis,omitempty"`
	}
	body := struct {
		Status string  `json:"status"` // the worst of all
		Checks []check `json:"checks"`
	}{Status: "ok"}
	for _, f := range findings {
		c := check{Subject: f.subject, Status: "ok", Text: f.said, Redis: f.redis}
		switch {
		case f.err == nil:
		case f.warning:
			c.Status, c.Text = "warning", f.err.Error()
		default:
			c.Status, c.Text = "failed", f.err.Error()
		}
		if c.Status == "failed" || body.Status == "ok" {
			body.Status = c.Status
		}
		body.Checks = append(body.Checks, c)
	}
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	if err := out.Encode(body); err != nil {
		return err
	}
	if body.Status == "failed" {
		return errUnwell
	}
	return nil
}

func report(w io.Writer, findings []finding) error {
	unwell := false
	for _, f := range findings {
		mark, text := "ok  ", f.said
		if f.err != nil {
			mark, text = "FAIL", f.err.Error()
			if f.warning {
				mark = "warn"
			} else {
				unwell = true
			}
		}
		if _, err := fmt.Fprintf(w, "%s  %-9s %s\n", mark, f.subject, strings.ReplaceAll(text, "\n", "\n                ")); err != nil {
			return err
		}
	}
	if unwell {
		return errUnwell
	}
	return nil
}

func examineSecrets(c config) finding {
	f := finding{subject: "secrets", said: fmt.Sprintf("%d session secrets", len(c.SessionSecrets))}
	switch {
	case len(c.SessionSecrets) == 0 && !c.Production:
		f.said = "SESSION_SECRET is not set: the all-in-one keeps one in its data folder; the services need it"
	default:
		f.err = errors.Join(c.checkSecrets(), c.checkPublicURL())
	}
	return f
}

func examineDatabase(ctx context.Context, c config, data string) finding {
	f := finding{subject: "database"}
	url := c.DatabaseURL
	if url == "" {
		file := filepath.Join(data, databaseFile)
		if _, err := os.Stat(file); err != nil {
			f.said = "DATABASE_URL is not set, and there is no " + file + " yet; the all-in-one makes it when it starts"
			return f
		}
		url = "sqlite:" + file
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	d, err := db.Open(ctx, db.Config{URL: url})
	if err != nil {
		f.err = err
		return f
	}
	f.err = errors.Join(api.CheckSchema(ctx, d), d.Close())
	f.said = d.Dialect() + " answers, and its schema fits this binary"
	return f
}

func examineRedis(ctx context.Context, c config) finding {
	f := finding{subject: "redis", warning: !c.Redis.Required}
	if !c.Redis.Enabled() {
		f.said = "REDIS_URL is not set: cache and events live in the process, which is right for the all-in-one only"
		return f
	}
	r := diagnose.Diagnose(ctx, c.Redis, diagnose.Options{})
	f.redis, f.said = &r, "answers, and does what Crewbeat needs"
	var texts []string
	for _, found := range r.Findings {
		lines := []string{fmt.Sprintf("%s: %s [%s]", found.Severity, found.Seen, found.ID)}
		if found.Node != r.Addr && !strings.Contains(found.Seen, found.Node) {
			lines[0] += " at " + found.Node
		}
		for _, cause := range found.Causes {
			lines = append(lines, "  perhaps: "+cause)
		}
		for _, step := range found.Next {
			lines = append(lines, "  do:      "+step)
		}
		texts = append(texts, strings.Join(lines, "\n"))
	}
	all := strings.Join(texts, "\n")
	switch worst := r.Worst(); worst {
	case "":
	case diagnose.Note:
		f.said += "\n" + all
	case diagnose.Warning, diagnose.Critical:
		f.err = errors.New(all)
		f.warning = f.warning || worst == diagnose.Warning
	}
	return f
}

func examineAddr(ctx context.Context, addr string) finding {
	f := finding{subject: "address", said: addr + " is free"}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		f.err = fmt.Errorf("%w; choose another with --addr", err)
		return f
	}
	f.err = l.Close()
	return f
}
