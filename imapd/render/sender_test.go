package render_test

import (
	netmail "net/mail"
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/internal/address"
)

// FuzzSender: where package address, by which it is judged whose a signature is, finds
// one address in a From field, ENVELOPE names that one and nobody else; nor does the
// standard library.
func FuzzSender(f *testing.F) {
	for _, s := range []string{"alice@example.org", "Alice <alice@example.org>", `"a b"@example.org`, "a@b (c <x@y>)", "(x@y) a@b", `"x@y" <a@b>`, "x y <a . b@c . d>",
		"=?utf-8?q?x=40y?= <a@b>", ", a@b,,", "a@[192.0.2.1]", "<a@bücher.example>", "a@b (c\\) <x@y>)", "\"a\\\"b\"@c", "x: a@b;", ":; a@b", "a@b;", "a(b)c@d", "\"x\"y <a@b>", "a@B", " <a@b> (c)", "a\r\n @b", "\"\"@b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		list, err := address.ParseList(value)
		if err != nil || len(list) != 1 || strings.Contains(value, ";") {
			return
		}
		want := list[0].Address
		all := render.ParseAddresses(value)
		if len(all) != 1 {
			t.Fatalf("%q is from %s, and ENVELOPE has %d: %v", value, want, len(all), all)
		}
		got := all[0]
		if got.Mailbox.Text() == "MISSING_MAILBOX" && got.Host.Text() == "MISSING_DOMAIN" {
			return // white space around dots, which Dovecot doesn't read either
		}
		spec := got.Mailbox.Text() + "@" + got.Host.Text()
		if d, err := address.Domain(got.Host.Text()); err != nil || got.Mailbox.Text() != want.Local || d != want.Domain {
			t.Fatalf("%q is from %s, and ENVELOPE has %q", value, want, spec)
		}
		if m, err := netmail.ParseAddress(value); err == nil && !strings.EqualFold(m.Address, spec) && !strings.Contains(m.Address, "\"") {
			t.Fatalf("%q is from %s, and the Go library has %q", value, want, m.Address)
		}
	})
}
