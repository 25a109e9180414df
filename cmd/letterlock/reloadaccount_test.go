package main_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest"
)

// TestSessionsOfAnAccountThatChanges: whose account is at another mail server since a
// reload reads there, after being told to come again, and sends there from the next
// message on, the one that was begun to where it was begun; whose account is as it was
// notices nothing.
func TestSessionsOfAnAccountThatChanges(t *testing.T) {
	var ups [2]*mailtest.Upstream
	for i, password := range []string{"first", "second"} {
		up, err := mailtest.Start(mailtest.Options{Users: map[string]string{alice: password, bob: password}})
		if err != nil {
			t.Fatal(err)
		}
		defer up.Close()
		ups[i] = up
	}
	w := newWorldOf(t, world{domain: "example.org"})
	account := func(address string, n int, more string) string {
		return fmt.Sprintf("[[bridge]]\naddress = %q\nupstream_password = \"file:%s\"\nimap = { listen = \"127.0.0.1:0\", upstream = \"imap+insecure://%s\" }\n"+
			"smtp = { listen = \"127.0.0.1:0\", upstream = \"smtp+insecure://%s\" }\n%s\n", address,
			w.file(fmt.Sprint("pw", n), []string{"first", "second"}[n]+"\n"), ups[n].IMAPAddr, ups[n].SMTPAddr, more)
	}
	const clear = "[policy]\ndefault = \"cleartext\"\n"
	const alias = `aliases = ["al@example.org"]`
	b := w.configure("both", account(alice, 0, "")+account(bob, 0, "")+clear)
	passwords := map[string]string{}
	for _, a := range []string{alice, bob} {
		b.command("account", "add", a)
		var shown struct{ Password string }
		if err := json.Unmarshal([]byte(b.command("account", "show", a, "--json")), &shown); err != nil {
			t.Fatal(err)
		}
		passwords[a] = shown.Password
	}
	b.serve(4)
	at := func(protocol, address string) string {
		for _, r := range b.ready {
			if r.Protocol == protocol && r.Address == address {
				return r.Listen
			}
		}
		t.Fatalf("no %s of %s in %v", protocol, address, b.ready)
		return ""
	}
	reads, idles, sends, begun := map[string]reader{}, map[string]reader{}, map[string]*dialogue{}, map[string]*dialogue{}
	smtp := func(a string) *dialogue {
		d := talk(t, at("smtp", a))
		d.say("EHLO client", "250")
		d.say("AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+a+"\x00"+passwords[a])), "235")
		return d
	}
	submit := func(d *dialogue, a, from, id string) {
		t.Helper()
		d.say("MAIL FROM:<"+from+">", "250")
		d.say("RCPT TO:<"+bob+">", "250")
		d.say("DATA", "354")
		d.say("From: "+from+"\r\nMessage-ID: <"+id+"@example.org>\r\n\r\nhello\r\n.", "250")
	}
	for _, a := range []string{alice, bob} {
		reads[a], idles[a] = openInbox(t, at("imap", a), a, passwords[a]), openInbox(t, at("imap", a), a, passwords[a])
		idles[a].says("c IDLE", "+")
		sends[a], begun[a] = smtp(a), smtp(a)
		submit(sends[a], a, a, "before")
		begun[a].say("MAIL FROM:<"+a+">", "250")
		begun[a].say("RCPT TO:<"+bob+">", "250")
	}
	w.configure("both", account(alice, 1, alias)+account(bob, 0, "")+clear)
	b.command("reload")
	b.command("account", "add", alice) // a key for the alias

	const bye = "* BYE [UNAVAILABLE] the settings of this account have changed"
	for _, r := range []reader{idles[alice], reads[alice]} {
		r.hears(bye)
		r.ends()
	}
	idles[bob].says("DONE", "c OK")
	reads[bob].says("c NOOP", "c OK")
	if err := ups[1].Deliver(alice, "INBOX", []byte("Subject: at the new server\r\n\r\nhello\r\n")); err != nil {
		t.Fatal(err)
	}
	openInbox(t, at("imap", alice), alice, passwords[alice]).says("c FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT)]", "Subject: at the new server")

	for _, a := range []string{alice, bob} {
		begun[a].say("DATA", "354")
		begun[a].say("From: "+a+"\r\nMessage-ID: <begun@example.org>\r\n\r\nhello\r\n.", "250")
		submit(sends[a], a, a, "after")
		submit(begun[a], a, a, "after2")
	}
	submit(sends[alice], alice, "al@example.org", "alias")
	sends[bob].say("MAIL FROM:<al@example.org>", "550")
	got := map[string]int{}
	for n, up := range ups {
		for _, d := range up.Delivered() {
			_, id, _ := strings.Cut(string(d.Raw), "Message-ID: <")
			id, _, _ = strings.Cut(id, "@")
			got[fmt.Sprint(d.From, " ", id, " ", n)]++
		}
	}
	want := map[string]int{}
	for _, s := range []string{"before 0", "begun 0"} {
		want[alice+" "+s], want[bob+" "+s] = 1, 1
	}
	for _, s := range []string{"after", "after2"} {
		want[alice+" "+s+" 1"], want[bob+" "+s+" 0"] = 1, 1
	}
	want["al@example.org alias 1"] = 1
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("delivered:\n%v, want\n%v", got, want)
	}
}
