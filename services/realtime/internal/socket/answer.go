package socket

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// errStalled ends an answer whose client takes nothing: unlike with a
// connection of our own, the write cannot be taken up again.
var errStalled = errors.New("the client does not read")

// answer is a [net.Conn] on an HTTP answer whose connection is not ours, as with
// HTTP/2, where it carries others too.
type answer struct {
	r       *http.Request
	w       http.ResponseWriter
	control *http.ResponseController
	done    chan struct{}
	end     sync.Once // of done

	writing sync.Mutex // held while w writes
	setting sync.Mutex // held while a deadline is set
	over    bool       // both: w is no longer to be used
}

// wait returns when the answer was closed and nobody uses it any more.
func (a *answer) wait() {
	<-a.done
	_ = a.SetWriteDeadline(time.Now()) // whoever still writes need not
	a.writing.Lock()
	defer a.writing.Unlock()
	a.setting.Lock()
	defer a.setting.Unlock()
	a.over = true
}

// Write implements [net.Conn]. What it takes is on its way when it returns.
func (a *answer) Write(b []byte) (int, error) {
	a.writing.Lock()
	defer a.writing.Unlock()
	if a.over {
		return 0, net.ErrClosed
	}
	n, err := a.w.Write(b)
	if err == nil {
		err = a.control.Flush()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errStalled
	}
	return n, err
}

// Read waits for the end: there is nothing to be read.
func (a *answer) Read([]byte) (int, error) {
	select {
	case <-a.done:
	case <-a.r.Context().Done():
	}
	return 0, io.EOF
}

// Close implements [net.Conn]. It does not wait for a write under way.
func (a *answer) Close() error {
	a.end.Do(func() { close(a.done) })
	return nil
}

// SetWriteDeadline implements [net.Conn].
func (a *answer) SetWriteDeadline(t time.Time) error {
	a.setting.Lock()
	defer a.setting.Unlock()
	if a.over {
		return net.ErrClosed
	}
	return a.control.SetWriteDeadline(t)
}

// SetReadDeadline closes: it is set to wait for a client's last words, and
// here there are none.
func (a *answer) SetReadDeadline(time.Time) error { return a.Close() }

// SetDeadline implements [net.Conn].
func (a *answer) SetDeadline(t time.Time) error { return a.SetWriteDeadline(t) }

// LocalAddr implements [net.Conn].
func (*answer) LocalAddr() net.Addr { return nil }

// RemoteAddr implements [net.Conn].
func (*answer) RemoteAddr() net.Addr { return nil }
