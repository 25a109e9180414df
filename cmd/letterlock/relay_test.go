package main_test

import (
	"fmt"
	"net/smtp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"letterlock.org/letterlock/internal/mailtest"
	"letterlock.org/letterlock/internal/mailtest/peer"
)

// known has a certificate in the directory, unknown has none; both domains are
// asked for at our own.
const (
	known, known2, unknown = "kay@example.net", "kim@example.net", "zoe@example.com"
	relayCanary            = "relay-canary-in-clear"
)

// newRelayWorld is a key directory with the certificates of known and known2, and
// a relay that hands mail to smarthost; more is further lines of [relay], then of
// other sections.
func newRelayWorld(t testing.TB, smarthost, more string) (w *world, relay *bridge) {
	t.Helper()
	w = newWorldOf(t, world{domain: "example.net"})
	keys := w.configure("people", "")
	for _, a := range []string{known, known2} {
		keys.command("key", "generate", a)
		w.keydir.command("keydir", "add", a, w.file("cert-"+a, keys.command("key", "export", a)))
	}
	relay = w.configure("relay", relayConfig(w, "127.0.0.1:0", smarthost, more))
	return w, relay
}

// relayConfig is the configuration of a relay in w.
func relayConfig(w *world, listen, smarthost, more string) string {
	return fmt.Sprintf(`[relay]
listen = %q
smarthost = "smtp+insecure://%s"
hostname = "relay.example.org"
domains = ["example.org"]
%s
[discovery]
wkd_override = { "example.org" = "http://%[4]s", "example.net" = "http://%[4]s", "example.com" = "http://%[4]s", "bücher.example" = "http://%[4]s" }`,
		listen, smarthost, more, w.keydir.ready[0].Listen)
}

// mail is a letter with the canary.
func relayMail(from, to, more string) []byte {
	return []byte(strings.ReplaceAll(fmt.Sprintf("From: %s\nTo: %s\nSubject: %s\n%sMIME-Version: 1.0\n\nThis is the %s.\n", from, to, relayCanary, more, relayCanary), "\n", "\r\n"))
}

func clear(d mailtest.Delivery) bool { return strings.Contains(string(d.Raw), relayCanary) }

// TestPostfixBeforeAndAfterTheRelay: Postfix hands all that leaves to the relay
// by relayhost, and the relay hands it to another Postfix.
func TestPostfixBeforeAndAfterTheRelay(t *testing.T) {
	sink := peer.StartSink(t)
	after := peer.StartMTA(t, "relayhost = ["+strings.Replace(sink.Addr, ":", "]:", 1))
	w, relay := newRelayWorld(t, after.Addr, "[policy]\nmixed = \"split\"")
	relay.serve(1)
	before := peer.StartMTA(t, "relayhost = ["+strings.Replace(relay.ready[0].Listen, ":", "]:", 1)+"\nsmtp_send_xforward_command = yes\n")
	throughPostfix(t, before, sink)
	// Postfix tells by XFORWARD what finds a message in its own log.
	if log, _ := os.ReadFile(relay.log); !strings.Contains(string(log), "msg=relay") || !strings.Contains(string(log), "client=127.0.0.1") {
		t.Error("the log has nothing of XFORWARD")
	}
	noCanaryIn(t, w)
}

// TestContentFilter: one Postfix sends through the relay as its content filter,
// and gets the mail back at a listener of its own.
func TestContentFilter(t *testing.T) {
	sink := peer.StartSink(t)
	// Postfix has to know the relay's port and the relay that of Postfix.
	relayAt := peer.FreePort(t)
	mta := peer.StartMTA(t, fmt.Sprintf("content_filter = smtp:[127.0.0.1]:%d\nsmtp_send_xforward_command = yes\nrelayhost = [%s", relayAt, strings.Replace(sink.Addr, ":", "]:", 1)))
	w, _ := newRelayWorld(t, mta.After, "")
	relay := w.configure("relay", relayConfig(w, fmt.Sprintf("127.0.0.1:%d", relayAt), mta.After, "[policy]\nmixed = \"split\""))
	relay.serve(1)
	throughPostfix(t, mta, sink)
	w.stop()
}

// throughPostfix sends what organisations send, and looks at what leaves.
func throughPostfix(t *testing.T, mta *peer.MTA, sink *peer.Sink) {
	send := func(from string, mail []byte, to ...string) {
		t.Helper()
		if err := smtp.SendMail(mta.Addr, nil, from, to, mail); err != nil {
			t.Fatalf("Postfix: %v", err)
		}
	}
	next := func(n int) []mailtest.Delivery {
		t.Helper()
		return sink.Await(t, n)
	}
	send("ann@example.org", relayMail("ann@example.org", known, ""), known)
	if got := next(1)[0]; clear(got) || got.From != "ann@example.org" || !strings.Contains(string(got.Raw), "multipart/encrypted") {
		t.Errorf("to %s: from %s in clear or not encrypted", known, got.From)
	}
	send("ann@example.org", relayMail("ann@example.org", unknown, ""), unknown)
	if got := next(2)[1]; !clear(got) || !strings.Contains(string(got.Raw), "by relay.example.org (Letterlock ") || !strings.Contains(string(got.Raw), "from relay.example.org (") {
		t.Errorf("to %s: %s", unknown, got.Raw)
	}
	// Several recipients, one transaction: two share a ciphertext, one gets it clear.
	send("ann@example.org", relayMail("ann@example.org", known+", "+known2+", "+unknown, ""), known, known2, unknown)
	all := next(4)
	if a, b, c := peer.To(all, known), peer.To(all, known2), peer.To(all, unknown); len(a) != 2 || len(b) != 1 || len(c) != 2 || string(a[1].Raw) != string(b[0].Raw) || clear(a[1]) || !clear(c[1]) {
		t.Errorf("to three: %d, %d, %d copies", len(a), len(b), len(c))
	}
	// A bounce of ours to the world.
	send("", []byte("From: MAILER-DAEMON@example.org\r\nTo: "+known+"\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\n"+relayCanary+"\r\n--b--\r\n"), known)
	if got := next(5)[4]; got.From != "" || clear(got) {
		t.Errorf("a bounce: from %q", got.From)
	}
	// Ten megabytes.
	big := append(relayMail("ann@example.org", known, ""), []byte(strings.Repeat(strings.Repeat("x", 76)+"\r\n", 10<<20/78))...)
	send("ann@example.org", big, known)
	if got := next(6)[5]; clear(got) || len(got.Raw) < 10<<20 {
		t.Errorf("ten megabytes: %d bytes", len(got.Raw))
	}
	// More recipients than Postfix hands over at once: it opens several
	// transactions of the same bytes beside each other.
	var many []string
	for i := range 120 {
		many = append(many, fmt.Sprintf("zoe%d@example.com", i))
	}
	send("ann@example.org", relayMail("ann@example.org", "list@example.org", ""), many...)
	for end := time.Now().Add(patience); countOf(sink, "zoe") < len(many) && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
	}
	for _, m := range many {
		if got := peer.To(sink.Received(), m); len(got) != 1 {
			t.Errorf("%s got %d copies", m, len(got))
		}
	}
	base := len(sink.Received())
	// Internationalised addresses.
	utf8(t, mta, "ann@example.org", "jörg@bücher.example")
	if got := next(base + 1)[base+0]; got.To[0] != "jörg@bücher.example" && got.To[0] != "jörg@xn--bcher-kva.example" {
		t.Errorf("SMTPUTF8: to %q", got.To)
	}
	// The smarthost refuses one of two: the sender gets Postfix's report of him.
	sink.Refuse(func(to string) error {
		if to == unknown {
			return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}, Message: "no such user here"}
		}
		return nil
	})
	send("ann@example.org", relayMail("ann@example.org", known+", "+unknown, ""), known, unknown)
	all = next(base + 3)
	report := peer.To(all, "ann@example.org")
	if len(report) != 1 || report[0].From != "" || !strings.Contains(string(report[0].Raw), unknown) || strings.Contains(string(report[0].Raw), "; "+known) {
		t.Errorf("%d reports: %.3000s", len(report), report)
	}
	if got := peer.To(all[base+1:], known); len(got) != 1 || clear(got[0]) {
		t.Errorf("who was not refused got %d copies", len(got))
	}
	// It defers for a while: nothing is lost.
	sink.Refuse(func(to string) error {
		return &gosmtp.SMTPError{Code: 451, EnhancedCode: gosmtp.EnhancedCode{4, 3, 0}, Message: "later"}
	})
	send("ann@example.org", relayMail("ann@example.org", known, "X-Last: yes\n"), known)
	sink.Refuse(nil)
	if got := next(base + 4)[base+3]; !slices.Contains(got.To, known) || clear(got) {
		t.Errorf("after a delay: to %v", got.To)
	}
}

// countOf counts deliveries to addresses that begin with prefix, but for unknown.
func countOf(sink *peer.Sink, prefix string) (n int) {
	for _, d := range sink.Received() {
		for _, to := range d.To {
			if strings.HasPrefix(to, prefix) && to != unknown {
				n++
			}
		}
	}
	return n
}

func utf8(t *testing.T, mta *peer.MTA, from, to string) {
	t.Helper()
	c, err := gosmtp.Dial(mta.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = c.Mail(from, &gosmtp.MailOptions{UTF8: true})
	if err == nil {
		err = c.Rcpt(to, nil)
	}
	if err == nil {
		wc, derr := c.Data()
		if err = derr; err == nil {
			wc.Write(relayMail(from, to, ""))
			err = wc.Close()
		}
	}
	if err != nil {
		t.Fatalf("SMTPUTF8 through Postfix: %v", err)
	}
}

// noCanaryIn: neither the relay's state nor its log has anything of what passed.
func noCanaryIn(t *testing.T, w *world) {
	t.Helper()
	if logs := w.stop(); strings.Contains(string(logs), relayCanary) {
		t.Error("a log has the canary")
	}
	filepath.WalkDir(w.state, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if b, _ := os.ReadFile(path); strings.Contains(string(b), relayCanary) {
				t.Errorf("%s has the canary", path)
			}
		}
		return nil
	})
}

// TestEximBeforeTheRelay: another MTA hands mail in, and its refusals and delays
// are Exim's to tell of.
func TestEximBeforeTheRelay(t *testing.T) {
	sink := peer.StartSink(t)
	w, relay := newRelayWorld(t, sink.Addr, "[policy]\nmixed = \"split\"\n[[policy.rule]]\nname = \"strict\"\nto = [\"strict@example.com\"]\nmode = \"require\"")
	relay.serve(1)
	exim := peer.StartExim(t, relay.ready[0].Listen)
	send := func(mail []byte, to ...string) {
		t.Helper()
		if err := smtp.SendMail(exim.Addr, nil, "ann@example.org", to, mail); err != nil {
			t.Fatalf("Exim: %v", err)
		}
	}
	send(relayMail("ann@example.org", known+", "+unknown, ""), known, unknown)
	all := sink.Await(t, 2)
	if a, b := peer.To(all, known), peer.To(all, unknown); len(a) != 1 || len(b) != 1 || clear(a[0]) || !clear(b[0]) {
		t.Errorf("%d and %d copies", len(a), len(b))
	}
	// The policy refuses one of two: he is reported, the other is served.
	send(relayMail("ann@example.org", known+", strict@example.com", ""), known, "strict@example.com")
	all = sink.Await(t, 4)
	if report := peer.To(all, "ann@example.org"); len(report) != 1 || !strings.Contains(string(report[0].Raw), "strict@example.com") {
		t.Errorf("%d reports", len(report))
	}
	if got := peer.To(all[2:], known); len(got) != 1 || clear(got[0]) {
		t.Errorf("who was not refused got %d copies", len(got))
	}
	if len(peer.To(all, "strict@example.com")) > 0 {
		t.Error("who may not get it in clear got it")
	}
	// A smarthost that defers.
	sink.Refuse(func(string) error {
		return &gosmtp.SMTPError{Code: 451, EnhancedCode: gosmtp.EnhancedCode{4, 3, 0}, Message: "later"}
	})
	send(relayMail("ann@example.org", known, ""), known)
	sink.Refuse(nil)
	if got := sink.Await(t, 5)[4]; clear(got) {
		t.Error("after a delay: in clear")
	}
	noCanaryIn(t, w)
}
