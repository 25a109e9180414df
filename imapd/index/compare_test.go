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

// TestSignaturesAreLookedAtAgain: what another version said of a signature stays, and
// stays compared, until this one has looked at it.
func TestSignaturesAreLookedAtAgain(t *testing.T) {
	alice, bob := newPerson(t, "alice@example.test"), newPerson(t, peer.Bob)
	st, err := store.OpenMemory(index.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	var b bytes.Buffer
	letter := bytes.ReplaceAll([]byte(letterOf(1, "canary")), []byte("\n"), []byte("\r\n"))
	if err := pgp.Protect(context.Background(), &b, message.Bytes(letter), pgp.Protection{Signer: alice.key, From: alice.address, Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	open := func(version int64) *index.Mailbox {
		t.Helper()
		lib := realLibrary(t, st, bob, alice)
		if version > 0 {
			index.SetTransform(lib, version)
		}
		m, err := lib.Mailbox(context.Background(), "INBOX", 1)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		return m
	}
	look := func(m *index.Mailbox, raw []byte) {
		t.Helper()
		head, _, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
		if err := m.Classify(context.Background(), []index.Classification{{UID: 1, Header: append(head, "\r\n\r\n"...)}}); err != nil {
			t.Fatal(err)
		}
		r, err := m.Rendering(context.Background(), 1, func(context.Context) (message.Source, error) { return message.Bytes(raw), nil })
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	look(open(1), b.Bytes())
	m := open(0)
	if got := m.Unsettled([]uint32{1}); !slices.Equal(got, []uint32{1}) || !m.Settled(1) || !slices.Contains(m.Keywords(1), "$LetterlockSigned") {
		t.Errorf("after an update %v are to be opened, settled %v, keywords %q", got, m.Settled(1), m.Keywords(1))
	}
	if changed, err := m.Compare(context.Background(), 1, sha256.Sum256(b.Bytes())); err != nil || changed {
		t.Errorf("the same: changed %v, %v", changed, err)
	}
	if changed, err := m.Compare(context.Background(), 1, sha256.Sum256([]byte("another"))); err != nil || !changed || len(m.Keywords(1)) > 0 {
		t.Errorf("another one: changed %v, %v, keywords %q", changed, err, m.Keywords(1))
	}
	look(m, b.Bytes())
	if got := m.Unsettled([]uint32{1}); len(got) > 0 || !slices.Contains(m.Keywords(1), "$LetterlockSigned") {
		t.Errorf("then %v are to be opened, keywords %q", got, m.Keywords(1))
	}
	if got := open(0).Unsettled([]uint32{1}); len(got) > 0 {
		t.Errorf("after a restart %v are to be opened", got)
	}
}

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
	later := realLibrary(t, st, bob, alice)
	index.SetTransform(later, 1000)
	m = open(later)
	if got := m.Unsettled([]uint32{1}); len(got) != 1 {
		t.Errorf("for the next version %v are to be opened", got)
	}
	startIndexer(t, later, u.IMAPAddr, peer.Bob, peer.BobPassword, nil).pass()
	if got := m.Unsettled([]uint32{1}); len(got) > 0 {
		t.Errorf("and then %v", got)
	}
	says(m, "looked at by the next version", true)
}
