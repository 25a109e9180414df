package smtpd_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// TestWhatBeganAndCouldNotBeMadeIsForgotten: the journal has an entry before its
// copy is made, by another's sync, and then the copy can't be made.
func TestWhatBeganAndCouldNotBeMadeIsForgotten(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u)
	list := func() []queue.Entry {
		es, err := b.queue.List(t.Context(), "", 100)
		if err != nil {
			t.Error(err)
		}
		return es
	}
	during := -1
	defer smtpd.SetFailpoint(func(step string) {
		if step != "prepared" {
			return
		}
		other := queue.Entry{ID: queue.NewID(), State: queue.Sending, Recipients: []queue.Recipient{{Address: "b@x", State: queue.Sending}}}
		if err := b.queue.Begin([]queue.Change{{Entry: other, Bare: true}}); err != nil {
			t.Error(err)
		}
		if err := b.queue.Settle([]queue.Change{{Entry: other, Bare: true, Forget: true}}); err != nil {
			t.Error(err)
		}
		during = len(list())
		panic("the copy can't be made")
	})()
	k := b.login()
	k.run("C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 250\nC: DATA\nS: 354")
	k.send(wired(letter("1", "bob@example.net")) + ".\r\n")
	if got := k.reply(); !strings.HasPrefix(got, "4") && !strings.HasPrefix(got, "5") {
		t.Errorf("the answer is %q", got)
	}
	if during != 1 {
		t.Errorf("the journal had %d entries while the copy was made", during)
	}
	if es := list(); len(es) != 0 {
		t.Errorf("the journal still has %+v", es)
	}
	if n := len(u.received()); n != 0 {
		t.Errorf("%d messages came", n)
	}
}

// TestNobodyWaitsForHimself: a session that reads a message is waited for, by others,
// and only until it writes.
func TestNobodyWaitsForHimself(t *testing.T) {
	for _, tt := range []struct {
		name string
		to   []string
		rule policy.Config
		want string
	}{
		{"one copy", []string{"bob@example.net"}, policy.Config{}, "250 2.0.0 sent"},
		{"one in clear", []string{"x@example.com"}, policy.Config{}, "250 2.0.0 sent"},
		{"two copies", []string{"bob@example.net", "carol@example.net"}, policy.Config{}, "250 2.0.0 sent"},
		{"held", []string{"x@example.com"}, holdAll, "250 2.0.0 held"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBridge(t, newUpstream(t), withRules(tt.rule), func(_ *smtpd.Config, _ *smtpd.Account, c *queue.Config) { c.Gather = time.Hour })
			if got := b.login().submit(wired(letter("1", "bob@example.net")), tt.to...); !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestWhatBeganEarlyHasTheSizeOfItsCopy, which nobody knew then.
func TestWhatBeganEarlyHasTheSizeOfItsCopy(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u)
	u.failWith(func(step string, _ int, _ string) fault {
		if step == "dot" {
			return fault{drop: true, apply: true}
		}
		return fault{}
	})
	if got := b.login().submit(wired(letter("1", "bob@example.net")), "bob@example.net"); !strings.HasPrefix(got, "451 4.4.2") {
		t.Fatal(got)
	}
	es, err := b.queue.List(t.Context(), queue.Unknown, 10)
	if err != nil || len(es) != 1 || es[0].Size != int64(len(u.received()[0].data)) {
		t.Errorf("the journal has %+v, %v; %d bytes were sent", es, err, len(u.received()[0].data))
	}
}

// TestOnlyShortMailBeginsEarly: of a long message that doesn't go ahead, the copy takes
// so long to be made that a crash meanwhile would leave one of which nobody knows
// whether it was sent.
func TestOnlyShortMailBeginsEarly(t *testing.T) {
	const limit = 256 << 10
	for _, tt := range []struct {
		name string
		size int
		to   []string
		want int
	}{
		{"a short one", 2000, []string{"bob@example.net"}, 1},
		{"one byte below the limit", limit - 1, []string{"bob@example.net"}, 1},
		{"at the limit", limit, []string{"bob@example.net"}, 0},
		{"two copies", 2000, []string{"bob@example.net", "carol@example.net"}, 0},
		{"one in clear", 2000, []string{"x@example.com"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpstream(t)
			u.caps[len(u.caps)-1] = "SIZE 366990" // nothing of the limit's size goes ahead
			b := newBridge(t, u)
			early := 0
			defer smtpd.SetFailpoint(func(step string) {
				if step == "prepared" {
					early++
				}
			})()
			text := letter("1", "bob@example.net")
			const line = "0123456789\r\n"
			text += strings.Repeat(line, (tt.size-len(text))/len(line)-1)
			text += strings.Repeat("x", tt.size-len(text)-2) + "\r\n"
			if got := b.login().submit(wired(text), tt.to...); !strings.HasPrefix(got, "250 2.0.0 sent") {
				t.Fatal(got)
			}
			if early != tt.want {
				t.Errorf("%d of %d bytes began early, want %d", early, len(text), tt.want)
			}
		})
	}
}

// TestWhoNeverComesIsNotWaitedFor: a session that announced a message and ends, however,
// keeps nobody waiting.
func TestWhoNeverComesIsNotWaitedFor(t *testing.T) {
	var panics atomic.Bool
	defer smtpd.SetFailpoint(func(step string) {
		if step == "prepared" && panics.Load() {
			panic("hostile bytes")
		}
	})()
	u := newUpstream(t)
	b := newBridge(t, u, func(_ *smtpd.Config, _ *smtpd.Account, q *queue.Config) { q.Gather = time.Hour })
	ends := func(t *testing.T, k *talk) {
		t.Helper()
		k.c.Close()
		eventually(t, "the session ends", func() bool { return b.server.Sessions() == 0 })
	}
	mail := "C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 250\n"
	text := wired(letter("1", "bob@example.net"))
	for name, send := range map[string]string{
		"nothing of it": "", "half of it": text[:len(text)/2], "all but the dot": text, "a bare LF": "From: x\n\n.\r\n.\r\n",
		"no header": "\r\n.\r\n", "another's name": "From: eve@example.com\r\n\r\nx\r\n.\r\n", "what makes us panic": text + ".\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			panics.Store(strings.HasPrefix(name, "what makes"))
			defer panics.Store(false)
			k := b.login()
			k.run(mail + "C: DATA\nS: 354")
			k.send(send)
			if strings.HasSuffix(send, "\r\n.\r\n") {
				k.reply()
			}
			ends(t, k)
		})
	}
	for name, send := range map[string]string{
		"a chunk that breaks off": "BDAT 500\r\nxx", "a chunk too large": "BDAT 999999999999\r\n", "a chunk that is none": "BDAT x\r\n",
		"a chunk of no transaction": "RSET\r\nBDAT 3\r\nabcBDAT 2 LAST\r\nab",
	} {
		t.Run(name, func(t *testing.T) {
			k := b.login()
			k.run(mail)
			k.send(send)
			ends(t, k)
		})
	}
	if got := b.login().submit(wired(letter("2", "bob@example.net")), "bob@example.net"); !strings.HasPrefix(got, "250") {
		t.Error(got)
	}
}

// TestAStrangerIsNotWaitedFor: a chunk without a transaction, which anybody can begin,
// is no message that is about to come.
func TestAStrangerIsNotWaitedFor(t *testing.T) {
	b := newBridge(t, newUpstream(t), func(_ *smtpd.Config, _ *smtpd.Account, q *queue.Config) { q.Gather = time.Hour })
	k := b.dial()
	k.run("S: 220\nC: EHLO x\nS: 250\nC: BDAT 300\nC: a")
	if got := b.login().submit(wired(letter("1", "bob@example.net")), "bob@example.net"); !strings.HasPrefix(got, "250") {
		t.Error(got)
	}
}
