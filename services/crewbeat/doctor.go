package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/crewbeat/crewbeat/services/api"
	"github.com/crewbeat/crewbeat/services/crewbeat/page"
	"github.com/crewbeat/crewbeat/services/internal/db"
	"github.com/crewbeat/crewbeat/services/internal/redisconn"
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
}

// doctor looks at the settings and at what they name, and says for each what
// is wrong and what to do. It changes nothing.
func doctor(ctx context.Context, in invocation) error {
	var data, addr string
	err := in.parse("doctor", func(f *flag.FlagSet) {
		f.StringVar(&data, "data", "data", "the data `FOLDER` of the all-in-one, if DATABASE_URL is not set")
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
	return report(in.stdout, findings)
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
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c.Redis.Required = true // to hear why it cannot be reached
	conn, err := redisconn.Open(ctx, c.Redis, redisconn.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.err = err
		return f
	}
	f.err = conn.Close()
	f.said = "answers"
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
