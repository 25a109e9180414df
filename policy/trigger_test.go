package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/policy"
)

// decide asks the rules at RCPT and at DATA.
func decide(r *policy.Rules, m policy.Message, f keydir.Finding) (rcpt, data policy.Decision) {
	rcpt = r.Recipient(alice, f)
	return rcpt, r.Message(m, []policy.Decision{rcpt})[0]
}

func subject(s string) policy.Message {
	return policy.Message{Headers: map[string][]string{"subject": {s}}}
}

func TestRulesThatLookAtTheMessage(t *testing.T) {
	secure := policy.Rule{Name: "secure", Subject: []string{"[secure]", "[Geheim]"}, StripSubject: true, Mode: policy.Require}
	company := policy.Rule{Name: "company", Header: []string{"Sensitivity: company-confidential", "X-Class: secret*"}, Mode: policy.Refuse}
	large := policy.Rule{Name: "large", LargerThan: 1000, Mode: policy.Prefer}
	files := policy.Rule{Name: "files", Attachment: true, To: []string{"*@partner.example"}, Mode: policy.Require}
	all := policy.Rule{Name: "all", Subject: []string{"offer"}, Header: []string{"X-A: *"}, LargerThan: 10, Attachment: true, Mode: policy.Require}
	header := func(name, value string) policy.Message {
		return policy.Message{Headers: map[string][]string{name: {"other", value}}}
	}
	offer := policy.Message{Headers: map[string][]string{"subject": {"An Offer"}, "x-a": {""}}, Size: 11, Attachment: true}
	less := func(f func(*policy.Message)) policy.Message { m := offer; f(&m); return m }
	tests := []struct {
		name string
		rule policy.Rule
		m    policy.Message
		hit  bool
	}{
		{"a word in the subject", secure, subject("Re: [SECURE] plans"), true},
		{"another word of the rule", secure, subject("[geheim]"), true},
		{"no such word", secure, subject("secure"), false},
		{"no subject at all", secure, policy.Message{}, false},
		{"a second Subject field counts", secure, policy.Message{Headers: map[string][]string{"subject": {"hello", "[secure]"}}}, true},
		{"a header field", company, header("sensitivity", " Company-Confidential "), true},
		{"a part of its value is not it", company, header("sensitivity", "not company-confidential"), false},
		{"a field of the wrong name", company, header("subject", "company-confidential"), false},
		{"a pattern", company, header("x-class", "Secret-7"), true},
		{"not the pattern", company, header("x-class", "top secret"), false},
		{"larger", large, policy.Message{Size: 1001}, true},
		{"as large", large, policy.Message{Size: 1000}, false},
		{"an attachment", files, policy.Message{Attachment: true}, true},
		{"no attachment", files, policy.Message{}, false},
		{"everything that it asks for", all, offer, true},
		{"all but the subject", all, less(func(m *policy.Message) { m.Headers = map[string][]string{"x-a": {"1"}} }), false},
		{"all but the field", all, less(func(m *policy.Message) { m.Headers = map[string][]string{"subject": {"offer"}} }), false},
		{"all but the size", all, less(func(m *policy.Message) { m.Size = 10 }), false},
		{"all but the attachment", all, less(func(m *policy.Message) { m.Attachment = false }), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := rules(t, policy.Config{Default: policy.Cleartext, Rules: []policy.Rule{tt.rule}})
			rcpt, data := decide(r, tt.m, has(bob))
			if rcpt.Action != policy.SendClear || rcpt.Rule != policy.DefaultRule || !slices.Equal(rcpt.Pending, []string{tt.rule.Name}) {
				t.Errorf("at RCPT %q by %q, pending %q", rcpt.Action, rcpt.Rule, rcpt.Pending)
			}
			if hit := data.Rule == tt.rule.Name; hit != tt.hit || hit == (data.Action == policy.SendClear) || len(data.Pending) > 0 {
				t.Errorf("at DATA %q by %q, want the rule: %v", data.Action, data.Rule, tt.hit)
			}
			if data.Rule == "secure" != (data.Options.Strip != "") {
				t.Errorf("strips %q by %q", data.Options.Strip, data.Rule)
			}
		})
	}
	r := rules(t, policy.Config{Rules: []policy.Rule{secure, company, large, all}})
	if got := r.Headers(); !slices.Equal(got, []string{"subject", "sensitivity", "x-class", "x-a"}) {
		t.Errorf("needs the fields %q", got)
	}
}

// What is held is looked at again: the word that holds it stays in it.
func TestHeldMailKeepsItsWord(t *testing.T) {
	r := rules(t, policy.Config{Rules: []policy.Rule{{Name: "secure", Subject: []string{"[secure]"}, StripSubject: true, Mode: policy.Require, Settings: policy.Settings{Missing: policy.ThenHold}}}})
	if _, d := decide(r, subject("[secure]"), none(bob)); d.Action != policy.Hold || d.Options != (policy.Options{}) {
		t.Errorf("%q with %+v", d.Action, d.Options)
	}
	if _, d := decide(r, subject("[secure]"), has(bob)); d.Action != policy.Encrypt || d.Options.Strip != "[secure]" {
		t.Errorf("%q with %+v", d.Action, d.Options)
	}
}

func TestPatternsOfValues(t *testing.T) {
	for _, tt := range []struct {
		pattern, value string
		want           bool
	}{
		{"*", "", true}, {"*", "x", true}, {"a*", "a", true}, {"a*", "ba", false}, {"*a", "ba", true}, {"*a", "ab", false},
		{"a*a", "a", false}, {"a*a", "aa", true}, {"a*b*c", "a1b2c", true}, {"a*b*c", "acb", false}, {"*b*b*", "xbx", false}, {"*b*b*", "xbbx", true},
		{"**", "x", true}, {"x", "x", true}, {"x", "X", true}, {"x", "xx", false}, {"", "", true},
	} {
		r := rules(t, policy.Config{Default: policy.Cleartext, Rules: []policy.Rule{{Name: "it", Header: []string{"X: " + tt.pattern}, Mode: policy.Refuse}}})
		_, d := decide(r, policy.Message{Headers: map[string][]string{"x": {tt.value}}}, has(bob))
		if got := d.Action == policy.RefuseMessage; got != tt.want {
			t.Errorf("%q matches %q: %v", tt.pattern, tt.value, got)
		}
	}
}

func TestTriggersRaiseOnly(t *testing.T) {
	trigger := func(m policy.Mode, lower bool) policy.Rule {
		return policy.Rule{Name: "word", Subject: []string{"[word]"}, StripSubject: true, Mode: m, Lower: lower}
	}
	base := func(m policy.Mode) policy.Rule { return policy.Rule{Name: "base", To: []string{"*"}, Mode: m} }
	tests := []struct {
		name  string
		rules []policy.Rule
		f     keydir.Finding
		want  policy.Action
		says  string
	}{
		{"cleartext is raised to require", []policy.Rule{trigger(policy.Require, false), base(policy.Cleartext)}, has(bob), policy.Encrypt, `(rule "word", with what rule "base" asks for)`},
		{"and refuses where require would", []policy.Rule{trigger(policy.Require, false), base(policy.Cleartext)}, none(bob), policy.RefuseMessage, `rule "word"`},
		{"and waits where require would", []policy.Rule{trigger(policy.Require, false), base(policy.Prefer)}, none(down(bob).Address), policy.RefuseMessage, "requires one"},
		{"require is not lowered", []policy.Rule{trigger(policy.Cleartext, false), base(policy.Require)}, has(bob), policy.Encrypt, `rule "base", with what rule "word" asks for`},
		{"sign raised to prefer stays signed", []policy.Rule{trigger(policy.Prefer, false), base(policy.Sign)}, none(bob), policy.SignOnly, "word"},
		{"a rule after the one that decides is not asked", []policy.Rule{base(policy.Cleartext), trigger(policy.Require, false)}, has(bob), policy.SendClear, `(rule "base")`},
		{"a rule that says so lowers", []policy.Rule{trigger(policy.Cleartext, true), base(policy.Require)}, has(bob), policy.SendClear, `(rule "word")`},
		{"even what would be refused", []policy.Rule{trigger(policy.Cleartext, true), base(policy.Refuse)}, has(bob), policy.SendClear, `(rule "word")`},
		{"or has no certificate", []policy.Rule{trigger(policy.Prefer, true), base(policy.Require)}, none(bob), policy.SendClear, `(rule "word")`},
		{"but not below a rule before it", []policy.Rule{{Name: "files", Subject: []string{"[word]"}, Mode: policy.Require}, trigger(policy.Cleartext, true)}, has(bob), policy.Encrypt, `rule "files", with`},
		{"for a trust level it lowers that one", []policy.Rule{{Name: "word", Subject: []string{"[word]"}, Identity: []pgp.Identity{policy.NoIdentity}, Lower: true, Mode: policy.Prefer}, base(policy.Require)}, none(bob), policy.SendClear, "word"},
		{"and none that isn't known", []policy.Rule{{Name: "word", Subject: []string{"[word]"}, Identity: []pgp.Identity{policy.NoIdentity}, Lower: true, Mode: policy.Cleartext}, base(policy.Require)}, lost(bob), policy.RefuseMessage, "once had"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := rules(t, policy.Config{Rules: tt.rules})
			rcpt, data := decide(r, subject("a [Word]"), tt.f)
			if data.Action != tt.want || !strings.Contains(data.Reason, tt.says) {
				t.Errorf("%q (%s), want %q by %s; at RCPT %q", data.Action, data.Reason, tt.want, tt.says, rcpt.Action)
			}
			if data.Action.Accepted() && !rcpt.Action.Accepted() {
				t.Error("refused at RCPT what goes at DATA")
			}
		})
	}
}

func TestRefusedAtRCPTOnlyWhereNoMessageCouldGo(t *testing.T) {
	lower := policy.Rule{Name: "clear", Subject: []string{"[clear]"}, Mode: policy.Cleartext, Lower: true}
	r := rules(t, policy.Config{Default: policy.Require, Rules: []policy.Rule{lower}})
	rcpt, data := decide(r, subject("x"), none(bob))
	if rcpt.Action != policy.SendClear || !slices.Equal(rcpt.Pending, []string{"clear"}) || data.Action != policy.RefuseMessage {
		t.Errorf("at RCPT %q, pending %q, at DATA without the word %q", rcpt.Action, rcpt.Pending, data.Action)
	}
	// Two recipients, one of whom the message leaves no way: to nobody.
	out := r.Message(subject("x"), []policy.Decision{r.Recipient(alice, has(carol)), rcpt})
	if out[0].Action != policy.RefuseMessage || out[1].Action != policy.RefuseMessage || !strings.Contains(out[0].Reason, "or to none: bob@partner.example has no certificate") {
		t.Errorf("%+v", out)
	}
	// Where one is refused and one could wait, waiting helps nobody.
	r = rules(t, policy.Config{Default: policy.Cleartext, Rules: []policy.Rule{{Name: "word", Subject: []string{"[word]"}, Mode: policy.Require}}})
	out = r.Message(subject("[word]"), []policy.Decision{r.Recipient(alice, down(carol)), r.Recipient(alice, none(bob)), r.Recipient(alice, has(dave))})
	for _, d := range out {
		if d.Action != policy.RefuseMessage && d.Recipient != carol || d.Recipient == carol && d.Action != policy.Defer || len(d.Certificates) > 0 || d.Options != (policy.Options{}) {
			t.Errorf("%s: %q", d.Recipient, d.Action)
		}
	}
	out = r.Message(subject("[word]"), []policy.Decision{r.Recipient(alice, down(carol)), r.Recipient(alice, has(dave))})
	if out[0].Action != policy.Defer || out[1].Action != policy.Defer {
		t.Errorf("%+v", out)
	}
}

// spread are settings and modes that differ in everything that protects.
func spread() (all []policy.Rule) {
	for _, m := range []policy.Mode{policy.Cleartext, policy.Sign, policy.Prefer, policy.Require, policy.Refuse} {
		if m != policy.Prefer && m != policy.Require {
			all = append(all, policy.Rule{Mode: m})
			continue
		}
		first := policy.ThenRefuse
		if m == policy.Prefer {
			first = policy.ThenClear
		}
		for _, missing := range []policy.Then{first, policy.ThenHold, policy.ThenPassword} {
			wrong := missing
			if missing == policy.ThenClear {
				wrong = policy.ThenRefuse
			}
			for _, trust := range []pgp.Identity{pgp.FirstSeen, pgp.Confirmed} {
				for _, accept := range []time.Duration{-1, 24 * time.Hour, 90 * time.Hour} {
					for _, sign := range []policy.Signing{policy.SignEncrypted, policy.SignAll} {
						r := policy.Rule{Mode: m, MinTrust: trust, Settings: policy.Settings{Missing: missing, Expired: wrong, Revoked: wrong, Weak: wrong, Gone: wrong, AcceptWKDAfter: accept, Sign: sign}}
						if accept > 0 {
							r.Headers, r.Unavailable, r.Mixed = policy.HeadersSubject, policy.ThenHold, policy.MixedClear
							r.Changed, r.Conflict, r.Untrusted = policy.ThenHold, policy.ThenHold, policy.ThenHold
						}
						all = append(all, r)
					}
				}
			}
		}
	}
	return all
}

// someFindings has one of each kind.
func someFindings() (all []keydir.Finding) {
	for _, i := range []pgp.Identity{pgp.Unknown, pgp.FirstSeen, pgp.Directory, pgp.Confirmed, pgp.Conflict} {
		all = append(all, found(bob, i))
	}
	for _, p := range []string{keydir.ProblemExpired, keydir.ProblemRevoked, keydir.ProblemWeak, keydir.ProblemGone, keydir.ProblemChanged, keydir.ProblemConflict, keydir.ProblemTampered} {
		all = append(all, keydir.Finding{Address: bob, Outcome: keydir.Found, Known: true, Problem: p})
	}
	for _, h := range []time.Duration{time.Hour, 50 * time.Hour, 100 * time.Hour} {
		all = append(all, keydir.Finding{Address: bob, Outcome: keydir.Found, Problem: keydir.ProblemConflict, Identity: pgp.Conflict, Successor: &keydir.Successor{Certificates: certs, Served: h}})
	}
	return append(all, none(bob), down(bob), lost(bob), keydir.Finding{Address: bob, Outcome: keydir.NoDirectory}, keydir.Finding{Address: bob})
}

var (
	protection = []policy.Action{policy.SendClear, policy.SignOnly, policy.Password, policy.Encrypt, policy.Hold, policy.Defer, policy.RefuseMessage}
	strictness = []policy.Mixed{policy.MixedClear, policy.MixedSplit, policy.MixedRefuse}
)

// Every pair of rules and every kind of fact: with a rule that looks at the
// message, a copy is protected at least as well as without it, and as well as
// that rule alone would.
func TestRaisingNeverLowers(t *testing.T) {
	every, findings := spread(), someFindings()
	alone := make([][]policy.Decision, len(every))
	for i, c := range every {
		c.Name, c.To = "alone", []string{"*"}
		r := rules(t, policy.Config{Rules: []policy.Rule{c}})
		for _, f := range findings {
			alone[i] = append(alone[i], r.Recipient(alice, f))
		}
	}
	for b, base := range every {
		base.Name, base.To = "base", []string{"*"}
		for n, trigger := range every {
			trigger.Name, trigger.Subject = "word", []string{"[word]"}
			r := rules(t, policy.Config{Rules: []policy.Rule{trigger, base}})
			for i, f := range findings {
				rcpt, got := decide(r, subject("[word]"), f)
				without := alone[b][i]
				if rcpt.Action != without.Action {
					t.Fatalf("at RCPT %q, without the trigger %q", rcpt.Action, without.Action)
				}
				if !rcpt.Action.Accepted() {
					if got.Action != rcpt.Action {
						t.Fatalf("%q at RCPT and %q at DATA", rcpt.Action, got.Action)
					}
					continue
				}
				for _, other := range []policy.Decision{without, alone[n][i]} {
					if slices.Index(protection, got.Action) < slices.Index(protection, other.Action) || slices.Index(strictness, got.Mixed) < slices.Index(strictness, other.Mixed) ||
						got.Action == policy.Encrypt && other.Action == policy.Encrypt && got.Options.SubjectVisible && !other.Options.SubjectVisible {
						t.Fatalf("%+v\nraised by %+v\nfor %+v\ngives %q, mixed %q, %+v (%s)\nand one alone %q, %q, %+v", base, trigger, f, got.Action, got.Mixed, got.Options, got.Reason, other.Action, other.Mixed, other.Options)
					}
				}
				if _, again := decide(r, subject("nothing"), f); again.Action != without.Action || again.Options != without.Options || again.Mixed != without.Mixed {
					t.Fatalf("a rule that isn't hit changes %q to %q", without.Action, again.Action)
				}
			}
		}
	}
}

// model is the order of rules as the documentation has it, tried one by one: what
// each of those that take part would do alone, and the strictest of that.
func model(alone map[string]policy.Action, of []policy.Rule, hit map[string]bool, f keydir.Finding) policy.Action {
	level := policy.NoIdentity
	switch {
	case f.Outcome == keydir.Unavailable || f.Known && len(f.Certificates) == 0:
		level = "nobody knows"
	case f.Outcome == keydir.Found:
		level = f.Identity
	}
	best := -1
	for _, r := range of {
		looks := len(r.Subject) > 0
		if looks && !hit[r.Name] || len(r.Identity) > 0 && level != "nobody knows" && !slices.Contains(r.Identity, level) {
			continue
		}
		best = max(best, slices.Index(protection, alone[r.Name]))
		if (!looks || r.Lower) && (len(r.Identity) == 0 || level != "nobody knows") {
			return protection[best]
		}
	}
	return protection[max(best, slices.Index(protection, alone[policy.DefaultRule]))]
}

func TestOrderOfRulesIsAsDocumented(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	modes := []policy.Mode{policy.Cleartext, policy.Sign, policy.Prefer, policy.Require, policy.Refuse}
	identities := [][]pgp.Identity{nil, nil, {policy.NoIdentity}, {pgp.Directory}, {pgp.Confirmed, pgp.Organisation}}
	findings := []keydir.Finding{none(bob), down(bob), lost(bob), has(bob), found(bob, pgp.Confirmed)}
	for range 3000 {
		c := policy.Config{Default: modes[random.IntN(5)]}
		for i := range random.IntN(5) {
			r := policy.Rule{Name: fmt.Sprint("r", i), To: []string{"*"}, Mode: modes[random.IntN(5)], Identity: identities[random.IntN(5)]}
			if random.IntN(3) > 0 {
				r.Subject, r.Lower = []string{fmt.Sprintf("[%d]", i)}, random.IntN(2) == 0
			}
			c.Rules = append(c.Rules, r)
		}
		r := rules(t, c)
		for _, f := range findings {
			alone := map[string]policy.Action{policy.DefaultRule: rules(t, policy.Config{Default: c.Default}).Recipient(alice, f).Action}
			for _, one := range c.Rules {
				alone[one.Name] = rules(t, policy.Config{Default: one.Mode}).Recipient(alice, f).Action
			}
			rcpt := r.Recipient(alice, f)
			for set := range 1 << len(c.Rules) {
				hit, words := map[string]bool{}, ""
				for i, one := range c.Rules {
					if set>>i&1 == 1 {
						hit[one.Name], words = true, words+fmt.Sprintf("[%d]", i)
					}
				}
				want := model(alone, c.Rules, hit, f)
				if !rcpt.Action.Accepted() {
					if want.Accepted() {
						t.Fatalf("%+v\n%q at RCPT, but %q with subject %q, for %+v", c, rcpt.Action, want, words, f)
					}
					continue
				}
				if got := r.Message(subject(words), []policy.Decision{rcpt})[0]; got.Action != want {
					t.Fatalf("%+v\nsubject %q, for %+v: %q, want %q (%s)", c, words, f, got.Action, want, got.Reason)
				}
			}
		}
	}
}

func TestTrustLevels(t *testing.T) {
	r := rules(t, policy.Config{Default: policy.Cleartext, Groups: map[string][]string{"board": {"bob@partner.example", "*@*.board.example"}}, Rules: []policy.Rule{
		{Name: "vouched", To: []string{"@board"}, Identity: []pgp.Identity{pgp.Organisation, pgp.Confirmed}, Mode: policy.Require},
		{Name: "stranger", To: []string{"@board", "*@else.example"}, Identity: []pgp.Identity{policy.NoIdentity}, Mode: policy.Sign},
	}})
	below := address.Address{Local: "x", Domain: "a.board.example"}
	for _, tt := range []struct {
		name string
		f    keydir.Finding
		want policy.Action
		rule string
	}{
		{"a level of the rule", found(bob, pgp.Confirmed), policy.Encrypt, "vouched"},
		{"another level", found(bob, pgp.Directory), policy.SendClear, policy.DefaultRule},
		{"in the group by a pattern", found(below, pgp.Organisation), policy.Encrypt, "vouched"},
		{"not in the group", found(carol, pgp.Confirmed), policy.SendClear, policy.DefaultRule},
		{"none at all", none(bob), policy.SignOnly, "stranger"},
		{"none where no directory is", keydir.Finding{Address: carol, Outcome: keydir.NoDirectory}, policy.SignOnly, "stranger"},
		{"nobody knows: as strict as any that might be meant", down(bob), policy.Defer, "vouched"},
		{"nobody knows, and only signing might be meant", down(carol), policy.SignOnly, "stranger"},
		{"a contact who lost it is no stranger", lost(bob), policy.RefuseMessage, "vouched"},
		{"nor one whose certificate expired", keydir.Finding{Address: bob, Outcome: keydir.Found, Problem: keydir.ProblemExpired, Identity: pgp.Confirmed}, policy.RefuseMessage, "vouched"},
		{"contradictory facts are nobody's level", keydir.Finding{Address: bob, Outcome: keydir.Found}, policy.Defer, "vouched"},
		{"a certificate bound to nothing neither", found(bob, pgp.Unknown), policy.RefuseMessage, "vouched"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if d := r.Recipient(alice, tt.f); d.Action != tt.want || d.Rule != tt.rule {
				t.Errorf("%q by %q, want %q by %q", d.Action, d.Rule, tt.want, tt.rule)
			}
		})
	}
}
