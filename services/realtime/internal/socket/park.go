package socket

import (
	"bytes"
	"context"
	"io"
)

// A goroutine that only waits for a client to say something would cost more
// than all the rest of an idle connection. Where the system can tell when
// there is something to read (see poller), the reading goroutine ends between
// messages, and begins again when one comes. In the middle of a message it
// waits as any other.

// park has the reading goroutine end: true means that wake will begin it
// anew, false that it has to wait itself.
func (c *conn) park() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.closed || c.at.fd == 0 || c.early != nil && c.early.Len() > 0 {
		return false
	}
	c.early = nil
	if err := c.s.poller.arm(c.at.fd, c.number, c.armed); err != nil {
		return false
	}
	c.armed, c.reading = true, false
	c.settle()
	return true
}

// settle gives back what the connection needs to be waited for, if nobody waits;
// c.mu is held.
func (c *conn) settle() {
	if r, ok := c.nc.(interface{ rest() }); ok && !c.reading && !c.draining {
		r.rest()
	}
}

// wake begins reading if nobody does; c.mu is held.
func (c *conn) wake() {
	if !c.reading {
		c.reading = true
		c.s.wg.Go(c.serve)
	}
}

// wake is told that there is something to read from a connection.
func (s *Server) wake(number uint64) {
	s.mu.Lock()
	c := s.conns[number]
	s.mu.Unlock()
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wake()
}

// input is what the client sends: what came with the handshake, then the rest.
func (c *conn) input() io.Reader {
	if c.early == nil {
		return c.nc
	}
	return io.MultiReader(c.early, c.nc)
}

// life is a context that ends with a connection, while anybody needs one.
type life struct {
	ctx    context.Context //nolint:containedctx // of a connection
	cancel context.CancelFunc
	users  int
}

// enter returns a context that ends with the connection. leave is called when
// it is no longer needed.
func (c *conn) enter() (_ context.Context, leave func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life == nil {
		c.life = &life{}
		c.life.ctx, c.life.cancel = context.WithCancel(c.s.ctx)
	}
	l := c.life
	if c.over {
		l.cancel()
	}
	l.users++
	return l.ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if l.users--; l.users == 0 {
			l.cancel()
			c.life = nil
		}
	}
}

// earlyReader holds what came behind a handshake, or is nil.
func earlyReader(b []byte) *bytes.Reader {
	if len(b) == 0 {
		return nil
	}
	return bytes.NewReader(bytes.Clone(b))
}
