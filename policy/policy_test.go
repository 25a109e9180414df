package policy_test

import (
	"errors"
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

var (
	alice = address.Address{Local: "alice", Domain: "example.org"}
	bob   = address.Address{Local: "bob", Domain: "partner.example"}
	carol = address.Address{Local: "carol", Domain: "else.example"}
	dave  = address.Address{Local: "dave", Domain: "waits.example"}

	certs = []*pgp.Certificate{new(pgp.Certificate)}
)

func rules(t testing.TB, c policy.Config) *policy.Rules {
	t.Helper()
	r, err := policy.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func found(a address.Address, i pgp.Identity) keydir.Finding {
	return keydir.Finding{Address: a, Outcome: keydir.Found, Certificates: certs, Identity: i, Known: true}
}

func TestRecipient(t *testing.T) {
	absent := keydir.Finding{Address: bob, Outcome: keydir.Absent}
	noDirectory := keydir.Finding{Address: bob, Outcome: keydir.NoDirectory}
	down := keydir.Finding{Address: bob, Outcome: keydir.Unavailable, Detail: "timeout"}
	known := keydir.Finding{Address: bob, Outcome: keydir.Absent, Known: true}
	knownNone := keydir.Finding{Address: bob, Outcome: keydir.NoDirectory, Known: true}
	trouble := func(p string) keydir.Finding {
		return keydir.Finding{Address: bob, Outcome: keydir.Found, Known: true, Problem: p}
	}
	stale := found(bob, pgp.Directory)
	stale.Stale, stale.Detail = true, "kept from 2026-03-01"
	absent.Detail = "its directory answered 404"
	conflict := found(bob, pgp.Conflict)
	tagged := keydir.Finding{Address: address.Address{Local: "bob+shop", Domain: bob.Domain}, Outcome: keydir.Absent, Plain: bob}
	tests := []struct {
		name string
		mode policy.Mode
		f    keydir.Finding
		want policy.Action
		says string // in the reason or the hint
	}{
		{"require encrypts to who is in a directory", policy.Require, found(bob, pgp.Directory), policy.Encrypt, "directory"},
		{"require encrypts to who was confirmed", policy.Require, found(bob, pgp.Confirmed), policy.Encrypt, "confirmed"},
		{"require refuses who was only seen", policy.Require, found(bob, pgp.FirstSeen), policy.RefuseMessage, "letterlock cert verify bob@partner.example"},
		{"require refuses a certificate bound to nothing", policy.Require, found(bob, pgp.Unknown), policy.RefuseMessage, "known as unknown"},
		{"require refuses who has none", policy.Require, absent, policy.RefuseMessage, "letterlock cert import"},
		{"require refuses where there is no directory", policy.Require, noDirectory, policy.RefuseMessage, "no key directory"},
		{"require defers while the directory is down", policy.Require, down, policy.Defer, "timeout"},
		{"require says that the certificate is stale", policy.Require, stale, policy.Encrypt, "kept from 2026"},
		{"prefer encrypts to who was seen", policy.Prefer, found(bob, pgp.FirstSeen), policy.Encrypt, "first-seen"},
		{"prefer doesn't use a certificate bound to nothing, and doesn't send in clear beside it", policy.Prefer, found(bob, pgp.Unknown), policy.RefuseMessage, "cert verify"},
		{"prefer sends in clear to who has none", policy.Prefer, absent, policy.SendClear, "has no certificate: no directory has one (its directory answered 404)"},
		{"prefer sends in clear where there is no directory", policy.Prefer, noDirectory, policy.SendClear, "no key directory"},
		{"prefer defers while the directory is down", policy.Prefer, down, policy.Defer, "could not be asked"},
		{"an address whose plain one has a certificate is told of that", policy.Require, tagged, policy.RefuseMessage, "bob@partner.example, the address without its tag, has one"},
		{"and what to do", policy.Require, tagged, policy.RefuseMessage, "Write to bob@partner.example instead, or ask for a certificate that names bob+shop@partner.example"},
		{"and nothing else becomes of it", policy.Prefer, tagged, policy.SendClear, "has one, and the rule prefers"},
		{"a contact who had a certificate doesn't silently lose it", policy.Prefer, known, policy.RefuseMessage, "letterlock cert forget bob@partner.example"},
		{"nor with the whole directory", policy.Prefer, knownNone, policy.RefuseMessage, "once had"},
		{"expired is never cleartext", policy.Prefer, trouble(keydir.ProblemExpired), policy.RefuseMessage, "cert import"},
		{"revoked is never cleartext", policy.Prefer, trouble(keydir.ProblemRevoked), policy.RefuseMessage, "revoked"},
		{"weak is never cleartext", policy.Prefer, trouble(keydir.ProblemWeak), policy.RefuseMessage, "safely"},
		{"changed is never cleartext", policy.Prefer, trouble(keydir.ProblemChanged), policy.RefuseMessage, "letterlock cert accept bob@partner.example"},
		{"a conflict is never cleartext", policy.Prefer, trouble(keydir.ProblemConflict), policy.RefuseMessage, "contradict"},
		{"gone is never cleartext", policy.Prefer, trouble(keydir.ProblemGone), policy.RefuseMessage, "letterlock cert accept"},
		{"a problem without a name is never cleartext", policy.Prefer, trouble("odd"), policy.RefuseMessage, "odd"},
		{"a conflicting identity is never used", policy.Prefer, conflict, policy.RefuseMessage, "contradict"},
		{"found without certificates is deferred", policy.Prefer, keydir.Finding{Address: bob, Outcome: keydir.Found}, policy.Defer, "fault of letterlock"},
		{"absent with certificates is deferred", policy.Prefer, keydir.Finding{Address: bob, Outcome: keydir.Absent, Certificates: certs}, policy.Defer, "fault of letterlock"},
		{"the zero finding is deferred", policy.Prefer, keydir.Finding{Address: bob}, policy.Defer, "fault of letterlock"},
		{"sign signs", policy.Sign, down, policy.SignOnly, "signed"},
		{"cleartext is sent in clear", policy.Cleartext, found(bob, pgp.Confirmed), policy.SendClear, "without encryption"},
		{"refuse refuses", policy.Refuse, found(bob, pgp.Confirmed), policy.RefuseMessage, "not allowed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := rules(t, policy.Config{Rules: []policy.Rule{{Name: "the rule", To: []string{"*@partner.example"}, Mode: tt.mode}}})
			d := r.Recipient(alice, tt.f)
			if d.Action != tt.want {
				t.Errorf("action %q, want %q (%s)", d.Action, tt.want, d.Reason)
			}
			if text := d.Reason + " " + d.Hint; !strings.Contains(text, tt.says) {
				t.Errorf("%q does not say %q", text, tt.says)
			}
			if d.Rule != "the rule" || !strings.Contains(d.Reason, `rule "the rule"`) {
				t.Errorf("rule %q, reason %q: want the rule named in both", d.Rule, d.Reason)
			}
			if (d.Action == policy.RefuseMessage || d.Action == policy.Defer) && d.Hint == "" {
				t.Error("no hint")
			}
			if (d.Action == policy.Encrypt) != (len(d.Certificates) > 0) {
				t.Errorf("%s with %d certificates", d.Action, len(d.Certificates))
			}
		})
	}
}

func TestSettings(t *testing.T) {
	down := keydir.Finding{Address: bob, Outcome: keydir.Unavailable}
	r := rules(t, policy.Config{
		Settings: policy.Settings{Unavailable: policy.ThenRefuse},
		MinTrust: policy.MinTrust{Require: pgp.Confirmed, Prefer: pgp.Directory},
		Rules: []policy.Rule{
			{Name: "waits", From: []string{"alice@example.org"}, Mode: policy.Require, Settings: policy.Settings{Unavailable: policy.ThenDefer}},
			{Name: "must", To: []string{"*@partner.example"}, Mode: policy.Require},
		},
	})
	if d := r.Recipient(carol, down); d.Action != policy.RefuseMessage || d.Rule != "must" {
		t.Errorf("unavailable = refuse: %q by %q, want a refusal by must", d.Action, d.Rule)
	}
	if d := r.Recipient(alice, down); d.Action != policy.Defer || d.Rule != "waits" {
		t.Errorf("a rule's own unavailable: %q by %q, want defer by waits", d.Action, d.Rule)
	}
	if d := r.Recipient(carol, found(bob, pgp.Organisation)); d.Action != policy.RefuseMessage {
		t.Errorf("below min_trust.require: %q, want a refusal", d.Action)
	}
	if d := r.Recipient(carol, found(dave, pgp.FirstSeen)); d.Action != policy.RefuseMessage || d.Rule != policy.DefaultRule {
		t.Errorf("below min_trust.prefer: %q by %q, want a refusal by default, not cleartext", d.Action, d.Rule)
	}
	if d := r.Recipient(carol, found(dave, pgp.Directory)); d.Action != policy.Encrypt {
		t.Errorf("at min_trust.prefer: %q, want encrypt", d.Action)
	}
}

func TestEveryProblemOfAConfiguration(t *testing.T) {
	_, err := policy.New(policy.Config{
		Default: "always", MissingPrefer: "maybe",
		Settings: policy.Settings{Missing: policy.ThenClear, Unavailable: "cleartext", Mixed: "both", Expired: "password ", Changed: policy.ThenPassword,
			Sign: "some", SignAs: "me", Headers: "all", AcceptWKDAfter: time.Hour, HoldFor: time.Minute, Footer: "bell \a"},
		MinTrust: policy.MinTrust{Require: pgp.Conflict, Prefer: "verified"},
		Groups:   map[string][]string{"board": {"alice@example.org", "@all"}, "two words": {"*"}, "empty": nil, "bad": {"bob*@x.example"}},
		Rules: []policy.Rule{
			{Name: "", To: []string{"*"}},
			{Name: "default", Mode: policy.Require, To: []string{"*@*"}},
			{Name: "twice", Mode: policy.Require, To: []string{"bob*@x.example"}, Settings: policy.Settings{Missing: "cleartext"}},
			{Name: "twice", Mode: "encrypt", From: []string{"no address"}},
			{Name: "line\nbreak", Mode: policy.Require, To: []string{"*@"}, Settings: policy.Settings{Unavailable: "x", Mixed: "x", Sign: "x", SignAs: "x", Headers: "x", AcceptWKDAfter: 1, Footer: strings.Repeat("x", 5000)}},
			{Name: "all", Mode: policy.Require},
			{Name: "words", Mode: policy.Require, Subject: []string{"ok", " "}, Header: []string{"Sensitivity Company", ": x", "A b: x", "X-Good: *"}, Identity: []pgp.Identity{"known", pgp.Conflict}, MinTrust: "known"},
			{Name: "size", Mode: policy.Require, To: []string{"@nobody"}, LargerThan: -1, StripSubject: true},
			{Name: "idle", Mode: policy.Cleartext, To: []string{"*"}, MinTrust: pgp.Confirmed, Lower: true, Settings: policy.Settings{Gone: policy.ThenHold, AcceptWKDAfter: -1, Headers: policy.HeadersSubject, Sign: policy.SignAll}},
		},
	})
	want := map[string]string{
		"policy.default":                  `"require", "prefer", "sign", "cleartext" or "refuse"`,
		"policy.missing":                  `never what this leads to; write "refuse", "hold" or "password"`,
		"policy.missing_prefer":           `write "cleartext", "refuse", "hold" or "password"`,
		"policy.unavailable":              `never what this leads to; write "defer", "hold" or "refuse"`,
		"policy.expired":                  `"password " is not known`,
		"policy.changed":                  `write "refuse" or "hold"`,
		"policy.mixed":                    `"clear", "split" or "refuse"`,
		"policy.sign":                     `"encrypted" or "all"`,
		"policy.sign_as":                  `"sender" or "domain"`,
		"policy.headers":                  `"protect" or "subject"`,
		"policy.accept_wkd_after":         `write "24h" or longer`,
		"policy.hold_for":                 "too short",
		"policy.footer":                   "control characters",
		"policy.min_trust.require":        `"first-seen", "directory", "organisation" or "confirmed"`,
		"policy.min_trust.prefer":         `"verified"`,
		"policy.groups.board":             "no groups in it",
		"policy.groups.two words":         "no name for a group",
		"policy.groups.empty":             "has nobody",
		"policy.groups.bad":               "is not a pattern",
		"policy.rule[0].mode":             "is missing",
		"policy.rule[0].name":             "is missing",
		"policy.rule[1].name":             "no rule matches",
		"policy.rule[1].to":               `"*@*" is not a pattern`,
		"policy.rule[2].to":               `"bob*@x.example" is not a pattern`,
		"policy.rule[2].missing":          `write "refuse", "hold" or "password"`,
		"policy.rule[3].name":             "earlier rule",
		"policy.rule[3].mode":             `"encrypt" is not known`,
		"policy.rule[3].from":             `"no address" is not a pattern`,
		"policy.rule[4].name":             "control characters",
		"policy.rule[4].to":               `"*@" is not a pattern`,
		"policy.rule[4].unavailable":      `"x" is not known`,
		"policy.rule[4].mixed":            `"x" is not known`,
		"policy.rule[4].sign":             `"x" is not known`,
		"policy.rule[4].sign_as":          `"x" is not known`,
		"policy.rule[4].headers":          `"x" is not known`,
		"policy.rule[4].accept_wkd_after": "too short",
		"policy.rule[4].footer":           "longer than 4 KiB",
		"policy.rule[5].to":               "match everything",
		"policy.rule[6].subject":          "every subject",
		"policy.rule[6].header":           "is no field and value",
		"policy.rule[6].identity":         `"organisation", "confirmed" or "none"`,
		"policy.rule[6].min_trust":        `"known" is not known`,
		"policy.rule[7].to":               "there are @bad, @board",
		"policy.rule[7].larger_than":      "negative",
		"policy.rule[7].strip_subject":    "needs a word",
		"policy.rule[8].lower":            "leave it out",
		"policy.rule[8].min_trust":        "no effect",
		"policy.rule[8].gone":             "no effect",
		"policy.rule[8].accept_wkd_after": "no effect",
		"policy.rule[8].headers":          "no effect",
		"policy.rule[8].sign":             "contradicts",
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("New gave %v, want joined problems", err)
	}
	told := map[string]bool{}
	for _, e := range joined.Unwrap() {
		var p *policy.Problem
		if !errors.As(e, &p) {
			t.Fatalf("%v is no Problem", e)
		}
		text, ok := want[p.Key]
		if !ok || !strings.Contains(p.Text, text) {
			t.Errorf("%s, want %q", p, text)
		}
		told[p.Key] = true
	}
	if text := err.Error(); !strings.Contains(text, "policy.missing: ") {
		t.Errorf("%q does not name where it is", text)
	}
	for key := range want {
		if !told[key] {
			t.Errorf("no problem reported for %s", key)
		}
	}
	if _, err := policy.New(policy.Config{Rules: []policy.Rule{{Name: "x", Mode: policy.Require, To: []string{"@board"}}}}); err == nil || !strings.Contains(err.Error(), "write [policy.groups]") {
		t.Errorf("a group where none is: %v", err)
	}
}

func TestFirstMatchDecides(t *testing.T) {
	r := rules(t, policy.Config{Rules: []policy.Rule{
		{Name: "one person", To: []string{"Bob@Partner.Example"}, From: []string{"*@boss.example"}, Mode: policy.Cleartext},
		{Name: "domain", To: []string{"*@partner.example", "carol@else.example"}, Mode: policy.Require},
		{Name: "below", To: []string{"*@*.partner.example"}, Mode: policy.Sign},
		{Name: "from us", From: []string{"*@*.example.org", "alice@example.org"}, Mode: policy.Refuse},
		{Name: "rest", To: []string{"*"}, Mode: policy.Prefer},
	}})
	boss := address.Address{Local: "b", Domain: "boss.example"}
	tests := []struct {
		name     string
		from, to address.Address
		want     string
	}{
		{"both ends match", boss, address.Address{Local: "BOB", Domain: "partner.example"}, "one person"},
		{"only one end matches", carol, bob, "domain"},
		{"a second pattern of the rule", carol, carol, "domain"},
		{"a domain below", carol, address.Address{Local: "x", Domain: "a.partner.example"}, "below"},
		{"far below", carol, address.Address{Local: "x", Domain: strings.Repeat("a.", 60) + "partner.example"}, "below"},
		{"a domain that only ends alike", carol, address.Address{Local: "x", Domain: "notpartner.example"}, "rest"},
		{"the sender alone", alice, dave, "from us"},
		{"a sender below", address.Address{Local: "x", Domain: "m.example.org"}, dave, "from us"},
		{"nothing but *", carol, dave, "rest"},
		{"a domain without a dot", carol, address.Address{Local: "root", Domain: "localhost"}, "rest"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := r.Recipient(tt.from, keydir.Finding{Address: tt.to, Outcome: keydir.Absent}); d.Rule != tt.want {
				t.Errorf("rule %q, want %q", d.Rule, tt.want)
			}
		})
	}
}

// Compiled patterns and address.Match are two readings of one text.
func TestPatternsMeanWhatMatchSays(t *testing.T) {
	patterns := []string{"*", "bob@partner.example", "*@partner.example", "*@*.partner.example", "*@*.example", "*@example"}
	addresses := []address.Address{alice, bob, carol, {Local: "BOB", Domain: "partner.example"}, {Local: "x", Domain: "a.partner.example"},
		{Local: "x", Domain: "a.b.partner.example"}, {Local: "x", Domain: "xpartner.example"}, {Local: "x", Domain: "example"}}
	for _, p := range patterns {
		r := rules(t, policy.Config{Rules: []policy.Rule{{Name: "it", To: []string{p}, Mode: policy.Sign}}})
		for _, a := range addresses {
			got := r.Recipient(alice, keydir.Finding{Address: a}).Rule == "it"
			if want := a.Match(p); got != want {
				t.Errorf("%s matches %s: %v, want %v", a, p, got, want)
			}
		}
	}
}

// The index finds what trying the rules one by one would find.
func TestIndexAgreesWithTryingEachRule(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	one := func(of ...string) string { return of[random.IntN(len(of))] }
	pattern := func() string {
		return one("*", "*@*.example", "*@*.b.example", "*@a.example", "*@b.example", "*@c.b.example", "u@a.example", "v@b.example", "u@c.b.example")
	}
	someone := func() address.Address {
		return address.Address{Local: one("u", "v", "w"), Domain: one("a.example", "b.example", "c.b.example", "d.c.b.example", "example", "else.test")}
	}
	for range 50 {
		var c policy.Config
		for i := range 40 {
			r := policy.Rule{Name: fmt.Sprint(i), Mode: policy.Sign, To: []string{pattern()}}
			for range random.IntN(3) {
				r.From = append(r.From, pattern())
			}
			if random.IntN(4) == 0 {
				r.To = append(r.To, pattern())
			}
			if r.To[0] == "*" && random.IntN(8) > 0 { // else it hides the rest
				r.To[0] = "u@a.example"
			}
			c.Rules = append(c.Rules, r)
		}
		r := rules(t, c)
		matches := func(patterns []string, a address.Address) bool {
			return len(patterns) == 0 || slices.ContainsFunc(patterns, a.Match)
		}
		for range 200 {
			from, to := someone(), someone()
			want := policy.DefaultRule
			if i := slices.IndexFunc(c.Rules, func(r policy.Rule) bool { return matches(r.From, from) && matches(r.To, to) }); i >= 0 {
				want = c.Rules[i].Name
			}
			if d := r.Recipient(from, keydir.Finding{Address: to}); d.Rule != want {
				t.Fatalf("from %s to %s: rule %s, want %s of %+v", from, to, d.Rule, want, c.Rules)
			}
		}
	}
}

// BenchmarkRules: 1,000 rules that are told apart by recipient, by sender, by
// group, or by what they look for in the message; one decision at RCPT, or both.
func BenchmarkRules(b *testing.B) {
	for _, kind := range []string{"recipients", "senders", "groups", "triggers", "triggers at DATA"} {
		b.Run(kind, func(b *testing.B) {
			c := policy.Config{Groups: map[string][]string{}}
			for i := range 1000 {
				r := policy.Rule{Name: fmt.Sprint("rule ", i), To: []string{"*@partner.example"}, From: []string{fmt.Sprintf("u%d@example.org", i)}, Mode: policy.Require}
				switch kind {
				case "recipients":
					r.To, r.From = []string{fmt.Sprintf("*@d%d.example", i)}, nil
				case "groups":
					c.Groups[fmt.Sprint("g", i)] = []string{fmt.Sprintf("a%d@example.org", i), fmt.Sprintf("b%d@example.org", i)}
					r.From = []string{fmt.Sprint("@g", i)}
				case "triggers", "triggers at DATA":
					r.From, r.Subject = nil, []string{fmt.Sprintf("[%d]", i)}
				}
				c.Rules = append(c.Rules, r)
			}
			r := rules(b, c)
			f := keydir.Finding{Address: bob, Outcome: keydir.Absent}
			m := subject("an ordinary subject of ordinary length")
			b.ReportAllocs()
			for b.Loop() {
				d := r.Recipient(alice, f)
				if kind == "triggers at DATA" {
					r.Message(m, []policy.Decision{d})
				}
			}
		})
	}
}
