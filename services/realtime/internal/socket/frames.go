package socket

import (
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// refused is a frame that may not come; it is the code to close with.
type refused int

// Error implements error.
func (r refused) Error() string { return fmt.Sprintf("refused with %d: %s", int(r), reasons[int(r)]) }

// frames reads what a client sends (RFC 6455, section 5), and refuses what
// breaks the rules before anything is allocated for it.
type frames struct {
	in      io.Reader
	most    int    // bytes of a message, with all its fragments
	message []byte // the fragments so far
	open    bool   // a message has begun, and not ended
}

// next reads one frame. With [ws.OpText] it ends a message, and payload is the
// whole of it; with [ws.OpContinuation] it is a part of one; a control frame
// has its own payload. An error that is a refused says how to close; any other
// is that of the connection.
func (f *frames) next() (op ws.OpCode, payload []byte, err error) {
	h, err := ws.ReadHeader(f.in)
	if errors.Is(err, ws.ErrHeaderLengthMSB) || errors.Is(err, ws.ErrHeaderLengthUnexpected) {
		return 0, nil, refused(closeProtocol)
	}
	if err != nil {
		return 0, nil, err
	}
	if code := f.check(h); code != 0 {
		return 0, nil, refused(code)
	}
	payload = make([]byte, h.Length)
	if _, err := io.ReadFull(f.in, payload); err != nil {
		return 0, nil, err
	}
	ws.Cipher(payload, h.Mask, 0)
	if h.OpCode == ws.OpClose {
		if code := checkClose(payload); code != 0 {
			return 0, nil, refused(code)
		}
	}
	if h.OpCode.IsControl() {
		return h.OpCode, payload, nil
	}
	f.message = append(f.message, payload...)
	if f.open = !h.Fin; f.open {
		return ws.OpContinuation, nil, nil
	}
	payload, f.message = f.message, nil
	if !utf8.Valid(payload) {
		return 0, nil, refused(closeUTF8)
	}
	return ws.OpText, payload, nil
}

// check returns the code to close with if a frame may not come, or 0.
func (f *frames) check(h ws.Header) int {
	switch {
	case !h.Masked || h.Rsv != 0 || h.OpCode.IsReserved():
		return closeProtocol
	case h.OpCode.IsControl():
		if !h.Fin || h.Length > 125 {
			return closeProtocol
		}
		return 0
	case f.open != (h.OpCode == ws.OpContinuation):
		return closeProtocol
	case h.OpCode == ws.OpBinary:
		return closeBadRequest
	case h.Length > int64(f.most-len(f.message)):
		return closeTooBig
	}
	return 0
}

// checkClose returns the code to close with if b may not be in a close frame
// (RFC 6455, sections 5.5.1 and 7.4; the codes are those of IANA's registry).
func checkClose(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	if len(b) == 1 {
		return closeProtocol
	}
	switch code := int(b[0])<<8 | int(b[1]); {
	case code < 1000, code > 4999, code > 1014 && code < 3000, code >= 1004 && code <= 1006:
		return closeProtocol
	case !utf8.Valid(b[2:]):
		return closeUTF8
	}
	return 0
}
