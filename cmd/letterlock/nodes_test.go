package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

// TestTwoNodesShareAStore: two relays on one PostgreSQL know the same, and either
// goes on without the other.
func TestTwoNodesShareAStore(t *testing.T) {
	t.Parallel()
	db := peer.Postgres(t)
	sink := peer.StartSink(t)
	w, _ := newRelayWorld(t, sink.Addr, "")
	url := db.Fresh()
	node := func(name string) *bridge {
		return w.configure(name, relayConfig(w, "127.0.0.1:0", sink.Addr, fmt.Sprintf("[store]\nurl = %q\n[metrics]\nlisten = \"127.0.0.1:0\"", url)))
	}
	one, two := node("one"), node("two")
	one.serve(2)
	two.serve(2)
	const from = "ann@example.org"
	send := func(b *bridge, id string) {
		t.Helper()
		raw := relayMail(from, known, "Message-ID: <"+id+"@example.org>\n")
		for try := 0; ; try++ {
			c, err := smtp.Dial(b.ready[0].Listen)
			if err == nil {
				err = c.SendMail(from, []string{known}, bytes.NewReader(raw))
				c.Close()
			}
			var r *smtp.SMTPError
			switch {
			case err == nil:
				return
			case !errors.As(err, &r) || r.Code != 451 || try == 1200: // 451: the other node is at it
				t.Fatalf("%s: %v", b.name, err)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	send(one, "first")
	send(two, "second")
	send(two, "first") // a client that tries again, at the other node
	if all := sink.Await(t, 2); len(all) != 2 || clear(all[0]) || clear(all[1]) {
		t.Errorf("%d messages left, or in clear", len(all))
	}
	stranger := w.configure("stranger", "")
	stranger.command("key", "generate", "carol@elsewhere.example")
	one.command("cert", "import", w.file("carol", stranger.command("key", "export", "carol@elsewhere.example")))
	if out := two.command("cert", "list"); !strings.Contains(out, "carol@elsewhere.example") {
		t.Errorf("a certificate that one node imported is unknown to the other:\n%s", out)
	}
	records := func(b *bridge) (nodes map[string]int) {
		nodes = map[string]int{}
		for line := range strings.Lines(b.command("audit", "export")) {
			var r struct{ Node, Outcome string }
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			if r.Outcome == "sent" {
				nodes[r.Node]++
			}
		}
		return nodes
	}
	records(one) // writes what it has
	if got := records(two); len(got) != 2 {
		t.Errorf("the audit has records of %d nodes, want those of both: %v", len(got), got)
	}
	one.kill()
	send(two, "third")
	if code, text := fetch(t, "http://"+two.ready[1].Listen+"/readyz"); code != 200 {
		t.Errorf("the node that is left: %d %s", code, text)
	}
	sink.Await(t, 3)
}

// A database that isn't there is one clear line, without its password.
func TestSharedStoreThatIsDown(t *testing.T) {
	w, _ := newRelayWorld(t, "127.0.0.1:1", "")
	b := w.configure("alone", relayConfig(w, "127.0.0.1:0", "127.0.0.1:1", "[store]\nurl = \"postgres://ll:hunter2@127.0.0.1:1/mail\""))
	out := b.fails(1, "status")
	if !strings.Contains(out, "postgres://127.0.0.1:1/mail") || strings.Contains(out, "hunter2") {
		t.Errorf("said %s", out)
	}
}
