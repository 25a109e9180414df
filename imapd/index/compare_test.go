package index_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/internal/mailtest"
	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// TestASignedMessageThatIsAnother: what a keyword tells is taken back where a client
// was given another message, also after a restart, and told again when the signature
// was looked at again, though nothing else in the mailbox changed.
func TestASignedMessageThatIsAnother(t *testing.T) {
	alice, bob := newPerson(t, "alice@example.test"), newPerson(t, peer.Bob)
	u, err := mailtest.Start(mailtest.Options{Users: map[string]string{peer.Bob: peer.BobPassword}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	var b bytes.Buffer
	letter := bytes.ReplaceAll([]byte(letterOf(1, "canary")), []byte("\n"), []byte("\r\n"))
	if err := pgp.Protect(context.Background(), &b, message.Bytes(letter), pgp.Protection{Signer: alice.key, From: alice.address, Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := u.Deliver(peer.Bob, "INBOX", b.Bytes()); err != nil {
		t.Fatal(err)
	}
	st, err := store.OpenMemory(index.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	lib := realLibrary(t, st, bob, alice)
	r := startIndexer(t, lib, u.IMAPAddr, peer.Bob, peer.BobPassword, nil)
	r.pass()
	stored, err := u.Stored(peer.Bob, "INBOX")
	if err != nil || len(stored) != 1 {
		t.Fatal(err, len(stored))
	}
	open := func(lib *index.Library) *index.Mailbox {
		t.Helper()
		var uidvalidity int64
		err := st.View(context.Background(), func(tx store.Tx) error {
			return tx.Row(`SELECT uidvalidity FROM index_mailbox WHERE name = 'INBOX'`, nil, &uidvalidity)
		})
		if err != nil {
			t.Fatal(err)
		}
		m, err := lib.Mailbox(context.Background(), "INBOX", uint32(uidvalidity))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		return m
	}
	m := open(lib)
	says := func(m *index.Mailbox, what string, signed bool) {
		t.Helper()
		if got := slices.Contains(m.Keywords(1), "$LetterlockSigned"); got != signed || m.Settled(1) != signed {
			t.Errorf("%s: keywords %q, settled %v", what, m.Keywords(1), m.Settled(1))
		}
	}
	compare := func(raw []byte, want bool) {
		t.Helper()
		if changed, err := m.Compare(context.Background(), 1, sha256.Sum256(raw)); err != nil || changed != want {
			t.Errorf("changed: %v, %v", changed, err)
		}
	}
	says(m, "at first", true)
	compare(stored[0].Raw, false)
	says(m, "the same", true)
	w := m.Watch()
	defer w.Stop()
	compare([]byte("another"), true)
	says(m, "another one", false)
	if uids := w.Take(); !slices.Equal(uids, []uint32{1}) {
		t.Errorf("%d are told of", uids)
	}
	compare([]byte("another"), false)
	says(open(realLibrary(t, st, bob, alice)), "another one, after a restart", false)
	lib.News("INBOX")
	r.pass()
	says(m, "looked at again", true)
}
