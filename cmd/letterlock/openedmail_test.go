package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/mail"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/mailtest"
	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// TestWhatOneRoleOpenedNoOtherTellsInClear: a gateway and a person's bridge in one
// installation, each answering what the other opened; and the gateway itself after it
// was told to open nothing any more.
func TestWhatOneRoleOpenedNoOtherTellsInClear(t *testing.T) {
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{alice: "upstream-alice"}})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	provider, err := mailtest.StartWicked()
	if err != nil {
		t.Fatal(err)
	}
	defer provider.Close()
	inner, outer := peer.StartSink(t), peer.StartSink(t)
	w := newWorldOf(t, world{domain: "example.org"})
	const gateway = "[relay]\nlisten = \"127.0.0.1:0\"\nsmarthost = \"smtp+insecure://%s\"\ndomains = [\"example.org\"]\ntrust_sender = true\n%s\n[discovery]\nwkd_override = { \"example.org\" = \"http://%[3]s\", \"example.com\" = \"http://%[3]s\" }\n"
	relay := func(inbound string) string {
		return fmt.Sprintf(gateway, outer.Addr, inbound, w.keydir.ready[0].Listen)
	}
	inbound := fmt.Sprintf("inbound = { listen = \"127.0.0.1:0\", smarthost = \"smtp+insecure://%s\" }", inner.Addr)
	person := fmt.Sprintf("[[bridge]]\naddress = %q\nupstream_password = \"file:%s\"\nimap = { listen = \"127.0.0.1:0\", upstream = \"imap+insecure://%s\" }\nsmtp = { listen = \"127.0.0.1:0\", upstream = \"smtp+insecure://%s\" }\n",
		alice, w.file("pw", "upstream-alice\n"), up.IMAPAddr, provider.Addr)
	b := w.configure("both", person+relay(inbound))
	b.command("account", "add", alice)
	var account struct{ User, Password, CA string }
	if err := json.Unmarshal([]byte(b.command("account", "show", alice, "--json")), &account); err != nil {
		t.Fatal(err)
	}
	certs, err := pgp.ParseCertificates([]byte(b.command("key", "export", alice)))
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]string{}
	serve := func(lines int) {
		b.serve(lines)
		at = map[string]string{}
		for _, r := range b.ready {
			at[r.Role+" "+r.Protocol] = r.Listen
		}
	}
	serve(4)
	letters := map[string][]byte{} // that were written
	letter := func(id string) []byte {
		from := address.Address{Local: "dora", Domain: "example.com"}
		key, err := pgp.GenerateKey(from, pgp.DefaultProfile, time.Now().Add(-time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		raw := strings.ReplaceAll(fmt.Sprintf("From: dora@example.com\nTo: %s\nSubject: secret %s\nMessage-ID: <%s@example.com>\nDate: %s\n\nhello\n", alice, id, id, time.Now().Format(time.RFC1123Z)), "\n", "\r\n")
		var out bytes.Buffer
		if err := pgp.Protect(t.Context(), &out, message.Bytes([]byte(raw)), pgp.Protection{Signer: key, Recipients: certs, From: from, Now: time.Now()}); err != nil {
			t.Fatal(err)
		}
		letters[id] = out.Bytes()
		return out.Bytes()
	}
	answer := func(id string) []byte {
		return []byte(strings.ReplaceAll(fmt.Sprintf("From: %s\nTo: dora@example.com\nSubject: Re: x\nIn-Reply-To: <%s@example.com>\nMessage-ID: <re-%s-%d@example.org>\nDate: %s\n\n> hello\n",
			alice, id, id, time.Now().UnixNano(), time.Now().Format(time.RFC1123Z)), "\n", "\r\n"))
	}
	refuses := func(how, id string, send func([]byte) error) {
		t.Helper()
		if err := send(answer(id)); err == nil || !strings.HasPrefix(err.Error(), "SMTP error 550") {
			t.Errorf("%s, an answer to what was opened %s: %v", how, id, err)
		}
		if err := send(answer("something-else")); err != nil {
			t.Errorf("%s, an answer to anything else: %v", how, err)
		}
	}
	byRelay := func(raw []byte) error { return handOver(at["relay smtp"], alice, raw, "dora@example.com") }
	byBridge := func(raw []byte) error {
		return mailtest.Submit(mailtest.Login{Addr: at["bridge smtp"], User: account.User, Password: account.Password}, alice, []string{"dora@example.com"}, raw)
	}

	if err := handOver(at["relay-inbound smtp"], "dora@example.com", letter("by-the-gateway"), alice); err != nil {
		t.Fatal(err)
	}
	if m, err := mail.ReadMessage(bytes.NewReader(inner.Await(t, 1)[0].Raw)); err != nil || m.Header.Get("Subject") != "secret by-the-gateway" {
		t.Fatalf("the gateway didn't open it: %v", err)
	}
	if err := up.Deliver(alice, "INBOX", letter("by-the-bridge")); err != nil {
		t.Fatal(err)
	}
	openInbox(t, at["bridge imap"], account.User, account.Password).says("c FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT)]", "Subject: secret by-the-bridge")
	for _, id := range []string{"by-the-gateway", "by-the-bridge"} {
		refuses("by the bridge", id, byBridge)
		refuses("by the relay", id, byRelay)
	}

	// Nor is what one has opened opened again by the other, in a letter of somebody who
	// waits for the answer.
	replay := func(of string) []byte {
		return bytes.Replace(letters[of], []byte("<"+of+"@"), []byte("<replay-"+of+"@"), 1)
	}
	if err := handOver(at["relay-inbound smtp"], "dora@example.com", replay("by-the-bridge"), alice); err != nil {
		t.Fatal(err)
	}
	if got := inner.Await(t, 2)[1]; !bytes.HasSuffix(got.Raw, replay("by-the-bridge")) {
		t.Errorf("the gateway opened what the bridge had opened:\n%.500s", got.Raw)
	}
	if err := up.Deliver(alice, "INBOX", replay("by-the-gateway")); err != nil {
		t.Fatal(err)
	}
	openInbox(t, at["bridge imap"], account.User, account.Password).says("c FETCH 2 BODY.PEEK[HEADER.FIELDS (SUBJECT)]", "Subject: [...]")
	w.stop()
	b = w.configure("both", relay(""))
	serve(1)
	for _, id := range []string{"by-the-gateway", "by-the-bridge"} {
		refuses("by a relay that opens nothing any more", id, byRelay)
	}
}

// TestWhatOneNodeOpenedNoOtherTellsInClear: one node takes what comes in, and another
// what leaves.
func TestWhatOneNodeOpenedNoOtherTellsInClear(t *testing.T) {
	t.Parallel()
	url := peer.Postgres(t).Fresh()
	inner, outer := peer.StartSink(t), peer.StartSink(t)
	w, _ := newRelayWorld(t, outer.Addr, "")
	node := func(name, inbound string) *bridge {
		return w.configure(name, strings.Replace(relayConfig(w, "127.0.0.1:0", outer.Addr, inbound+fmt.Sprintf("\n[store]\nurl = %q\n", url)), `"example.org"]`, `"example.net"]`, 1))
	}
	in := node("in", fmt.Sprintf("inbound = { listen = \"127.0.0.1:0\", smarthost = \"smtp+insecure://%s\" }", inner.Addr))
	out := node("out", "")
	in.command("key", "generate", known)
	in.serve(2)
	out.serve(1)
	certs, err := pgp.ParseCertificates([]byte(in.command("key", "export", known)))
	if err != nil {
		t.Fatal(err)
	}
	from := address.Address{Local: "dora", Domain: "example.com"}
	key, err := pgp.GenerateKey(from, pgp.DefaultProfile, time.Now().Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	send := func(more string) error {
		return handOver(out.ready[0].Listen, known, relayMail(known, unknown, more), unknown)
	}
	if err := send("Message-ID: <first@example.net>\n"); err != nil { // when nothing was opened yet
		t.Fatal(err)
	}
	var sealed bytes.Buffer
	raw := relayMail("dora@example.com", known, "Message-ID: <letter@example.com>\nDate: "+time.Now().Format(time.RFC1123Z)+"\n")
	if err := pgp.Protect(t.Context(), &sealed, message.Bytes(raw), pgp.Protection{Signer: key, Recipients: certs, From: from, Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	for _, r := range in.ready {
		if r.Role != "relay-inbound" {
			continue
		}
		if err := handOver(r.Listen, "dora@example.com", sealed.Bytes(), known); err != nil {
			t.Fatal(err)
		}
	}
	if got := inner.Await(t, 1); !clear(got[0]) {
		t.Fatal("it wasn't opened")
	}
	if err := send("In-Reply-To: <letter@example.com>\n"); err == nil || !strings.HasPrefix(err.Error(), "SMTP error 550") || len(outer.Received()) > 1 {
		t.Errorf("an answer by the other node: %v", err)
	}
}
