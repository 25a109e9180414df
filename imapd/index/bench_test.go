package index_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/search"
	"letterlock.org/letterlock/internal/mailtest"
	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
)

// prose is n bytes of words, the rare one among them once.
func prose(r *rand.Rand, n int, rare string) string {
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "%x ", r.Uint32N(5000))
	}
	return b.String() + rare
}

// onDisk is a mailbox of n opened messages of about size bytes in a file.
func onDisk(b *testing.B, n, size int) *index.Mailbox {
	b.Helper()
	f := newFixture(b)
	st, err := store.Open(filepath.Join(b.TempDir(), "store.db"), [32]byte{1}, index.Schema)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { st.Close() })
	f.c.Store = st
	f.reopen()
	m := f.mailbox("INBOX", 1)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range n {
		raw := letter(fmt.Sprintf("<%d@x>", i), prose(r, size, fmt.Sprintf("rare%dword", i)))
		rendering, err := m.Open(context.Background(), uint32(i+1), message.Bytes(raw))
		if err != nil {
			b.Fatal(err)
		}
		rendering.Close()
	}
	return m
}

// BenchmarkSearch looks for a word through 5,000 messages of 4 KB on disk.
func BenchmarkSearch(b *testing.B) {
	const n = 5000
	m := onDisk(b, n, 4000)
	uids := m.Known()
	for _, t := range []search.Term{
		{Key: "BODY", Words: search.Fold([]byte("rare77word"))},
		{Key: "TEXT", Words: search.Fold([]byte("rare77word"))},
		{Key: "HEADER", Field: "Subject", Words: search.Fold([]byte("<77@"))},
	} {
		b.Run(t.Key, func(b *testing.B) {
			for b.Loop() {
				hits, unknown, err := m.Search(context.Background(), uids, t)
				if err != nil || len(hits) != 1 || len(unknown) != 0 {
					b.Fatal(hits, unknown, err)
				}
			}
			b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkLoad reads the classes of 50,000 messages.
func BenchmarkLoad(b *testing.B) {
	f := newFixture(b)
	st, err := store.Open(filepath.Join(b.TempDir(), "store.db"), [32]byte{1}, index.Schema)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { st.Close() })
	f.c.Store = st
	f.reopen()
	m := f.mailbox("INBOX", 1)
	for from := 0; from < 50000; from += 1000 {
		var some []index.Classification
		for i := range 1000 {
			some = append(some, index.Classification{UID: uint32(from + i + 1), Header: []byte("Content-Type: text/html\r\n\r\n")})
		}
		if err := m.Classify(context.Background(), some); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		f.reopen()
		m, err := f.lib.Mailbox(context.Background(), "INBOX", 1)
		if err != nil || len(m.Known()) != 50000 {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen opens and stores messages of 4 KB one after the other, without
// what OpenPGP costs.
func BenchmarkOpen(b *testing.B) {
	f := newFixture(b)
	st, err := store.Open(filepath.Join(b.TempDir(), "store.db"), [32]byte{1}, index.Schema)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { st.Close() })
	f.c.Store = st
	f.reopen()
	m := f.mailbox("INBOX", 1)
	body := prose(rand.New(rand.NewPCG(1, 1)), 4000, "")
	uid := uint32(0)
	for b.Loop() {
		uid++
		r, err := m.Open(context.Background(), uid, message.Bytes(letter(fmt.Sprintf("<%d@x>", uid), body)))
		if err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
}

// BenchmarkIndexer indexes 1,000 encrypted messages of 10 KB from a server in
// this process into a file.
func BenchmarkIndexer(b *testing.B) {
	const n = 1000
	alice, bob := newPerson(b, "alice@example.test"), newPerson(b, peer.Bob)
	u, err := mailtest.Start(mailtest.Options{Users: map[string]string{peer.Bob: peer.BobPassword}})
	if err != nil {
		b.Fatal(err)
	}
	defer u.Close()
	r := rand.New(rand.NewPCG(1, 1))
	for i := range n {
		if err := u.Deliver(peer.Bob, "INBOX", send(b, alice, bob, letterOf(i, prose(r, 10000, "")))); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		st, err := store.Open(filepath.Join(b.TempDir(), "store.db"), [32]byte{1}, index.Schema)
		if err != nil {
			b.Fatal(err)
		}
		done := make(chan struct{})
		ctx, cancel := context.WithCancel(context.Background())
		x, err := index.NewIndexer(index.IndexerConfig{
			Library: realLibrary(b, st, bob, alice),
			Dial:    func(context.Context) (net.Conn, error) { return net.Dial("tcp", u.IMAPAddr) },
			Login: func(_ context.Context, c *imapclient.Client) error {
				return c.Login(peer.Bob, peer.BobPassword).Wait()
			},
			After: func(time.Duration) <-chan time.Time { cancel(); return nil },
		})
		if err != nil {
			b.Fatal(err)
		}
		go func() { defer close(done); _ = x.Run(ctx) }()
		<-done
		if s := x.Status(); s.Finished.IsZero() {
			b.Fatalf("%+v", s)
		}
		st.Close()
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "msg/s")
}
