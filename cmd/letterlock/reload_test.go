package main_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/mailtest"
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
	c.SetDeadline(time.Now().Add(time.Minute))
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
	for end := time.Now().Add(30 * time.Second); logins() == before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("Alice's mail isn't indexed any more")
		}
	}
	openInbox(t, at[alice], alice, passwords[alice]).says("c NOOP", "c OK")
}
