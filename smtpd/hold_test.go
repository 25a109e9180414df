package smtpd_test

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// learning is a directory that learns.
type learning struct {
	t  *testing.T
	mu sync.Mutex
	d  directory
}

func (l *learning) Find(ctx context.Context, a address.Address) (keydir.Finding, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.d.Find(ctx, a)
}

func (l *learning) learn(who ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.d.has = append(l.d.has, who...)
}

// holding is a bridge whose rules hold what has no certificate.
type holding struct {
	*bridge
	u     *upstream
	dir   *learning
	rules *switchable
}

type switchable struct {
	mu sync.Mutex
	r  *policy.Rules
}

func (s *switchable) get() *policy.Rules {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.r
}

func (s *switchable) set(r *policy.Rules) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.r = r
}

var holdAll = policy.Config{Default: policy.Require, Settings: policy.Settings{Missing: policy.ThenHold}}

func newHolding(t *testing.T, st store.Store) *holding {
	t.Helper()
	h := &holding{u: newUpstream(t), dir: &learning{t: t, d: directory{t: t, has: []string{"bob@example.net"}}}, rules: &switchable{r: rules(t, holdAll)}}
	h.bridge = newBridgeOn(t, h.u, st, func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
		a.Find, a.Rules = h.dir, h.rules.get
	})
	return h
}

func memory(t *testing.T) store.Store {
	st, err := store.OpenMemory(queue.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// held is the ID of the one entry that is held.
func (h *holding) held(t *testing.T) string {
	t.Helper()
	es, err := h.queue.List(t.Context(), queue.Held, 10)
	if err != nil || len(es) != 1 {
		t.Fatalf("%d entries are held, %v", len(es), err)
	}
	return es[0].ID
}

// release decides anew about an entry, as soon as nobody else does.
func (h *holding) release(t *testing.T, id string, clear bool) (stay []queue.Recipient, err error) {
	t.Helper()
	for {
		if stay, err = h.queue.Release(t.Context(), id, clear); err != queue.ErrWorking {
			return stay, err
		}
		time.Sleep(time.Millisecond)
	}
}

// letters are what the upstream got for somebody, without reports.
func (h *holding) letters(who string) (out []string) {
	for _, m := range h.u.received() {
		if !strings.Contains(m.data, "multipart/report") && strings.Contains(strings.Join(m.rcpts, " "), who) {
			out = append(out, m.data)
		}
	}
	return out
}

func (h *holding) reports(subject string) (out []string) {
	for _, m := range h.u.received() {
		if strings.Contains(m.data, "Subject: "+subject) {
			out = append(out, m.data)
		}
	}
	return out
}

func TestHeldMailGoesWhenACertificateAppears(t *testing.T) {
	h := newHolding(t, memory(t))
	reply := h.login().submit(wired(letter("1", "bob@example.net")), "bob@example.net", "zoe@example.com")
	if !strings.HasPrefix(reply, "250") || !strings.Contains(reply, "1 are held") {
		t.Fatalf("reply %q", reply)
	}
	eventually(t, "the sender has the notice", func() bool { return len(h.reports("Held")) == 1 })
	notice := h.reports("Held")[0]
	for _, want := range []string{"<zoe@example.com>", "Action: delayed", "letterlock queue release " + h.held(t), "letterlock cert import", "Will-Retry-Until:"} {
		if !strings.Contains(notice, want) {
			t.Errorf("the notice lacks %q:\n%s", want, notice)
		}
	}
	if n := len(h.letters("bob@")); n != 1 {
		t.Errorf("bob has %d copies", n)
	}
	if n := len(h.letters("zoe@")); n != 0 {
		t.Fatalf("zoe has %d copies of held mail", n)
	}
	// The client says the same again: it is kept already.
	if again := h.login().submit(wired(letter("1", "bob@example.net")), "bob@example.net", "zoe@example.com"); !strings.HasPrefix(again, "250") {
		t.Errorf("repeated: %q", again)
	}
	if err := h.queue.Learned(t.Context(), "zoe@example.com"); err != nil {
		t.Fatal(err)
	}
	if stay, err := h.queue.Release(t.Context(), h.held(t), true); err != nil && err != queue.ErrWorking || err == nil && len(stay) != 1 {
		t.Errorf("released without a certificate: %v, %v", stay, err)
	}
	h.dir.learn("zoe@example.com")
	if err := h.queue.Learned(t.Context(), "zoe@example.com"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "zoe has it", func() bool { return len(h.letters("zoe@")) == 1 })
	eventually(t, "nothing is left", func() bool { return settled(t, h.bridge) })
	if !strings.Contains(h.letters("zoe@")[0], "multipart/encrypted") || h.u.saw(canary) {
		t.Error("it is not encrypted")
	}
	if n := len(h.reports("Held")); n != 1 {
		t.Errorf("%d notices", n)
	}
	if n := len(h.letters("bob@")); n != 1 {
		t.Errorf("bob has %d copies in the end", n)
	}
}

func TestOnlyAPersonReleasesInClearAndOnlyByTheRules(t *testing.T) {
	h := newHolding(t, memory(t))
	h.login().submit(wired(letter("1", "zoe@example.com")), "zoe@example.com")
	id := h.held(t)
	release := func(clear bool) (stay []queue.Recipient) {
		t.Helper()
		stay, err := h.release(t, id, clear)
		if err != nil {
			t.Fatal(err)
		}
		return stay
	}
	if len(release(true)) != 1 {
		t.Error("--clear went around the rules")
	}
	h.rules.set(rules(t, policy.Config{})) // prefer: in clear to who has no certificate
	stay := release(false)
	if len(stay) != 1 || !strings.Contains(stay[0].Text, "--clear") {
		t.Errorf("left by itself in clear: %v", stay)
	}
	if err := h.queue.Learned(t.Context(), "zoe@example.com"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	if n := len(h.letters("zoe@")); n != 0 {
		t.Fatal("held mail left by itself in clear")
	}
	if len(release(true)) != 0 {
		t.Error("a person may release what the rules let go")
	}
	eventually(t, "zoe has it", func() bool { return len(h.letters("zoe@")) == 1 })
}

func TestHeldMailIsNotSentInClearToOneWhatOthersGotSealed(t *testing.T) {
	h := newHolding(t, memory(t))
	h.login().submit(wired(letter("1", "bob@example.net")), "bob@example.net", "zoe@example.com")
	id := h.held(t)
	h.rules.set(rules(t, policy.Config{}))
	for _, clear := range []bool{false, true} {
		stay, err := h.queue.Release(t.Context(), id, clear)
		if err == nil && len(stay) != 1 {
			t.Errorf("released with clear=%v", clear)
		}
	}
	if n := len(h.letters("zoe@")); n != 0 || h.u.saw(canary) {
		t.Error("zoe got in clear what bob got sealed")
	}
}

func TestNothingThatIsHeldIsOnDiskInClear(t *testing.T) {
	dir := t.TempDir()
	st := openStore(t, dir)
	h := newHolding(t, st)
	h.login().submit(wired(letter("1", "zoe@example.com")), "zoe@example.com")
	h.held(t)
	noCanary(t, dir)
	// The store's encryption apart: no row holds it either.
	var rows strings.Builder
	err := st.View(t.Context(), func(tx store.Tx) error {
		for _, q := range []string{`SELECT data FROM queue_piece`, `SELECT entry FROM queue_item`} {
			if err := tx.Rows(q, nil, func(scan func(...any) error) error {
				var b []byte
				err := scan(&b)
				rows.Write(b)
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || rows.Len() < 500 || strings.Contains(rows.String(), canary) {
		t.Errorf("%d bytes of rows, %v; the canary is in them: %v", rows.Len(), err, strings.Contains(rows.String(), canary))
	}
	h.stop()
	st.Close()
	if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) == 0 {
		t.Error("nothing was looked at")
	}
	noCanary(t, dir)
}

func TestADryRunReleasesNothingThatIsHeld(t *testing.T) {
	h := newHolding(t, memory(t))
	h.login().submit(wired(letter("1", "zoe@example.com")), "zoe@example.com")
	id := h.held(t)
	dry := holdAll
	dry.DryRun = true
	h.rules.set(rules(t, dry))
	for _, clear := range []bool{false, true} {
		stay, err := h.release(t, id, clear)
		if err != nil || len(stay) != 1 || !strings.Contains(stay[0].Text, "dry run") {
			t.Errorf("clear=%v: stays %v, %v", clear, stay, err)
		}
	}
	time.Sleep(20 * time.Millisecond)
	if h.u.saw(canary) || len(h.letters("zoe@")) != 0 {
		t.Error("a dry run sent in clear what rules had held")
	}
}

// TestWhatOthersGotStaysAFact: bob has the message sealed; that the rules would
// refuse him today, and split such mail for zoe, doesn't open it for her.
func TestWhatOthersGotStaysAFact(t *testing.T) {
	h := newHolding(t, memory(t))
	h.login().submit(wired(letter("1", "bob@example.net")), "bob@example.net", "zoe@example.com")
	id := h.held(t)
	h.rules.set(rules(t, policy.Config{Rules: []policy.Rule{
		{Name: "no bob", To: []string{"bob@example.net"}, Mode: policy.Refuse},
		{Name: "zoe reads all", To: []string{"zoe@example.com"}, Mode: policy.Cleartext, Settings: policy.Settings{Mixed: policy.MixedSplit}},
	}}))
	stay, err := h.release(t, id, true)
	if err != nil || len(stay) != 1 {
		t.Errorf("stays %v, %v", stay, err)
	}
	time.Sleep(20 * time.Millisecond)
	if h.u.saw(canary) {
		t.Error("zoe got in clear what bob got sealed, though no rule of his splits it")
	}
}
