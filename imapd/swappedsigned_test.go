package imapd_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// TestASwappedSignedMessage: that a message is signed is not said of another one that
// the upstream gives to the client.
func TestASwappedSignedMessage(t *testing.T) {
	key := testKey(t)
	from, err := address.Parse(user)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := pgp.Protect(context.Background(), &b, message.Bytes(letters()[0]), pgp.Protection{Signer: key, From: from, Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	signed := b.Bytes()
	for _, tt := range []struct {
		name, item string
		then       []byte
		said       bool
	}{
		{"the same one", "BODY.PEEK[]", signed, true},
		{"the same one, as in RFC 822", "RFC822", signed, true},
		{"another text in the same form", "BODY.PEEK[]", bytes.Replace(signed, []byte("canary one"), []byte("canary two"), 1), false},
		{"another text, as in RFC 822", "RFC822", bytes.Replace(signed, []byte("canary one"), []byte("canary two"), 1), false},
		{"text that nobody signed", "BODY.PEEK[]", letters()[0], false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			up := swappable{raw: signed}
			d := &double{answer: up.answer}
			d.start(t)
			b := startBridge(t, d.addr, "up", "pw", nil)
			c := login(t, b.addr, user, password)
			c.ok("SELECT INBOX")
			c.ok("UID FETCH 11 (BODY.PEEK[])")
			m, err := b.library.Mailbox(context.Background(), "INBOX", 7)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			r, err := m.Open(context.Background(), 11, message.Bytes(signed)) // as the indexer does
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
			says := func() bool { return slices.Contains(m.Keywords(11), "$LetterlockSigned") }
			if !says() {
				t.Fatalf("keywords %q", m.Keywords(11))
			}
			up.raw = tt.then
			if got := strings.Join(c.ok("UID FETCH 11 ("+tt.item+")"), ""); !strings.Contains(got, string(tt.then)) {
				t.Errorf("it gives %.300q", got)
			}
			if says() != tt.said {
				t.Errorf("it says that it is signed: %v, want %v", says(), tt.said)
			}
			if tt.said != m.Settled(11) {
				t.Errorf("settled: %v", m.Settled(11))
			}
		})
	}
}
