package policy_test

import (
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/policy"
)

func TestEachFactHasItsKey(t *testing.T) {
	trouble := func(p string) keydir.Finding {
		return keydir.Finding{Address: bob, Outcome: keydir.Found, Known: true, Problem: p}
	}
	tests := []struct {
		cause policy.Cause
		set   func(*policy.Settings, policy.Then)
		f     keydir.Finding
		may   []policy.Then
	}{
		{policy.CauseMissing, func(s *policy.Settings, h policy.Then) { s.Missing = h }, none(bob), []policy.Then{policy.ThenRefuse, policy.ThenHold, policy.ThenPassword}},
		{policy.CauseUnavailable, func(s *policy.Settings, h policy.Then) { s.Unavailable = h }, down(bob), []policy.Then{policy.ThenDefer, policy.ThenRefuse, policy.ThenHold}},
		{policy.CauseExpired, func(s *policy.Settings, h policy.Then) { s.Expired = h }, trouble(keydir.ProblemExpired), []policy.Then{policy.ThenRefuse, policy.ThenHold, policy.ThenPassword}},
		{policy.CauseRevoked, func(s *policy.Settings, h policy.Then) { s.Revoked = h }, trouble(keydir.ProblemRevoked), []policy.Then{policy.ThenRefuse, policy.ThenHold, policy.ThenPassword}},
		{policy.CauseWeak, func(s *policy.Settings, h policy.Then) { s.Weak = h }, trouble(keydir.ProblemWeak), []policy.Then{policy.ThenRefuse, policy.ThenHold, policy.ThenPassword}},
		{policy.CauseChanged, func(s *policy.Settings, h policy.Then) { s.Changed = h }, trouble(keydir.ProblemChanged), []policy.Then{policy.ThenRefuse, policy.ThenHold}},
		{policy.CauseConflict, func(s *policy.Settings, h policy.Then) { s.Conflict = h }, trouble(keydir.ProblemConflict), []policy.Then{policy.ThenRefuse, policy.ThenHold}},
		{policy.CauseConflict, func(s *policy.Settings, h policy.Then) { s.Conflict = h }, found(bob, pgp.Conflict), []policy.Then{policy.ThenRefuse, policy.ThenHold}},
		{policy.CauseGone, func(s *policy.Settings, h policy.Then) { s.Gone = h }, trouble(keydir.ProblemGone), []policy.Then{policy.ThenRefuse, policy.ThenHold, policy.ThenPassword}},
		{policy.CauseGone, func(s *policy.Settings, h policy.Then) { s.Gone = h }, lost(bob), []policy.Then{policy.ThenRefuse, policy.ThenHold, policy.ThenPassword}},
		{policy.CauseUntrusted, func(s *policy.Settings, h policy.Then) { s.Untrusted = h }, found(bob, pgp.FirstSeen), []policy.Then{policy.ThenRefuse, policy.ThenHold}},
	}
	actions := map[policy.Then]policy.Action{policy.ThenRefuse: policy.RefuseMessage, policy.ThenHold: policy.Hold, policy.ThenPassword: policy.Password, policy.ThenDefer: policy.Defer}
	every := []policy.Then{policy.ThenClear, policy.ThenPassword, policy.ThenHold, policy.ThenDefer, policy.ThenRefuse}
	for _, tt := range tests {
		for _, mode := range []policy.Mode{policy.Require, policy.Prefer} {
			for _, then := range every {
				may := strings.Contains(string(tt.cause)+" ", "missing ") && mode == policy.Prefer && then == policy.ThenClear
				for _, m := range tt.may {
					may = may || m == then
				}
				rule := policy.Rule{Name: "it", To: []string{"*"}, Mode: mode, MinTrust: pgp.Directory, Settings: policy.Settings{HoldFor: 48 * time.Hour}}
				tt.set(&rule.Settings, then)
				r, err := policy.New(policy.Config{Rules: []policy.Rule{rule}})
				if (err == nil) != may {
					t.Errorf("%s = %q under %s: %v, want allowed: %v", tt.cause, then, mode, err, may)
				}
				if err != nil {
					continue
				}
				d := r.Recipient(alice, tt.f)
				want := actions[then]
				if then == policy.ThenClear {
					want = policy.SendClear
				}
				if d.Action != want || d.Cause != tt.cause || len(d.Certificates) > 0 {
					t.Errorf("%s = %q under %s: %q for %q", tt.cause, then, mode, d.Action, d.Cause)
				}
				if (d.Action == policy.Hold) != (d.HoldFor == 48*time.Hour) || d.Action != policy.Hold && d.HoldFor != 0 {
					t.Errorf("%q for %s", d.Action, d.HoldFor)
				}
			}
		}
	}
}

func TestRulesInheritFromTheConfiguration(t *testing.T) {
	c := policy.Config{MissingPrefer: policy.ThenPassword, MinTrust: policy.MinTrust{Require: pgp.Confirmed, Prefer: pgp.Directory},
		Settings: policy.Settings{Missing: policy.ThenHold, HoldFor: 24 * time.Hour, Mixed: policy.MixedSplit, Sign: policy.SignAll, SignAs: policy.SignAsDomain, Headers: policy.HeadersSubject, Footer: "sent in clear"},
		Rules: []policy.Rule{
			{Name: "require", To: []string{"*@require.example"}, Mode: policy.Require},
			{Name: "prefer", To: []string{"*@prefer.example"}, Mode: policy.Prefer},
			{Name: "clear", To: []string{"*@clear.example"}, Mode: policy.Prefer, Settings: policy.Settings{Missing: policy.ThenClear}},
			{Name: "plain", To: []string{"*@plain.example"}, Mode: policy.Cleartext},
			{Name: "own", To: []string{"*@own.example"}, Mode: policy.Require, MinTrust: pgp.FirstSeen,
				Settings: policy.Settings{Missing: policy.ThenRefuse, Mixed: policy.MixedRefuse, SignAs: policy.SignAsSender, Headers: policy.HeadersProtect}},
		}}
	r := rules(t, c)
	for _, tt := range []struct {
		name string
		f    keydir.Finding
		want policy.Action
		o    policy.Options
	}{
		{"require is missing's", none(at("x", "require")), policy.Hold, policy.Options{}},
		{"prefer has a key of its own", none(at("x", "prefer")), policy.Password, policy.Options{SignAs: policy.SignAsDomain, SubjectVisible: true}},
		{"a rule's missing is of its own mode, and in clear it is signed", none(at("x", "clear")), policy.SignOnly, policy.Options{SignAs: policy.SignAsDomain}},
		{"cleartext is as submitted, with the footer", none(at("x", "plain")), policy.SendClear, policy.Options{Footer: "sent in clear"}},
		{"encrypted as the configuration says", found(at("x", "require"), pgp.Confirmed), policy.Encrypt, policy.Options{SignAs: policy.SignAsDomain, SubjectVisible: true}},
		{"min_trust of require", found(at("x", "require"), pgp.Directory), policy.RefuseMessage, policy.Options{}},
		{"min_trust of prefer", found(at("x", "prefer"), pgp.Directory), policy.Encrypt, policy.Options{SignAs: policy.SignAsDomain, SubjectVisible: true}},
		{"a rule's own", found(at("x", "own"), pgp.FirstSeen), policy.Encrypt, policy.Options{SignAs: policy.SignAsSender}},
		{"a rule's own missing", none(at("x", "own")), policy.RefuseMessage, policy.Options{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := r.Recipient(alice, tt.f)
			if d.Action != tt.want || d.Options != tt.o {
				t.Errorf("%q with %+v, want %q with %+v", d.Action, d.Options, tt.want, tt.o)
			}
			if m := r.Message(policy.Message{}, []policy.Decision{d})[0]; m.Options != d.Options {
				t.Errorf("Message changes the options to %+v", m.Options)
			}
			mixed := policy.MixedSplit
			if tt.f.Address.Domain == "own.example" {
				mixed = policy.MixedRefuse
			}
			if d.Mixed != mixed {
				t.Errorf("mixed %q, want %q", d.Mixed, mixed)
			}
		})
	}
	if d := r.Message(policy.Message{Sealed: true}, []policy.Decision{r.Recipient(alice, none(at("x", "plain")))})[0]; d.Action != policy.PassSealed || d.Options != (policy.Options{}) {
		t.Errorf("a sealed message gets %+v", d.Options)
	}
}

func TestChangedKeyIsTakenOnlyAsTheRuleSays(t *testing.T) {
	changed := func(served time.Duration) keydir.Finding {
		return keydir.Finding{Address: bob, Outcome: keydir.Found, Known: true, Problem: keydir.ProblemConflict, Identity: pgp.Conflict,
			Successor: &keydir.Successor{Certificates: certs, Served: served}}
	}
	never := changed(1000 * time.Hour)
	never.Successor = nil
	revoked := changed(1000 * time.Hour)
	revoked.Problem = keydir.ProblemRevoked
	empty := changed(1000 * time.Hour)
	empty.Successor.Certificates = nil
	unavailable := changed(1000 * time.Hour)
	unavailable.Outcome = keydir.Unavailable
	word := changed(1000 * time.Hour)
	word.Problem = keydir.ProblemChanged
	tests := []struct {
		name   string
		accept time.Duration
		trust  pgp.Identity
		f      keydir.Finding
		want   policy.Action
	}{
		{"never by itself", 0, "", changed(1000 * time.Hour), policy.RefuseMessage},
		{"never where it says so", -1, "", changed(1000 * time.Hour), policy.RefuseMessage},
		{"not yet", 72 * time.Hour, "", changed(72*time.Hour - 1), policy.RefuseMessage},
		{"after that long", 72 * time.Hour, "", changed(72 * time.Hour), policy.Encrypt},
		{"changed, too", 72 * time.Hour, "", word, policy.Encrypt},
		{"where it is one of several, or a person vouched for the old one", 72 * time.Hour, "", never, policy.RefuseMessage},
		{"where more trust is needed than a directory's word", 72 * time.Hour, pgp.Organisation, changed(1000 * time.Hour), policy.RefuseMessage},
		{"not beside another problem", 72 * time.Hour, "", revoked, policy.RefuseMessage},
		{"not without certificates", 72 * time.Hour, "", empty, policy.RefuseMessage},
		{"not while nobody could be asked", 72 * time.Hour, "", unavailable, policy.Defer},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, m := range []policy.Mode{policy.Require, policy.Prefer} {
				r := rules(t, policy.Config{Rules: []policy.Rule{{Name: "rotates", To: []string{"*"}, Mode: m, MinTrust: tt.trust, Settings: policy.Settings{AcceptWKDAfter: tt.accept, Mixed: policy.MixedClear}}}})
				d := r.Recipient(alice, tt.f)
				if d.Action != tt.want {
					t.Fatalf("%q (%s), want %q", d.Action, d.Reason, tt.want)
				}
				if d.Action != policy.Encrypt {
					continue
				}
				if d.Cause != policy.CauseSuccessor || len(d.Certificates) != 1 || d.Identity != pgp.Directory || !strings.Contains(d.Reason, `accept_wkd_after = "72h"`) {
					t.Errorf("%+v", d)
				}
				out := r.Message(policy.Message{}, []policy.Decision{d, r.Recipient(alice, none(carol))})
				if readable(out[0]) {
					t.Error("mixed = clear took the encryption off who has a changed key")
				}
			}
		})
	}
}

func TestDryRunDeliversEverythingAndTells(t *testing.T) {
	c := policy.Config{DryRun: true, Rules: []policy.Rule{
		{Name: "word", Subject: []string{"[word]"}, Mode: policy.Refuse},
		{Name: "partner", To: []string{"*@partner.example"}, Mode: policy.Require},
	}}
	dry := rules(t, c)
	c.DryRun = false
	wet := rules(t, c)
	if !dry.DryRun() || wet.DryRun() {
		t.Error("DryRun")
	}
	findings := someFindings()
	for _, f := range []keydir.Finding{none(carol), has(carol), down(carol)} {
		for _, g := range findings {
			for n := range 8 {
				m := subject("x")
				if n&1 != 0 {
					m = subject("[word]")
				}
				m.Sealed, m.AnswersDecrypted = n&2 != 0, n&4 != 0
				each := []policy.Decision{dry.Recipient(alice, f), dry.Recipient(alice, g)}
				want := wet.Message(m, []policy.Decision{wet.Recipient(alice, f), wet.Recipient(alice, g)})
				for i, d := range dry.Message(m, each) {
					if each[i].Action != policy.PassUnchanged {
						t.Fatalf("at RCPT %q", each[i].Action)
					}
					action := policy.PassUnchanged
					if m.AnswersDecrypted && !m.Sealed {
						action = policy.RefuseMessage
					}
					if d.Action != action || d.Would != want[i].Action || len(d.Certificates) > 0 || d.Options != (policy.Options{}) ||
						action == policy.PassUnchanged && !strings.Contains(d.Reason, "dry run") {
						t.Fatalf("%q, would %q, want %q, would %q (%s) for %+v", d.Action, d.Would, action, want[i].Action, d.Reason, m)
					}
				}
			}
		}
	}
	// A reload that ends the dry run between RCPT and DATA holds for DATA.
	out := wet.Message(subject("x"), []policy.Decision{dry.Recipient(alice, none(bob)), dry.Recipient(alice, has(carol))})
	if out[0].Action != policy.RefuseMessage || out[1].Action != policy.RefuseMessage {
		t.Errorf("%+v", out)
	}
}

// A held message is decided anew when a certificate appears; who has his copy is
// a fact then.
func TestServedRecipientsCount(t *testing.T) {
	r := ruled(t)
	for _, x := range everyMixed {
		had := r.Recipient(alice, none(at("carol", "prefer-"+string(x))))
		had.Served = true
		m := policy.Message{AnswersDecrypted: true}
		out := r.Message(policy.Message{}, []policy.Decision{had, r.Recipient(alice, has(at("bob", "require-split-hold")))})
		want := policy.RefuseMessage
		if x != policy.MixedRefuse {
			want = policy.Encrypt
		}
		if out[0].Action != policy.SendClear || !out[0].Served || out[1].Action != want {
			t.Errorf("after a clear copy under %s: %q, want %q (%s)", x, out[1].Action, want, out[1].Reason)
		}
		if out := r.Message(m, []policy.Decision{had, r.Recipient(alice, has(bob))}); out[0].Action != policy.SendClear || out[0].Reason != had.Reason {
			t.Errorf("what went was decided again: %q", out[0].Reason)
		}
	}
	had := r.Recipient(alice, none(at("carol", "prefer-split")))
	had.Served, had.Mixed = true, ""
	if out := r.Message(policy.Message{}, []policy.Decision{had, r.Recipient(alice, has(at("bob", "prefer-split")))}); out[1].Action != policy.RefuseMessage {
		t.Errorf("a clear copy of which nobody knows the rule is followed by %q", out[1].Action)
	}
	had = r.Recipient(alice, has(at("carol", "prefer-clear")))
	had.Served = true
	out := r.Message(policy.Message{}, []policy.Decision{had, r.Recipient(alice, none(at("bob", "prefer-clear")))})
	if out[0].Action != policy.Encrypt || out[1].Action != policy.RefuseMessage {
		t.Errorf("after an encrypted copy: %q, %q", out[0].Action, out[1].Action)
	}
}

// What a sealed message is held to is known of a recipient even where the rules
// for the envelope alone would send in clear.
func TestKnownCertificates(t *testing.T) {
	r := rules(t, policy.Config{Default: policy.Cleartext, Rules: []policy.Rule{
		{Name: "rotates", To: []string{"*@partner.example"}, Mode: policy.Require, Settings: policy.Settings{AcceptWKDAfter: 24 * time.Hour}},
		{Name: "word", Subject: []string{"[word]"}, Mode: policy.Require},
	}})
	next := []*pgp.Certificate{new(pgp.Certificate)}
	changed := keydir.Finding{Address: bob, Outcome: keydir.Found, Problem: keydir.ProblemChanged, Successor: &keydir.Successor{Certificates: next, Served: 48 * time.Hour}}
	if d := r.Recipient(alice, changed); len(d.Known()) != 1 || d.Known()[0] != next[0] {
		t.Error("the successor is not what is known")
	}
	d := r.Recipient(alice, has(carol))
	if d.Action != policy.SendClear || len(d.Known()) != 1 {
		t.Errorf("%q, %d known", d.Action, len(d.Known()))
	}
	m := subject("[word]")
	m.Sealed, m.Covers = true, map[string]bool{carol.Key(): true}
	if d = r.Message(m, []policy.Decision{d})[0]; d.Action != policy.PassSealed {
		t.Errorf("sealed for who requires it by the subject: %q (%s)", d.Action, d.Reason)
	}
	if d := r.Recipient(alice, none(carol)); len(d.Known()) != 0 {
		t.Error("something is known of who has nothing")
	}
}
