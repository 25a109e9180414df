package index_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/internal/store"
)

// hooked is a store that runs something after each commit, before the caller
// knows of it.
type hooked struct {
	store.Store
	mu    sync.Mutex
	after func()
}

func (h *hooked) Update(ctx context.Context, f func(store.Tx) error) error {
	err := h.Store.Update(ctx, f)
	h.mu.Lock()
	after := h.after
	h.mu.Unlock()
	if after != nil {
		after()
	}
	return err
}

func (h *hooked) set(after func()) {
	h.mu.Lock()
	h.after = after
	h.mu.Unlock()
}

// TestKeywordsAreFiledUnderWhatClientsKnow: a client that was told of a MODSEQ,
// and not of a keyword, is told of it when it asks for changes since.
func TestKeywordsAreFiledUnderWhatClientsKnow(t *testing.T) {
	const uid = 7
	tells := func(t *testing.T, m *index.Mailbox, since uint64, want bool) {
		t.Helper()
		if got := slices.Contains(m.ChangedSince(since), uid); got != want {
			t.Errorf("told to a client that knows of %d: %v, want %v", since, got, want)
		}
	}
	t.Run("a MODSEQ that comes while the keyword is stored", func(t *testing.T) {
		f := newFixture(t)
		h := &hooked{Store: f.store}
		f.c.Store = h
		f.reopen()
		m := f.mailbox("INBOX", 1)
		m.SawModSeq(10)
		next := uint64(20)
		h.set(func() {
			if len(m.Keywords(uid)) > 0 {
				t.Error("the keyword is known too early")
			}
			if next <= 40 { // its flags go out without the keyword now
				m.SawModSeq(next)
				next += 10
			}
		})
		f.add(m, uid, letter("<m1>", "x"))
		h.set(nil)
		tells(t, m, 40, true)
		tells(t, m, 41, false)
		f.reopen()
		tells(t, f.mailbox("INBOX", 1), 40, true)
	})
	t.Run("a keyword of before the first MODSEQ", func(t *testing.T) {
		f := newFixture(t)
		m := f.mailbox("INBOX", 1)
		f.add(m, uid, letter("<m1>", "x"))
		tells(t, m, 5000, true) // of an earlier run
		m.SawModSeq(6000)
		tells(t, m, 6000, true)
		tells(t, m, 6001, false)
	})
	t.Run("a keyword that a session was not told of before its end", func(t *testing.T) {
		f := newFixture(t)
		m := f.mailbox("INBOX", 1)
		m.SawModSeq(10)
		told, untold := m.Watch(), m.Watch()
		f.add(m, uid, letter("<m1>", "x"))
		m.SawModSeq(20)
		told.Take()
		told.Stop()
		tells(t, m, 20, false)
		untold.Stop()
		tells(t, m, 20, true)
	})
	t.Run("a keyword that nobody was told of before a crash", func(t *testing.T) {
		f := newFixture(t)
		m := f.mailbox("INBOX", 1)
		m.SawModSeq(10)
		m.Watch() // its session is not ended by anyone
		f.add(m, uid, letter("<m1>", "x"))
		m.SawModSeq(20) // which the client is told of
		f.reopen()
		m = f.mailbox("INBOX", 1)
		m.SawModSeq(25)
		tells(t, m, 20, true)
		tells(t, m, 26, false)
	})
	t.Run("a keyword that a session was not told of before its end, and a restart", func(t *testing.T) {
		f := newFixture(t)
		m := f.mailbox("INBOX", 1)
		m.SawModSeq(10)
		w := m.Watch()
		f.add(m, uid, letter("<m1>", "x"))
		m.SawModSeq(20)
		w.Stop()
		f.reopen()
		tells(t, f.mailbox("INBOX", 1), 20, true)
	})
	t.Run("what was filed is told once, and not after each restart", func(t *testing.T) {
		f := newFixture(t)
		m := f.mailbox("INBOX", 1)
		m.SawModSeq(10)
		w := m.Watch()
		f.add(m, uid, letter("<m1>", "x"))
		if err := m.File(context.Background()); err != nil { // too early: w knows nothing of it
			t.Fatal(err)
		}
		f.reopen()
		tells(t, f.mailbox("INBOX", 1), 100, true)
		m.SawModSeq(20)
		w.Take()
		w.Stop()
		if err := m.File(context.Background()); err != nil {
			t.Fatal(err)
		}
		f.reopen()
		m = f.mailbox("INBOX", 1)
		tells(t, m, 10, true)
		tells(t, m, 11, false)
		if err := m.Expunged(context.Background(), []uint32{uid}); err != nil {
			t.Fatal(err)
		}
		tells(t, m, 1, false)
	})
	t.Run("a MODSEQ that a client learns without selecting the mailbox", func(t *testing.T) {
		f := newFixture(t)
		m, other := f.mailbox("INBOX", 1), f.mailbox("Other", 1)
		m.SawModSeq(10)
		other.SawModSeq(10)
		f.lib.SawModSeq("inbox", 50)
		f.add(m, uid, letter("<m1>", "x"))
		f.add(other, uid, letter("<m2>", "y"))
		tells(t, m, 50, true)
		tells(t, other, 50, false)
	})
	t.Run("a copy", func(t *testing.T) {
		f := newFixture(t)
		m, dst := f.mailbox("INBOX", 1), f.mailbox("Archive", 1)
		f.add(m, 1, letter("<m1>", "x"))
		dst.SawModSeq(30)
		w := dst.Watch()
		defer w.Stop()
		if err := m.Copy(context.Background(), dst, []index.Pair{{From: 1, To: uid}}); err != nil {
			t.Fatal(err)
		}
		tells(t, dst, 30, true)
		if got := w.Take(); !slices.Equal(got, []uint32{uid}) {
			t.Errorf("a session is told of %v", got)
		}
	})
}
