package socket

import (
	"fmt"
	"os"
	"syscall"
)

// poller tells of which connections there is something to read, by epoll(7).
// The runtime has such a poller too, but only for goroutines that wait.
type poller struct {
	file *os.File
	fd   int
	raw  syscall.RawConn
}

func newPoller() (*poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	// Non-blocking, so that the runtime itself waits for it: no thread does.
	p := &poller{fd: fd, file: os.NewFile(uintptr(fd), "epoll")}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		_ = p.file.Close()
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	return p, nil
}

// arm has run tell once when there is something to read from fd, or it has
// ended. again says that it was armed before.
func (p *poller) arm(fd int, number uint64, again bool) error {
	const once = 1 << 30 // EPOLLONESHOT, which package syscall lacks
	e := syscall.EpollEvent{
		Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | once,
		Fd:     int32(number), Pad: int32(number >> 32),
	}
	op := syscall.EPOLL_CTL_ADD
	if again {
		op = syscall.EPOLL_CTL_MOD
	}
	return syscall.EpollCtl(p.fd, op, fd, &e)
}

// run calls ready with the numbers of connections until the poller is closed.
func (p *poller) run(ready func(number uint64)) {
	events := make([]syscall.EpollEvent, 256)
	for {
		n := 0
		err := p.raw.Read(func(fd uintptr) bool {
			var err error
			for {
				if n, err = syscall.EpollWait(int(fd), events, 0); err != syscall.EINTR {
					return err != nil || n > 0
				}
			}
		})
		if err != nil {
			return // closed
		}
		for _, e := range events[:max(n, 0)] {
			ready(uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32)
		}
	}
}

func (p *poller) close() { _ = p.file.Close() }
