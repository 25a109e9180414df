package policy_test

import (
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/policy"
)

// able is a certificate of that strength.
func able(a address.Address, s ...pgp.Strength) keydir.Finding {
	f := found(a, pgp.Directory)
	f.Certificates = nil
	for range max(len(s), 1) {
		f.Certificates = append(f.Certificates, new(pgp.Certificate))
	}
	f.Strengths = s
	return f
}

func TestAlgorithms(t *testing.T) {
	curves, rsa, old := pgp.Strength{AES256: true}, pgp.Strength{Bits: 2048, AES256: true}, pgp.Strength{}
	modern := pgp.Strength{AES256: true, AEAD: true}
	in := func(cipher policy.Cipher, bits int, aead policy.AEAD) policy.Settings {
		return policy.Settings{MinCipher: cipher, MinRSA: bits, AEAD: aead}
	}
	for _, tt := range []struct {
		name string
		s    policy.Settings
		f    keydir.Finding
		want policy.Action
		says string
	}{
		{"nothing is asked, and nothing is known", policy.Settings{}, able(bob), policy.Encrypt, ""},
		{"nothing is asked by the words of the defaults", in(policy.AES128, 0, policy.AEADOffered), able(bob), policy.Encrypt, ""},
		{"AES-256 of who takes it", in(policy.AES256, 0, ""), able(bob, curves), policy.Encrypt, ""},
		{"AES-256 of who doesn't", in(policy.AES256, 0, ""), able(bob, old), policy.RefuseMessage, `takes no AES-256, and min_cipher = "aes256" asks for it`},
		{"a length of curves, which have none", in("", 4096, ""), able(bob, curves), policy.Encrypt, ""},
		{"a length of a shorter RSA key", in("", 3072, ""), able(bob, rsa), policy.RefuseMessage, "has a key of 2048 bits, and min_rsa asks for 3072"},
		{"a length of one whose first bit is 0", in("", 3072, ""), able(bob, pgp.Strength{Bits: 3071}), policy.Encrypt, ""},
		{"AEAD of who has none", in("", 0, policy.AEADRequire), able(bob, curves), policy.RefuseMessage, `aead = "require" asks for it`},
		{"AEAD of who has it", in("", 0, policy.AEADRequire), able(bob, modern), policy.Encrypt, ""},
		{"anything, of a strength that nobody has told", in(policy.AES256, 0, ""), able(bob), policy.RefuseMessage, "AES-256"},
		{"a length, of a strength that nobody has told", in("", 2048, ""), able(bob), policy.RefuseMessage, "min_rsa"},
	} {
		for _, mode := range []policy.Mode{policy.Require, policy.Prefer} {
			r := rules(t, policy.Config{Settings: tt.s, Rules: []policy.Rule{{Name: "the rule", To: []string{"*"}, Mode: mode}}})
			d := r.Recipient(alice, tt.f)
			if d.Action != tt.want || !strings.Contains(d.Reason, tt.says) {
				t.Errorf("%s under %s: %q (%s), want %q with %q", tt.name, mode, d.Action, d.Reason, tt.want, tt.says)
			}
			if d.Action == policy.RefuseMessage && (d.Cause != policy.CauseWeak || d.Hint == "") {
				t.Errorf("%s under %s: cause %q, hint %q", tt.name, mode, d.Cause, d.Hint)
			}
		}
	}
}

// TestAlgorithmsOfARule: a rule asks for more or for less than [policy]; what it
// asks for goes with the copy; and of several certificates those are used that
// reach it.
func TestAlgorithmsOfARule(t *testing.T) {
	r := rules(t, policy.Config{Settings: policy.Settings{MinCipher: policy.AES256, MinRSA: 3072, Weak: policy.ThenHold}, Rules: []policy.Rule{
		{Name: "modern", To: []string{"*@partner.example"}, Mode: policy.Require, Settings: policy.Settings{AEAD: policy.AEADRequire}},
		{Name: "old", To: []string{"*@else.example"}, Mode: policy.Prefer, Settings: policy.Settings{MinCipher: policy.AES128, MinRSA: 2048}},
		{Name: "under a password", To: []string{"*@waits.example"}, Mode: policy.Prefer, Settings: policy.Settings{Weak: policy.ThenPassword}},
	}})
	weak := pgp.Strength{Bits: 2048}
	six := pgp.Strength{AES256: true, AEAD: true}
	f := able(bob, pgp.Strength{AES256: true}, six)
	d := r.Recipient(alice, f)
	if d.Action != policy.Encrypt || len(d.Certificates) != 1 || d.Certificates[0] != f.Certificates[1] {
		t.Errorf("of two certificates: %q to %d", d.Action, len(d.Certificates))
	}
	if want := (pgp.Strength{Bits: 3072, AES256: true, AEAD: true}); d.Options.Least != want {
		t.Errorf("the copy is bound to %+v, want %+v", d.Options.Least, want)
	}
	if d := r.Recipient(alice, able(carol, weak)); d.Action != policy.Encrypt || d.Options.Least != (pgp.Strength{Bits: 2048}) {
		t.Errorf("under the rule that asks for less: %q, %+v", d.Action, d.Options.Least)
	}
	if d := r.Recipient(alice, able(dave, weak)); d.Action != policy.Password || d.Options.Least != (pgp.Strength{}) {
		t.Errorf("under a password: %q, %+v", d.Action, d.Options.Least)
	}
	other := address.Address{Local: "x", Domain: "other.example"}
	if d := r.Recipient(alice, able(other, weak)); d.Action != policy.Hold {
		t.Errorf("by default it waits: %q", d.Action)
	}
	// A successor that is weaker than asked for doesn't take its place.
	f = keydir.Finding{Address: bob, Outcome: keydir.Found, Known: true, Problem: keydir.ProblemChanged}
	for s, want := range map[pgp.Strength]policy.Action{six: policy.Encrypt, weak: policy.RefuseMessage} {
		f.Successor = &keydir.Successor{Certificates: certs, Strengths: []pgp.Strength{s}, Served: 100 * time.Hour}
		r := rules(t, policy.Config{Settings: policy.Settings{AcceptWKDAfter: 48 * time.Hour, MinCipher: policy.AES256}})
		if d := r.Recipient(alice, f); d.Action != want {
			t.Errorf("a successor of %+v: %q, want %q", s, d.Action, want)
		}
	}
}

// TestRaisingKeepsTheStricterAlgorithms: a word in the subject can't take anything
// off what a rule asks of algorithms, nor the rule off what the word asks for.
func TestRaisingKeepsTheStricterAlgorithms(t *testing.T) {
	var all []policy.Settings
	for _, c := range []policy.Cipher{"", policy.AES128, policy.AES256} {
		for _, bits := range []int{0, 2048, 3072} {
			for _, aead := range []policy.AEAD{"", policy.AEADOffered, policy.AEADRequire} {
				all = append(all, policy.Settings{MinCipher: c, MinRSA: bits, AEAD: aead})
			}
		}
	}
	strong := pgp.Strength{AES256: true, AEAD: true}
	for _, base := range all {
		for _, word := range all {
			for _, mode := range []policy.Mode{policy.Prefer, policy.Require} {
				r := rules(t, policy.Config{Rules: []policy.Rule{
					{Name: "word", Subject: []string{"[word]"}, Mode: mode, Settings: word}, {Name: "base", To: []string{"*"}, Mode: policy.Prefer, Settings: base}}})
				_, d := decide(r, subject("[word]"), able(bob, strong))
				want := pgp.Strength{Bits: max(base.MinRSA, word.MinRSA), AES256: base.MinCipher == policy.AES256 || word.MinCipher == policy.AES256,
					AEAD: base.AEAD == policy.AEADRequire || word.AEAD == policy.AEADRequire}
				if d.Action != policy.Encrypt || d.Options.Least != want {
					t.Fatalf("%+v raised by %+v: %q, %+v, want %+v", base, word, d.Action, d.Options.Least, want)
				}
			}
		}
	}
}

func TestAlgorithmsThatAreWrong(t *testing.T) {
	_, err := policy.New(policy.Config{Settings: policy.Settings{MinCipher: "aes", MinRSA: 1024, AEAD: "yes"}, Rules: []policy.Rule{
		{Name: "idle", To: []string{"*"}, Mode: policy.Sign, Settings: policy.Settings{MinCipher: policy.AES256, MinRSA: 100000, AEAD: policy.AEADRequire}}}})
	for _, want := range []string{
		`policy.min_cipher: "aes" is not known; write "aes128" or "aes256"`, "policy.min_rsa: 1024 is no length", `policy.aead: "yes" is not known; write "offered" or "require"`,
		"policy.rule[0].min_rsa: 100000 is no length", "policy.rule[0].min_cipher: has no effect under mode", "policy.rule[0].min_rsa: has no effect", "policy.rule[0].aead: has no effect",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say %q", err, want)
		}
	}
}
