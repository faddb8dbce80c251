package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"
)

// ServeArg is the first argument with which a program that uses this package
// has to call [Serve], with the others: it is one of the measured processes.
const ServeArg = "serve"

// role is what a process does; open returns its commands and where it
// listens.
type role func(ctx context.Context, args []string) (*duties, error)

// duties are what a process can be told to do.
type duties struct {
	addr     string
	commands map[string]func(ctx context.Context, args []string) (string, error)
	close    func(ctx context.Context) error
}

func roles() map[string]role {
	return map[string]role{
		"raw": openPeer(newRaw), "gorilla": openPeer(newGorilla), "coder": openPeer(newCoder), "gws": openPeer(newGws),
		"crewbeat": openCrewbeat, "publisher": openPublisher, "balancer": openBalancer,
	}
}

// Serve is one measured process, from its beginning to the end of in.
func Serve(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) == 0 || roles()[args[0]] == nil {
		return fmt.Errorf("there is no role %q", args)
	}
	d, err := roles()[args[0]](ctx, args[1:])
	if err != nil {
		return err
	}
	reply := func(format string, a ...any) { _, _ = fmt.Fprintf(out, format+"\n", a...) }
	reply("ok %s", d.addr)
	lines := make(chan string)
	go func() { // ends with the process
		defer close(lines)
		s := bufio.NewScanner(in)
		for s.Scan() {
			lines <- s.Text()
		}
	}()
	for {
		var line string
		var more bool
		select {
		case line, more = <-lines:
		case <-ctx.Done(): // a signal
		}
		if !more {
			return d.close(context.WithoutCancel(ctx))
		}
		w := strings.Fields(line)
		f := d.commands[w[0]]
		if f == nil {
			f = everybody[w[0]]
		}
		if f == nil {
			reply("error: there is no command %s", w[0])
			continue
		}
		if v, err := f(ctx, w[1:]); err != nil {
			reply("error: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
		} else {
			reply("ok %s", v)
		}
	}
}

// everybody can do these.
var everybody = map[string]func(context.Context, []string) (string, error){
	// release collects garbage and gives what is free back to the kernel.
	"release": func(context.Context, []string) (string, error) {
		debug.FreeOSMemory()
		return "", nil
	},
	"account": tellMemory,
	// profile FILE [SECONDS] writes a profile of the processor, or of the heap.
	"profile": func(_ context.Context, args []string) (string, error) {
		f, err := os.Create(args[0])
		if err != nil {
			return "", err
		}
		if len(args) == 1 {
			runtime.GC()
			return "", errors.Join(pprof.WriteHeapProfile(f), f.Close())
		}
		n, err := strconv.ParseFloat(args[1], 64)
		if err != nil {
			return "", err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return "", err
		}
		time.AfterFunc(time.Duration(n*float64(time.Second)), func() {
			pprof.StopCPUProfile()
			_ = f.Close()
		})
		return "", nil
	},
}

// listen serves h on a free port of all loopback addresses. The kernel keeps at
// most sending bytes for a client, if that is not 0.
func listen(ctx context.Context, h http.Handler, sending int) (addr string, _ *http.Server, err error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if tcp, ok := c.(*net.TCPConn); ok && sending > 0 {
			_ = tcp.SetWriteBuffer(sending)
		}
		return ctx
	}
	go func() { _ = s.Serve(l) }()
	return l.Addr().String(), s, nil
}

func number(args []string, i int) (int, error) {
	if i >= len(args) {
		return 0, fmt.Errorf("argument %d is missing", i+1)
	}
	return strconv.Atoi(args[i])
}
