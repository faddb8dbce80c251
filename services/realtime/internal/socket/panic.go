package socket

import (
	"log/slog"
	"net"
	"runtime/debug"
)

// panicked tells of a panic that was recovered from.
func (s *Server) panicked(p any) {
	s.metrics.panics.Add(s.ctx, 1)
	s.c.Log.Error("connection panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
}

// survive is deferred, before any lock is taken, by whatever works for one
// connection: should that panic, it is the end of this connection and of
// nothing else.
func (c *conn) survive() {
	p := recover()
	if p == nil {
		return
	}
	c.s.panicked(p)
	defer func() {
		if recover() != nil {
			c.drop()
		}
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		c.fail() // it can not even be told
		return
	}
	c.abort(closeServer)
}

// perish is survive for who drains: there is nobody left to send a close frame.
func (c *conn) perish() {
	if p := recover(); p != nil {
		c.s.panicked(p)
		c.drop()
	}
}

// drop ends the connection without a word.
func (c *conn) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.code = closeServer
	c.fail()
}

// spawn runs f for the connection. The server waits for it at its end.
func (c *conn) spawn(f func()) {
	c.s.wg.Go(func() {
		defer c.survive()
		f()
	})
}

// forsake is survive for who is not a connection yet.
func (s *Server) forsake(nc net.Conn) {
	if p := recover(); p != nil {
		s.panicked(p)
		_ = nc.Close()
	}
}
