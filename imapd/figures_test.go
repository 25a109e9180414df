package imapd_test

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

var figures = flag.Int("figures", 0, "messages to measure with; 0 measures nothing")

// drain sends a command and counts the bytes of its answers.
func (c *client) drain(command string) (n int) {
	c.n++
	tag := fmt.Sprintf("t%d ", c.n)
	c.send(tag + command + "\r\n")
	for {
		_ = c.conn.SetReadDeadline(time.Now().Add(patience))
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			c.t.Fatal(err)
		}
		n += len(line)
		if strings.HasPrefix(string(line), tag) {
			return n
		}
		if len(line) > 3 && line[len(line)-3] == '}' {
			size := 0
			for _, d := range line[strings.LastIndexByte(string(line), '{')+1 : len(line)-3] {
				size = size*10 + int(d-'0')
			}
			if _, err := io.CopyN(io.Discard, c.r, int64(size)); err != nil {
				c.t.Fatal(err)
			}
			n += size
		}
	}
}

// TestFigures measures the bridge beside Dovecot, round by round, and beside
// Dovecot asked for what classes are found by, too:
// go test -run Figures -figures 5000 -v ./imapd
func TestFigures(t *testing.T) {
	if *figures == 0 {
		t.Skip("no figures asked for: -figures")
	}
	d := peer.Dovecot(t)
	r := rand.New(rand.NewPCG(1, 1))
	up := login(t, d.Addr, peer.Alice, peer.AlicePassword)
	for i := range *figures {
		h := fmt.Sprintf("Return-Path: <x@example.org>\r\nReceived: from a.example (a.example [192.0.2.1])\r\n\tby b.example; Tue, 3 Mar 2026 10:00:00 +0100\r\nFrom: A <a%d@example.org>\r\nTo: bob@example.test\r\nSubject: number %d\r\nDate: Tue, 3 Mar 2026 10:00:00 +0100\r\nMessage-ID: <m%d@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n", i, i, i)
		up.upload("INBOX", "", []byte(h+strings.Repeat("some words in a line of a message\r\n", 30+r.IntN(700))))
	}
	const headers = "UID FETCH 1:* (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To Received)])"
	measure := func(addr, u, p, command string) cost {
		c := login(t, addr, u, p)
		defer c.conn.Close()
		ours, theirs, start := ownCPU(t), dovecotCPU(d.Dir), time.Now()
		c.drain("SELECT INBOX")
		c.drain(command)
		took := cost{float64(time.Since(start)), dovecotCPU(d.Dir) - theirs, ownCPU(t) - ours}
		c.drain("LOGOUT")
		return took
	}
	measure(d.Addr, peer.Alice, peer.AlicePassword, headers) // warm
	for _, m := range []struct{ name, command string }{{"headers", headers}, {"bodies", "UID FETCH 1:* (UID RFC822.SIZE BODY.PEEK[])"}, {"flags", "UID FETCH 1:* (FLAGS)"}} {
		var base, asked, first, second []cost
		for range 15 {
			b := startBridge(t, d.Addr, peer.Alice, peer.AlicePassword, nil)
			base = append(base, measure(d.Addr, peer.Alice, peer.AlicePassword, m.command))
			asked = append(asked, measure(d.Addr, peer.Alice, peer.AlicePassword, strings.TrimSuffix(m.command, ")")+" BODY.PEEK[]<0.1024>)"))
			first = append(first, measure(b.addr, user, password, m.command))
			second = append(second, measure(b.addr, user, password, m.command))
		}
		for _, c := range []struct {
			name string
			of   []cost
		}{{"with class items", asked}, {"first contact", first}, {"second contact", second}} {
			t.Logf("%s, %s: %s of Dovecot alone; CPU of Dovecot's process %s; of the bridge and of the client beside it %s", m.name, c.name,
				ratios(c.of, base, func(c cost) float64 { return c.wall }), ratios(c.of, base, func(c cost) float64 { return c.dovecot }),
				ratios(c.of, base, func(c cost) float64 { return c.own }))
		}
		t.Logf("%s: Dovecot alone takes %s ms, CPU %s ms, the client's %s ms", m.name,
			quartiles(each(base, func(c cost) float64 { return c.wall / 1e6 })), quartiles(each(base, func(c cost) float64 { return c.dovecot / 1e6 })),
			quartiles(each(base, func(c cost) float64 { return c.own / 1e6 })))
	}
}

// cost is what a sync took, in nanoseconds: by the clock, and of CPU time, which
// others' load on the machine changes less.
type cost struct{ wall, dovecot, own float64 }

// ownCPU is the CPU time of this process: the bridge's and the client's.
func ownCPU(t *testing.T) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return float64(u.Utime.Nano() + u.Stime.Nano())
}

// dovecotCPU is the CPU time of the IMAP processes of the Dovecot in dir.
func dovecotCPU(dir string) (ns float64) {
	stats, _ := filepath.Glob("/proc/[0-9]*/schedstat")
	for _, stat := range stats {
		read := func(name string) string {
			b, _ := os.ReadFile(filepath.Join(filepath.Dir(stat), name))
			return string(b)
		}
		if read("comm") != "imap\n" {
			continue
		}
		_, rest, _ := strings.Cut(read("stat"), ") ")
		f := strings.Fields(rest)
		if len(f) < 2 {
			continue
		}
		if parent, _ := os.ReadFile("/proc/" + f[1] + "/cmdline"); !strings.Contains(string(parent), dir) {
			continue
		}
		if n, err := strconv.ParseFloat(strings.Fields(read("schedstat") + " 0")[0], 64); err == nil {
			ns += n
		}
	}
	return ns
}

func each(all []cost, of func(cost) float64) (out []float64) {
	for _, c := range all {
		out = append(out, of(c))
	}
	return out
}

// ratios says the ratios of the rounds of two.
func ratios(a, b []cost, of func(cost) float64) string {
	var out []float64
	for i := range a {
		out = append(out, of(a[i])/of(b[i]))
	}
	return quartiles(out)
}

// quartiles says the median of ratios between their quartiles.
func quartiles(of []float64) string {
	slices.Sort(of)
	n := len(of)
	return fmt.Sprintf("%.2f (%.2f-%.2f)", of[n/2], of[n/4], of[n-1-n/4])
}
