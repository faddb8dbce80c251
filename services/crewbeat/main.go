// Command crewbeat is all of Crewbeat in one binary.
//
//	crewbeat [serve]     everything in one process, with a SQLite file
//	crewbeat api         the HTTP API and the page, with PostgreSQL and Redis
//	crewbeat realtime    the WebSockets, with PostgreSQL and Redis
//	crewbeat migrate     bring the database's schema up to date
//	crewbeat seed        add the demo team, unless it is there
//	crewbeat admin       let somebody run the installation, or no more
//	crewbeat backup      copy the data folder of the all-in-one, also while it runs
//	crewbeat doctor      say what is wrong with the settings and what they name
//	crewbeat traceview   show the traces that others send
//	crewbeat openapi     print the API's description
//	crewbeat version     print the version
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	_ "time/tzdata" // zones, where the machine has none
)

// version is set by the linker; else it is what the build knows of its source.
var version = ""

func main() {
	err := run(context.Background(), os.Args[1:], os.Getenv, os.Stdout, os.Stderr, nil)
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	default:
		fmt.Fprintf(os.Stderr, "crewbeat: %s\n", err)
		os.Exit(1)
	}
}

// invocation is what a command gets of its surroundings.
type invocation struct {
	args   []string
	getenv func(string) string
	stdout io.Writer
	stderr io.Writer
	ready  func(addr string) // called once the program serves; may be nil
}

type command struct {
	name, usage string
	run         func(ctx context.Context, in invocation) error
}

func commands() []command {
	return []command{
		{"serve", "everything in one process, with a SQLite file (the default)", serveAll},
		{"api", "the HTTP API and the page, with PostgreSQL and Redis", serveAPI},
		{"realtime", "the WebSockets, with PostgreSQL and Redis", serveRealtime},
		{"migrate", "bring the database's schema up to date", migrate},
		{"seed", "add the demo team, unless it is there", seed},
		{"admin", "let somebody run the installation, or no more", setAdmin},
		{"backup", "copy the data folder of the all-in-one, also while it runs", backup},
		{"doctor", "say what is wrong with the settings and what they name", doctor},
		{"traceview", "show the traces that others send", serveTraces},
		{"openapi", "print the API's description", printOpenAPI},
		{"version", "print the version", printVersion},
	}
}

// run is the program: it reads nothing but its arguments and returns when the
// context ends, or what it was asked for is done.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer, ready func(addr string)) error {
	name := "serve"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	} else if len(args) > 0 && slices.Contains([]string{"-h", "-help", "--help"}, args[0]) {
		name = "help"
	}
	for _, c := range commands() {
		if c.name == name {
			return c.run(ctx, invocation{args: args, getenv: getenv, stdout: stdout, stderr: stderr, ready: ready})
		}
	}
	printUsage(stderr)
	if name == "help" {
		return nil
	}
	return fmt.Errorf("there is no command %q", name)
}

func printUsage(w io.Writer) {
	fmt.Fprint(w, "Usage: crewbeat [COMMAND] [OPTIONS]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-10s %s\n", c.name, c.usage)
	}
	fmt.Fprint(w, "\n`crewbeat COMMAND -h` lists the options of a command.\n")
}

// parse reads the options of a command that takes no arguments beside them.
func (in invocation) parse(name string, define func(*flag.FlagSet)) error {
	flags := flag.NewFlagSet("crewbeat "+name, flag.ContinueOnError)
	flags.SetOutput(in.stderr)
	if define != nil {
		define(flags)
	}
	if err := flags.Parse(in.args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%s: %w; `crewbeat %s -h` lists the options", name, err, name)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%s: %q is not an option; `crewbeat %s -h` lists them", name, flags.Arg(0), name)
	}
	return nil
}

// parseAddr reads the options of a command whose only one is where to listen.
func (in invocation) parseAddr(name, def string) (addr string, err error) {
	err = in.parse(name, func(f *flag.FlagSet) { f.StringVar(&addr, "addr", def, "listen on `HOST:PORT`") })
	return addr, err
}

// announce tells who started the program where it listens.
func (in invocation) announce(addr string) {
	if in.ready != nil {
		in.ready(addr)
	}
}

func printVersion(_ context.Context, in invocation) error {
	_, err := fmt.Fprintln(in.stdout, "crewbeat", versionText())
	return err
}

// versionText returns the version, or the commit that the binary was built from.
func versionText() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	text, modified := "development", false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			text = "development-" + s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	if modified {
		text += "-modified"
	}
	return text
}
