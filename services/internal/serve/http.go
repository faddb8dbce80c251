package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"
)

// HTTPOptions bound what a client may keep busy. The zero value is usable.
type HTTPOptions struct {
	HeaderTimeout  time.Duration // to send the header of a request; 0 means 10 s
	BodyTimeout    time.Duration // to send the body of a request; 0 means 30 s
	IdleTimeout    time.Duration // between requests of a connection; 0 means 2 min
	MaxHeaderBytes int           // 0 means 64 KiB
	Log            *slog.Logger  // for what net/http itself complains about; may be nil
	// Change says how the address can be changed, for the message when it is
	// taken. "" means "--addr HOST:PORT".
	Change string
	// Listener is one that [Listen] has opened already, for a program that
	// must know its port before it can make its handler. Nil listens on the
	// part's address when it starts.
	Listener net.Listener
}

func (o HTTPOptions) withDefaults() HTTPOptions {
	if o.HeaderTimeout <= 0 {
		o.HeaderTimeout = 10 * time.Second
	}
	if o.BodyTimeout <= 0 {
		o.BodyTimeout = 30 * time.Second
	}
	if o.IdleTimeout <= 0 {
		o.IdleTimeout = 2 * time.Minute
	}
	if o.MaxHeaderBytes <= 0 {
		o.MaxHeaderBytes = 64 << 10
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Change == "" {
		o.Change = "--addr HOST:PORT"
	}
	return o
}

// HTTP is a part that serves h on addr. Stopping it takes no new requests and
// waits for those under way; the contexts of those still there when the time is
// over end, and their connections are closed. There is no limit on the time to
// answer, since sockets and event streams live long. Hijacked connections are
// their owner's to close: put a [Closer] for them after this part, so that it
// stops first.
func HTTP(name, addr string, h http.Handler, opts HTTPOptions) Part {
	opts = opts.withDefaults()
	var (
		listener net.Listener
		cancel   context.CancelFunc
	)
	server := &http.Server{
		Handler:           bodyDeadline(h, opts.BodyTimeout),
		ReadHeaderTimeout: opts.HeaderTimeout,
		IdleTimeout:       opts.IdleTimeout,
		MaxHeaderBytes:    opts.MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(opts.Log.With("server", name).Handler(), slog.LevelWarn),
	}
	return Part{
		Name: name,
		Start: func(ctx context.Context) error {
			listener = opts.Listener
			if listener == nil {
				var err error
				if listener, err = Listen(ctx, addr, opts.Change); err != nil {
					return err
				}
			}
			var base context.Context
			base, cancel = context.WithCancel(ctx) //nolint:gosec // Stop cancels it
			server.BaseContext = func(net.Listener) context.Context { return base }
			return nil
		},
		Run: func(context.Context) error {
			if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve %s: %w", listener.Addr(), err)
			}
			return nil
		},
		Stop: func(ctx context.Context) error {
			defer cancel()
			err := server.Shutdown(ctx)
			if err == nil {
				return nil
			}
			cancel()
			_ = server.Close() // only repeats what Shutdown has said
			return fmt.Errorf("requests were still under way: %w", err)
		},
		address: func() string { return listener.Addr().String() },
	}
}

// bodyDeadline bounds the time that a request's body may take to arrive. The
// server's own ReadTimeout would also end the long answers to short requests.
func bodyDeadline(h http.Handler, limit time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			// Fails only for a writer without deadlines, which has no limit to set.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(limit))
		}
		h.ServeHTTP(w, r)
	})
}

// Listen listens on addr for [HTTP]. Its errors say what to do, with change as
// in [HTTPOptions].
func Listen(ctx context.Context, addr, change string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen on %s: the port is taken by another program; stop that one, or choose another port with %s: %w", addr, change, err)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("listen on %s: this user may not open the port; choose one above 1023 with %s: %w", addr, change, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("listen on %s: this machine has no such address; choose another with %s: %w", addr, change, err)
	}
	return nil, fmt.Errorf("listen on %s (expected HOST:PORT, as in 127.0.0.1:8080; set with %s): %w", addr, change, err)
}
