package main_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/mailtest"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// reader is a mail program that is logged in and has selected INBOX, spoken by hand.
type reader struct{ *dialogue }

func openInbox(t *testing.T, at, user, password string) reader {
	t.Helper()
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	r := reader{&dialogue{t, c, bufio.NewReader(c)}}
	r.hears("* OK")
	r.says("a LOGIN "+user+" "+password, "a OK")
	r.says("b SELECT INBOX", "b OK")
	return r
}

// hears reads lines until one begins with want.
func (r reader) hears(want string) {
	r.t.Helper()
	for {
		line, err := r.r.ReadString('\n')
		if err != nil {
			r.t.Fatalf("%v, want %s", err, want)
		}
		if strings.HasPrefix(line, want) {
			return
		}
	}
}

func (r reader) says(line, want string) {
	r.t.Helper()
	fmt.Fprintf(r.conn, "%s\r\n", line)
	r.hears(want)
}

// TestMailThatIsTakenAway: whose [[bridge]] is gone reads no more mail, in IDLE and
// between commands at once; nothing is indexed for them; the others stay.
func TestMailThatIsTakenAway(t *testing.T) {
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{alice: "upstream-alice", bob: "upstream-bob"}, Record: true})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	w := newWorld(t, up)
	account := func(address string) string {
		return fmt.Sprintf("[[bridge]]\naddress = %q\nupstream_password = \"file:%s\"\nimap = { %s }\n", address,
			w.file("pw-"+address, "upstream-"+strings.Split(address, "@")[0]+"\n"), w.imap)
	}
	both := w.configure("both", account(alice)+account(bob))
	passwords := map[string]string{}
	for _, a := range []string{alice, bob} {
		both.command("account", "add", a)
		var shown struct{ Password string }
		if err := json.Unmarshal([]byte(both.command("account", "show", a, "--json")), &shown); err != nil {
			t.Fatal(err)
		}
		passwords[a] = shown.Password
	}
	both.serve(2)
	at := map[string]string{alice: both.ready[0].Listen, bob: both.ready[1].Listen}
	waiting, idle := map[string]reader{}, map[string]reader{}
	for _, a := range []string{alice, bob} {
		waiting[a], idle[a] = openInbox(t, at[a], a, passwords[a]), openInbox(t, at[a], a, passwords[a])
		idle[a].says("c IDLE", "+")
	}
	w.configure("both", account(bob))
	both.command("reload")
	const bye = "* BYE [CONTACTADMIN] this account is not served here any more"
	idle[alice].hears(bye)
	idle[alice].ends()
	waiting[alice].hears(bye)
	waiting[alice].ends()
	idle[bob].says("DONE", "c OK")
	waiting[bob].says("c NOOP", "c OK")

	// Who comes back is served, and indexed, as if nothing had been.
	secret := base64.StdEncoding.EncodeToString([]byte("\x00" + alice + "\x00upstream-alice"))
	logins := func() int { return bytes.Count(up.Heard(), []byte(secret)) }
	before := logins()
	if before == 0 {
		t.Fatal("this test doesn't know how Alice's logins look upstream")
	}
	w.configure("both", account(alice)+account(bob))
	both.command("reload")
	for end := time.Now().Add(patience); logins() == before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("Alice's mail isn't indexed any more")
		}
	}
	openInbox(t, at[alice], alice, passwords[alice]).says("c NOOP", "c OK")
}

// TestAReloadChangesAnAccount: what is encrypted to a new alias is opened, and the
// indexer goes to the server that the account is at now, as sessions do; the old one
// hears nothing more.
func TestAReloadChangesAnAccount(t *testing.T) {
	var ups [2]*mailtest.Upstream
	for i := range ups {
		up, err := mailtest.Start(mailtest.Options{Users: map[string]string{alice: "upstream-alice"}, Record: true})
		if err != nil {
			t.Fatal(err)
		}
		defer up.Close()
		ups[i] = up
	}
	const alias = "al@example.org"
	w := newWorldOf(t, world{domain: "example.org"})
	account := func(up *mailtest.Upstream, more string) string {
		return fmt.Sprintf("[[bridge]]\naddress = %q\nupstream_password = \"file:%s\"\nimap = { listen = \"127.0.0.1:0\", upstream = \"imap+insecure://%s\" }\n%s", alice,
			w.file("pw", "upstream-alice\n"), up.IMAPAddr, more)
	}
	b := w.configure("alice", account(ups[0], ""))
	b.command("account", "add", alice)
	var shown struct{ Password string }
	if err := json.Unmarshal([]byte(b.command("account", "show", alice, "--json")), &shown); err != nil {
		t.Fatal(err)
	}
	b.serve(1)
	openInbox(t, b.ready[0].Listen, alice, shown.Password).says("c NOOP", "c OK")
	heard := func(up *mailtest.Upstream, what string) int { return bytes.Count(up.Heard(), []byte(what)) }
	wait := func(what string, is func() bool) {
		t.Helper()
		for end := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	wait("nothing is indexed at first", func() bool { return heard(ups[0], "LIST") > 0 })

	w.configure("alice", account(ups[1], fmt.Sprintf("aliases = [%q]\n", alias)))
	b.command("reload")
	b.command("account", "add", alice)
	certs, err := pgp.ParseCertificates([]byte(b.command("key", "export", alias)))
	if err != nil || len(certs) != 1 {
		t.Fatal(certs, err)
	}
	from := address.Address{Local: "carol", Domain: "example.net"}
	key, err := pgp.GenerateKey(from, pgp.DefaultProfile, time.Now().Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	var sealed bytes.Buffer
	raw := "From: carol@example.net\r\nTo: " + alias + "\r\nSubject: to an alias\r\nMessage-ID: <alias@example.net>\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n\r\nhello\r\n"
	if err := pgp.Protect(t.Context(), &sealed, message.Bytes([]byte(raw)), pgp.Protection{Signer: key, Recipients: certs, From: from, Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := ups[1].Deliver(alice, "INBOX", sealed.Bytes()); err != nil {
		t.Fatal(err)
	}
	openInbox(t, b.ready[0].Listen, alice, shown.Password).says("c FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT)]", "Subject: to an alias")
	wait("the indexer doesn't follow", func() bool { return heard(ups[1], "LIST") > 0 })
}

// TestAReloadChangesTheMailServer: what is offered is what the server of now has, though
// the one before never said a word.
func TestAReloadChangesTheMailServer(t *testing.T) {
	w := newWorldOf(t, world{domain: "example.org"})
	with := func(upstream string) string {
		return fmt.Sprintf("[[bridge]]\naddress = %q\nupstream_password = \"file:%s\"\nsmtp = { listen = \"127.0.0.1:0\", upstream = \"smtp+insecure://%s\" }\n",
			alice, w.file("pw", "upstream-alice\n"), upstream)
	}
	b := w.configure("alice", with(saysHello(t)))
	b.command("account", "add", alice)
	b.serve(1)
	offers := func(want string, wanted bool) {
		t.Helper()
		for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			d := talk(t, b.ready[0].Listen)
			fmt.Fprint(d.conn, "EHLO x\r\nQUIT\r\n")
			all, _ := io.ReadAll(d.r)
			d.conn.Close()
			if bytes.Contains(all, []byte("-"+want+"\r\n")) == wanted {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s is wanted: %v; the offer is %q", want, wanted, all)
			}
		}
	}
	for _, next := range []struct {
		hello []string
		want  bool
	}{{[]string{"250-mail.example", "250 SMTPUTF8"}, true}, {[]string{"250 mail.example"}, false}} {
		w.configure("alice", with(saysHello(t, next.hello...)))
		b.command("reload")
		offers("SMTPUTF8", next.want)
	}
}

// saysHello is a mail server that answers EHLO with those lines, and nothing at all
// without any.
func saysHello(t *testing.T, lines ...string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(io.Discard, c); c.Close() }()
			if len(lines) > 0 {
				fmt.Fprintf(c, "220 mail.example\r\n%s\r\n", strings.Join(lines, "\r\n"))
			}
		}
	}()
	return ln.Addr().String()
}
