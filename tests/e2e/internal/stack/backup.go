package stack

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The commands here are those of docs/operations.md.

// Dump backs the database up into a file.
func (p *Postgres) Dump(file string) {
	p.t.Helper()
	p.tool("pg_dump", "--format=custom", "--file="+file, p.URL)
}

// Restore fills a new database from a file that Dump made.
func (p *Postgres) Restore(file string) {
	p.t.Helper()
	p.tool("pg_restore", "--exit-on-error", "--no-owner", "--single-transaction", "--dbname="+p.URL, file)
}

func (p *Postgres) tool(name string, args ...string) {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), postgresProgram(p.t, name), args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// CLI runs redis-cli and returns what it said.
func (r *Redis) CLI(args ...string) string {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), "redis-cli", append([]string{"-p", strconv.Itoa(r.Port)}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("redis-cli %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// Snapshot backs Redis up into a file.
func (r *Redis) Snapshot(file string) {
	r.t.Helper()
	r.CLI("BGSAVE")
	r.settled("rdb_bgsave_in_progress:0", "rdb_last_bgsave_status:ok")
	b, err := os.ReadFile(filepath.Join(r.dir, "dump.rdb"))
	if err == nil {
		err = os.WriteFile(file, b, 0o600)
	}
	if err != nil {
		r.t.Fatalf("copy the snapshot: %v", err)
	}
}

// Wipe ends it and loses all that it had.
func (r *Redis) Wipe() {
	r.t.Helper()
	r.Kill()
	for _, name := range []string{"dump.rdb", "appendonlydir"} {
		if err := os.RemoveAll(filepath.Join(r.dir, name)); err != nil {
			r.t.Fatalf("wipe redis: %v", err)
		}
	}
}

// Restore starts it, after Wipe, with what a snapshot has. A server with
// appendonly on would not look at the snapshot: it starts with appendonly off
// and is switched over while it runs.
func (r *Redis) Restore(file string) {
	r.t.Helper()
	b, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(filepath.Join(r.dir, "dump.rdb"), b, 0o600)
	}
	if err != nil {
		r.t.Fatalf("put the snapshot back: %v", err)
	}
	with := r.args
	r.args = append(append([]string{}, with...), "--appendonly", "no")
	r.Start()
	r.args = with
	r.CLI("CONFIG", "SET", "appendonly", "yes")
	r.settled("aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0", "aof_last_bgrewrite_status:ok")
}

func (r *Redis) settled(lines ...string) {
	r.t.Helper()
	Eventually(r.t, 20*time.Second, "redis has written its data down", func(context.Context) error {
		info := r.CLI("INFO", "persistence")
		for _, line := range lines {
			if !strings.Contains(info, line) {
				return fmt.Errorf("INFO does not say %s", line)
			}
		}
		return nil
	})
}
