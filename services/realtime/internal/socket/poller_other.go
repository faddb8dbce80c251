//go:build !linux

package socket

import "errors"

// poller is for Linux only: elsewhere each connection has a goroutine that
// waits.
type poller struct{}

func newPoller() (*poller, error) { return &poller{}, nil }

func (*poller) arm(int, uint64, bool) error { return errors.ErrUnsupported }

func (*poller) run(func(uint64)) {}

func (*poller) close() {}
