package socket

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// bare is a TCP connection that is only a descriptor. One of package net has
// its addresses, a state for each direction and a place in the runtime's
// poller, 0.8 KiB together, all of which only who waits for it needs: that is
// got when somebody does, and given back by rest. Its methods but Read and
// Write do not wait.
type bare struct {
	mu   sync.Mutex
	fd   int      // -1: closed
	file *os.File // another descriptor of it, to wait on; nil: nobody has
}

// strip returns nc as a bare connection, if it is a plain one; nc is then
// closed. Otherwise, or where there are no descriptors left, it returns nc.
func strip(nc net.Conn) net.Conn {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nc
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nc
	}
	b := &bare{fd: -1}
	if err := raw.Control(func(fd uintptr) { b.fd, err = duplicate(int(fd)) }); err != nil || b.fd < 0 {
		return nc
	}
	_ = tcp.Close() // the connection goes on by its other descriptor
	return b
}

// duplicate returns another descriptor of what fd is one of, or -1.
func duplicate(fd int) (int, error) {
	n, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// waiting returns what can be waited on; b.mu is held.
func (b *bare) waiting() (*os.File, error) {
	switch {
	case b.fd < 0:
		return nil, net.ErrClosed
	case b.file == nil:
		fd, err := duplicate(b.fd)
		if err != nil {
			return nil, fmt.Errorf("wait for a connection: %w", err)
		}
		b.file = os.NewFile(uintptr(fd), "tcp") // it is non-blocking, so that goroutines wait and no threads
	}
	return b.file, nil
}

// rest gives back what was got to wait, once nobody does.
func (b *bare) rest() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file != nil {
		_ = b.file.Close()
		b.file = nil
	}
}

// Read implements [net.Conn].
func (b *bare) Read(p []byte) (int, error) {
	b.mu.Lock()
	if b.fd < 0 {
		b.mu.Unlock()
		return 0, net.ErrClosed
	}
	for b.file == nil {
		n, err := syscall.Read(b.fd, p)
		if err == syscall.EINTR {
			continue
		}
		if err == syscall.EAGAIN {
			break
		}
		b.mu.Unlock()
		if n == 0 && err == nil && len(p) > 0 {
			err = io.EOF
		}
		return max(n, 0), err
	}
	f, err := b.waiting()
	b.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return f.Read(p)
}

// Write implements [net.Conn].
func (b *bare) Write(p []byte) (int, error) {
	b.mu.Lock()
	f, err := b.waiting()
	b.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return f.Write(p)
}

// Close implements [net.Conn]. Who waits no longer does.
func (b *bare) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fd < 0 {
		return net.ErrClosed
	}
	err := syscall.Close(b.fd)
	b.fd = -1
	if b.file != nil {
		_ = b.file.Close()
	}
	return err
}

// CloseWrite says that nothing more will be sent.
func (b *bare) CloseWrite() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fd < 0 {
		return net.ErrClosed
	}
	return syscall.Shutdown(b.fd, syscall.SHUT_WR)
}

// SetDeadline implements [net.Conn].
func (b *bare) SetDeadline(t time.Time) error { return b.limit(t, (*os.File).SetDeadline) }

// SetReadDeadline implements [net.Conn].
func (b *bare) SetReadDeadline(t time.Time) error { return b.limit(t, (*os.File).SetReadDeadline) }

// SetWriteDeadline implements [net.Conn].
func (b *bare) SetWriteDeadline(t time.Time) error { return b.limit(t, (*os.File).SetWriteDeadline) }

func (b *bare) limit(t time.Time, set func(*os.File, time.Time) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file == nil && t.IsZero() {
		return nil // there is none
	}
	f, err := b.waiting()
	if err != nil {
		return err
	}
	return set(f, t)
}

// LocalAddr implements [net.Conn].
func (*bare) LocalAddr() net.Addr { return nil }

// RemoteAddr implements [net.Conn].
func (*bare) RemoteAddr() net.Addr { return nil }

// Fd returns the descriptor; it is for who holds what closes the connection.
func (b *bare) Fd() int { return b.fd }
