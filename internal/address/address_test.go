package address_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/net/idna"

	"letterlock.org/letterlock/internal/address"
)

func TestParse(t *testing.T) {
	tests := []struct{ name, in, want, key string }{ // want is String, "" for refused
		{"the common form", "alice@example.org", "alice@example.org", "alice@example.org"},
		{"a domain becomes lower case, a local part stays", "Alice@Example.ORG", "Alice@example.org", "alice@example.org"},
		{"all atom characters", "!#$%&'*+-/=?^_`{|}~@a.org", "!#$%&'*+-/=?^_`{|}~@a.org", "!#$%&'*+-/=?^_`{|}~@a.org"},
		{"quotes that are not needed go", `"alice"@example.org`, "alice@example.org", "alice@example.org"},
		{"quotes that are needed stay", `"a b"@example.org`, `"a b"@example.org`, `"a b"@example.org`},
		{"an at sign in quotes", `"a@b"@c.org`, `"a@b"@c.org`, `"a@b"@c.org`},
		{"quoted quotes", `"a\"\\b"@c.org`, `"a\"\\b"@c.org`, `"a\"\\b"@c.org`},
		{"two dots need quotes", `"a..b"@c.org`, `"a..b"@c.org`, `"a..b"@c.org`},
		{"U-labels become A-labels", "a@bücher.example", "a@xn--bcher-kva.example", "a@xn--bcher-kva.example"},
		{"upper case U-labels too", "a@BÜCHER.example", "a@xn--bcher-kva.example", "a@xn--bcher-kva.example"},
		{"A-labels stay", "a@XN--bcher-kva.example", "a@xn--bcher-kva.example", "a@xn--bcher-kva.example"},
		{"a UTF-8 local part stays too, and its key is in lower case", "JÖRG@example.org", "JÖRG@example.org", "jörg@example.org"},
		{"a letter in two pieces", "Jo\u0308rg@example.org", "Jo\u0308rg@example.org", "jörg@example.org"},
		{"a capital letter in two pieces", "JO\u0308RG@example.org", "JO\u0308RG@example.org", "jörg@example.org"},
		{"Greek and Cyrillic", "ΑΛΙΚΗ.Алиса@example.org", "ΑΛΙΚΗ.Алиса@example.org", "αλικη.алиса@example.org"},
		{"the Kelvin sign is no k", "\u212Aelly@example.org", "\u212Aelly@example.org", "\u212Aelly@example.org"},
		{"a capital I with a dot is no i", "\u0130da@example.org", "\u0130da@example.org", "\u0130da@example.org"},
		{"a Greek question mark is no semicolon", "a\u037e@example.org", "a\u037e@example.org", "a\u037e@example.org"},
		{"letters that grow when they are folded", strings.Repeat("Ⱥ", 127) + "@b.org", strings.Repeat("Ⱥ", 127) + "@b.org", strings.Repeat("Ⱥ", 127) + "@b.org"},
		{"a host without dots", "alice@localhost", "alice@localhost", "alice@localhost"},
		{"an IPv4 literal", "a@[192.0.2.1]", "a@[192.0.2.1]", "a@[192.0.2.1]"},
		{"an IPv6 literal", "a@[ipv6:2001:DB8:0::1]", "a@[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]"},
		{"a long bounce address", strings.Repeat("b", 255) + "@example.org", strings.Repeat("b", 255) + "@example.org", strings.Repeat("b", 255) + "@example.org"},
		{"empty", "", "", ""},
		{"no domain", "alice", "", ""},
		{"empty domain", "alice@", "", ""},
		{"empty local part", "@example.org", "", ""},
		{"empty quoted local part", `""@example.org`, "", ""},
		{"two at signs", "a@b@c.org", "", ""},
		{"a dot first", ".a@c.org", "", ""},
		{"a dot last", "a.@c.org", "", ""},
		{"two dots", "a..b@c.org", "", ""},
		{"a domain with empty label", "a@b..org", "", ""},
		{"a domain with final dot", "a@b.org.", "", ""},
		{"a domain that begins with a dash", "a@-b.org", "", ""},
		{"angle brackets", "<a@b.org>", "", ""},
		{"a display name", "A <a@b.org>", "", ""},
		{"space around", " a@b.org", "", ""},
		{"space within", "a b@c.org", "", ""},
		{"space in the domain", "a@b .org", "", ""},
		{"line break", "a@b.org\r\nRCPT TO:<x@y.org>", "", ""},
		{"line break in the local part", "a\r\n@b.org", "", ""},
		{"line break in quotes", "\"a\r\nb\"@c.org", "", ""},
		{"quoted line break", "\"a\\\nb\"@c.org", "", ""},
		{"NUL", "a\x00@b.org", "", ""},
		{"NUL in quotes", "\"a\x00\"@b.org", "", ""},
		{"broken UTF-8", "a\xff@b.org", "", ""},
		{"a direction mark", "a\u202eb@c.org", "", ""},
		{"a no-break space", "a\u00a0b@c.org", "", ""},
		{"a zero width space in the domain", "a@exa\u200bmple.org", "a@example.org", "a@example.org"}, // mapped away, UTS 46
		{"a comment", "a(b)@c.org", "", ""},
		{"unended quote", `"a@b.org`, "", ""},
		{"parameter smuggling", "a@b.org> SIZE=1", "", ""},
		{"IPv6 without its tag", "a@[2001:db8::1]", "", ""},
		{"a zone", "a@[IPv6:fe80::1%eth0]", "", ""},
		{"a literal without end", "a@[192.0.2.1", "", ""},
		{"too long a local part", strings.Repeat("a", 256) + "@b.org", "", ""},
		{"too long a domain", "a@" + strings.Repeat("b.", 150) + "org", "", ""},
		{"too long a label", "a@" + strings.Repeat("b", 64) + ".org", "", ""},
	}
	for _, tt := range tests {
		a, err := address.Parse(tt.in)
		if tt.want == "" {
			if !errors.Is(err, address.ErrInvalid) || !a.IsZero() {
				t.Errorf("%s: Parse(%q) = %q, %v; want ErrInvalid", tt.name, tt.in, a, err)
			}
			continue
		}
		if err != nil || a.String() != tt.want || a.Key() != tt.key {
			t.Errorf("%s: Parse(%q) = %q, key %q, %v; want %q, key %q", tt.name, tt.in, a, a.Key(), err, tt.want, tt.key)
		}
		again, err := address.Parse(a.String())
		if err != nil || again != a {
			t.Errorf("%s: %q parsed again is %q, %v", tt.name, a, again, err)
		}
	}
}

func TestMatch(t *testing.T) {
	tests := []struct {
		addr, pattern string
		want          bool
	}{
		{"a@b.org", "a@b.org", true},
		{"A@b.org", "a@B.org", true},
		{"a@b.org", "c@b.org", false},
		{"JÖRG@b.org", "jo\u0308rg@b.org", true},
		{"\u212Aelly@b.org", "kelly@b.org", false},
		{"a@b.org", "*@b.org", true},
		{"a@x.b.org", "*@b.org", false},
		{"a@x.b.org", "*@*.b.org", true},
		{"a@x.y.b.org", "*@*.b.org", true},
		{"a@b.org", "*@*.b.org", false},
		{"a@evilb.org", "*@*.b.org", false},
		{"a@b.org", "*", true},
		{"a@b.org", "", false},
		{"a@b.org", "b.org", false},
		{"a@b.org", "*@*", false},
		{"a@b.org", "*@", false},
		{"a@xn--bcher-kva.example", "*@bücher.example", true},
		{`"*"@b.org`, "*@c.org", false},
		{`"x@b.org"@c.org`, "*@b.org", false},
	}
	for _, tt := range tests {
		a, err := address.Parse(tt.addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Match(tt.pattern); got != tt.want {
			t.Errorf("%s matches %q: %v, want %v", a, tt.pattern, got, tt.want)
		}
	}
	if (address.Address{}).Match("*") {
		t.Error("no address matches *")
	}
}

func TestParseList(t *testing.T) {
	tests := []struct{ name, in, want string }{ // want is entries as name|address, "!" for refused
		{"bare", "a@b.org", "|a@b.org"},
		{"in brackets", "<a@b.org>", "|a@b.org"},
		{"named", "Alice Example <a@b.org>", "Alice Example|a@b.org"},
		{"quoted name", `"Example, Alice" <a@b.org>`, "Example, Alice|a@b.org"},
		{"encoded name", "=?utf-8?q?J=C3=B6rg?= <a@b.org>", "Jörg|a@b.org"},
		{"UTF-8 name", "Jörg <a@b.org>", "Jörg|a@b.org"},
		{"dots in a name", "J. R. Alice <a@b.org>", "J. R. Alice|a@b.org"},
		{"two", "a@b.org, C <c@d.org>", "|a@b.org C|c@d.org"},
		{"empty entries", ", a@b.org,, c@d.org,", "|a@b.org |c@d.org"},
		{"empty", "", ""},
		{"a group", "Team: a@b.org, C <c@d.org>;", "|a@b.org C|c@d.org"},
		{"an empty group", "undisclosed-recipients:;", ""},
		{"a group and one more", "T:a@b.org;, c@d.org", "|a@b.org |c@d.org"},
		{"comments", "(x) a (y) @ (z(n)) b.org (end)", "|a@b.org"},
		{"folded", "Alice\r\n <a@b.org>,\r\n\tc@d.org", "Alice|a@b.org |c@d.org"},
		{"an at sign in quotes", `"a@b"@c.org`, `|"a@b"@c.org`},
		{"quoted local part in brackets", `X <"a b"@c.org>`, `X|"a b"@c.org`},
		{"a name that looks like an address", `"bob@bank.example" <a@b.org>`, "bob@bank.example|a@b.org"},
		{"an encoded name with a line break", "=?utf-8?q?a=0D=0ABcc=3A_x?= <a@b.org>", "aBcc: x|a@b.org"},
		{"U-label domain", "a@bücher.example", "|a@xn--bcher-kva.example"},
		{"a literal", "a@[192.0.2.1]", "|a@[192.0.2.1]"},
		{"white space around dots", "a . b @ c . org", "|a.b@c.org"},
		{"a name that looks like an address, unquoted", "bob@bank.example <a@b.org>", "!"},
		{"no comma", "a@b.org c@d.org", "!"},
		{"no domain", "a@b.org, alice", "!"},
		{"a word alone", "alice", "!"},
		{"a name without address", "Alice <>", "!"},
		{"unended bracket", "Alice <a@b.org", "!"},
		{"unended quote", `"Alice <a@b.org>`, "!"},
		{"unended comment", "a@b.org (x", "!"},
		{"unended group", "T: a@b.org", "!"},
		{"a group in a group", "T: U: a@b.org;;", "!"},
		{"a stray semicolon", "a@b.org;", "!"},
		{"semicolons for commas", "a@b.org; c@d.org", "!"},
		{"a route", "<@x.org,@y.org:a@b.org>", "!"},
		{"two addresses in brackets", "<a@b.org, c@d.org>", "!"},
		{"text after brackets", "<a@b.org> x", "!"},
		{"a second bracket", "<a@b.org> <c@d.org>", "!"},
		{"two at signs", "a@b@c.org", "!"},
		{"a line break that is no fold", "a@b.org,\r\nc@d.org", "!"},
		{"a bare CR", "a@b.org,\rc@d.org", "!"},
		{"a bare CR in quotes", "\"a\rb\" <a@b.org>", "!"},
		{"a bare CR in a comment", "a@b.org (\r)", "!"},
		{"NUL", "a\x00@b.org", "!"},
		{"NUL in quotes", "\"\x00\" <a@b.org>", "!"},
		{"quotes beside atoms", `"a".b@c.org`, "!"},
		{"a space in the domain", "<a@b org>", "!"},
	}
	for _, tt := range tests {
		list, err := address.ParseList(tt.in)
		got := "!"
		if err == nil {
			var all []string
			for _, m := range list {
				all = append(all, m.Name+"|"+m.Address.String())
			}
			got = strings.Join(all, " ")
		} else if !errors.Is(err, address.ErrInvalid) || list != nil {
			t.Errorf("%s: list %v, error %v", tt.name, list, err)
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q (%v)", tt.name, got, tt.want, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a@b.org", `"a\"@b"@c.org`, "ü@bücher.example", "a@[IPv6:::1]", "a@b.org\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := address.Parse(s)
		if err != nil {
			return
		}
		checkAddress(t, a)
	})
}

func FuzzParseList(f *testing.F) {
	for _, s := range []string{"A <a@b.org>, T: c@d.org;", `"x, y" <"a@b"@c.org>`, "(a(b)) x . y @ z\r\n .org", "=?utf-8?q?=0D?= <a@b.org>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := address.ParseList(s)
		if err != nil {
			return
		}
		for _, m := range list {
			checkAddress(t, m.Address)
			if strings.ContainsAny(m.Name, "\r\n\x00\u202e") {
				t.Fatalf("name %q", m.Name)
			}
		}
	})
}

// checkAddress fails unless a is safe in an envelope and survives its own
// spelling.
func TestUntagged(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{ // want is "" for none
		{"a tag", "bob+shop@example.org", "bob@example.org"},
		{"two of them", "bob+shop+2@example.org", "bob@example.org"},
		{"an empty one", "bob+@example.org", "bob@example.org"},
		{"the spelling stays", "Bob+Shop@example.org", "Bob@example.org"},
		{"what needs quotes then", "bob.+shop@example.org", `"bob."@example.org`},
		{"no tag", "bob@example.org", ""},
		{"nothing before it", "+shop@example.org", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, err := address.Parse(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			plain, ok := a.Untagged()
			if plain.String() != tt.want || ok != (tt.want != "") {
				t.Errorf("got %q, %v, want %q", plain, ok, tt.want)
			}
			if ok {
				checkAddress(t, plain)
			}
		})
	}
}

func checkAddress(t *testing.T, a address.Address) {
	t.Helper()
	s := a.String()
	if strings.ContainsAny(s, "\r\n\x00\t") || strings.ContainsAny(a.Domain, " <>@") {
		t.Fatalf("%q is unsafe", s)
	}
	for _, form := range []string{s, a.Key()} {
		b, err := address.Parse(form)
		if err != nil || !a.Equal(b) || a.Key() != b.Key() {
			t.Fatalf("%q parsed again: %q, %v", form, b, err)
		}
	}
	if b, _ := address.Parse(s); a != b {
		t.Fatalf("%q parsed again is %q", s, b)
	}
	list, err := address.ParseList("<" + s + ">")
	if err != nil || len(list) != 1 || list[0].Address != a {
		t.Fatalf("ParseList of %q: %v, %v", s, list, err)
	}
	if !a.Match("*") || !a.Match(a.Key()) || !strings.HasPrefix(a.Domain, "[") && !a.Match("*@"+a.Domain) {
		t.Fatalf("%q does not match itself", s)
	}
}

func TestDomainsAreAsTheLookUpHasThem(t *testing.T) {
	lookup := idna.New(idna.MapForLookup(), idna.BidiRule(), idna.VerifyDNSLength(true), idna.StrictDomainName(true), idna.Transitional(false))
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		b := make([]byte, rnd.IntN(12))
		for i := range b {
			b[i] = "abxn019-..ZA_"[rnd.IntN(13)]
		}
		s := string(b)
		if rnd.IntN(50) == 0 {
			s = strings.Repeat("a", rnd.IntN(66)) + "." + s + strings.Repeat(".abc", rnd.IntN(66))
		}
		want, err := lookup.ToASCII(s)
		if err != nil || strings.HasSuffix(want, ".") || len(s) > 255 {
			want = ""
		}
		if got, _ := address.Domain(s); got != want {
			t.Errorf("Domain(%q) = %q, want %q", s, got, want)
		}
	}
}
