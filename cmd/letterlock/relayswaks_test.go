package main_test

import (
	"os/exec"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest"
	"letterlock.org/letterlock/internal/mailtest/peer"
)

// TestOddDialogues: what scripts and appliances say to a relay, by swaks. Each
// ends with a reply, and the relay serves on.
func TestOddDialogues(t *testing.T) {
	peer.Require(t, "swaks")
	sink := peer.StartSink(t)
	w, relay := newRelayWorld(t, sink.Addr, "")
	relay.serve(1)
	for _, tt := range []struct {
		name string
		args []string
		want string // in what swaks prints
		mail int
	}{
		{"all at once", []string{"--pipeline", "--to", known}, "250 2.0.0", 1},
		{"the null sender, also in From", []string{"--from", "<>", "--to", unknown}, "250 2.0.0", 1},
		{"an empty From that can't be protected", []string{"--from", "<>", "--to", known}, "554 5.6.0", 0},
		{"HELO of long ago", []string{"--protocol", "SMTP", "--to", unknown}, "250 2.0.0", 1},
		{"LMTP", []string{"--protocol", "LMTP", "--to", known}, "500", 0},
		{"an odd name", []string{"--helo", "_odd name_", "--to", unknown}, "250 2.0.0", 1},
		{"an address literal", []string{"--helo", "[192.0.2.1]", "--to", unknown}, "250 2.0.0", 1},
		{"one recipient of two is none", []string{"--to", known + ",nobody@@example.net"}, "5", 1},
		{"a quoted local part", []string{"--to", `"a b"@example.com`}, "250 2.0.0", 1},
		{"no header at all", []string{"--to", unknown, "--data", "just text\\n"}, "250 2.0.0", 1},
		{"a dot alone, quoted", []string{"--to", unknown, "--data", "From: a@example.org\\n\\n..\\n.\\nend\\n"}, "250 2.0.0", 1},
		{"VRFY", []string{"--quit-after", "HELO", "--to", known}, "250", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(sink.Received())
			args := append([]string{"--server", relay.ready[0].Listen, "--from", "ann@example.org", "--helo", "mta.example.org", "--timeout", "10",
				"--header", "Subject: " + relayCanary}, tt.args...)
			out, _ := exec.Command("swaks", args...).CombinedOutput()
			last := ""
			for line := range strings.Lines(string(out)) {
				if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "<"); ok && !strings.Contains(rest, "221") {
					rest = strings.TrimLeft(rest, "~*- ")
					if tt.want[0] == '5' && strings.HasPrefix(rest, "5") || tt.want[0] != '5' {
						last = rest
					}
				}
			}
			if !strings.HasPrefix(last, tt.want) {
				t.Errorf("got %q, want %q:\n%s", last, tt.want, out)
			}
			all := sink.Received()
			if len(all)-before != tt.mail {
				t.Fatalf("%d messages came, want %d", len(all)-before, tt.mail)
			}
			for _, d := range all[before:] {
				if len(peer.To([]mailtest.Delivery{d}, known)) > 0 && clear(d) {
					t.Error("in clear")
				}
			}
		})
	}
	noCanaryIn(t, w)
}
