package imapd_test

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
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
		_ = c.conn.SetReadDeadline(time.Now().Add(time.Minute))
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
	measure := func(addr, u, p, command string) time.Duration {
		c := login(t, addr, u, p)
		defer c.conn.Close()
		start := time.Now()
		c.drain("SELECT INBOX")
		n := c.drain(command)
		took := time.Since(start)
		c.drain("LOGOUT")
		_ = n
		return took
	}
	measure(d.Addr, peer.Alice, peer.AlicePassword, headers) // warm
	for _, m := range []struct{ name, command string }{{"headers", headers}, {"bodies", "UID FETCH 1:* (UID RFC822.SIZE BODY.PEEK[])"}, {"flags", "UID FETCH 1:* (FLAGS)"}} {
		var first, second, alone []float64
		for range 15 {
			b := startBridge(t, d.Addr, peer.Alice, peer.AlicePassword, nil)
			base := measure(d.Addr, peer.Alice, peer.AlicePassword, m.command)
			asked := measure(d.Addr, peer.Alice, peer.AlicePassword, strings.TrimSuffix(m.command, ")")+" BODY.PEEK[]<0.1024>)")
			a, z := measure(b.addr, user, password, m.command), measure(b.addr, user, password, m.command)
			first, second = append(first, float64(a)/float64(base)), append(second, float64(z)/float64(base))
			alone = append(alone, float64(a)/float64(asked))
			t.Logf("%s: Dovecot %v, with class items %v, first contact %v, second %v", m.name, base, asked, a, z)
		}
		t.Logf("%s: %s first, %s second; first beside class items %s", m.name, quartiles(first), quartiles(second), quartiles(alone))
	}
}

// quartiles says the median of ratios between their quartiles.
func quartiles(of []float64) string {
	slices.Sort(of)
	n := len(of)
	return fmt.Sprintf("%.2f (%.2f-%.2f)", of[n/2], of[n/4], of[n-1-n/4])
}
