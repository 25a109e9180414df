package policy_test

import (
	"slices"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/policy"
)

func TestMessage(t *testing.T) {
	encrypt := func(a address.Address, rule string, m policy.Mode) policy.Decision {
		return policy.Decision{Recipient: a, Action: policy.Encrypt, Mode: m, Rule: rule, Certificates: certs, Reason: "found"}
	}
	with := func(a address.Address, rule string, act policy.Action) policy.Decision {
		return policy.Decision{Recipient: a, Action: act, Mode: policy.Prefer, Rule: rule, Reason: "given"}
	}
	covers := map[string]bool{bob.Key(): true}
	tests := []struct {
		name string
		m    policy.Message
		each []policy.Decision
		want []policy.Action
		says string // in the last decision's reason or hint
	}{
		{"everybody has a certificate", policy.Message{}, []policy.Decision{encrypt(bob, "default", policy.Require), encrypt(carol, "default", policy.Prefer)}, []policy.Action{policy.Encrypt, policy.Encrypt}, "found"},
		{"nobody has one", policy.Message{}, []policy.Decision{with(bob, "default", policy.SendClear), with(carol, "default", policy.SignOnly)}, []policy.Action{policy.SendClear, policy.SignOnly}, "given"},
		{"nobody at all", policy.Message{}, nil, nil, ""},
		{"one has, one has not: to nobody", policy.Message{}, []policy.Decision{encrypt(bob, "default", policy.Prefer), with(carol, "default", policy.SendClear)}, []policy.Action{policy.RefuseMessage, policy.RefuseMessage}, "encrypted for bob@partner.example, and carol@else.example would get the same text in clear"},
		{"signed is readable too", policy.Message{}, []policy.Decision{encrypt(bob, "default", policy.Prefer), with(carol, "default", policy.SignOnly)}, []policy.Action{policy.RefuseMessage, policy.RefuseMessage}, "Write to them separately"},
		{"split where the rules of both say so", policy.Message{}, []policy.Decision{encrypt(bob, "split", policy.Require), with(carol, "split", policy.SendClear)}, []policy.Action{policy.Encrypt, policy.SendClear}, `mixed = "split" of rule "split"`},
		{"split where one says clear", policy.Message{}, []policy.Decision{encrypt(bob, "clear", policy.Require), with(carol, "split", policy.SendClear)}, []policy.Action{policy.Encrypt, policy.SendClear}, "split"},
		{"the stricter of two rules holds", policy.Message{}, []policy.Decision{encrypt(bob, "default", policy.Prefer), with(carol, "split", policy.SendClear)}, []policy.Action{policy.RefuseMessage, policy.RefuseMessage}, "same text"},
		{"a rule that is gone is the strictest", policy.Message{}, []policy.Decision{encrypt(bob, "gone", policy.Prefer), with(carol, "split", policy.SendClear)}, []policy.Action{policy.RefuseMessage, policy.RefuseMessage}, "same text"},
		{"clear to all where the rules of both say so", policy.Message{}, []policy.Decision{with(carol, "clear", policy.SendClear), encrypt(bob, "clear", policy.Prefer)}, []policy.Action{policy.SendClear, policy.SendClear}, `mixed = "clear" of rule "clear"`},
		{"clear to all never includes who requires", policy.Message{}, []policy.Decision{with(carol, "clear", policy.SendClear), encrypt(bob, "clear", policy.Require)}, []policy.Action{policy.RefuseMessage, policy.RefuseMessage}, "goes to all recipients or to none"},
		{"clear waits while another's protection is open", policy.Message{}, []policy.Decision{with(dave, "default", policy.Defer), with(carol, "default", policy.SendClear)}, []policy.Action{policy.Defer, policy.Defer}, "not settled whether dave@waits.example"},
		{"split doesn't wait", policy.Message{}, []policy.Decision{with(dave, "split", policy.Defer), with(carol, "split", policy.SendClear)}, []policy.Action{policy.Defer, policy.SendClear}, "or not at all"},
		{"clear doesn't wait, and who waits gets no clear copy", policy.Message{}, []policy.Decision{with(dave, "clear", policy.Defer), with(carol, "clear", policy.SendClear)}, []policy.Action{policy.Defer, policy.SendClear}, "given"},
		{"sealed doesn't wait", policy.Message{}, []policy.Decision{with(dave, "default", policy.Defer), encrypt(bob, "default", policy.Prefer)}, []policy.Action{policy.Defer, policy.Encrypt}, "found"},
		{"who was refused at RCPT doesn't matter", policy.Message{}, []policy.Decision{with(bob, "default", policy.RefuseMessage), with(carol, "split", policy.SendClear)}, []policy.Action{policy.RefuseMessage, policy.SendClear}, "given"},
		{"nor does its rule", policy.Message{}, []policy.Decision{with(dave, "default", policy.RefuseMessage), encrypt(bob, "split", policy.Prefer), with(carol, "split", policy.SendClear)}, []policy.Action{policy.RefuseMessage, policy.Encrypt, policy.SendClear}, "split"},
		{"an answer to a decrypted message is never clear", policy.Message{AnswersDecrypted: true}, []policy.Decision{with(carol, "clear", policy.SendClear)}, []policy.Action{policy.RefuseMessage}, "Leave carol@else.example out"},
		{"nor signed only", policy.Message{AnswersDecrypted: true}, []policy.Decision{with(carol, "clear", policy.SignOnly)}, []policy.Action{policy.RefuseMessage}, "came encrypted"},
		{"nor split", policy.Message{AnswersDecrypted: true}, []policy.Decision{with(carol, "split", policy.SendClear), encrypt(bob, "split", policy.Prefer)}, []policy.Action{policy.RefuseMessage, policy.RefuseMessage}, "or to none"},
		{"it may be sealed", policy.Message{AnswersDecrypted: true}, []policy.Decision{encrypt(bob, "clear", policy.Prefer)}, []policy.Action{policy.Encrypt}, "found"},
		{"sealed by the sender's program and covered passes", policy.Message{Sealed: true, Covers: covers}, []policy.Decision{encrypt(bob, "default", policy.Require)}, []policy.Action{policy.PassSealed}, "already"},
		{"sealed passes to who has no certificate", policy.Message{Sealed: true, AnswersDecrypted: true}, []policy.Decision{with(carol, "default", policy.SendClear)}, []policy.Action{policy.PassSealed}, "already"},
		{"sealed for somebody else doesn't satisfy require", policy.Message{Sealed: true, Covers: covers}, []policy.Decision{encrypt(bob, "default", policy.Require), encrypt(carol, "split", policy.Require)}, []policy.Action{policy.RefuseMessage, policy.RefuseMessage}, "not to the certificate known of carol@else.example"},
		{"sealed for somebody else passes under prefer", policy.Message{Sealed: true}, []policy.Decision{encrypt(carol, "default", policy.Prefer)}, []policy.Action{policy.PassSealed}, "already"},
		{"sealed changes nothing for who was deferred", policy.Message{Sealed: true}, []policy.Decision{with(bob, "default", policy.Defer)}, []policy.Action{policy.Defer}, "given"},
		{"nothing decided is refused", policy.Message{}, []policy.Decision{{Recipient: bob}}, []policy.Action{policy.RefuseMessage}, "nothing was decided"},
	}
	r := rules(t, policy.Config{Rules: []policy.Rule{
		{Name: "split", To: []string{"*"}, Mode: policy.Prefer, Mixed: policy.MixedSplit},
		{Name: "clear", To: []string{"*"}, Mode: policy.Prefer, Mixed: policy.MixedClear},
	}})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := r.Message(tt.m, tt.each)
			var got []policy.Action
			for _, d := range out {
				got = append(got, d.Action)
			}
			if !slices.Equal(got, tt.want) {
				t.Fatalf("actions %q, want %q", got, tt.want)
			}
			if n := len(out); n > 0 && !strings.Contains(out[n-1].Reason+" "+out[n-1].Hint, tt.says) {
				t.Errorf("%q %q does not say %q", out[n-1].Reason, out[n-1].Hint, tt.says)
			}
			checkMessage(t, tt.m, tt.each, out)
		})
	}
}

// Every combination of facts: a recipient gets a readable copy only where one of
// three sentences allows it.
func TestClearOnlyWhereAllowed(t *testing.T) {
	for _, c := range everyConfig() {
		r := rules(t, c)
		for _, f := range everyFinding() {
			d := r.Recipient(alice, f)
			allowed := false
			switch {
			case c.Default == policy.Cleartext:
				allowed = d.Action == policy.SendClear
			case c.Default == policy.Sign:
				allowed = d.Action == policy.SignOnly
			case c.Default == policy.Prefer:
				allowed = d.Action == policy.SendClear && !f.Known && f.Problem == "" && len(f.Certificates) == 0 &&
					f.Identity != pgp.Conflict && (f.Outcome == keydir.Absent || f.Outcome == keydir.NoDirectory)
			}
			if readable(d) && !allowed {
				t.Fatalf("%+v: %s for %+v", c, d.Action, f)
			}
			if d.Action == policy.Encrypt && (f.Problem != "" || f.Outcome != keydir.Found || len(f.Certificates) == 0 || !f.Identity.AtLeast(pgp.FirstSeen)) {
				t.Fatalf("%+v: encrypts for %+v", c, f)
			}
			if d.Reason == "" || d.Rule == "" || !slices.Contains(actions[:7], d.Action) {
				t.Fatalf("%+v: decision without action, reason or rule: %+v", f, d)
			}
			checkMessage(t, policy.Message{}, []policy.Decision{d}, r.Message(policy.Message{}, []policy.Decision{d}))
		}
	}
}

func everyConfig() (all []policy.Config) {
	for _, m := range []policy.Mode{policy.Require, policy.Prefer, policy.Sign, policy.Cleartext, policy.Refuse} {
		for _, u := range []policy.Unavailable{policy.UnavailableDefer, policy.UnavailableRefuse} {
			for _, x := range []policy.Mixed{policy.MixedRefuse, policy.MixedClear, policy.MixedSplit} {
				all = append(all, policy.Config{Default: m, Unavailable: u, Mixed: x})
			}
		}
	}
	return all
}

func everyFinding() (all []keydir.Finding) {
	for _, o := range []keydir.Outcome{"", keydir.Found, keydir.Absent, keydir.NoDirectory, keydir.Unavailable, "odd"} {
		for _, p := range []string{"", keydir.ProblemExpired, keydir.ProblemRevoked, keydir.ProblemWeak, keydir.ProblemChanged, keydir.ProblemConflict, keydir.ProblemGone, keydir.ProblemTampered, "odd"} {
			for _, i := range []pgp.Identity{pgp.Unknown, pgp.FirstSeen, pgp.Directory, pgp.Organisation, pgp.Confirmed, pgp.Conflict} {
				for n := range 8 {
					f := keydir.Finding{Address: bob, Outcome: o, Problem: p, Identity: i, Known: n&1 != 0, Stale: n&2 != 0}
					if n&4 != 0 {
						f.Certificates = certs
					}
					all = append(all, f)
				}
			}
		}
	}
	return all
}

var (
	actions = []policy.Action{policy.Encrypt, policy.SignOnly, policy.SendClear, policy.PassSealed, policy.Defer, policy.RefuseMessage, policy.Hold, "", "odd"}
	mixes   = map[string]policy.Mixed{"refuse": policy.MixedRefuse, "clear": policy.MixedClear, "split": policy.MixedSplit}
)

// Every pair of decisions, and triples of the likelier ones, under every fact of
// a message.
func TestOneMessageOneProtection(t *testing.T) {
	var c policy.Config
	for _, name := range []string{"refuse", "clear", "split"} {
		c.Rules = append(c.Rules, policy.Rule{Name: name, To: []string{"*"}, Mode: policy.Prefer, Mixed: mixes[name]})
	}
	r := rules(t, c)
	every := func(a address.Address, names []string, actions []policy.Action) (all []policy.Decision) {
		for _, name := range names {
			for _, m := range []policy.Mode{policy.Require, policy.Prefer} {
				for _, act := range actions {
					d := policy.Decision{Recipient: a, Action: act, Mode: m, Rule: name, Reason: "given"}
					if act == policy.Encrypt {
						d.Certificates = certs
					}
					all = append(all, d)
				}
			}
		}
		return all
	}
	facts := func(each ...policy.Decision) {
		for n := range 16 {
			m := policy.Message{From: alice, AnswersDecrypted: n&1 != 0, Sealed: n&2 != 0,
				Covers: map[string]bool{bob.Key(): n&4 != 0, carol.Key(): n&8 != 0}}
			before := slices.Clone(each)
			out := r.Message(m, each)
			checkMessage(t, m, before, out)
			if t.Failed() {
				t.Fatalf("%+v\n in %+v\nout %+v", m, before, out)
			}
		}
	}
	names := []string{"refuse", "clear", "split", "gone"}
	for _, b := range every(bob, names, actions) {
		for _, c := range every(carol, names, actions) {
			facts(b, c)
		}
	}
	some := []policy.Action{policy.Encrypt, policy.SendClear, policy.Defer, policy.RefuseMessage}
	for _, b := range every(bob, names[:3], some) {
		for _, c := range every(carol, names[:3], some) {
			for _, d := range every(dave, names[:3], some) {
				facts(b, c, d)
			}
		}
	}
}

func readable(d policy.Decision) bool {
	return d.Action == policy.SendClear || d.Action == policy.SignOnly
}
func sealed(d policy.Decision) bool {
	return d.Action == policy.Encrypt || d.Action == policy.PassSealed
}

// checkMessage holds what Message promises, written without its code.
func checkMessage(t *testing.T, m policy.Message, in, out []policy.Decision) {
	t.Helper()
	if len(in) != len(out) {
		t.Fatalf("%d decisions of %d", len(out), len(in))
	}
	everyone := func(say ...policy.Mixed) bool { // of those not refused
		return !slices.ContainsFunc(in, func(d policy.Decision) bool {
			return d.Action != policy.RefuseMessage && d.Action != "" && d.Action != "odd" &&
				!slices.Contains(say, mixes[d.Rule]) // of an unknown rule: ""
		})
	}
	anyReadable := slices.ContainsFunc(out, readable)
	if anyReadable && (m.AnswersDecrypted || m.Sealed) {
		t.Error("a readable copy of what answers a decrypted message, or was sealed")
	}
	if anyReadable && slices.ContainsFunc(out, sealed) && !everyone(policy.MixedSplit, policy.MixedClear) {
		t.Error("sealed for one, readable for another, and no rule says so")
	}
	waits := func(d policy.Decision) bool { return d.Action == policy.Defer || d.Action == policy.Hold }
	if anyReadable && slices.ContainsFunc(in, waits) && !everyone(policy.MixedSplit, policy.MixedClear) {
		t.Error("a readable copy goes while another's protection is open")
	}
	stopped, going := false, false
	for i := range out {
		was, is := in[i], out[i]
		goes := readable(is) || sealed(is)
		going = going || goes
		stopped = stopped || !goes && (readable(was) || sealed(was))
		switch {
		case is.Recipient != was.Recipient || is.Rule != was.Rule || is.Reason == "":
			t.Error("recipient, rule or reason lost")
		case readable(is) && was.Action != is.Action && !(was.Action == policy.Encrypt && was.Mode == policy.Prefer && everyone(policy.MixedClear)):
			t.Error("a recipient's copy became readable")
		case goes && !(readable(was) || sealed(was)):
			t.Error("a copy goes that was refused or deferred")
		case is.Action == policy.Encrypt && (was.Action != policy.Encrypt || len(is.Certificates) == 0):
			t.Error("encrypt out of nothing")
		case is.Action != policy.Encrypt && len(is.Certificates) > 0:
			t.Error("certificates of a copy that isn't encrypted by us")
		case m.Sealed && goes && (is.Action != policy.PassSealed || is.Mode == policy.Require && !m.Covers[is.Recipient.Key()]):
			t.Error("a sealed message changes, or doesn't cover who requires")
		case waits(was) && is.Action != was.Action:
			t.Error("a deferred recipient changed")
		}
	}
	if stopped && going {
		t.Error("DATA has one reply, but some copies go and others were stopped")
	}
}
