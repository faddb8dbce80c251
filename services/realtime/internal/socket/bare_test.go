//go:build linux

package socket_test

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/realtime/internal/socket"
)

// wire returns both ends of a connection, the first of them bare.
func wire(t *testing.T) (bare, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	bare = socket.Strip(nc)
	t.Cleanup(func() { _, _ = bare.Close(), far.Close() })
	if _, ok := bare.(*net.TCPConn); ok {
		t.Fatal("it is still one of package net")
	}
	if _, err := nc.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection of package net is still open: %v", err)
	}
	return bare, far
}

func TestABareConnectionIsAConnection(t *testing.T) {
	bare, far := wire(t)
	text := strings.Repeat("Who ticks last? ", 1<<16) // a megabyte: nobody's buffers
	for _, way := range [][2]net.Conn{{bare, far}, {far, bare}, {bare, far}} {
		sent := make(chan error, 1)
		go func() {
			_, err := io.WriteString(way[0], text)
			sent <- err
		}()
		got := make([]byte, len(text))
		if _, err := io.ReadFull(way[1], got); err != nil || string(got) != text {
			t.Fatalf("got %d bytes that are not what was sent: %v", len(got), err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		bare.(interface{ Rest() }).Rest()
	}
	_ = bare.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := bare.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read behind the deadline: %v", err)
	}
	_ = bare.SetReadDeadline(time.Time{})
	if err := bare.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := far.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes behind the end: %v", n, err)
	}
	_ = far.Close()
	if n, err := bare.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes behind the other end: %v", n, err)
	}
}

// Also who waits in a read, on another descriptor, is told of the end.
func TestABareConnectionThatIsClosedEndsItsReadsAndTheConnection(t *testing.T) {
	for range 50 {
		bare, far := wire(t)
		read, begun := make(chan error, 1), make(chan struct{})
		if _, err := far.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = bare.Read(make([]byte, 1))
			close(begun)
			_, err := bare.Read(make([]byte, 1))
			read <- err
		}()
		<-begun
		for range 100 {
			runtime.Gosched() // it waits by now, more often than not
		}
		if err := bare.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-read; err == nil {
			t.Error("a read has read something")
		}
		if _, err := far.Read(make([]byte, 1)); err == nil {
			t.Error("the other end has read something")
		}
		if err := bare.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed again: %v", err)
		}
		if _, err := bare.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("written behind the end: %v", err)
		}
	}
}
