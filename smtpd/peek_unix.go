//go:build unix

package smtpd

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// peek looks at what the socket below conn has received, without waiting.
func peek(conn net.Conn) waiting {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = t.NetConn()
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return speaking
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return speaking
	}
	state := speaking
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			state = silent
		}
	})
	if err != nil {
		return speaking
	}
	return state
}
