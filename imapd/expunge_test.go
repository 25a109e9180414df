package imapd_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"letterlock.org/letterlock/imapd"
	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// counted is a store that counts its transactions.
type counted struct {
	store.Store
	updates atomic.Int64
}

func (c *counted) Update(ctx context.Context, f func(store.Tx) error) error {
	c.updates.Add(1)
	return c.Store.Update(ctx, f)
}

// countedReads is a connection that counts how often it gave something to read.
type countedReads struct {
	net.Conn
	n *atomic.Int64
}

func (c countedReads) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n.Add(1)
	return n, err
}

// library is one of the user's over st.
func library(t testing.TB, st store.Store) *index.Library {
	t.Helper()
	own, err := address.Parse(user)
	if err != nil {
		t.Fatal(err)
	}
	key := testKey(t)
	lib, err := index.New(index.Config{
		Store: st, Account: own.Key(), Own: []address.Address{own},
		Keys:         func(context.Context) (pgp.Decrypter, error) { return pgp.Keys(key), nil },
		Certificates: noCertificates{[]*pgp.Certificate{key.Certificate()}},
		Spool:        message.SpoolOptions{Dir: t.TempDir()},
	})
	if err != nil {
		t.Fatal(err)
	}
	return lib
}

// manyGone is an upstream with n messages, all of which go upon EXPUNGE, or
// while the client is in IDLE.
func manyGone(n int) *double {
	d := &double{}
	d.answer = func(c string) string {
		var b strings.Builder
		switch {
		case c == "SELECT INBOX":
			return fmt.Sprintf("* %d EXISTS\r\n* OK [UIDVALIDITY 7] x\r\nTAG OK [READ-WRITE] x\r\n", n)
		case strings.Contains(c, "UID SEARCH"):
			return fmt.Sprintf("* ESEARCH (TAG \"TAG\") UID ALL 1:%d\r\nTAG OK x\r\n", n)
		case strings.HasPrefix(c, "UID FETCH"):
			for i := range n {
				fmt.Fprintf(&b, "* %d FETCH (UID %d BODY[] {12}\r\nSubject: x\r\n)\r\n", i+1, i+1)
			}
		case c == "EXPUNGE", c == "IDLE":
			if c == "IDLE" {
				b.WriteString("+ idling\r\n")
			}
			b.WriteString(strings.Repeat("* 1 EXPUNGE\r\n", n))
			if c == "IDLE" {
				return b.String()
			}
		default:
			return ""
		}
		return b.String() + "TAG OK x\r\n"
	}
	return d
}

// TestManyExpunged: one transaction for each message took 5 seconds for ten
// thousand.
func TestManyExpunged(t *testing.T) {
	const n = 2000
	for _, command := range []string{"EXPUNGE", "IDLE"} {
		t.Run(command, func(t *testing.T) {
			d := manyGone(n).start(t)
			st, err := store.OpenMemory(index.Schema)
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			count := &counted{Store: st}
			lib := library(t, count)
			var reads atomic.Int64
			b := startBridge(t, d.addr, "up", "pw", func(_ *imapd.Config, a *imapd.Account) {
				a.Library = lib
				dial := a.Dial
				a.Dial = func(ctx context.Context) (net.Conn, error) {
					conn, err := dial(ctx)
					return countedReads{conn, &reads}, err
				}
			})
			m, err := lib.Mailbox(context.Background(), "INBOX", 7)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			c := login(t, b.addr, user, password)
			c.ok("SELECT INBOX")
			c.ok("UID FETCH 1:* (BODY.PEEK[])")
			if known := len(m.Known()); known != n {
				t.Fatalf("%d messages are known, want %d", known, n)
			}
			before, read := count.updates.Load(), reads.Load()
			if command == "EXPUNGE" {
				c.ok(command)
			} else {
				c.send("i IDLE\r\n")
				for range n + 1 {
					c.response()
				}
				eventually(t, "the index forgets what is gone", func() bool { return len(m.Known()) == 0 })
			}
			if left := len(m.Known()); left != 0 {
				t.Errorf("%d messages are still known", left)
			}
			// As few as for n/500 at a time, and one before each wait for what comes later.
			if took, most := count.updates.Load()-before, n/500+1+reads.Load()-read; took > most {
				t.Errorf("%d transactions, want no more than %d", took, most)
			}
		})
	}
}
