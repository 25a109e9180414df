package index_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/internal/mailtest"
	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// wiretap is a connection that remembers what was sent.
type wiretap struct {
	net.Conn
	sent *recording
}

type recording struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *recording) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.b.String()
	r.b.Reset()
	return s
}

func (w wiretap) Write(p []byte) (int, error) {
	w.sent.mu.Lock()
	w.sent.b.Write(p)
	w.sent.mu.Unlock()
	return w.Conn.Write(p)
}

// run is an indexer whose waits are told and ended by the test.
type run struct {
	t       *testing.T
	x       *index.Indexer
	waiting chan time.Duration
	resume  chan time.Time
	sent    recording
}

func startIndexer(t *testing.T, lib *index.Library, addr, user, password string, change func(*index.IndexerConfig)) *run {
	t.Helper()
	r := &run{t: t, waiting: make(chan time.Duration), resume: make(chan time.Time)}
	ctx, cancel := context.WithCancel(context.Background())
	c := index.IndexerConfig{
		Library: lib,
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "tcp", addr)
			if err != nil {
				return nil, err
			}
			return wiretap{conn, &r.sent}, nil
		},
		Login: func(_ context.Context, c *imapclient.Client) error { return c.Login(user, password).Wait() },
		After: func(d time.Duration) <-chan time.Time {
			select {
			case r.waiting <- d:
			case <-ctx.Done():
			}
			return r.resume
		},
	}
	if change != nil {
		change(&c)
	}
	x, err := index.NewIndexer(c)
	if err != nil {
		t.Fatal(err)
	}
	r.x = x
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := x.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

// pass waits until the indexer has nothing to do, and gives how long it would
// wait. It lets it give way as often as it likes.
func (r *run) pass() time.Duration {
	r.t.Helper()
	d := r.next()
	for d == 250*time.Millisecond {
		r.resume <- time.Time{}
		d = r.next()
	}
	return d
}

// next waits until the indexer waits.
func (r *run) next() time.Duration {
	r.t.Helper()
	select {
	case d := <-r.waiting:
		return d
	case <-time.After(5 * time.Minute):
		r.t.Fatal("the indexer does not come to an end")
		return 0
	}
}

func (r *run) again() time.Duration { r.t.Helper(); r.resume <- time.Time{}; return r.pass() }

// mailFor is mail of every class for bob.
func mailFor(t testing.TB, alice, bob, carol person) map[pgp.Class][]byte {
	return map[pgp.Class][]byte{
		pgp.Plain:     []byte("From: alice@example.test\r\nSubject: plain\r\n\r\nhello\r\n"),
		pgp.Encrypted: send(t, alice, bob, letterOf(1, "canary-body")),
		pgp.Opaque:    send(t, alice, carol, letterOf(2, "for carol")),
	}
}

func TestIndexerFillsTheLibrary(t *testing.T) {
	alice, bob, carol := newPerson(t, "alice@example.test"), newPerson(t, peer.Bob), newPerson(t, "carol@example.test")
	messages := mailFor(t, alice, bob, carol)
	for _, server := range []struct {
		name  string
		start func(t *testing.T, deliver map[string][][]byte) string
	}{
		{"imapmemserver", func(t *testing.T, deliver map[string][][]byte) string {
			u, err := mailtest.Start(mailtest.Options{Users: map[string]string{peer.Bob: peer.BobPassword}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { u.Close() })
			for box, raws := range deliver {
				for _, raw := range raws {
					if err := u.Deliver(peer.Bob, box, raw); err != nil {
						t.Fatal(err)
					}
				}
			}
			return u.IMAPAddr
		}},
		{"Dovecot", func(t *testing.T, deliver map[string][][]byte) string {
			d := peer.Dovecot(t)
			for box, raws := range deliver {
				d.Append(t, peer.Bob, box, raws...)
			}
			return d.Addr
		}},
	} {
		t.Run(server.name, func(t *testing.T) {
			deliver := map[string][][]byte{}
			for _, box := range []string{"INBOX", "Archive"} {
				for range 30 {
					deliver[box] = append(deliver[box], messages[pgp.Plain], messages[pgp.Encrypted], messages[pgp.Opaque])
				}
			}
			addr := server.start(t, deliver)
			st, err := store.OpenMemory(index.Schema)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { st.Close() })
			lib := realLibrary(t, st, bob, alice)
			r := startIndexer(t, lib, addr, peer.Bob, peer.BobPassword, nil)
			if d := r.pass(); d != 5*time.Minute {
				t.Errorf("waits %v after everything went well: %+v", d, r.x.Status())
			}
			checkStatus(t, r.x.Status(), map[string]int{"INBOX": 90, "Archive": 90})
			checkOnlyPeeks(t, r.sent.take())
			unopened, err := lib.Unopened(context.Background())
			if err != nil || len(unopened) != 2 || unopened[0].Count != 30 || unopened[0].Reason == "" {
				t.Errorf("unopened: %+v, %v", unopened, err)
			}
			if opened, err := lib.WasOpened(context.Background(), "<1@example.test>"); err != nil || !opened {
				t.Errorf("WasOpened: %v, %v", opened, err)
			}
			r.again()
			if said := r.sent.take(); strings.Contains(said, "FETCH") {
				t.Errorf("a second time it asks for messages:\n%s", said)
			}
		})
	}
}

// TestIndexerHearsNews: what a session saw is looked at soon, in its mailbox only,
// and not again and again.
func TestIndexerHearsNews(t *testing.T) {
	alice, bob := newPerson(t, "alice@example.test"), newPerson(t, peer.Bob)
	u, err := mailtest.Start(mailtest.Options{Users: map[string]string{peer.Bob: peer.BobPassword}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	deliver := func(box string, n int) {
		t.Helper()
		if err := u.Deliver(peer.Bob, box, send(t, alice, bob, letterOf(n, "canary"))); err != nil {
			t.Fatal(err)
		}
	}
	deliver("INBOX", 1)
	deliver("Archive", 2)
	st, err := store.OpenMemory(index.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	lib := realLibrary(t, st, bob, alice)
	r := startIndexer(t, lib, u.IMAPAddr, peer.Bob, peer.BobPassword, nil)
	r.pass()
	r.sent.take()
	deliver("INBOX", 3)
	deliver("Archive", 4)
	lib.News("inbox")
	if d := r.pass(); d != 20*time.Second {
		t.Errorf("waits %v after news", d)
	}
	checkStatus(t, r.x.Status(), map[string]int{"INBOX": 2, "Archive": 1})
	if said := r.sent.take(); strings.Contains(said, "Archive") {
		t.Errorf("it looks elsewhere, too:\n%s", said)
	}
	lib.News("Archive") // while it rests
	lib.News("Archive")
	r.resume <- time.Time{} // which of both waits ends is as may be
	if r.pass(); r.x.Status().Finished.IsZero() {
		t.Error("it never finished")
	}
	checkStatus(t, r.x.Status(), map[string]int{"INBOX": 2, "Archive": 2})
}

func checkStatus(t *testing.T, s index.Status, want map[string]int) {
	t.Helper()
	if s.Problem != "" || s.Finished.IsZero() {
		t.Errorf("status %+v", s)
	}
	for _, m := range s.Mailboxes {
		if m.Total != want[m.Name] || m.Done != m.Total {
			t.Errorf("%s: %d of %d done, want %d", m.Name, m.Done, m.Total, want[m.Name])
		}
		delete(want, m.Name)
	}
	if len(want) > 0 {
		t.Errorf("mailboxes not told: %v", want)
	}
}

// checkOnlyPeeks: nothing that the indexer says may change anything upstream.
func checkOnlyPeeks(t *testing.T, said string) {
	t.Helper()
	for line := range strings.Lines(said) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		name := strings.ToUpper(words[1])
		if name == "UID" {
			name += " " + strings.ToUpper(words[2])
		}
		switch name {
		case "ID":
			if !strings.Contains(line, `ID ("name" "Letterlock" `) {
				t.Errorf("says of itself %s", line)
			}
		case "CAPABILITY", "LOGIN", "LIST", "EXAMINE", "UID SEARCH", "LOGOUT":
		case "UID FETCH":
			if strings.Contains(line, "BODY[") {
				t.Errorf("not a peek: %s", line)
			}
		default:
			t.Errorf("says %s", line)
		}
	}
	if !strings.Contains(said, "EXAMINE") {
		t.Errorf("nothing was examined: %s", said)
	}
}

// TestIndexerFetchesAlikeWhatOpensAndWhatDoesNot compares what goes over the
// wire for a recipient who has the key and for one who has not.
func TestIndexerFetchesAlikeWhatOpensAndWhatDoesNot(t *testing.T) {
	alice, bob, carol := newPerson(t, "alice@example.test"), newPerson(t, peer.Bob), newPerson(t, "carol@example.test")
	said := map[string]string{}
	for name, raw := range map[string][]byte{"can": send(t, alice, bob, letterOf(1, "x")), "cannot": send(t, alice, carol, letterOf(1, "x"))} {
		u, err := mailtest.Start(mailtest.Options{Users: map[string]string{peer.Bob: peer.BobPassword}})
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		for range 3 {
			if err := u.Deliver(peer.Bob, "INBOX", raw); err != nil {
				t.Fatal(err)
			}
		}
		st, err := store.OpenMemory(index.Schema)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		r := startIndexer(t, realLibrary(t, st, bob, alice), u.IMAPAddr, peer.Bob, peer.BobPassword, nil)
		r.pass()
		r.again()
		said[name] = r.sent.take()
	}
	if said["can"] != said["cannot"] {
		t.Errorf("opened:\n%s\nnot opened:\n%s", said["can"], said["cannot"])
	}
}

func TestIndexerWaitsLongerAfterEachFailure(t *testing.T) {
	f := newFixture(t)
	var fails atomic.Bool
	fails.Store(true)
	u, err := mailtest.Start(mailtest.Options{Users: map[string]string{peer.Bob: peer.BobPassword}})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	r := startIndexer(t, f.lib, u.IMAPAddr, peer.Bob, peer.BobPassword, func(c *index.IndexerConfig) {
		dial := c.Dial
		c.Dial = func(ctx context.Context) (net.Conn, error) {
			if fails.Load() {
				return nil, io.ErrUnexpectedEOF
			}
			return dial(ctx)
		}
	})
	var waits []string
	waits = append(waits, r.pass().String())
	for range 8 {
		waits = append(waits, r.again().String())
	}
	if got := fmt.Sprint(waits); got != "[10s 20s 40s 1m20s 2m40s 5m20s 10m40s 15m0s 15m0s]" {
		t.Errorf("waits %s", got)
	}
	if s := r.x.Status(); s.Problem == "" || s.Running {
		t.Errorf("status %+v", s)
	}
	fails.Store(false)
	if d := r.again(); d != 5*time.Minute || r.x.Status().Problem != "" {
		t.Errorf("waits %v after it went well: %+v", d, r.x.Status())
	}
	fails.Store(true)
	if d := r.again(); d != 10*time.Second {
		t.Errorf("waits %v after the first failure since", d)
	}
}

func TestIndexerGoesOnWhereItWasWhenKeysAreUnlocked(t *testing.T) {
	f := newFixture(t)
	f.locked = true
	u, err := mailtest.Start(mailtest.Options{Users: map[string]string{peer.Bob: peer.BobPassword}})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for i := range 5 {
		if err := u.Deliver(peer.Bob, "INBOX", letter(fmt.Sprintf("<%d@x>", i), "x")); err != nil {
			t.Fatal(err)
		}
	}
	r := startIndexer(t, f.lib, u.IMAPAddr, peer.Bob, peer.BobPassword, nil)
	if d := r.pass(); d != 10*time.Second || !strings.Contains(r.x.Status().Problem, "locked") {
		t.Errorf("waits %v: %+v", d, r.x.Status())
	}
	f.mu.Lock()
	f.locked = false
	f.mu.Unlock()
	r.x.Wake()
	r.pass()
	checkStatus(t, r.x.Status(), map[string]int{"INBOX": 5})
	if strings.Count(r.sent.take(), "BODY.PEEK[HEADER]") != 1 {
		t.Error("classes were asked for again")
	}
}

func TestIndexerGivesWay(t *testing.T) {
	f := newFixture(t)
	u, err := mailtest.Start(mailtest.Options{Users: map[string]string{peer.Bob: peer.BobPassword}})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if err := u.Deliver(peer.Bob, "INBOX", letter("<1@x>", "x")); err != nil {
		t.Fatal(err)
	}
	var busy atomic.Bool
	busy.Store(true)
	r := startIndexer(t, f.lib, u.IMAPAddr, peer.Bob, peer.BobPassword, func(c *index.IndexerConfig) { c.Busy = busy.Load })
	if d := r.next(); d != 250*time.Millisecond {
		t.Fatalf("waits %v while clients are served", d)
	}
	if said := r.sent.take(); strings.Contains(said, "FETCH") {
		t.Errorf("fetches meanwhile: %s", said)
	}
	busy.Store(false)
	if d := r.again(); d != 5*time.Minute {
		t.Errorf("waits %v", d)
	}
	checkStatus(t, r.x.Status(), map[string]int{"INBOX": 1})
}

// TestIndexerAndClientsAtOnce opens the same messages from both sides.
func TestIndexerAndClientsAtOnce(t *testing.T) {
	f := newFixture(t)
	u, err := mailtest.Start(mailtest.Options{Users: map[string]string{peer.Bob: peer.BobPassword}})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for i := range 100 {
		if err := u.Deliver(peer.Bob, "INBOX", letter(fmt.Sprintf("<%d@x>", i+1), "x")); err != nil {
			t.Fatal(err)
		}
	}
	l, err := mailtest.Dial(mailtest.Login{Addr: u.IMAPAddr, User: peer.Bob, Password: peer.BobPassword})
	if err != nil {
		t.Fatal(err)
	}
	selected, err := l.Select("INBOX", nil).Wait()
	l.Close()
	if err != nil {
		t.Fatal(err)
	}
	m := f.mailbox("INBOX", selected.UIDValidity)
	r := startIndexer(t, f.lib, u.IMAPAddr, peer.Bob, peer.BobPassword, nil)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for uid := uint32(1); uid <= 100; uid++ {
				rendering, err := m.Open(context.Background(), uid, message.Bytes(letter(fmt.Sprintf("<%d@x>", uid), "x")))
				if err != nil {
					t.Error(err)
					return
				}
				rendering.Close()
			}
		})
	}
	r.pass()
	wg.Wait()
	r.again()
	checkStatus(t, r.x.Status(), map[string]int{"INBOX": 100})
}

// TestIndexerGivesWayToClients without being told that there are any.
func TestIndexerGivesWayToClients(t *testing.T) {
	f := newFixture(t)
	var now atomic.Int64
	now.Store(time.Now().UnixNano())
	f.c.Now = func() time.Time { return time.Unix(0, now.Load()) }
	f.reopen()
	u, err := mailtest.Start(mailtest.Options{Users: map[string]string{peer.Bob: peer.BobPassword}})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if err := u.Deliver(peer.Bob, "INBOX", letter("<1@x>", "x")); err != nil {
		t.Fatal(err)
	}
	f.mailbox("Other", 1).Cached(1)
	r := startIndexer(t, f.lib, u.IMAPAddr, peer.Bob, peer.BobPassword, nil)
	if d := r.next(); d != 250*time.Millisecond {
		t.Fatalf("waits %v while a client reads", d)
	}
	now.Add(int64(3 * time.Second))
	if d := r.again(); d != 5*time.Minute {
		t.Errorf("waits %v when it stopped", d)
	}
}

// TestIndexerNamesMailboxesAsSessionsDo: sessions know a mailbox by what goes
// over the wire (RFC 3501, Section 5.1.3).
func TestIndexerNamesMailboxesAsSessionsDo(t *testing.T) {
	f := newFixture(t)
	u, err := mailtest.Start(mailtest.Options{Users: map[string]string{peer.Bob: peer.BobPassword}})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	c, err := mailtest.Dial(mailtest.Login{Addr: u.IMAPAddr, User: peer.Bob, Password: peer.BobPassword})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for display, wire := range map[string]string{
		"Entwürfe & Ü": "Entw&APw-rfe &- &ANw-",
		"台北/日本語":       "&U,BTFw-/&ZeVnLIqe-", // RFC 3501's example
		"A😀B":          "A&2D3eAA-B",
		"plain~name":   "plain~name",
	} {
		if err := c.Create(display, nil).Wait(); err != nil {
			t.Fatal(err)
		}
		if err := u.Deliver(peer.Bob, display, letter("<"+wire+"@x>", "x")); err != nil {
			t.Fatal(err)
		}
		selected, err := c.Select(display, nil).Wait()
		if err != nil {
			t.Fatal(err)
		}
		m := f.mailbox(wire, selected.UIDValidity)
		defer func() {
			if m.Class(1) != pgp.Encrypted || !m.Settled(1) {
				t.Errorf("%s was not indexed as %s", display, wire)
			}
		}()
	}
	startIndexer(t, f.lib, u.IMAPAddr, peer.Bob, peer.BobPassword, nil).pass()
}
