package peer

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// Host is a machine as far as the network goes: a network namespace of its own,
// with its own loopback and the links that [Join] gives it, and nothing else.
// Files and Unix sockets are shared with us. It ends with the test.
type Host struct {
	t  testing.TB
	do chan func()
	ns string // the namespace's file
}

// NewHost makes one. Without root or without the programs ip and tc the test is
// skipped.
func NewHost(t testing.TB) *Host {
	t.Helper()
	Require(t, "ip", "tc")
	h := &Host{t: t, do: make(chan func())}
	made := make(chan error)
	go h.live(made)
	if err := <-made; err != nil {
		missing(t, "no network namespace can be made: %v", err)
	}
	t.Cleanup(func() { close(h.do) })
	h.run("ip", "link", "set", "lo", "up")
	return h
}

// live holds the thread that is in the namespace. What it starts is in it too,
// and ends with it (Pdeathsig).
func (h *Host) live(made chan error) {
	runtime.LockOSThread() // never unlocked: the thread ends with us
	err := syscall.Unshare(syscall.CLONE_NEWNET)
	h.ns = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), syscall.Gettid())
	made <- err
	if err != nil {
		return
	}
	for f := range h.do {
		f()
	}
}

// inside runs f in the namespace: sockets that it opens and processes that it
// starts are there for good. It must not wait for anything.
func (h *Host) inside(f func() error) error {
	done := make(chan error, 1)
	h.do <- func() { done <- f() }
	return <-done
}

// Start starts a program there.
func (h *Host) Start(cmd *exec.Cmd) error { return h.inside(cmd.Start) }

// run runs a short command there that must succeed.
func (h *Host) run(name string, args ...string) {
	h.t.Helper()
	var out []byte
	err := h.inside(func() (err error) {
		out, err = exec.Command(name, args...).CombinedOutput()
		return err
	})
	if err != nil {
		h.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// Offer makes a server of ours reachable there, at the same address of that
// loopback.
func (h *Host) Offer(addr string) *Cable {
	h.t.Helper()
	return layCable(h.t, func() (l net.Listener, err error) {
		err = h.inside(func() (err error) { l, err = net.Listen("tcp", addr); return err })
		return l, err
	}, func() (net.Conn, error) { return net.Dial("tcp", addr) })
}

// Reach makes a server on that loopback reachable for us.
func (h *Host) Reach(addr string) *Cable {
	h.t.Helper()
	return layCable(h.t, func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }, func() (c net.Conn, err error) {
		err = h.inside(func() (err error) { c, err = net.Dial("tcp", addr); return err })
		return c, err
	})
}

// Link is a network cable between two hosts. However it is cut, nobody is told:
// connections stay half open on both sides until their owners lose patience.
type Link struct {
	// Near and Far are the IP addresses of its ends.
	Near, Far string

	a, b          *Host
	nearIf, farIf string
}

// Join lays a link; n, from 1 to 250, is unlike that of any other.
func Join(near, far *Host, n int) *Link {
	near.t.Helper()
	l := &Link{a: near, b: far, Near: fmt.Sprintf("10.77.%d.1", n), Far: fmt.Sprintf("10.77.%d.2", n),
		nearIf: fmt.Sprintf("near%d", n), farIf: fmt.Sprintf("far%d", n)}
	near.run("ip", "link", "add", l.nearIf, "type", "veth", "peer", "name", l.farIf, "netns", far.ns)
	near.run("ip", "address", "add", l.Near+"/24", "dev", l.nearIf)
	far.run("ip", "address", "add", l.Far+"/24", "dev", l.farIf)
	l.Heal()
	return l
}

// Down pulls the plug at the near end, or at the far one.
func (l *Link) Down(near bool) {
	if near {
		l.a.run("ip", "link", "set", l.nearIf, "down")
	} else {
		l.b.run("ip", "link", "set", l.farIf, "down")
	}
}

// Drop loses every packet that the near end sends, or the far one, or both.
func (l *Link) Drop(near, far bool) {
	if near {
		l.a.run("tc", "qdisc", "replace", "dev", l.nearIf, "root", "blackhole")
	}
	if far {
		l.b.run("tc", "qdisc", "replace", "dev", l.farIf, "root", "blackhole")
	}
}

// Heal undoes Down and Drop.
func (l *Link) Heal() {
	for _, end := range []struct {
		h   *Host
		dev string
	}{{l.a, l.nearIf}, {l.b, l.farIf}} {
		end.h.run("ip", "link", "set", end.dev, "up")
		end.h.run("tc", "qdisc", "replace", "dev", end.dev, "root", "pfifo", "limit", "1000")
	}
}
