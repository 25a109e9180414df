package main_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/pgp"
)

// TestNoMailWithoutItsRecord: where records are required and can't be written, the
// relay takes nothing and nothing leaves, neither from a client nor from its queue;
// and when they can be again, mail goes and its record is there.
func TestNoMailWithoutItsRecord(t *testing.T) {
	db := peer.Postgres(t)
	for _, tt := range []struct {
		name, audit string
		required    bool
	}{
		{"required", "[audit]\nrequired = true\n", true},
		{"not required", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url := db.Fresh()
			schema := url[strings.LastIndexByte(url, '=')+1:]
			sink := peer.StartSink(t)
			w, _ := newRelayWorld(t, sink.Addr, "")
			relay := w.configure("relay", relayConfig(w, "127.0.0.1:0", sink.Addr, fmt.Sprintf("[policy]\nmissing = \"hold\"\n[[policy.rule]]\nname = \"waits\"\nto = [%q]\nmode = \"require\"\n[store]\nurl = %q\n[metrics]\nlisten = \"127.0.0.1:0\"\n%s", unknown, url, tt.audit)))
			relay.serve(2)
			send := func(id, to string) error {
				return handOver(relay.ready[0].Listen, "ann@example.org", relayMail("ann@example.org", to, "Message-ID: <"+id+tt.name[:3]+"@example.org>\n"), to)
			}
			if err := send("first", known); err != nil {
				t.Fatal(err)
			}
			db.SQL("SET search_path = " + schema + ";CREATE FUNCTION no_records() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no room for records'; END $$;" +
				"CREATE TRIGGER no_records BEFORE INSERT ON audit_record FOR EACH ROW EXECUTE FUNCTION no_records()")
			mends := func() { db.SQL("DROP TRIGGER IF EXISTS no_records ON " + schema + ".audit_record") }
			defer mends()
			err := send("second", known)
			if refused := err != nil && strings.HasPrefix(err.Error(), "SMTP error 4"); refused != tt.required || !refused && err != nil {
				t.Errorf("while no record can be written: %v", err)
			}
			want := 2
			if tt.required {
				want = 1
				if code, text := fetch(t, "http://"+relay.ready[1].Listen+"/readyz"); code != 503 || !strings.Contains(text, "audit") {
					t.Errorf("/readyz: %d %s", code, text)
				}
			}
			if n := len(sink.Await(t, want)); n != want {
				t.Errorf("%d mails left, want %d", n, want)
			}
			// What is held is released into the queue: that lets nothing out either.
			if tt.required {
				if err := send("third", unknown); err != nil {
					t.Fatal(err)
				}
				stranger := w.configure("stranger", "")
				stranger.command("key", "generate", unknown)
				zoe := stranger.command("key", "export", unknown)
				relay.command("cert", "import", w.file("zoe", zoe))
				certs, err := pgp.ParseCertificates([]byte(zoe))
				if err != nil {
					t.Fatal(err)
				}
				relay.command("cert", "verify", unknown, string(certs[0].Fingerprint()))
				time.Sleep(time.Second) // it is tried meanwhile
				if n := len(sink.Received()); n != want {
					t.Errorf("%d mails left by the queue", n)
				}
			}
			mends()
			if err := send("second", known); err != nil {
				t.Errorf("when they can be again: %v", err)
			}
			sink.Await(t, 2)
			if tt.required { // and what waits
				var waiting []struct {
					ID         string
					Recipients []string
				}
				if err := json.Unmarshal([]byte(relay.command("queue", "list", "--json")), &waiting); err != nil {
					t.Fatal(err)
				}
				for _, e := range waiting {
					if e.Recipients[0] == unknown {
						relay.command("queue", "retry", e.ID)
					}
				}
				for end := time.Now().Add(patience); len(peer.To(sink.Received(), unknown)) == 0; time.Sleep(20 * time.Millisecond) {
					if time.Now().After(end) {
						t.Fatal("what waited for its record never left")
					}
				}
			}
			if got := relay.command("audit", "export", "--recipient", known); strings.Count(got, `"outcome":"sent"`) < 2 {
				t.Errorf("the audit has\n%s", got)
			}
			noCanaryIn(t, w)
		})
	}
}
