package smtpd_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// waitingClear is a bridge with copies that wait to go in clear: they were split from
// a sealed one, and the upstream takes nothing for them until it is opened.
type waitingClear struct {
	*holding
	clock *clock
}

var (
	splitting = policy.Config{Settings: policy.Settings{Mixed: policy.MixedSplit}}
	requiring = policy.Config{Default: policy.Require, Settings: policy.Settings{Mixed: policy.MixedSplit}}
)

// newWaitingClear submits a letter to bob, sealed, and to others, in clear, who wait.
func newWaitingClear(t *testing.T, c policy.Config, msg string, others []string, opts ...option) *waitingClear {
	t.Helper()
	w := &waitingClear{clock: &clock{now: time.Now()},
		holding: &holding{u: newUpstream(t), dir: &learning{t: t, d: directory{t: t, has: []string{"bob@example.net"}}}, rules: &switchable{r: rules(t, c)}}}
	w.u.failWith(func(step string, n int, _ string) fault {
		if step == "dot" && n > 1 {
			return fault{reply: "451 4.3.0 later"}
		}
		return fault{}
	})
	w.bridge = newBridgeOn(t, w.u, memory(t), append([]option{w.clock.set, func(_ *smtpd.Config, a *smtpd.Account, q *queue.Config) {
		a.Find, a.Rules, q.WarnAfter = w.dir, w.rules.get, 1_000_000*time.Hour
	}}, opts...)...)
	var k *talk
	if w.account.Relay != nil {
		k = w.mta()
	} else {
		k = w.login()
	}
	if got := k.submit(wired(msg), append([]string{"bob@example.net"}, others...)...); !strings.HasPrefix(got, "250") || !strings.Contains(got, "wait in the queue") {
		t.Fatalf("reply %q", got)
	}
	if len(w.letters("bob@")) != 1 || len(w.letters("zoe@")) != 0 {
		t.Fatalf("the upstream got %+v", w.u.received())
	}
	return w
}

// open has the upstream take what waits, once the time has come for it.
func (w *waitingClear) open() {
	w.u.failWith(nil)
	w.goOn()
}

func (w *waitingClear) goOn() {
	w.clock.advance(2 * time.Hour)
	w.queue.Wake()
}

// done waits until nothing waits or is held.
func (w *waitingClear) done(t *testing.T) {
	t.Helper()
	eventually(t, "the queue is empty", func() bool {
		w.goOn() // an attempt may have been under way before
		es, err := w.queue.List(t.Context(), "", 100)
		if err != nil {
			t.Fatal(err)
		}
		return !slices.ContainsFunc(es, func(e queue.Entry) bool {
			return e.State == queue.Waiting || e.State == queue.Sending || e.State == queue.Held || e.State == queue.Prepared
		})
	})
}

// openFor opens what somebody got, which must be signed by Alice, or for her.
func openFor(t *testing.T, letter, who string, want pgp.SignatureState) string {
	t.Helper()
	o, err := pgp.Open(t.Context(), message.Bytes([]byte(letter)), pgp.Opening{Keys: pgp.Keys(key(t, who)), Certificates: known{t}})
	if err != nil || o.Rendering == nil {
		t.Fatalf("opening what %s got: %v", who, err)
	}
	defer o.Rendering.Close()
	if alice := key(t, "alice@example.org").Certificate().Fingerprint(); o.Verdict.Signature != want || o.Verdict.Signer != alice {
		t.Errorf("what %s got has the signature %s of %s, want Alice's", who, o.Verdict.Signature, o.Verdict.Signer)
	}
	b, err := message.ReadAll(o.Rendering, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWhatWaitsInClearGoesByTheRulesAsTheyAre(t *testing.T) {
	zoe := []string{"zoe@example.com"}
	both := []string{"zoe@example.com", "yan@example.com"}
	subject := func(words ...string) policy.Config {
		c := requiring
		c.Rules = []policy.Rule{{Name: "word", To: zoe, Subject: words, Lower: true, StripSubject: true, Mode: policy.Cleartext, Settings: c.Settings}}
		return c
	}
	for _, tt := range []struct {
		name          string
		rules         policy.Config
		to            []string
		change        func(w *waitingClear)
		clear, sealed []string // who gets it in the end
		refused       string   // in the report
	}{
		{name: "nothing has changed", rules: splitting, to: zoe, clear: zoe},
		{name: "a certificate has come", rules: splitting, to: zoe, change: func(w *waitingClear) { w.dir.learn("zoe@example.com") }, sealed: zoe},
		{name: "everybody must have one now", rules: splitting, to: zoe, change: func(w *waitingClear) { w.rules.set(rules(t, requiring)) },
			refused: "the rule requires one"},
		{name: "everybody must have one now, and has", rules: splitting, to: zoe, change: func(w *waitingClear) {
			w.dir.learn("zoe@example.com")
			w.rules.set(rules(t, requiring))
		}, sealed: zoe},
		{name: "nothing is split any more", rules: splitting, to: zoe, change: func(w *waitingClear) { w.rules.set(rules(t, policy.Config{})) },
			refused: "would get the same text in clear"},
		{name: "one of two has a certificate", rules: splitting, to: both, change: func(w *waitingClear) { w.dir.learn("zoe@example.com") },
			sealed: zoe, clear: []string{"yan@example.com"}},
		{name: "one of two is refused", rules: splitting, to: both, change: func(w *waitingClear) {
			c := splitting
			c.Rules = []policy.Rule{{Name: "never zoe", To: zoe, Mode: policy.Refuse}}
			w.rules.set(rules(t, c))
		}, refused: "mail to this address is not allowed", clear: []string{"yan@example.com"}},
		{name: "a copy that is signed only", rules: policy.Config{Settings: policy.Settings{Mixed: policy.MixedSplit, Sign: policy.SignAll}}, to: zoe,
			change: func(w *waitingClear) { w.dir.learn("zoe@example.com") }, sealed: zoe},
		{name: "by a word of the subject that was taken off", rules: subject(canary), to: zoe, clear: zoe},
		{name: "by a word that means nothing any more", rules: subject(canary), to: zoe, change: func(w *waitingClear) { w.rules.set(rules(t, requiring)) },
			refused: "the rule requires one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			msg := letter("1", "bob@example.net, "+strings.Join(tt.to, ", "))
			w := newWaitingClear(t, tt.rules, msg, tt.to)
			if tt.change != nil {
				tt.change(w)
			}
			w.open()
			w.done(t)
			for _, who := range tt.to {
				got := w.letters(who)
				clear, sealed := slices.Contains(tt.clear, who), slices.Contains(tt.sealed, who)
				switch {
				case !clear && !sealed && len(got) == 0:
				case len(got) != 1 || !clear && !sealed:
					t.Errorf("%s got %d letters", who, len(got))
				case clear == strings.Contains(got[0], "multipart/encrypted") || clear != strings.Contains(got[0], "this is the "+canary):
					t.Errorf("%s got\n%s", who, got[0])
				case sealed:
					inside := openFor(t, got[0], who, pgp.SignatureValid)
					if !strings.Contains(inside, "this is the "+canary+".\r\n") || strings.Count(inside, "\r\nAutocrypt:") != 1 || strings.Contains(inside, "multipart/signed") {
						t.Errorf("%s reads\n%s", who, inside)
					}
				}
			}
			reports := w.reports("Not delivered\r\n")
			if (tt.refused != "") != (len(reports) == 1) || tt.refused != "" && !strings.Contains(strings.ReplaceAll(reports[0], "\r\n", " "), tt.refused) {
				t.Errorf("reports: %q", reports)
			}
			if tt.refused != "" {
				return
			}
			if got := w.login().submit(wired(msg), append([]string{"bob@example.net"}, tt.to...)...); !strings.HasPrefix(got, "250") {
				t.Errorf("the same message again: %q", got)
			}
			if n := len(w.letters("zoe@")); n != 1 {
				t.Errorf("zoe has %d copies after a repetition", n)
			}
		})
	}
}

// TestWhatWaitsInClearIsHeldWhereTheRulesHold: and a certificate has it sealed, though
// the copies of others went in clear before.
func TestWhatWaitsInClearIsHeldWhereTheRulesHold(t *testing.T) {
	w := newWaitingClear(t, splitting, letter("1", "bob@example.net, zoe@example.com"), []string{"zoe@example.com"})
	w.rules.set(rules(t, holdAll))
	w.open()
	eventually(t, "the sender knows that it is held", func() bool { return len(w.reports("Held")) == 1 })
	id := w.held(t)
	if stay, err := w.release(t, id, true); err != nil || len(stay) != 1 {
		t.Errorf("released: %v, %v", stay, err)
	}
	w.dir.learn("zoe@example.com")
	if err := w.queue.Learned(t.Context(), "zoe@example.com"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "zoe has it", func() bool { return len(w.letters("zoe@")) == 1 })
	w.done(t)
	if got := w.letters("zoe@")[0]; !strings.Contains(got, "multipart/encrypted") {
		t.Errorf("in clear:\n%s", got)
	}
}

// moody is a directory that can be down.
type moody struct {
	*learning
	down func() bool
}

func (m moody) Find(ctx context.Context, a address.Address) (keydir.Finding, error) {
	if m.down() {
		return keydir.Finding{Address: a, Outcome: keydir.Unavailable}, nil
	}
	return m.learning.Find(ctx, a)
}

// TestWhatWaitsInClearWaitsWhileNobodyCanBeAsked: unavailable is never clear, and it
// isn't the end of a letter either.
func TestWhatWaitsInClearWaitsWhileNobodyCanBeAsked(t *testing.T) {
	for _, then := range []policy.Then{policy.ThenDefer, policy.ThenRefuse} {
		t.Run(string(then), func(t *testing.T) {
			c := splitting
			c.Settings.Unavailable = then
			var down atomic.Bool
			w := newWaitingClear(t, c, letter("1", "bob@example.net, zoe@example.com"), []string{"zoe@example.com"}, func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
				a.Find = moody{a.Find.(*learning), down.Load}
			})
			down.Store(true)
			w.open()
			waiting := func() queue.Entry {
				es, err := w.queue.List(t.Context(), queue.Waiting, 10)
				if err != nil || len(es) != 1 {
					t.Fatalf("%d wait, %v", len(es), err)
				}
				return es[0]
			}
			eventually(t, "it was tried twice", func() bool {
				w.goOn()
				return waiting().Attempts > 2
			})
			if why := waiting().LastError; !strings.Contains(why, "could not be asked") {
				t.Errorf("it waits for: %q", why)
			}
			if n := len(w.letters("zoe@")); n != 0 {
				t.Fatal("it went while nobody could be asked")
			}
			down.Store(false)
			w.goOn()
			w.done(t)
			if n := len(w.letters("zoe@")); n != 1 {
				t.Errorf("zoe has %d", n)
			}
		})
	}
}

// TestWhatARelayKeepsIsSealedWithWhatItKnew: for whom it signs was known when the
// message came, and must be known still.
func TestWhatARelayKeepsIsSealedWithWhatItKnew(t *testing.T) {
	key(t, "alice@example.org")
	w := newWaitingClear(t, splitting, letter("1", "bob@example.net, zoe@example.com"), []string{"zoe@example.com"}, asRelay(func(r *smtpd.Relay) {
		r.TrustSender = true
		r.SenderKey = func(_ context.Context, from address.Address) (pgp.Signer, error) {
			if from.String() != "alice@example.org" {
				return nil, errNoKey
			}
			return key(t, "alice@example.org"), nil
		}
	}))
	w.dir.learn("zoe@example.com")
	w.open()
	w.done(t)
	got := w.letters("zoe@")
	if len(got) != 1 || !strings.Contains(got[0], "multipart/encrypted") || strings.Contains(got[0], canary) {
		t.Fatalf("zoe got %q", got)
	}
	if inside := openFor(t, got[0], "zoe@example.com", pgp.SignatureGateway); !strings.Contains(inside, "this is the "+canary) {
		t.Errorf("zoe reads\n%s", inside)
	}
}
