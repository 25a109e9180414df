package index_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/search"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/letters"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// fixture is a library over a store in memory, with an opener that opens what
// is written "LOCKED" before a message.
type fixture struct {
	t     testing.TB
	store store.Store
	c     index.Config
	lib   *index.Library
	opens atomic.Int64
	seen  []keydir.Observation

	mu       sync.Mutex
	identity pgp.Identity
	verdict  pgp.Verdict
	locked   bool
	block    chan struct{} // opening waits for it, if set
}

func (f *fixture) Issuer(context.Context, uint64) ([]*pgp.Certificate, error) { return nil, nil }

func (f *fixture) Identity(context.Context, address.Address, pgp.Fingerprint) (pgp.Identity, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.identity, nil
}

// noKeys opens what only claims to be locked; certs are whose.
type noKeys struct {
	pgp.Decrypter
	certs []*pgp.Certificate
}

func (k noKeys) Certificates() []*pgp.Certificate { return k.certs }

func newFixture(t testing.TB) *fixture {
	t.Helper()
	st, err := store.OpenMemory(index.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	f := &fixture{t: t, store: st, identity: pgp.Directory,
		verdict: pgp.Verdict{Encrypted: true, Signature: pgp.SignatureValid, Identity: pgp.Directory, Signer: "AAAA"}}
	f.c = index.Config{
		Store: st, Account: "alice@example.test", Certificates: f, Open: f.open, Spool: message.SpoolOptions{Dir: t.TempDir()},
		Keys: func(context.Context) (pgp.Decrypter, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.locked {
				return nil, fmt.Errorf("no key: %w", pgp.ErrLocked)
			}
			return noKeys{}, nil
		},
		Observe: func(_ context.Context, o keydir.Observation) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.seen = append(f.seen, o)
		},
	}
	f.reopen()
	return f
}

// reopen makes a new library over the same store, as a restart does.
func (f *fixture) reopen() {
	f.t.Helper()
	if f.lib != nil {
		f.lib.Close()
	}
	lib, err := index.New(f.c)
	if err != nil {
		f.t.Fatal(err)
	}
	f.lib = lib
}

const lock = "From: outer@example.test\r\nContent-Type: multipart/encrypted\r\n\r\nLOCKED\r\n"

// open stands for pgp.Open: deterministic but for the frozen verdict.
func (f *fixture) open(ctx context.Context, src message.Source, o pgp.Opening) (*pgp.Opened, error) {
	f.opens.Add(1)
	f.mu.Lock()
	block, v := f.block, f.verdict
	f.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	raw, err := message.ReadAll(src, 100<<20)
	if err != nil {
		return nil, err
	}
	_, inner, ok := bytes.Cut(raw, []byte("LOCKED\r\n"))
	switch {
	case bytes.Contains(raw, []byte("SIGNED")):
		v.Encrypted = false
		from, _ := address.Parse("bob@example.test")
		return &pgp.Opened{Class: pgp.Signed, Verdict: v, From: from}, nil
	case !ok:
		return &pgp.Opened{Class: pgp.Opaque, Reason: "no key", Verdict: pgp.Verdict{Encrypted: true}}, nil
	}
	h := message.ParseHeader(inner)
	replayed, err := o.Replayed(ctx, sha256.Sum256([]byte(h.Get("X-Packet"))), h.Get("From"), h.Get("Message-ID"))
	if err != nil {
		return nil, err
	}
	if replayed {
		return &pgp.Opened{Class: pgp.Opaque, Reason: "replayed", Verdict: pgp.Verdict{Encrypted: true, Warnings: []string{"replayed"}}}, nil
	}
	shown := v
	if o.Frozen != nil {
		shown = *o.Frozen
	}
	spool := message.NewSpool(o.Spool)
	fmt.Fprintf(spool, "Letterlock-Status: %-10s\r\n%s", shown.Signature, inner)
	from, _ := address.Parse(h.Get("From"))
	return &pgp.Opened{Class: pgp.Encrypted, Verdict: v, Rendering: spool, MessageID: h.Get("Message-ID"), From: from, Autocrypt: []string{"inner"}, Gossip: gossip(h)}, nil
}

func gossip(h message.Header) (out []string) {
	for _, f := range h.All("Autocrypt-Gossip") {
		out = append(out, f.Value())
	}
	return out
}

func letter(id, body string) []byte {
	return []byte(lock + "From: bob@example.test\r\nMessage-ID: " + id + "\r\nX-Packet: " + id + "\r\nSubject: about " + id + "\r\n\r\n" + body + "\r\n")
}

func (f *fixture) mailbox(name string, uidvalidity uint32) *index.Mailbox {
	f.t.Helper()
	m, err := f.lib.Mailbox(context.Background(), name, uidvalidity)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(m.Close)
	return m
}

func header(raw []byte) []byte {
	i := bytes.Index(raw, []byte("\r\n\r\n"))
	return raw[:i+4]
}

// add classifies a message and, if that is to be, opens it.
func (f *fixture) add(m *index.Mailbox, uid uint32, raw []byte) pgp.Class {
	f.t.Helper()
	ctx := context.Background()
	if err := m.Classify(ctx, []index.Classification{{UID: uid, Header: header(raw), Prefix: raw[len(header(raw)):]}}); err != nil {
		f.t.Fatal(err)
	}
	if m.Settled(uid) {
		return m.Class(uid)
	}
	r, err := m.Open(ctx, uid, message.Bytes(raw))
	if err != nil {
		f.t.Fatal(err)
	}
	defer r.Close()
	return r.Class
}

// shown is the bytes that a client sees of an encrypted message.
func (f *fixture) shown(m *index.Mailbox, uid uint32, raw []byte) string {
	f.t.Helper()
	r, err := m.Open(context.Background(), uid, message.Bytes(raw))
	if err != nil {
		f.t.Fatal(err)
	}
	defer r.Close()
	if r.Class != pgp.Encrypted {
		f.t.Fatalf("class %s: %s", r.Class, r.Reason)
	}
	b, err := message.ReadAll(r.Message.Source, 100<<20)
	if err != nil {
		f.t.Fatal(err)
	}
	if r.Row.Size != int64(len(b)) || !bytes.HasPrefix(b, r.Row.Header) {
		f.t.Errorf("row says %d bytes, the rendering has %d", r.Row.Size, len(b))
	}
	return string(b)
}

func TestClassesSurviveARestart(t *testing.T) {
	f := newFixture(t)
	m := f.mailbox("INBOX", 1)
	plain := []byte("From: a@example.test\r\nSubject: x\r\n\r\nhello\r\n")
	if got := m.Class(1); got != pgp.Unclassified {
		t.Errorf("before: %q", got)
	}
	for uid, tt := range map[uint32]struct {
		raw  []byte
		want pgp.Class
	}{
		1: {plain, pgp.Plain},
		2: {letter("<2@x>", "secret"), pgp.Encrypted},
		3: {[]byte("Content-Type: multipart/encrypted\r\n\r\nfor somebody else"), pgp.Opaque},
		4: {[]byte("Content-Type: multipart/signed; protocol=\"application/pgp-signature\"\r\n\r\nSIGNED"), pgp.Signed},
		5: {[]byte("Letterlock-Status: valid\r\nFrom: a@example.test\r\n\r\nhello\r\n"), pgp.Plain},
	} {
		if got := f.add(m, uid, tt.raw); got != tt.want {
			t.Errorf("UID %d is %q, want %q", uid, got, tt.want)
		}
	}
	opens := f.opens.Load()
	f.reopen()
	m = f.mailbox("inbox", 1)
	for uid, want := range map[uint32]string{
		1: "plain []", 2: "encrypted [$LetterlockEncrypted $LetterlockSigned]", 3: "opaque [$LetterlockEncrypted $LetterlockWarning]",
		4: "signed [$LetterlockSigned]", 5: "plain []", 6: " []",
	} {
		if got := fmt.Sprint(m.Class(uid), " ", m.Keywords(uid)); got != want {
			t.Errorf("UID %d: %s, want %s", uid, got, want)
		}
	}
	if masks, ok := m.Masks(5); !ok || masks.Ranges[0].Len != 10 || masks.Header != int64(len("Letterlock-Status: valid\r\nFrom: a@example.test\r\n\r\n")) {
		t.Errorf("masks of UID 5: %v %v", masks, ok)
	}
	if got := m.Unclassified([]uint32{1, 2, 3, 4, 5, 6}); !slices.Equal(got, []uint32{6}) {
		t.Errorf("unclassified: %v", got)
	}
	if f.opens.Load() != opens {
		t.Error("a restart opened messages")
	}
	if other := f.mailbox("INBOX", 2); other.Class(1) != pgp.Unclassified {
		t.Error("another UIDVALIDITY knows the classes of the old one")
	}
}

func TestLockedKeysAndFailingStoreAreNoClass(t *testing.T) {
	f := newFixture(t)
	m := f.mailbox("INBOX", 1)
	raw := letter("<1@x>", "secret")
	f.locked = true
	if err := m.Classify(context.Background(), []index.Classification{{UID: 1, Header: header(raw)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Open(context.Background(), 1, message.Bytes(raw)); !errors.Is(err, pgp.ErrLocked) {
		t.Errorf("opening with locked keys: %v", err)
	}
	if m.Settled(1) || m.Class(1) != pgp.Encrypted {
		t.Errorf("class %q was settled without keys", m.Class(1))
	}
	f.locked = false
	f.store.Close()
	if _, err := m.Open(context.Background(), 1, message.Bytes(raw)); err == nil || m.Settled(1) {
		t.Errorf("opening with a closed store: %v", err)
	}
	if _, err := f.lib.Mailbox(context.Background(), "Other", 1); err == nil {
		t.Error("a closed store gives a mailbox")
	}
	if _, err := f.lib.WasOpened(context.Background(), "<1@x>"); err == nil {
		t.Error("a closed store knows what was opened")
	}
}

func TestOneOpeningForManyWhoAsk(t *testing.T) {
	f := newFixture(t)
	m := f.mailbox("INBOX", 1)
	raw := letter("<1@x>", "secret")
	f.block = make(chan struct{})
	var fetched atomic.Int64
	fetch := func(context.Context) (message.Source, error) { fetched.Add(1); return message.Bytes(raw), nil }
	var wg sync.WaitGroup
	// The first to ask goes away; the others are not to suffer.
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		if _, err := m.Rendering(ctx, 1, fetch); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
	for f.opens.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	for range 20 {
		wg.Go(func() {
			r, err := m.Rendering(context.Background(), 1, fetch)
			if err != nil {
				t.Error(err)
				return
			}
			r.Close()
			r.Close()
		})
	}
	cancel()
	for f.opens.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	close(f.block)
	wg.Wait()
	if f.opens.Load() != 2 || fetched.Load() != 2 {
		t.Errorf("opened %d times, fetched %d times; want the cancelled one and one more", f.opens.Load(), fetched.Load())
	}
}

func TestTheFirstVerdictIsFrozen(t *testing.T) {
	f := newFixture(t)
	raw := letter("<1@x>", "secret")
	m := f.mailbox("INBOX", 1)
	f.add(m, 1, raw)
	want := f.shown(m, 1, raw)
	f.verdict.Signature = pgp.SignatureExpired
	check := func(when string, m *index.Mailbox, uid uint32) {
		t.Helper()
		if got := f.shown(m, uid, raw); got != want {
			t.Errorf("%s:\n%s\nwant:\n%s", when, got, want)
		}
	}
	check("from the cache", m, 1)
	f.reopen()
	m = f.mailbox("INBOX", 1)
	check("after the renderings were lost", m, 1)
	if got := m.Keywords(1); slices.Contains(got, index.KeywordSigned) {
		t.Errorf("keywords are live, but still say %v", got)
	}
	if err := m.Forget(context.Background(), []uint32{1}); err != nil {
		t.Fatal(err)
	}
	check("after its row was lost", m, 1)
	check("under another UID", m, 7)
	check("in another mailbox", f.mailbox("Archive", 3), 1)
	check("after UIDVALIDITY changed", f.mailbox("INBOX", 2), 1)
}

func TestAReplayedPacketStaysClosed(t *testing.T) {
	f := newFixture(t)
	m := f.mailbox("INBOX", 1)
	raw := letter("<1@x>", "secret")
	if got := f.add(m, 1, raw); got != pgp.Encrypted {
		t.Fatal(got)
	}
	stolen := bytes.Replace(raw, []byte("bob@"), []byte("eve@"), 1)
	if got := f.add(m, 2, stolen); got != pgp.Opaque {
		t.Errorf("under another From: %q", got)
	}
	if got := f.add(m, 3, raw); got != pgp.Encrypted {
		t.Errorf("the same once more: %q", got)
	}
	f.reopen()
	if got := f.add(f.mailbox("Other", 1), 9, stolen); got != pgp.Opaque {
		t.Errorf("after a restart: %q", got)
	}
	if reason, err := m.Reason(context.Background(), 2); err != nil || reason != "replayed" {
		t.Errorf("reason %q, %v", reason, err)
	}
	all, err := f.lib.Unopened(context.Background())
	if err != nil || len(all) != 2 || all[0] != (index.Unopened{Mailbox: "INBOX", Reason: "replayed", Count: 1}) {
		t.Errorf("unopened: %v, %v", all, err)
	}
}

// slow are certificates about whose signers one has to wait.
type slow struct {
	*fixture
	asked, go_ chan struct{}
}

func (s slow) Identity(ctx context.Context, a address.Address, f pgp.Fingerprint) (pgp.Identity, error) {
	close(s.asked)
	<-s.go_
	return s.fixture.Identity(ctx, a, f)
}

// TestAPacketIsReplayedToAnotherAccount: who has a letter's ciphertext sends it, in
// his own name, to another account whose keys open it too. People who share no key
// may have different copies of a letter.
func TestAPacketIsReplayedToAnotherAccount(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	ours, others := newPerson(t, "alice@example.test").key.Certificate(), newPerson(t, "carol@example.test").key.Certificate()
	with := func(account string, certs ...*pgp.Certificate) *index.Library {
		t.Helper()
		c := f.c
		c.Account, c.Keys = account, func(context.Context) (pgp.Decrypter, error) { return noKeys{certs: certs}, nil }
		l, err := index.New(c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	open := func(l *index.Library, raw []byte) (pgp.Class, error) {
		t.Helper()
		m, err := l.Mailbox(ctx, "INBOX", 1)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		r, err := m.Open(ctx, 1, message.Bytes(raw))
		if err != nil {
			return "", err
		}
		defer r.Close()
		return r.Class, nil
	}
	raw := letter("<1@x>", "secret")
	stolen := bytes.Replace(raw, []byte("bob@"), []byte("eve@"), 1)
	for _, tt := range []struct {
		account string
		certs   []*pgp.Certificate
		raw     []byte
		want    pgp.Class
	}{
		{"alice@example.test", []*pgp.Certificate{ours}, raw, pgp.Encrypted},
		{"alice@home.test", []*pgp.Certificate{others, ours}, stolen, pgp.Opaque},
		{"alice@work.test", []*pgp.Certificate{ours}, raw, pgp.Encrypted},
		{"carol@example.test", []*pgp.Certificate{others}, stolen, pgp.Encrypted},
	} {
		if got, err := open(with(tt.account, tt.certs...), tt.raw); got != tt.want || err != nil {
			t.Errorf("%s sees it %q, want %q; %v", tt.account, got, tt.want, err)
		}
	}

	// At the same time: whoever is later may ask again, and is told.
	raw, stolen = letter("<2@x>", "secret"), bytes.Replace(letter("<2@x>", "secret"), []byte("bob@"), []byte("eve@"), 1)
	was := f.c.Certificates
	wait := slow{f, make(chan struct{}), make(chan struct{})}
	f.c.Certificates = wait
	later := with("later@home.test", ours)
	f.c.Certificates = was
	done := make(chan error)
	go func() {
		_, err := open(later, stolen)
		done <- err
	}()
	<-wait.asked
	if got, err := open(with("earlier@home.test", ours), raw); got != pgp.Encrypted || err != nil {
		t.Errorf("the letter itself: %q, %v", got, err)
	}
	close(wait.go_)
	if err := <-done; err == nil {
		t.Error("both were opened at once")
	}
	if got, err := open(with("later@home.test", ours), stolen); got != pgp.Opaque || err != nil {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}

func TestWhatWasOpenedIsRemembered(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	m := f.mailbox("INBOX", 1)
	bob, err := address.Parse("bob@example.test")
	if err != nil {
		t.Fatal(err)
	}
	f.add(m, 1, letter("<opened@x>", "secret"))
	f.add(m, 2, []byte("Subject: about <plain@x>\r\nFrom: bob@example.test\r\nMessage-ID: <plain@x>\r\n\r\nhello"))
	raw := []byte(lock + "Message-ID: <invitation@x>\r\nContent-Type: text/calendar\r\n\r\nBEGIN:VEVENT\r\nUID;X=y:event-\r\n 1@x\r\nEND:VEVENT\r\n")
	f.add(m, 3, raw)
	f.add(m, 4, []byte(lock+"Message-ID: <attached@x>\r\nX-Packet: 4\r\nContent-Type: application/ics; name=invite.ics\r\nContent-Transfer-Encoding: base64\r\n\r\n"+
		base64.StdEncoding.EncodeToString([]byte("BEGIN:VEVENT\r\nUID:event-2@x\r\nEND:VEVENT\r\n"))+"\r\n"))
	if err := m.Expunged(ctx, []uint32{1, 2, 3, 4}); err != nil {
		t.Fatal(err)
	}
	f.reopen()
	for id, want := range map[string]bool{"<opened@x>": true, " <opened@x> ": true, "opened@x": true, "<plain@x>": false, "": false, "<invitation@x>": true, "ical:event-1@x": true, "ical:event-": false, "ical:event-2@x": true,
		letters.ID(bob, "Fwd: About <opened@x>"): true, letters.ID(bob, "About"): false, letters.ID(bob, "about <plain@x>"): false} {
		if got, err := f.lib.WasOpened(ctx, id); err != nil || got != want {
			t.Errorf("%q was opened: %v, %v", id, got, err)
		}
	}
}

// TestWhatWasSentInClearIsNoSecret: the copy in Sent is sealed by ourselves, and
// answers to answers name it.
func TestWhatWasSentInClearIsNoSecret(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	m := f.mailbox("Sent", 1)
	if err := f.lib.SentClear(ctx, "<early@x>", "<letter@x>"); err != nil {
		t.Fatal(err)
	}
	f.add(m, 1, letter("<letter@x>", "came encrypted, under an ID that we had used"))
	f.verdict.Sealed = true
	f.add(m, 2, letter("<early@x>", "a"))
	f.add(m, 3, letter("<late@x>", "b"))
	f.add(m, 4, letter("<encrypted@x>", "c"))
	f.verdict.Sealed = false
	if got, err := f.lib.WasOpened(ctx, "<late@x>"); err != nil || !got {
		t.Errorf("before it was sent in clear: %v, %v", got, err)
	}
	if err := f.lib.SentClear(ctx, " <late@x> "); err != nil {
		t.Fatal(err)
	}
	f.reopen()
	for id, want := range map[string]bool{"<letter@x>": true, "<early@x>": false, "<late@x>": false, "<encrypted@x>": true, "<other@x>": false} {
		if got, err := f.lib.WasOpened(ctx, id); err != nil || got != want {
			t.Errorf("%q was opened: %v, %v", id, got, err)
		}
	}
}

// TestLettersAreSecretForAllAccounts: who has two accounts reads a letter with one
// and answers it from the other. What was put into a mailbox here and sealed only
// then may have come to the others in clear, and doesn't count for them.
func TestLettersAreSecretForAllAccounts(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	alice, err := address.Parse("alice@example.test")
	if err != nil {
		t.Fatal(err)
	}
	f.c.Own = []address.Address{alice}
	f.reopen()
	m := f.mailbox("INBOX", 1)
	f.add(m, 1, []byte(lock+"From: bob@example.test\r\nMessage-ID: <letter@x>\r\nContent-Type: text/calendar\r\n\r\nBEGIN:VEVENT\r\nUID:event@x\r\nEND:VEVENT\r\n"))
	f.verdict.Sealed = true
	for i, id := range []string{"<sent@x>", "<clear@x>", "<clear-by-other@x>"} {
		f.add(m, uint32(i+2), []byte(lock+"From: Alice@example.test\r\nX-Packet: "+id+"\r\nMessage-ID: "+id+"\r\n\r\nsecret of "+id+"\r\n"))
	}
	f.add(m, 9, []byte(lock+"From: bob@example.test\r\nX-Packet: uploaded\r\nMessage-ID: <uploaded@x>\r\n\r\nold mail\r\n"))
	c := f.c
	c.Account, c.Own = "alice@home.test", nil
	other, err := index.New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := errors.Join(f.lib.SentClear(ctx, "<clear@x>"), other.SentClear(ctx, "<clear-by-other@x>")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		id          string
		here, there bool
	}{
		{"<letter@x>", true, true}, {"ical:event@x", true, true}, {"<sent@x>", true, true}, {"<uploaded@x>", true, false},
		{"<clear@x>", false, false}, {"<clear-by-other@x>", false, false}, {"<never@x>", false, false},
	} {
		here, err := f.lib.WasOpened(ctx, tt.id)
		there, err1 := other.WasOpened(ctx, tt.id)
		if here != tt.here || there != tt.there || err != nil || err1 != nil {
			t.Errorf("%s was opened: %v, want %v; for the other account %v, want %v; %v %v", tt.id, here, tt.here, there, tt.there, err, err1)
		}
	}
}

// TestOddMessageIDsAreRemembered: who writes a letter writes its Message-ID, and
// each mail program names it in its own way in the answer.
func TestOddMessageIDsAreRemembered(t *testing.T) {
	f := newFixture(t)
	m := f.mailbox("INBOX", 1)
	for i, tt := range []struct{ field, answer string }{
		{"bare@x", "<bare@x>"},
		{"bare2@x", "bare2@x"},
		{"<in side@x>", "<inside@x>"},
		{"<in\r\n fold@x>", "<infold@x>"},
		{"(hello) <comment@x>", "<comment@x>"},
		{"some <phrase@x> (x)", "<phrase@x>"},
		{"<first@x> <second@x>", "<second@x>"},
		{"<one@x>\r\nMessage-Id: <another@x>", "<another@x>"},
		{"<Case@X>", "<case@x>"},
		{"<open@x", "<open@x>"},
	} {
		uid := uint32(i + 1)
		f.add(m, uid, []byte(lock+"From: bob@example.test\r\nX-Packet: "+tt.answer+"\r\nMessage-ID: "+tt.field+"\r\n\r\nsecret of "+tt.answer+"\r\n"))
		if got, err := f.lib.WasOpened(context.Background(), message.MessageIDs(tt.answer)[0]); err != nil || !got {
			t.Errorf("after %q was opened, %q was opened: %v, %v", tt.field, tt.answer, got, err)
		}
	}
}

func TestRowsThatWereTamperedWithAreNotBelieved(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	m := f.mailbox("INBOX", 1)
	raw := letter("<1@x>", "secret")
	f.add(m, 1, raw)
	want := f.shown(m, 1, raw)
	for _, tt := range []struct{ name, statement string }{
		{"keywords", `UPDATE index_message SET state = 63`},
		{"a row's size", `UPDATE index_row SET size = size + 1`},
		{"a row's envelope", `UPDATE index_row SET envelope = '(NIL)'`},
		{"a frozen verdict", `UPDATE index_frozen SET verdict = '{"Signature":"valid","Identity":"confirmed"}'`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := f.store.Update(ctx, func(tx store.Tx) error { _, err := tx.Exec(tt.statement); return err })
			if err != nil {
				t.Fatal(err)
			}
			f.reopen()
			m := f.mailbox("INBOX", 1)
			if slices.Contains(m.Keywords(1), index.KeywordVerified) {
				t.Error("planted keyword is told")
			}
			f.add(m, 1, raw)
			if got := f.shown(m, 1, raw); got != want {
				t.Errorf("shown: %s", got)
			}
			r, err := m.Row(ctx, 1)
			if err != nil || r.Size != int64(len(want)) || string(r.Envelope) == "(NIL)" {
				t.Errorf("row %+v, %v", r, err)
			}
		})
	}
}

func TestKeywordsThatChangeAreTold(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	m := f.mailbox("INBOX", 1)
	raw := letter("<1@x>", "secret")
	w := m.Watch()
	m.SawModSeq(70)
	f.add(m, 1, raw)
	f.add(m, 2, []byte("Subject: plain\r\n\r\nx"))
	<-w.Wake
	if got := w.Take(); !slices.Equal(got, []uint32{1}) {
		t.Errorf("changed: %v", got)
	}
	m.SawModSeq(80)
	f.identity = pgp.Confirmed
	if err := f.lib.Recheck(ctx); err != nil {
		t.Fatal(err)
	}
	<-w.Wake
	if got := m.Keywords(1); !slices.Contains(got, index.KeywordVerified) || !slices.Equal(w.Take(), []uint32{1}) {
		t.Errorf("after the certificate was confirmed: %v", got)
	}
	w.Stop()
	if err := m.File(ctx); err != nil {
		t.Fatal(err)
	}
	f.reopen()
	m = f.mailbox("INBOX", 1)
	if got := m.Keywords(1); !slices.Contains(got, index.KeywordVerified) {
		t.Errorf("after a restart: %v", got)
	}
	for modseq, want := range map[uint64]int{1: 1, 70: 1, 80: 1, 81: 0} {
		if got := m.ChangedSince(modseq); len(got) != want {
			t.Errorf("changed since %d: %v", modseq, got)
		}
	}
	if got, ok := m.WithKeyword([]uint32{1, 2}, "$letterlockVERIFIED"); !ok || !slices.Equal(got, []uint32{1}) {
		t.Errorf("with the keyword: %v %v", got, ok)
	}
}

func TestCopyTakesWhatIsKnown(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	m, dst := f.mailbox("INBOX", 1), f.mailbox("Archive", 5)
	raw := letter("<1@x>", "needle")
	f.add(m, 1, raw)
	f.add(m, 2, []byte("Letterlock-X: y\r\n\r\nx"))
	f.add(m, 3, []byte("Content-Type: multipart/encrypted\r\n\r\nfor somebody else"))
	if err := m.Copy(ctx, dst, []index.Pair{{From: 1, To: 11}, {From: 2, To: 12}, {From: 3, To: 13}, {From: 4, To: 14}}); err != nil {
		t.Fatal(err)
	}
	f.reopen()
	dst = f.mailbox("Archive", 5)
	if got := fmt.Sprint(dst.Class(11), dst.Class(12), dst.Class(13), dst.Class(14)); got != "encryptedplain" {
		t.Errorf("classes of the copies: %s", got)
	}
	if _, ok := dst.Masks(12); !ok {
		t.Error("masks are not copied")
	}
	r, err := dst.Row(ctx, 11)
	if err != nil || r.UID != 11 || r.MessageID != "<1@x>" {
		t.Errorf("row of the copy: %+v, %v", r, err)
	}
	if hits, unknown, err := dst.Search(ctx, []uint32{11}, search.Term{Key: "BODY", Words: []byte("NEEDLE")}); err != nil || len(hits) != 1 || len(unknown) != 0 {
		t.Errorf("text of the copy: %v %v %v", hits, unknown, err)
	}
}

func TestSearchInTheIndex(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	m := f.mailbox("INBOX", 1)
	long := strings.Repeat("x", 256<<10-40) + " across the border " + strings.Repeat("y", 300<<10) + " tail"
	f.add(m, 1, letter("<1@x>", "one Needle"))
	f.add(m, 2, letter("<2@x>", long))
	f.add(m, 3, letter("<3@x>", strings.Repeat("much ", search.MaxText/5+10)+"needle"))
	if err := m.Classify(ctx, []index.Classification{{UID: 4, Header: header(letter("<4@x>", ""))}}); err != nil {
		t.Fatal(err)
	}
	all := []uint32{1, 2, 3, 4}
	for _, tt := range []struct {
		name, key, field, words string
		hits, unknown           []uint32
	}{
		{"a word of a body", "BODY", "", "needle", []uint32{1}, []uint32{3, 4}},
		{"across two pieces", "BODY", "", "x across the border y", []uint32{2}, []uint32{3, 4}},
		{"at the end of many pieces", "BODY", "", "y tail", []uint32{2}, []uint32{3, 4}},
		{"a header is no body", "BODY", "", "about <1@x>", nil, []uint32{3, 4}},
		{"but text", "TEXT", "", "subject: about <1@x>", []uint32{1}, []uint32{3, 4}},
		{"empty words are in every text", "TEXT", "", "", []uint32{1, 2}, []uint32{3, 4}},
		{"a field needs no text", "HEADER", "Subject", "ABOUT <3", []uint32{3}, []uint32{4}},
		{"a field that is there", "HEADER", "x-packet", "", []uint32{1, 2, 3}, []uint32{4}},
		{"our status", "HEADER", "Letterlock-Status", "valid", []uint32{1, 2, 3}, []uint32{4}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hits, unknown, err := m.Search(ctx, all, search.Term{Key: tt.key, Field: tt.field, Words: search.Fold([]byte(tt.words))})
			if err != nil || !slices.Equal(hits, tt.hits) || !slices.Equal(unknown, tt.unknown) {
				t.Errorf("%s %s %q: %v, unknown %v, %v; want %v, %v", tt.key, tt.field, tt.words, hits, unknown, err, tt.hits, tt.unknown)
			}
		})
	}
	hits, _, err := m.Search(ctx, all, search.Term{Key: "LARGER", Size: 500000})
	if err != nil || !slices.Equal(hits, []uint32{2, 3}) {
		t.Errorf("larger: %v, %v", hits, err)
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	f := newFixture(t)
	f.c.CacheBytes = 10000
	f.reopen()
	m := f.mailbox("INBOX", 1)
	raws := map[uint32][]byte{}
	for uid := uint32(1); uid <= 5; uid++ {
		raws[uid] = letter(fmt.Sprintf("<%d@x>", uid), strings.Repeat("z", 4000))
		f.add(m, uid, raws[uid])
	}
	held, ok := m.Cached(5)
	if !ok {
		t.Fatal("the last rendering is not kept")
	}
	if _, ok := m.Cached(1); ok {
		t.Error("more is kept than the bound allows")
	}
	f.shown(m, 1, raws[1])
	f.shown(m, 2, raws[2])
	f.shown(m, 3, raws[3])
	if _, ok := m.Cached(5); ok {
		t.Error("what was used longest ago is not given up")
	}
	// Who holds it can still read it.
	if b, err := message.ReadAll(held.Message.Source, 1<<20); err != nil || int64(len(b)) != held.Row.Size {
		t.Errorf("reading what is held: %v", err)
	}
	held.Close()
	if _, err := held.Message.Source.ReadAt(make([]byte, 1), 0); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("what nobody holds is not freed: %v", err)
	}
	big := letter("<big@x>", strings.Repeat("z", 20000))
	f.add(m, 9, big)
	f.shown(m, 9, big)
	if _, ok := m.Cached(9); ok {
		t.Error("a rendering larger than the cache is kept")
	}
}

func TestUpkeep(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	m, err := f.lib.Mailbox(ctx, "INBOX", 1)
	if err != nil {
		t.Fatal(err)
	}
	for uid := uint32(1); uid <= 5; uid++ {
		f.add(m, uid, letter(fmt.Sprintf("<%d@x>", uid), "x"))
	}
	if err := m.Reconcile(ctx, []uint32{2, 4}, 5); err != nil {
		t.Fatal(err)
	}
	if got := m.Known(); !slices.Equal(got, []uint32{2, 4, 5}) {
		t.Errorf("after Reconcile: %v; 5 came after the list was made", got)
	}
	m.Close()
	old, err := f.lib.Mailbox(ctx, "Gone", 1)
	if err != nil {
		t.Fatal(err)
	}
	f.add(old, 1, letter("<gone@x>", "x"))
	old.Close()
	count := func() (rows int64) {
		t.Helper()
		err := f.store.View(ctx, func(tx store.Tx) error {
			return tx.Row(`SELECT (SELECT COUNT(*) FROM index_message) + (SELECT COUNT(*) FROM index_row) + (SELECT COUNT(*) FROM index_text) + (SELECT COUNT(*) FROM index_mailbox)`, nil, &rows)
		})
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	before := count()
	if err := f.lib.Sweep(ctx, map[string]uint32{"INBOX": 0, "Gone": 1}); err != nil || count() != before {
		t.Errorf("%d of %d rows stay of mailboxes that are there, one of which could not be asked: %v", count(), before, err)
	}
	if err := f.lib.Sweep(ctx, map[string]uint32{"INBOX": 2}); err != nil || count() != 0 {
		t.Errorf("%d rows of old mailboxes stay, %v", count(), err)
	}
	if m := f.mailbox("INBOX", 1); len(m.Known()) != 0 {
		t.Error("what was swept is still in memory")
	}
	if opened, err := f.lib.WasOpened(ctx, "<gone@x>"); err != nil || !opened {
		t.Errorf("what was opened is forgotten: %v", err)
	}
}

func TestObservations(t *testing.T) {
	f := newFixture(t)
	m := f.mailbox("INBOX", 1)
	f.add(m, 1, []byte("From: Carol <carol@example.test>\r\nAutocrypt: addr=carol@example.test; keydata=AAAA\r\nDate: Mon, 1 Jan 2024 10:00:00 +0000\r\n\r\nplain"))
	f.add(m, 2, []byte("From: a@example.test, b@example.test\r\nAutocrypt: x\r\n\r\ntwo authors"))
	f.lib.Close()
	if len(f.seen) != 1 || f.seen[0].From.Key() != "carol@example.test" || len(f.seen[0].Autocrypt) != 1 || f.seen[0].Date.IsZero() {
		t.Fatalf("of plain mail: %+v", f.seen)
	}
	f.seen = nil
	f.reopen()
	m = f.mailbox("INBOX", 1)
	raw := append([]byte("Autocrypt: outer\r\n"), letter("<1@x>", "x")...)
	f.add(m, 3, raw)
	if len(f.seen) != 2 || f.seen[0].From.Key() != "outer@example.test" || f.seen[0].Autocrypt[0] != "outer" || f.seen[0].Signer != "" ||
		f.seen[1].Signer != "AAAA" || f.seen[1].From.Key() != "bob@example.test" {
		t.Errorf("of an opened message: %+v", f.seen)
	}
	f.shown(m, 3, raw)
	f.reopen()
	f.shown(f.mailbox("INBOX", 1), 3, raw)
	if len(f.seen) != 2 {
		t.Errorf("told again: %+v", f.seen)
	}
}

// What mail servers said outside, and what the sender said of others inside, is
// told too; said outside it isn't.
func TestObservationsOfOthers(t *testing.T) {
	f := newFixture(t)
	m := f.mailbox("INBOX", 1)
	f.add(m, 1, []byte("Authentication-Results: mx.us; none\r\nAuthentication-Results: mx.them; none\r\nFrom: carol@example.test\r\nAutocrypt: x\r\nAutocrypt-Gossip: outer\r\n\r\nplain"))
	f.lib.Close()
	if len(f.seen) != 1 || fmt.Sprint(f.seen[0].Results) != "[mx.us; none mx.them; none]" || len(f.seen[0].Gossip) != 0 {
		t.Fatalf("of plain mail: %+v", f.seen)
	}
	f.seen = nil
	f.reopen()
	m = f.mailbox("INBOX", 1)
	inner := "From: bob@example.test\r\nTo: Carol <carol@example.test>,\r\n dave@example.test\r\nCc: erin@example.test\r\nMessage-ID: <1@x>\r\nX-Packet: 1\r\nAutocrypt-Gossip: one\r\nAutocrypt-Gossip: two\r\n\r\nx\r\n"
	f.add(m, 2, []byte("Authentication-Results: mx.us; none\r\nAutocrypt-Gossip: outer\r\n"+lock+inner))
	if len(f.seen) != 1 || fmt.Sprint(f.seen[0].Results, f.seen[0].Gossip, f.seen[0].Recipients) != "[mx.us; none] [one two] [carol@example.test dave@example.test erin@example.test]" {
		t.Errorf("of an opened message: %+v", f.seen)
	}
}

func TestTooLargeToOpen(t *testing.T) {
	f := newFixture(t)
	m := f.mailbox("INBOX", 1)
	ctx := context.Background()
	if err := m.Classify(ctx, []index.Classification{{UID: 1, Header: header(letter("<1@x>", ""))}}); err != nil {
		t.Fatal(err)
	}
	r, err := m.Rendering(ctx, 1, func(context.Context) (message.Source, error) {
		return nil, fmt.Errorf("spooling: %w", message.ErrTooLarge)
	})
	if err != nil || r.Class != pgp.Opaque || m.Class(1) != pgp.Opaque {
		t.Errorf("%+v, %v; class %q", r, err, m.Class(1))
	}
}
