package policy_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/policy"
)

// ruled has a rule for each domain MODE-MIXED.example, and for others of which
// the name tells what they do; plan makes decisions by it.
func ruled(t testing.TB) *policy.Rules {
	var c policy.Config
	for _, m := range []policy.Mode{policy.Require, policy.Prefer, policy.Sign, policy.Cleartext} {
		for _, x := range everyMixed {
			c.Rules = append(c.Rules, policy.Rule{Name: fmt.Sprintf("%s-%s", m, x), To: []string{fmt.Sprintf("*@%s-%s.example", m, x)}, Mode: m, Settings: policy.Settings{Mixed: x}})
			if m == policy.Require || m == policy.Prefer {
				for _, then := range []policy.Then{policy.ThenHold, policy.ThenPassword} {
					c.Rules = append(c.Rules, policy.Rule{Name: fmt.Sprintf("%s-%s-%s", m, x, then), To: []string{fmt.Sprintf("*@%s-%s-%s.example", m, x, then)}, Mode: m,
						Settings: policy.Settings{Mixed: x, Missing: then}})
				}
			}
		}
	}
	return rules(t, c)
}

var everyMixed = []policy.Mixed{policy.MixedRefuse, policy.MixedClear, policy.MixedSplit}

// at is an address of a rule of ruled.
func at(local, rule string) address.Address {
	return address.Address{Local: local, Domain: rule + ".example"}
}

func has(a address.Address) keydir.Finding { return found(a, pgp.Directory) }
func none(a address.Address) keydir.Finding {
	return keydir.Finding{Address: a, Outcome: keydir.Absent}
}
func down(a address.Address) keydir.Finding {
	return keydir.Finding{Address: a, Outcome: keydir.Unavailable}
}
func lost(a address.Address) keydir.Finding {
	return keydir.Finding{Address: a, Outcome: keydir.Absent, Known: true}
}

func TestMessage(t *testing.T) {
	type facts = []keydir.Finding
	b := func(rule string) address.Address { return at("bob", rule) }
	c := func(rule string) address.Address { return at("carol", rule) }
	covers := map[string]bool{b("require-refuse").Key(): true}
	answers := policy.Message{AnswersDecrypted: true}
	tests := []struct {
		name string
		m    policy.Message
		each facts
		want []policy.Action
		says string // in the last decision's reason or hint
	}{
		{"everybody has a certificate", policy.Message{}, facts{has(b("require-refuse")), has(c("prefer-refuse"))}, []policy.Action{policy.Encrypt, policy.Encrypt}, "has a certificate"},
		{"nobody has one", policy.Message{}, facts{none(b("prefer-refuse")), none(c("sign-refuse"))}, []policy.Action{policy.SendClear, policy.SignOnly}, "signed"},
		{"nobody at all", policy.Message{}, nil, nil, ""},
		{"one has, one has not: to nobody", policy.Message{}, facts{has(b("prefer-refuse")), none(c("prefer-refuse"))}, []policy.Action{policy.RefuseMessage, policy.RefuseMessage},
			"encrypted for bob@prefer-refuse.example, and carol@prefer-refuse.example would get the same text in clear"},
		{"signed is readable too", policy.Message{}, facts{has(b("prefer-refuse")), none(c("sign-refuse"))}, []policy.Action{policy.RefuseMessage, policy.RefuseMessage}, "Write to them separately"},
		{"split where the rules of both say so", policy.Message{}, facts{has(b("require-split")), none(c("prefer-split"))}, []policy.Action{policy.Encrypt, policy.SendClear}, `mixed = "split" of rule "require-split"`},
		{"split where one says clear", policy.Message{}, facts{has(b("require-clear")), none(c("prefer-split"))}, []policy.Action{policy.Encrypt, policy.SendClear}, "split"},
		{"the stricter of two rules holds", policy.Message{}, facts{has(b("prefer-refuse")), none(c("prefer-split"))}, []policy.Action{policy.RefuseMessage, policy.RefuseMessage}, "same text"},
		{"clear to all where the rules of both say so", policy.Message{}, facts{none(c("prefer-clear")), has(b("prefer-clear"))}, []policy.Action{policy.SendClear, policy.SendClear}, `mixed = "clear" of rule "prefer-clear"`},
		{"clear to all never includes who requires", policy.Message{}, facts{none(c("prefer-clear")), has(b("require-clear"))}, []policy.Action{policy.RefuseMessage, policy.RefuseMessage}, "goes to all recipients or to none"},
		{"clear to all never includes who is held", policy.Message{}, facts{none(c("prefer-clear")), none(b("prefer-clear-hold"))}, []policy.Action{policy.RefuseMessage, policy.RefuseMessage}, "to none"},
		{"clear to all never includes who gets it under a password", policy.Message{}, facts{none(c("prefer-clear")), none(b("prefer-clear-password"))}, []policy.Action{policy.RefuseMessage, policy.RefuseMessage}, "to none"},
		{"what is held doesn't go in clear to another", policy.Message{}, facts{none(b("require-refuse-hold")), none(c("prefer-refuse"))}, []policy.Action{policy.RefuseMessage, policy.RefuseMessage}, "same text"},
		{"what goes under a password neither", policy.Message{}, facts{none(b("require-refuse-password")), none(c("cleartext-refuse"))}, []policy.Action{policy.RefuseMessage, policy.RefuseMessage}, "same text"},
		{"held for one, encrypted for another", policy.Message{}, facts{none(b("require-refuse-hold")), has(c("prefer-refuse"))}, []policy.Action{policy.Hold, policy.Encrypt}, "has a certificate"},
		{"split with one held", policy.Message{}, facts{none(b("require-split-hold")), none(c("prefer-split"))}, []policy.Action{policy.Hold, policy.SendClear}, "split"},
		{"clear waits while another's protection is open", policy.Message{}, facts{down(b("prefer-refuse")), none(c("prefer-refuse"))}, []policy.Action{policy.Defer, policy.Defer}, "not settled whether bob@"},
		{"split doesn't wait", policy.Message{}, facts{down(b("prefer-split")), none(c("prefer-split"))}, []policy.Action{policy.Defer, policy.SendClear}, "or not at all"},
		{"clear doesn't wait, and who waits gets no clear copy", policy.Message{}, facts{down(b("prefer-clear")), none(c("prefer-clear"))}, []policy.Action{policy.Defer, policy.SendClear}, "without requiring it"},
		{"sealed doesn't wait", policy.Message{}, facts{down(b("prefer-refuse")), has(c("prefer-refuse"))}, []policy.Action{policy.Defer, policy.Encrypt}, "has a certificate"},
		{"who was refused at RCPT doesn't matter", policy.Message{}, facts{lost(b("prefer-refuse")), none(c("prefer-split"))}, []policy.Action{policy.RefuseMessage, policy.SendClear}, "without requiring"},
		{"nor does its rule", policy.Message{}, facts{lost(at("dave", "prefer-refuse")), has(b("prefer-split")), none(c("prefer-split"))}, []policy.Action{policy.RefuseMessage, policy.Encrypt, policy.SendClear}, "split"},
		{"an answer to a decrypted message is never clear", answers, facts{none(c("prefer-clear"))}, []policy.Action{policy.RefuseMessage}, "Leave carol@prefer-clear.example out"},
		{"nor signed only", answers, facts{none(c("sign-clear"))}, []policy.Action{policy.RefuseMessage}, "came encrypted"},
		{"nor where the rule is cleartext", answers, facts{none(c("cleartext-clear"))}, []policy.Action{policy.RefuseMessage}, "came encrypted"},
		{"nor split", answers, facts{none(c("prefer-split")), has(b("prefer-split"))}, []policy.Action{policy.RefuseMessage, policy.RefuseMessage}, "or to none"},
		{"it may be sealed", answers, facts{has(b("prefer-clear"))}, []policy.Action{policy.Encrypt}, "has a certificate"},
		{"it may be held", answers, facts{none(b("prefer-clear-hold"))}, []policy.Action{policy.Hold}, "is held until"},
		{"it may go under a password", answers, facts{none(b("require-clear-password"))}, []policy.Action{policy.Password}, "protected by a password"},
		{"sealed by the sender's program and covered passes", policy.Message{Sealed: true, Covers: covers}, facts{has(b("require-refuse"))}, []policy.Action{policy.PassSealed}, "already"},
		{"sealed passes to who has no certificate", policy.Message{Sealed: true, AnswersDecrypted: true}, facts{none(c("prefer-refuse"))}, []policy.Action{policy.PassSealed}, "already"},
		{"sealed isn't held under prefer", policy.Message{Sealed: true}, facts{none(c("prefer-refuse-hold"))}, []policy.Action{policy.PassSealed}, "already"},
		{"sealed for somebody else doesn't satisfy require", policy.Message{Sealed: true, Covers: covers}, facts{has(b("require-refuse")), has(c("require-split"))}, []policy.Action{policy.RefuseMessage, policy.RefuseMessage}, "not to the certificate known of carol@require-split.example"},
		{"nor where it would have been held", policy.Message{Sealed: true}, facts{none(c("require-refuse-hold"))}, []policy.Action{policy.RefuseMessage}, "not to the certificate known"},
		{"sealed for somebody else passes under prefer", policy.Message{Sealed: true}, facts{has(c("prefer-refuse"))}, []policy.Action{policy.PassSealed}, "already"},
		{"sealed changes nothing for who was deferred", policy.Message{Sealed: true}, facts{down(b("prefer-refuse"))}, []policy.Action{policy.Defer}, "could not be asked"},
	}
	r := ruled(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var each []policy.Decision
			for _, f := range tt.each {
				each = append(each, r.Recipient(alice, f))
			}
			out := r.Message(tt.m, each)
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
			checkMessage(t, tt.m, each, out)
		})
	}
}

// What nobody decided goes nowhere, whatever it says of itself.
func TestWhatNobodyDecidedIsRefused(t *testing.T) {
	for _, c := range []policy.Config{{}, {DryRun: true}, {Default: policy.Cleartext}} {
		r := rules(t, c)
		for _, a := range actions {
			for _, d := range []policy.Decision{{Recipient: bob, Action: a, Certificates: certs}, {Action: a}, {Recipient: bob, Action: a, Finding: has(carol)}} {
				got := r.Message(policy.Message{}, []policy.Decision{d})[0]
				want := policy.RefuseMessage
				if a == policy.Defer {
					want = policy.Defer
				}
				if got.Action != want || len(got.Certificates) > 0 || a != want && got.Cause != policy.CauseFault {
					t.Errorf("%q without facts became %q (%s)", a, got.Action, got.Cause)
				}
			}
		}
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
			case c.Default == policy.Prefer && c.MissingPrefer == policy.ThenClear:
				allowed = d.Action == policy.SendClear && !f.Known && f.Problem == "" && len(f.Certificates) == 0 &&
					f.Identity != pgp.Conflict && (f.Outcome == keydir.Absent || f.Outcome == keydir.NoDirectory)
			}
			if readable(d) && !allowed {
				t.Fatalf("%+v: %s for %+v", c, d.Action, f)
			}
			usable := f.Problem == "" && len(f.Certificates) > 0 && f.Identity.AtLeast(pgp.FirstSeen) ||
				c.AcceptWKDAfter > 0 && f.Successor != nil && d.Cause == policy.CauseSuccessor
			if d.Action == policy.Encrypt && (f.Outcome == keydir.Unavailable || !usable) {
				t.Fatalf("%+v: encrypts for %+v", c, f)
			}
			if d.Reason == "" || d.Rule == "" || d.Cause == "" || !slices.Contains(actions[:8], d.Action) {
				t.Fatalf("%+v: decision without action, reason, cause or rule: %+v", f, d)
			}
			if !reflect.DeepEqual(d, r.Recipient(alice, f)) {
				t.Fatal("the same facts gave another decision")
			}
			out := r.Message(policy.Message{}, []policy.Decision{d})
			if checkMessage(t, policy.Message{}, []policy.Decision{d}, out); out[0].Action != d.Action {
				t.Fatalf("%+v: %s at RCPT and %s at DATA, without a rule that looks at the message", f, d.Action, out[0].Action)
			}
		}
	}
}

func everyConfig() (all []policy.Config) {
	for _, m := range []policy.Mode{policy.Require, policy.Prefer, policy.Sign, policy.Cleartext, policy.Refuse} {
		for _, u := range []policy.Then{policy.ThenDefer, policy.ThenHold, policy.ThenRefuse} {
			for _, x := range everyMixed {
				for _, h := range []policy.Then{policy.ThenRefuse, policy.ThenHold, policy.ThenPassword} {
					c := policy.Config{Default: m, MissingPrefer: h, Settings: policy.Settings{Missing: h, Unavailable: u, Mixed: x, Expired: h, Revoked: h, Weak: h, Gone: h}}
					if h == policy.ThenHold {
						c.Changed, c.Conflict, c.Untrusted, c.Sign = h, h, h, policy.SignAll
					}
					if h == policy.ThenRefuse {
						c.MissingPrefer, c.AcceptWKDAfter = policy.ThenClear, 72*time.Hour
					}
					all = append(all, c)
				}
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
					if p == keydir.ProblemConflict || p == keydir.ProblemChanged {
						f.Successor = &keydir.Successor{Certificates: certs, Served: 80 * time.Hour}
						all = append(all, f)
					}
				}
			}
		}
	}
	return all
}

var (
	actions = []policy.Action{policy.Encrypt, policy.SignOnly, policy.SendClear, policy.PassSealed, policy.Defer, policy.RefuseMessage, policy.Hold, policy.Password, "", "odd"}
)

// Every pair of rules and findings, and triples of the likelier ones, under
// every fact of a message.
func TestOneMessageOneProtection(t *testing.T) {
	r := ruled(t)
	every := func(local string, kinds []string, of ...func(address.Address) keydir.Finding) (all []policy.Decision) {
		for _, kind := range kinds {
			for _, f := range of {
				all = append(all, r.Recipient(alice, f(at(local, kind))))
			}
		}
		return all
	}
	facts := func(each ...policy.Decision) {
		for n := range 16 {
			m := policy.Message{From: alice, AnswersDecrypted: n&1 != 0, Sealed: n&2 != 0,
				Covers: map[string]bool{each[0].Recipient.Key(): n&4 != 0, each[1].Recipient.Key(): n&8 != 0}}
			before := slices.Clone(each)
			out := r.Message(m, each)
			checkMessage(t, m, before, out)
			if t.Failed() {
				t.Fatalf("%+v\n in %+v\nout %+v", m, before, out)
			}
		}
	}
	var kinds, fewer []string
	for _, x := range everyMixed {
		for _, m := range []string{"require", "prefer", "sign", "cleartext"} {
			kinds = append(kinds, fmt.Sprintf("%s-%s", m, x))
		}
		fewer = append(fewer, fmt.Sprintf("prefer-%s", x))
		for _, m := range []string{"require", "prefer"} {
			for _, h := range []string{"hold", "password"} {
				kinds = append(kinds, fmt.Sprintf("%s-%s-%s", m, x, h))
			}
		}
	}
	for _, b := range every("bob", kinds, has, none, down, lost) {
		for _, c := range every("carol", kinds, has, none, down, lost) {
			facts(b, c)
		}
	}
	for _, b := range every("bob", fewer, has, none, down, lost) {
		for _, c := range every("carol", fewer, has, none, down, lost) {
			for _, d := range every("dave", kinds, has, none, down, lost) {
				facts(b, c, d)
			}
		}
	}
}

func readable(d policy.Decision) bool {
	return d.Action == policy.SendClear || d.Action == policy.SignOnly
}
func sealed(d policy.Decision) bool {
	return slices.Contains([]policy.Action{policy.Encrypt, policy.PassSealed, policy.Hold, policy.Password}, d.Action)
}

// checkMessage holds what Message promises, written without its code.
func checkMessage(t *testing.T, m policy.Message, in, out []policy.Decision) {
	t.Helper()
	if len(in) != len(out) {
		t.Fatalf("%d decisions of %d", len(out), len(in))
	}
	everyone := func(say ...policy.Mixed) bool { // of those not refused
		return !slices.ContainsFunc(in, func(d policy.Decision) bool {
			return d.Action != policy.RefuseMessage && !slices.Contains(say, d.Mixed)
		})
	}
	anyReadable := slices.ContainsFunc(out, readable)
	if anyReadable && (m.AnswersDecrypted || m.Sealed) {
		t.Error("a readable copy of what answers a decrypted message, or was sealed")
	}
	if anyReadable && slices.ContainsFunc(out, sealed) && !everyone(policy.MixedSplit, policy.MixedClear) {
		t.Error("sealed for one, readable for another, and no rule says so")
	}
	waits := func(d policy.Decision) bool { return d.Action == policy.Defer }
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
		case is.Action == policy.Password && was.Action != policy.Password, is.Action == policy.Hold && was.Action != policy.Hold:
			t.Error("held, or under a password, out of nothing")
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

// TestTheAuthorCountsBesideTheEnvelope: whoever names another sender in MAIL, as
// lists, forwarders and programs do, goes around no rule for the author, nor the
// reverse.
func TestTheAuthorCountsBesideTheEnvelope(t *testing.T) {
	us := func(local string) address.Address { return address.Address{Local: local, Domain: "example.org"} }
	board, robot, other := us("board"), us("robot"), us("bounces")
	r := rules(t, policy.Config{Rules: []policy.Rule{
		{Name: "board", From: []string{"board@example.org"}, Mode: policy.Require},
		{Name: "robot", From: []string{"robot@example.org"}, Mode: policy.Cleartext},
	}})
	for _, tt := range []struct {
		name             string
		envelope, author address.Address
		to               keydir.Finding
		want             policy.Action
		rule             string
	}{
		{"both", board, board, none(dave), policy.RefuseMessage, "board"},
		{"the author alone", other, board, none(dave), policy.RefuseMessage, "board"},
		{"the envelope alone", board, other, none(dave), policy.RefuseMessage, "board"},
		{"neither", other, other, none(dave), policy.SendClear, "default"},
		{"no author that can be read", board, address.Address{}, none(dave), policy.RefuseMessage, "board"},
		{"a weak rule for both", robot, robot, has(bob), policy.SendClear, "robot"},
		{"a weak rule for the author alone", other, robot, has(bob), policy.Encrypt, "default"},
		{"a weak rule for the envelope alone", robot, other, has(bob), policy.Encrypt, "default"},
	} {
		d := r.Recipient(tt.envelope, tt.to)
		if tt.want == policy.RefuseMessage && !d.Action.Accepted() {
			d.Action = policy.SendClear // as another rule might have it at RCPT
		}
		if got := r.Message(policy.Message{From: tt.author}, []policy.Decision{d})[0]; got.Action != tt.want || got.Rule != tt.rule {
			t.Errorf("%s: %s by rule %q: %s", tt.name, got.Action, got.Rule, got.Reason)
		}
	}
}
