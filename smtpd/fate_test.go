package smtpd_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"letterlock.org/letterlock/audit"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// ledger is an audit log that remembers. It is safe for concurrent use.
type ledger struct {
	mu      sync.Mutex
	records []audit.Record
	broken  bool // nothing can be recorded before a message leaves
}

func (l *ledger) Append(rs ...audit.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, rs...)
}

func (l *ledger) Before(_ context.Context, rs ...audit.Record) error {
	l.Append(rs...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken {
		return errors.New("the disk is full")
	}
	return nil
}

func (l *ledger) set(c *smtpd.Config, _ *smtpd.Account, q *queue.Config) { c.Audit, q.Audit = l, l }

func (l *ledger) all() []audit.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.records)
}

// lines are the records in the order of recipients: who, outcome, reply, message.
func (l *ledger) lines() (out []string) {
	for _, r := range l.all() {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %d %s %s", strings.TrimSuffix(r.Recipient, "@example.net"), r.Outcome, r.Code, r.Status, r.Message)))
	}
	slices.SortStableFunc(out, func(a, b string) int { return strings.Compare(a[:3], b[:3]) })
	return out
}

// follows fails the test where a copy that was about to leave has no other record
// behind that one.
func (l *ledger) follows(t *testing.T) {
	t.Helper()
	rs := l.all()
	for i, r := range rs {
		if r.Outcome == audit.Sending && !slices.ContainsFunc(rs[i:], func(o audit.Record) bool {
			return o.Outcome != audit.Sending && o.Entry == r.Entry && o.Recipient == r.Recipient
		}) {
			t.Errorf("nothing follows %+v", r)
		}
	}
}

// check compares the records with what the upstream has got: who has a copy has
// one record that says sent or unknown, and nobody else has one that says sent.
func (l *ledger) check(t *testing.T, u *upstream, rcpts []string) {
	t.Helper()
	l.follows(t)
	has := map[string]bool{}
	for _, m := range u.received() {
		for _, r := range m.rcpts {
			has[r] = true
		}
	}
	for _, r := range rcpts {
		n := map[audit.Outcome]int{}
		for _, rec := range l.all() {
			if rec.Recipient == r {
				n[rec.Outcome]++
			}
		}
		if ends := n[audit.Sent] + n[audit.Unknown]; ends > 1 || has[r] && ends == 0 || !has[r] && n[audit.Sent] > 0 {
			t.Errorf("%s has a copy: %v; records: %v", r, has[r], n)
		}
	}
}

// TestWhoGetsNothingHasARecord: one for each recipient and attempt, whoever refused
// him and whenever.
func TestWhoGetsNothingHasARecord(t *testing.T) {
	const message = "<1@example.org>"
	at := func(step string, to string, f fault) func(string, int, string) fault {
		return func(s string, _ int, arg string) fault {
			if s == step && strings.Contains(arg, to) {
				return f
			}
			return fault{}
		}
	}
	bobAndCarol := "C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 250\nC: RCPT TO:<carol@example.net>\nS: 250\nC: DATA\nS: 354\n"
	for _, tt := range []struct {
		name   string
		fault  func(step string, n int, arg string) fault
		set    option
		say    string // to the bridge, after the login; LETTER stands for a message to Bob
		record []string
	}{
		{"refused by the upstream at RCPT, and the client gives up", at("rcpt", "bob", fault{reply: "550 5.1.1 nobody"}), nil,
			"C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 550 5.1.1\nC: QUIT\nS: 221",
			[]string{"bob refused 550 5.1.1"}},
		{"refused by the upstream at RCPT, and the message goes to another", at("rcpt", "bob", fault{reply: "550 5.1.1 nobody"}), nil,
			"C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 550 5.1.1\nC: RCPT TO:<carol@example.net>\nS: 250\nC: DATA\nS: 354\nLETTER\nS: 250",
			[]string{"bob refused 550 5.1.1 " + message, "carol sending 0  " + message, "carol sent 250 2.0.0 " + message}},
		{"put off at RCPT, and then taken in the same transaction", func(step string, n int, _ string) fault {
			if step == "rcpt" && n == 1 {
				return fault{reply: "450 4.2.1 later"}
			}
			return fault{}
		}, nil,
			"C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 450\nC: RCPT TO:<bob@example.net>\nS: 250\nC: DATA\nS: 354\nLETTER\nS: 250",
			[]string{"bob sending 0  " + message, "bob sent 250 2.0.0 " + message}},
		{"put off at RCPT, and tried again in another transaction", func(step string, n int, _ string) fault {
			if step == "rcpt" && n == 1 {
				return fault{reply: "450 4.2.1 later"}
			}
			return fault{}
		}, nil,
			"C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 450\nC: RSET\nS: 250\n" +
				"C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 250\nC: DATA\nS: 354\nLETTER\nS: 250",
			[]string{"bob deferred 450 4.2.1", "bob sending 0  " + message, "bob sent 250 2.0.0 " + message}},
		{"the upstream can't be asked", at("connect", "", fault{drop: true}), nil,
			"C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 451 4.4.1\nC: RSET\nS: 250",
			[]string{"bob deferred 451 4.4.1"}},
		{"the upstream refuses the sender", at("mail", "", fault{reply: "550 5.7.1 not you"}), nil,
			"C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 550 5.7.1\nC: EHLO again\nS: 250",
			[]string{"bob refused 550 5.7.1"}},
		{"looking for the certificate fails", nil, func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
			a.Find = finder(func(context.Context, address.Address) (keydir.Finding, error) {
				return keydir.Finding{}, errors.New("the store is gone")
			})
		}, "C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 451 4.3.0\nC: QUIT\nS: 221",
			[]string{"bob deferred 451 4.3.0"}},
		{"refused by the rules", nil, func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
			a.Rules = func() *policy.Rules { return rules(t, policy.Config{Default: policy.Require}) }
		}, "C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<zoe@example.net>\nS: 550 5.7.1\nC: QUIT\nS: 221",
			[]string{"zoe refused 550 5.7.1"}},
		{"the rules let a message go to both or none", nil, nil,
			"C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 250\nC: RCPT TO:<zoe@example.net>\nS: 250\nC: DATA\nS: 354\nLETTER\nS: 550 5.7.1",
			[]string{"bob refused 550 5.7.1 " + message, "zoe refused 550 5.7.1 " + message}},
		{"the message is refused after its end", at("dot", "", fault{reply: "554 5.7.1 spam"}), nil, bobAndCarol + "LETTER\nS: 554 5.7.1",
			[]string{"bob sending 0  " + message, "bob refused 554 5.7.1 " + message, "carol sending 0  " + message, "carol refused 554 5.7.1 " + message}},
		{"put off after the end of the message", at("dot", "", fault{reply: "451 4.3.0 later"}), nil, bobAndCarol + "LETTER\nS: 451 4.3.0",
			[]string{"bob sending 0  " + message, "bob deferred 451 4.3.0 " + message, "carol sending 0  " + message, "carol deferred 451 4.3.0 " + message}},
		{"no answer to the end of the message of the first", at("dot", "bob", fault{drop: true}), nil, bobAndCarol + "LETTER\nS: 451 4.4.2",
			[]string{"bob sending 0  " + message, "bob unknown 451 4.4.2 " + message, "carol sending 0  " + message, "carol deferred 451 4.4.2 " + message}},
		{"the message is no mail", nil, nil, bobAndCarol + "C: a bare\rCR\nC: .\nS: 554 5.6.0",
			[]string{"bob refused 554 5.6.0", "carol refused 554 5.6.0"}},
		{"a chunk is too large", nil, func(c *smtpd.Config, _ *smtpd.Account, _ *queue.Config) { c.MaxSize = 1 << 20 },
			"C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 250\nC: BDAT 2000000 LAST\nS: 552 5.3.4",
			[]string{"bob refused 552 5.3.4"}},
		{"a recipient that was taken, and no message", nil, nil,
			"C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 250\nC: QUIT\nS: 221", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u, log := newUpstream(t), &ledger{}
			u.failWith(tt.fault)
			opts := []option{log.set}
			if tt.set != nil {
				opts = append(opts, tt.set)
			}
			b := newBridge(t, u, opts...)
			k := b.login()
			before, after, has := strings.Cut(tt.say, "LETTER\n")
			k.run(before)
			if has {
				k.send(wired(letter("1", "bob@example.net")) + ".\r\n")
				k.run(after)
			}
			k.c.Close()
			eventually(t, "everything is recorded", func() bool { return len(log.lines()) >= len(tt.record) })
			b.stop()
			if got := log.lines(); !slices.Equal(got, tt.record) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.record, "\n"))
			}
			for _, r := range log.all() {
				if r.Account != "alice@example.org" || r.Sender != "alice@example.org" || r.Action == "" {
					t.Errorf("a record says too little: %+v", r)
				}
			}
			log.follows(t)
		})
	}
}

// TestARequiredRecordThatFailsIsFollowed: nothing left, and the client was told.
func TestARequiredRecordThatFailsIsFollowed(t *testing.T) {
	u, log := newUpstream(t), &ledger{broken: true}
	b := newBridge(t, u, log.set)
	if got := b.login().submit(wired(letter("1", "bob@example.net")), "bob@example.net"); !strings.HasPrefix(got, "451") {
		t.Fatalf("reply %q", got)
	}
	if n := len(u.received()); n != 0 {
		t.Errorf("%d messages left without their record", n)
	}
	eventually(t, "the refusal is recorded", func() bool { return len(log.lines()) == 2 })
	log.follows(t)
}

// TestARepetitionHasNoRecordOfItsOwn where the first attempt's says all.
func TestARepetitionHasNoRecordOfItsOwn(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault fault
		reply string
		last  audit.Outcome
	}{
		{"sent", fault{}, "250", audit.Sent},
		{"nobody knows", fault{drop: true}, "451 4.4.2", audit.Unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u, log := newUpstream(t), &ledger{}
			b := newBridge(t, u, log.set)
			u.failWith(func(step string, n int, _ string) fault {
				if step == "dot" && n == 1 {
					return tt.fault
				}
				return fault{}
			})
			for range 2 {
				if got := b.login().submit(wired(letter("1", "bob@example.net")), "bob@example.net"); !strings.HasPrefix(got, tt.reply) {
					t.Fatalf("reply %q", got)
				}
			}
			b.stop()
			rs := log.all()
			if len(rs) != 2 || rs[0].Outcome != audit.Sending || rs[1].Outcome != tt.last {
				t.Errorf("got %q", log.lines())
			}
		})
	}
}

// TestDroppingIsRecorded: what a person takes out of the queue has an end too.
func TestDroppingIsRecorded(t *testing.T) {
	u, log := newUpstream(t), &ledger{}
	b := newBridge(t, u, log.set)
	u.failWith(func(step string, n int, arg string) fault {
		if step == "dot" && strings.Contains(arg, "carol") {
			return fault{reply: "451 4.3.0 later"}
		}
		return fault{}
	})
	if got := b.login().submit(wired(letter("1", "bob@example.net")), "bob@example.net", "carol@example.net"); !strings.HasPrefix(got, "250") {
		t.Fatalf("reply %q", got)
	}
	es, err := b.queue.List(t.Context(), queue.Waiting, 10)
	if err != nil || len(es) != 1 {
		t.Fatalf("queue: %+v, %v", es, err)
	}
	if err := b.queue.Drop(t.Context(), es[0].ID); err != nil {
		t.Fatal(err)
	}
	rs := log.all()
	if last := rs[len(rs)-1]; last.Outcome != audit.Dropped || last.Recipient != "carol@example.net" || last.Entry != es[0].ID || last.Message != "<1@example.org>" {
		t.Errorf("the last record is %+v", last)
	}
}
