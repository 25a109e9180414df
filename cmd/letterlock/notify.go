package main

import (
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// notify tells systemd how we stand (sd_notify(3)). Without systemd it does
// nothing.
func notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	c.Write([]byte(state))
}

// monotonic is CLOCK_MONOTONIC in microseconds, as RELOADING=1 wants it.
func monotonic() string {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return "0"
	}
	return strconv.FormatInt(ts.Nano()/1000, 10)
}
