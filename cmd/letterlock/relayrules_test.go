package main_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/pgp"
)

// TestAlgorithmsOfARuleAtTheRelay: a certificate that is weaker than a rule asks
// for, by what the directory really has, counts as weak: it is refused, never
// written to in clear, and explain says why.
func TestAlgorithmsOfARuleAtTheRelay(t *testing.T) {
	sink := peer.StartSink(t)
	w, relay := newRelayWorld(t, sink.Addr, "[[policy.rule]]\nname = \"modern\"\nto = [\""+known+"\"]\nmode = \"prefer\"\naead = \"require\"\n"+
		"[[policy.rule]]\nname = \"strong\"\nto = [\""+known2+"\"]\nmode = \"prefer\"\nmin_cipher = \"aes256\"\nmin_rsa = 3072\n")
	relay.serve(1)
	err := handOver(relay.ready[0].Listen, "ann@example.org", relayMail("ann@example.org", known, ""), known)
	if err == nil || !strings.Contains(err.Error(), "takes no authenticated encryption (AEAD)") || len(sink.Received()) > 0 {
		t.Errorf("under a rule that asks for AEAD: %v", err)
	}
	if got := relay.command("explain", "--from", "ann@example.org", "--to", known); !strings.Contains(got, `and aead = "require" asks for it (rule "modern")`) {
		t.Errorf("explain:\n%s", got)
	}
	if err := handOver(relay.ready[0].Listen, "ann@example.org", relayMail("ann@example.org", known2, ""), known2); err != nil {
		t.Fatal(err)
	}
	if got := sink.Await(t, 1)[0]; clear(got) {
		t.Error("in clear")
	}
	noCanaryIn(t, w)
}

// TestListsReachEverybody: a list sends one message to each subscriber from a sender
// of his own (VERP). As relay init writes it, each is served by what he has; under
// the default whoever has no certificate is turned away after another's copy.
func TestListsReachEverybody(t *testing.T) {
	for mixed, turned := range map[string]bool{"split": false, "refuse": true} {
		t.Run(mixed, func(t *testing.T) {
			sink := peer.StartSink(t)
			w, relay := newRelayWorld(t, sink.Addr, "[policy]\nmixed = \""+mixed+"\"\n")
			relay.serve(1)
			mail := relayMail("ann@example.org", "list@example.org", "Message-ID: <verp@example.org>\nList-Id: <list.example.org>\n")
			for i, to := range []string{known, unknown, known2} {
				err := handOver(relay.ready[0].Listen, fmt.Sprintf("list-bounces+%d@example.org", i), mail, to)
				if want := turned && to == unknown; (err != nil) != want {
					t.Errorf("to %s: %v", to, err)
				}
			}
			for _, d := range sink.Received() {
				if clear(d) != (d.To[0] == unknown) {
					t.Errorf("to %v: in clear %v", d.To, clear(d))
				}
			}
			noCanaryIn(t, w)
		})
	}
}

// TestADomainsKeyIsToldAsItsGateways: what a relay signs for a sender whom it can't
// prove is, for readers who know the gateway's key, the gateway's word and nobody
// else's.
func TestADomainsKeyIsToldAsItsGateways(t *testing.T) {
	world, inner := peer.StartSink(t), peer.StartSink(t)
	w, _ := newRelayWorld(t, world.Addr, "")
	discovery := fmt.Sprintf("[discovery]\nwkd_override = { \"example.org\" = \"http://%[1]s\", \"example.net\" = \"http://%[1]s\", \"sub.example.org\" = \"http://%[1]s\" }\n", w.keydir.ready[0].Listen)
	in := w.configure("inbound", fmt.Sprintf("[relay]\nlisten = \"127.0.0.1:0\"\nsmarthost = \"smtp+insecure://%s\"\ndomains = [\"example.net\"]\ninbound = { listen = \"127.0.0.1:0\", smarthost = \"smtp+insecure://%s\" }\n%s", world.Addr, inner.Addr, discovery))
	in.command("key", "generate", known)
	w.keydir.command("keydir", "add", known, w.file("cert", in.command("key", "export", known)))
	out := w.configure("out", fmt.Sprintf("[relay]\nlisten = \"127.0.0.1:0\"\nsmarthost = \"smtp+insecure://%s\"\ndomains = [\"example.org\", \"sub.example.org\"]\ndomain_key = \"gateway@example.org\"\n%s", world.Addr, discovery))
	for _, gateway := range []string{"gateway@example.org", "gateway@sub.example.org"} {
		out.command("key", "generate", gateway)
		in.command("cert", "import", w.file("gateway", out.command("key", "export", gateway)))
	}
	out.serve(1)
	in.serve(2)
	if in.ready[1].Role != "relay-inbound" {
		in.ready[0], in.ready[1] = in.ready[1], in.ready[0]
	}
	n := 0
	status := func(from string) string {
		t.Helper()
		n++
		letter := relayMail(from, known, fmt.Sprintf("Message-ID: <%d@example.org>\nDate: %s\n", n, time.Now().Format(time.RFC1123Z)))
		if err := handOver(out.ready[0].Listen, from, letter, known); err != nil {
			t.Fatal(err)
		}
		if err := handOver(in.ready[1].Listen, from, world.Await(t, n)[n-1].Raw, known); err != nil {
			t.Fatal(err)
		}
		_, line, _ := strings.Cut(string(inner.Await(t, n)[n-1].Raw), "Letterlock-Status: ")
		line, _, _ = strings.Cut(line, "\r\n")
		return line
	}
	if got := status("zoe@example.org"); !strings.HasPrefix(got, "encrypted; signature=mismatch; identity=none") {
		t.Errorf("while the gateway's key was only seen: %s", got)
	}
	for _, domain := range []string{"example.org", "sub.example.org"} {
		certs, err := pgp.ParseCertificates([]byte(out.command("key", "export", "gateway@"+domain)))
		if err != nil {
			t.Fatal(err)
		}
		print := string(certs[0].Fingerprint())
		in.command("cert", "verify", "gateway@"+domain, print)
		if got := status("zoe@" + domain); !strings.HasPrefix(got, "encrypted; signature=gateway; identity=confirmed; signer="+print) {
			t.Errorf("of %s, when it was compared: %s", domain, got)
		}
	}
	noCanaryIn(t, w)
}

// TestAGatewaysKeyIsFoundByWriting: who has written to a domain has its gateway's key
// by what the domain's directory says, and can confirm it; nobody asks when the
// answer is read.
func TestAGatewaysKeyIsFoundByWriting(t *testing.T) {
	world, inner := peer.StartSink(t), peer.StartSink(t)
	w, _ := newRelayWorld(t, world.Addr, "")
	theirs := w.configure("theirs", "[keydir]\nlisten = \"127.0.0.1:0\"\ndomains = [\"example.org\"]\n")
	theirs.serve(1)
	discovery := fmt.Sprintf("[discovery]\nwkd_override = { \"example.org\" = \"http://%s\", \"example.net\" = \"http://%s\" }\n", theirs.ready[0].Listen, w.keydir.ready[0].Listen)
	in := w.configure("inbound", fmt.Sprintf("[relay]\nlisten = \"127.0.0.1:0\"\nsmarthost = \"smtp+insecure://%s\"\ndomains = [\"example.net\"]\ninbound = { listen = \"127.0.0.1:0\", smarthost = \"smtp+insecure://%s\" }\n%s", world.Addr, inner.Addr, discovery))
	in.command("key", "generate", known)
	w.keydir.command("keydir", "add", known, w.file("cert", in.command("key", "export", known)))
	out := w.configure("out", fmt.Sprintf("[relay]\nlisten = \"127.0.0.1:0\"\nsmarthost = \"smtp+insecure://%s\"\ndomains = [\"example.org\"]\ndomain_key = \"gateway@example.org\"\n%s", world.Addr, discovery))
	for _, a := range []string{"gateway@example.org", "zoe@example.org"} {
		out.command("key", "generate", a)
		theirs.command("keydir", "add", a, w.file("cert", out.command("key", "export", a)))
	}
	out.serve(1)
	in.serve(2)
	if in.ready[1].Role != "relay-inbound" {
		in.ready[0], in.ready[1] = in.ready[1], in.ready[0]
	}
	if err := handOver(in.ready[0].Listen, known, relayMail(known, "zoe@example.org", ""), "zoe@example.org"); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); !strings.Contains(in.command("cert", "list"), "gateway@example.org"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the gateway's key was not looked up")
		}
	}
	theirs.kill() // nobody is asked any more
	certs, err := pgp.ParseCertificates([]byte(out.command("key", "export", "gateway@example.org")))
	if err != nil {
		t.Fatal(err)
	}
	in.command("cert", "verify", "gateway@example.org", string(certs[0].Fingerprint()))
	letter := relayMail("yan@example.org", known, "Message-ID: <answer@example.org>\nDate: "+time.Now().Format(time.RFC1123Z)+"\n")
	if err := handOver(out.ready[0].Listen, "yan@example.org", letter, known); err != nil {
		t.Fatal(err)
	}
	if err := handOver(in.ready[1].Listen, "yan@example.org", world.Await(t, 2)[1].Raw, known); err != nil {
		t.Fatal(err)
	}
	if got := string(inner.Await(t, 1)[0].Raw); !strings.Contains(got, "Letterlock-Status: encrypted; signature=gateway; identity=confirmed; signer=") {
		t.Errorf("its status:\n%.600s", got)
	}
	noCanaryIn(t, w)
}
