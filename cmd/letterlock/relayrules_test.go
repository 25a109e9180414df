package main_test

import (
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
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
