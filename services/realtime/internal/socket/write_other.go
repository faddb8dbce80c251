//go:build !unix

package socket

import "syscall"

// writeNow takes nothing: here everything is left to the draining goroutine.
func writeNow(syscall.RawConn, []byte) (int, error) { return 0, nil }
