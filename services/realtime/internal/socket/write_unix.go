//go:build unix

package socket

import (
	"net"
	"syscall"
)

// descriptor is a connection as the system knows it. The zero value is one
// that cannot be asked directly.
type descriptor struct {
	fd  int             // of a connection of package net; 0: none
	raw syscall.RawConn // of one that is wrapped
}

func describe(nc net.Conn) (d descriptor) {
	if b, ok := nc.(interface{ Fd() int }); ok {
		return descriptor{fd: b.Fd()}
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return d
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return d
	}
	if _, plain := nc.(*net.TCPConn); !plain {
		return descriptor{raw: raw}
	}
	_ = raw.Control(func(fd uintptr) { d.fd = int(fd) })
	return d
}

func (d descriptor) none() bool { return d.fd == 0 && d.raw == nil }

// write writes what the kernel takes of b without waiting. Whoever calls it
// holds what closes the connection: the number of the descriptor is used as it
// is, which takes half a microsecond less than the connection's own way.
func (d descriptor) write(b []byte) (n int, err error) {
	if d.raw == nil {
		return writeNow(d.fd, b)
	}
	failed := d.raw.Write(func(fd uintptr) bool {
		n, err = writeNow(int(fd), b)
		return true // also when the kernel took nothing
	})
	if failed != nil {
		return 0, failed
	}
	return n, err
}

func writeNow(fd int, b []byte) (int, error) {
	for {
		n, err := syscall.Write(fd, b)
		switch err {
		case nil:
			return n, nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, nil
		default:
			return 0, err
		}
	}
}
