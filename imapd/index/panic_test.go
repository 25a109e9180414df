package index_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/mailtest"
	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// poisoned makes openings of what says POISON panic, and looking at what was opened
// of anybody called venom.
func poisoned(f *fixture) {
	open := f.c.Open
	f.c.Open = func(ctx context.Context, src message.Source, o pgp.Opening) (*pgp.Opened, error) {
		if raw, _ := message.ReadAll(src, 1<<20); bytes.Contains(raw, []byte("POISON")) {
			panic("hostile bytes")
		} else if bytes.Contains(raw, []byte("LATE")) {
			_, _ = open(ctx, src, o)
			panic("hostile bytes behind the packet")
		}
		return open(ctx, src, o)
	}
	f.c.Certificates = venomous{f}
	observe := f.c.Observe
	f.c.Observe = func(ctx context.Context, o keydir.Observation) {
		if o.From.Local == "adder" {
			panic("hostile bytes in a certificate")
		}
		observe(ctx, o)
	}
	f.reopen()
}

type venomous struct{ *fixture }

func (v venomous) Identity(ctx context.Context, a address.Address, fp pgp.Fingerprint) (pgp.Identity, error) {
	if a.Local == "venom" {
		panic("hostile bytes within")
	}
	return v.fixture.Identity(ctx, a, fp)
}

// TestAPanicOverOneMessage is that message's error: nobody waits for its opening
// afterwards, nor for what it claimed.
func TestAPanicOverOneMessage(t *testing.T) {
	f := newFixture(t)
	poisoned(f)
	m := f.mailbox("INBOX", 1)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for range 2 {
		_, err := m.Open(ctx, 1, message.Bytes(letter("<1@x>", "POISON")))
		if err == nil || !strings.Contains(err.Error(), "fault of ours") || ctx.Err() != nil {
			t.Fatalf("the opening that panics: %v", err)
		}
	}
	late := strings.Replace(string(letter("<9@x>", "LATE")), "X-Packet: <9@x>", "X-Packet: <8@x>", 1)
	if _, err := m.Open(ctx, 9, message.Bytes([]byte(late))); err == nil || !strings.Contains(err.Error(), "fault of ours") {
		t.Fatalf("the opening that panics when its packet is known: %v", err)
	}
	behind, err := m.Open(ctx, 8, message.Bytes(letter("<8@x>", "text")))
	if err != nil || behind.Class != pgp.Encrypted {
		t.Fatalf("the packet that it had claimed: %+v, %v", behind, err)
	}
	behind.Close()
	inner := strings.Replace(string(letter("<2@x>", "text")), "From: bob@", "From: venom@", 1)
	r, err := m.Open(ctx, 2, message.Bytes([]byte(inner)))
	if err != nil || r.Class != pgp.Opaque || r.Message != nil {
		t.Fatalf("what panics when it is looked at: %+v, %v", r, err)
	}
	again := strings.Replace(string(letter("<3@x>", "text")), "X-Packet: <3@x>", "X-Packet: <2@x>", 1)
	if r, err = m.Open(ctx, 3, message.Bytes([]byte(again))); err != nil || r.Class != pgp.Encrypted {
		t.Fatalf("its packet in another message: %+v, %v", r, err)
	}
	r.Close()
	if f.shown(m, 4, letter("<4@x>", "text")) == "" {
		t.Error("another message isn't shown")
	}
	for uid, from := range []string{"adder", "bob"} {
		raw := "From: " + from + "@example.test\r\nAutocrypt: addr=x; keydata=AAAA\r\n\r\ntext\r\n"
		if class := f.add(m, uint32(5+uid), []byte(raw)); class != pgp.Plain {
			t.Errorf("plain mail of %s is %s", from, class)
		}
	}
	all, err := f.lib.Unopened(ctx)
	if err != nil || len(all) != 1 || all[0].Count != 1 || !strings.Contains(all[0].Reason, "damaged") {
		t.Errorf("status tells %+v, %v", all, err)
	}
	f.lib.Close()
	if f.mu.Lock(); !slices.ContainsFunc(f.seen, func(o keydir.Observation) bool { return o.From.Local == "bob" && len(o.Autocrypt) > 0 }) {
		t.Errorf("what came behind a panic was not observed: %+v", f.seen)
	}
	f.mu.Unlock()
}

// TestTheIndexerOutlivesAPanic: it would come to the same message at every start.
func TestTheIndexerOutlivesAPanic(t *testing.T) {
	f := newFixture(t)
	poisoned(f)
	u, err := mailtest.Start(mailtest.Options{Users: map[string]string{peer.Bob: peer.BobPassword}})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for _, raw := range [][]byte{letter("<1@x>", "text"), letter("<2@x>", "POISON"), letter("<3@x>", "text")} {
		if err := u.Deliver(peer.Bob, "INBOX", bytes.Replace(raw, []byte("multipart/encrypted"), []byte("multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=x"), 1)); err != nil {
			t.Fatal(err)
		}
	}
	var once sync.Once
	r := startIndexer(t, f.lib, u.IMAPAddr, peer.Bob, peer.BobPassword, func(c *index.IndexerConfig) {
		c.Busy = func() bool {
			once.Do(func() { panic("hostile bytes, outside of any opening") })
			return false
		}
	})
	if got := r.pass(); got != 10*time.Second {
		t.Errorf("after a panic of its own it comes again after %v", got)
	}
	r.again()
	if s := r.x.Status(); s.Problem != "" || len(s.Mailboxes) == 0 || s.Mailboxes[0].Name != "INBOX" || s.Mailboxes[0].Done != 2 || s.Mailboxes[0].Total != 3 {
		t.Errorf("status %+v", s)
	}
}
