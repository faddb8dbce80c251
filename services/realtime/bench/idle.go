package bench

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// idler is a row of the idle table.
type idler struct {
	name, role string
	wish       func(i int) wish // without address and token
	base, kept []float64
	where      [][]string // after the first, and after the second
}

func idlers() []*idler {
	team := func(i int) string { return "team:t" + strconv.Itoa(i/teamSize) + ":activity" }
	return []*idler{
		{name: "Crewbeat, WebSocket", role: "crewbeat", wish: func(int) wish { return wish{} }},
		{name: "Crewbeat, WebSocket that follows its user and a team of eight", role: "crewbeat", wish: func(i int) wish { return wish{channels: []string{habits(i), team(i)}} }},
		{name: "Crewbeat, SSE that follows a team of eight", role: "crewbeat", wish: func(i int) wish { return wish{sse: true, channels: []string{team(i)}} }},
		{name: "raw: hijacked, and nobody reads", role: "raw", wish: func(int) wish { return wish{} }},
		{name: "gorilla", role: "gorilla", wish: func(int) wish { return wish{} }},
		{name: "coder", role: "coder", wish: func(int) wish { return wish{} }},
		{name: "gws", role: "gws", wish: func(int) wish { return wish{} }},
	}
}

// idle measures what connections cost in memory that do nothing.
func idle(ctx context.Context, r *run) error {
	desk := storeFlags{database: r.database()}
	clerk, err := start("publisher", desk.args()...)
	if err != nil {
		return err
	}
	answer, err := clerk.ask("people", r.Idle)
	clerk.stop()
	if err != nil {
		return err
	}
	tokens := strings.Fields(answer)
	rows := idlers()
	if r.Alone {
		rows = slices.DeleteFunc(rows, func(row *idler) bool { return row.role != "crewbeat" })
	}
	for range min(r.Rounds, r.IdleRounds) {
		for _, row := range rows {
			if err := r.idleTurn(ctx, row, desk, tokens); err != nil {
				return fmt.Errorf("%s: %w", row.name, err)
			}
		}
	}
	r.table(fmt.Sprintf("RSS of an idle connection, %d connections, each of its own user", r.Idle), "", "KiB, as it stands", "KiB, once free memory is given back")
	for _, row := range rows {
		r.row(row.name, spread("%.1f", row.base), spread("%.1f", row.kept))
	}
	r.table("Where that is, KiB of a connection, in the last round", "", "objects, alive or not collected yet", "unused between them", "free, not given back", "stacks", "the runtime's own", "outside of Go: SQLite, files", "goroutines of all")
	for _, row := range rows {
		for i, when := range []string{"as it stands", "given back"} {
			r.row(append([]string{row.name + ", " + when}, row.where[i]...)...)
		}
	}
	return nil
}

func (r *run) idleTurn(ctx context.Context, row *idler, desk storeFlags, tokens []string) error {
	var args []string
	if row.role == "crewbeat" {
		args = desk.args()
	}
	server, err := start(row.role, args...)
	if err != nil {
		return err
	}
	defer server.stop()
	each := func(i int) wish {
		w := row.wish(i)
		w.addr = server.addr
		if row.role == "crewbeat" {
			w.token = tokens[i]
		}
		return w
	}
	// What the first connections need once is not theirs.
	first, err := gather(ctx, 100, each)
	if err != nil {
		return err
	}
	if _, err := server.ask("release"); err != nil {
		return err
	}
	before, _, err := server.memory()
	if err != nil {
		return err
	}
	defer first.leave()
	all, err := gather(ctx, r.Idle-100, func(i int) wish { return each(i + 100) })
	if err != nil {
		return err
	}
	defer all.leave()
	if err := settle(ctx, server, r.Idle); err != nil {
		return err
	}
	if err := pause(ctx, 3*r.Turn); err != nil { // idle is who has done nothing for a while
		return err
	}
	row.where = nil
	per := func() (float64, error) {
		now, goroutines, err := server.memory()
		row.where = append(row.where, append(now.cells(before, r.Idle-100), strconv.Itoa(goroutines)))
		return float64(now.resident-before.resident) / float64(r.Idle-100) / 1024, err
	}
	n, err := per()
	if err != nil {
		return err
	}
	row.base = append(row.base, n)
	if _, err := server.ask("release"); err != nil {
		return err
	}
	if n, err = per(); err != nil {
		return err
	}
	row.kept = append(row.kept, n)
	if r.Profile != "" && row.role == "crewbeat" {
		_, err = server.ask("profile", fmt.Sprintf("%s/idle-%d.pb", r.Profile, len(row.name)))
	}
	return err
}
