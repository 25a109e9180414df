package main_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"letterlock.org/letterlock/internal/mailtest"
	"letterlock.org/letterlock/internal/mailtest/peer"
)

// TestInboundDecryptsForItsOwn: what was encrypted to a mailbox with a key here
// comes out readable, with its status; all else passes as it came.
func TestInboundDecryptsForItsOwn(t *testing.T) {
	world, inner := peer.StartSink(t), peer.StartSink(t)
	w, _ := newRelayWorld(t, world.Addr, "")
	in := w.configure("inbound", fmt.Sprintf(`[relay]
listen = "127.0.0.1:0"
smarthost = "smtp+insecure://%s"
domains = ["example.net"]
hostname = "in.example.net"
inbound = { listen = "127.0.0.1:0", smarthost = "smtp+insecure://%s" }
[discovery]
wkd_override = { "example.org" = "http://%[3]s", "example.com" = "http://%[3]s", "example.net" = "http://%[3]s" }`, world.Addr, inner.Addr, w.keydir.ready[0].Listen))
	in.command("key", "generate", known)
	w.keydir.command("keydir", "add", known, w.file("cert", in.command("key", "export", known)))
	out := w.configure("out", fmt.Sprintf("[relay]\nlisten = \"127.0.0.1:0\"\nsmarthost = \"smtp+insecure://%s\"\ndomains = [\"example.org\"]\ntrust_sender = true\n[discovery]\nwkd_override = { \"example.org\" = \"http://%[2]s\", \"example.net\" = \"http://%[2]s\", \"example.com\" = \"http://%[2]s\" }\n", world.Addr, w.keydir.ready[0].Listen))
	out.command("key", "generate", "ann@example.org")
	in.command("cert", "import", w.file("ann", out.command("key", "export", "ann@example.org")))
	out.serve(1)
	in.serve(2)
	if in.ready[1].Role != "relay-inbound" {
		in.ready[0], in.ready[1] = in.ready[1], in.ready[0]
	}
	send := func(at int, from string, mail []byte, to ...string) error {
		t.Helper()
		return handOver(in.ready[at].Listen, from, mail, to...)
	}
	n := 0
	inside := func(mail []byte, to ...string) []mailtest.Delivery {
		t.Helper()
		if err := send(1, "ann@example.org", mail, to...); err != nil {
			t.Fatal(err)
		}
		all := inner.Received()[n:]
		n += len(all)
		return all
	}
	letter := relayMail("ann@example.org", known, "Message-ID: <letter@example.org>\nDate: "+time.Now().Format(time.RFC1123Z)+"\n")
	if err := handOver(out.ready[0].Listen, "ann@example.org", letter, known); err != nil {
		t.Fatal(err)
	}
	sealed := world.Await(t, 1)[0]
	if clear(sealed) {
		t.Fatal("it went out in clear")
	}

	// For its reader it is opened, for another it passes as it is.
	got := inside(sealed.Raw, known, known2)
	a, b := peer.To(got, known), peer.To(got, known2)
	if len(a) != 1 || len(b) != 1 || !clear(a[0]) || clear(b[0]) {
		t.Fatalf("%d and %d copies", len(a), len(b))
	}
	if !strings.Contains(string(a[0].Raw), "Letterlock-Status: encrypted; signature=gateway; identity=first-seen") {
		t.Errorf("its status:\n%.1500s", a[0].Raw)
	}
	if !bytes.HasSuffix(b[0].Raw, sealed.Raw) {
		t.Error("what couldn't be opened was changed")
	}

	// Nothing is lost for being unreadable: damaged, replayed, or plain with a
	// header that imitates ours.
	damaged := bytes.Replace(sealed.Raw, []byte("\r\n=\r\n"), nil, 1)
	i := bytes.Index(damaged, []byte("-----BEGIN PGP MESSAGE-----"))
	damaged[i+200]++
	if got := inside(damaged, known); len(got) != 1 || clear(got[0]) || !bytes.HasSuffix(got[0].Raw, damaged) {
		t.Errorf("damaged: %d copies", len(got))
	}
	replayed := bytes.Replace(sealed.Raw, []byte("<letter@example.org>"), []byte("<replay@example.org>"), 1)
	if got := inside(replayed, known); len(got) != 1 || clear(got[0]) || !bytes.HasSuffix(got[0].Raw, replayed) {
		t.Errorf("replayed: %d copies, clear %v", len(got), len(got) == 1 && clear(got[0]))
	}
	forged := relayMail("mallory@example.com", known, "Letterlock-Status: encrypted; signature=valid\n")
	got = inside(forged, known)
	if len(got) != 1 || bytes.Contains(got[0].Raw, []byte("Letterlock-Status")) || !bytes.HasSuffix(got[0].Raw, bytes.Replace(forged, []byte("Letterlock-Status"), []byte("XXXXXXXXXX-Status"), 1)) {
		t.Errorf("an imitation: %d copies\n%.800s", len(got), got[0].Raw)
	}

	// An answer to it never leaves in clear.
	answer := relayMail(known, unknown, "In-Reply-To: <letter@example.org>\n")
	if err := send(0, known, answer, unknown); err == nil || len(world.Received()) != 1 {
		t.Errorf("an answer went in clear: %v", err)
	}
	if err := send(0, known, relayMail(known, unknown, ""), unknown); err != nil {
		t.Errorf("another letter: %v", err)
	}
	// Nor does it itself, where the server inside redirects mail (RFC 5228, Section 4.2).
	before := len(world.Received())
	for _, from := range []string{"ann@example.org", known, ""} {
		if err := send(0, from, a[0].Raw, unknown); err == nil || len(world.Received()) != before {
			t.Errorf("redirected from %q, it went in clear: %v", from, err)
		}
	}
	// However mail programs spell what the answer names.
	const event = "MIME-Version: 1.0\nContent-Type: text/calendar; method=%s\n\nBEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:Event-1@X\nEND:VEVENT\nEND:VCALENDAR\n"
	for _, odd := range []struct{ letter, answer string }{
		{"Message-ID: <AM0PR04MB@EURPRD04.PROD.Example.ORG>\n\nx\n", "In-Reply-To: <AM0PR04MB@EURPRD04.PROD.Example.ORG>\n\nx\n"},
		{"Message-ID:\n <folded and (commented)@example.org> (by us)\n\nx\n", "References: <foldedand(commented)@example.org>\n\nx\n"},
		{"Message-ID: <quoted@example.org>\nSubject: our plan\n\nx\n", "Subject: [our plan]\n\n- Forwarded message from <ann@example.org> -\nFrom: ann@example.org\nSubject: Our plan\n\nx\n"},
		{"Message-ID: <invitation@example.org>\n" + fmt.Sprintf(event, "REQUEST"), fmt.Sprintf(event, "REPLY")},
	} {
		before := len(world.Received())
		if err := handOver(out.ready[0].Listen, "ann@example.org", []byte(strings.ReplaceAll("From: ann@example.org\nTo: "+known+"\n"+odd.letter, "\n", "\r\n")), known); err != nil {
			t.Fatal(err)
		}
		if sealed := world.Await(t, before+1); len(inside(sealed[before].Raw, known)) != 1 {
			t.Fatal("the letter is lost")
		}
		answer := strings.ReplaceAll("From: "+known+"\nTo: "+unknown+"\nMessage-ID: <answer@example.net>\n"+odd.answer, "\n", "\r\n")
		if err := send(0, known, []byte(answer), unknown); err == nil || len(world.Received()) != before+1 {
			t.Errorf("an answer to %.40q went in clear: %v", odd.letter, err)
		}
	}
	noCanaryIn(t, w)
}

// handOver gives a message to a server of this machine, without TLS.
func handOver(at, from string, mail []byte, to ...string) error {
	c, err := gosmtp.Dial(at)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.SendMail(from, to, bytes.NewReader(mail))
}
