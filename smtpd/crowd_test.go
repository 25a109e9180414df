//go:build unix

package smtpd_test

import (
	"bufio"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// crowd opens n connections that have said EHLO, and looks what they cost and
// whether there is still service.
func crowd(t *testing.T, n int) {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil || lim.Cur < 2000 {
		t.Skipf("the limit of open files is %d, and this takes %d", lim.Cur, 2*n+200)
	}
	n = min(n, int(lim.Cur-200)/2) // each has two ends here
	b := newBridge(t, newUpstream(t), func(c *smtpd.Config, _ *smtpd.Account, _ *queue.Config) { c.MaxSessions = n })
	before := inUse()
	for i := range n {
		// The ports of one address of ours don't suffice for all.
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%4))}}
		c, err := d.Dial("tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(10 * time.Minute))
		k := &talk{t, c, bufio.NewReaderSize(c, 16)}
		k.run("S: 220\nC: EHLO x\nS: 250")
	}
	each := (inUse() - before) / uint64(n)
	t.Logf("%d connections, %d bytes for each, the client's end included", n, each)
	if each > 24<<10 {
		t.Errorf("%d bytes for each connection", each)
	}
	// There is no room left, and yet:
	if got := b.login().submit(wired(letter("1", "bob@example.net")), "bob@example.net"); !strings.HasPrefix(got, "250") {
		t.Errorf("reply %q", got)
	}
}

// inUse is memory of the heap and of stacks.
func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
