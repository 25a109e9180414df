package keydir_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

func TestSafetyNumber(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	person := func(s string) (address.Address, *pgp.Certificate) {
		a, err := address.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		k, err := pgp.GenerateKey(a, pgp.DefaultProfile, at)
		if err != nil {
			t.Fatal(err)
		}
		return a, k.Certificate()
	}
	alice, hers := person("Alice@Example.org")
	bob, his := person("bob@example.net")
	_, another := person("bob@example.net")

	n := keydir.NewSafetyNumber(alice, hers, bob, his)
	if n != keydir.NewSafetyNumber(bob, his, alice, hers) {
		t.Error("the two sides see different numbers")
	}
	folded, _ := person("alice@example.org")
	if n != keydir.NewSafetyNumber(folded, hers, bob, his) {
		t.Error("the spelling of an address changes the number")
	}
	for name, other := range map[string]keydir.SafetyNumber{
		"another key":          keydir.NewSafetyNumber(alice, hers, bob, another),
		"another address":      keydir.NewSafetyNumber(alice, hers, alice, his),
		"the keys exchanged":   keydir.NewSafetyNumber(alice, his, bob, hers),
		"one person with both": keydir.NewSafetyNumber(alice, hers, bob, hers),
	} {
		if other == n || other.Digits() == n.Digits() || slices.Equal(other.Words(), n.Words()) {
			t.Errorf("%s gives the same number", name)
		}
	}

	if !regexp.MustCompile(`^(\d{5} ){11}\d{5}$`).MatchString(n.Digits()) {
		t.Errorf("digits %q", n.Digits())
	}
	if w := n.Words(); len(w) != 12 || slices.Contains(w, "") {
		t.Errorf("words %q", w)
	}
	for _, typed := range []string{n.Digits(), strings.ReplaceAll(n.Digits(), " ", ""), strings.ReplaceAll(n.Digits(), " ", "-"), " " + n.Digits() + "\n",
		strings.Join(n.Words(), " "), strings.ToUpper(strings.Join(n.Words(), "  ")), n.QR()} {
		if !n.Matches(typed) {
			t.Errorf("%q does not match", typed)
		}
	}
	for _, typed := range []string{"", "LETTERLOCK-SAFETY-1:", n.Digits()[:59], n.Digits() + "1", strings.Join(n.Words()[:11], " "),
		strings.Join(slices.Concat(n.Words(), n.Words()[:1]), " "), keydir.NewSafetyNumber(alice, hers, bob, another).Digits()} {
		if n.Matches(typed) {
			t.Errorf("%q matches", typed)
		}
	}
}

// What was read aloud yesterday must be right after an update.
func TestSafetyNumberStays(t *testing.T) {
	a, _ := address.Parse("alice@example.org")
	b, _ := address.Parse("bob@example.org")
	n := keydir.NewSafetyNumber(a, parsed(t, aliceArmored), b, parsed(t, bobArmored))
	if got, want := n.Digits(), goldenDigits; got != want {
		t.Errorf("digits %s, were %s", got, want)
	}
	if got := strings.Join(n.Words(), " "); got != goldenWords {
		t.Errorf("words %s, were %s", got, goldenWords)
	}
}

func parsed(t *testing.T, armored string) *pgp.Certificate {
	t.Helper()
	certs, err := pgp.ParseCertificates([]byte(armored))
	if err != nil || len(certs) != 1 {
		t.Fatal(err)
	}
	return certs[0]
}
