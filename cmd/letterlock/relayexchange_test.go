package main_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

// offers says EHLO until the relay has asked its smarthost what it can, and gives
// what is offered.
func (d *dialogue) offers(has string) string {
	d.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		fmt.Fprintf(d.conn, "EHLO EX01.corp.example.org\r\n")
		var all strings.Builder
		for {
			line, err := d.r.ReadString('\n')
			if err != nil {
				d.t.Fatal(err)
			}
			all.WriteString(line)
			if line[3] == ' ' {
				break
			}
		}
		if strings.Contains(all.String(), has) {
			return all.String()
		}
	}
	d.t.Fatalf("EHLO never offers %s", has)
	return ""
}

// bdat sends a message in chunks of at most size bytes.
func (d *dialogue) bdat(mail []byte, size int, want string) {
	d.t.Helper()
	for len(mail) > size {
		fmt.Fprintf(d.conn, "BDAT %d\r\n%s", size, mail[:size])
		if got := d.answer(); !strings.HasPrefix(got, "250") {
			d.t.Fatalf("BDAT: %s", got)
		}
		mail = mail[size:]
	}
	fmt.Fprintf(d.conn, "BDAT %d LAST\r\n%s", len(mail), mail)
	if got := d.answer(); !strings.HasPrefix(got, want) {
		d.t.Fatalf("BDAT LAST: got %q, want %s", got, want)
	}
}

// TestAsASendConnectorSpeaks holds the conversations that the documentation of
// Exchange's send connectors has: opportunistic STARTTLS, CHUNKING where it is offered
// and DATA where not, SIZE, BODY and DSN parameters, several messages on one
// connection (20 by default), one command at a time and pipelined, and the connections
// of somebody who only looks. What Exchange speaks to its like (X-ANONYMOUSTLS, X-EXPS,
// XEXCH50, XSHADOW) is not offered, and does no harm. No Exchange was there to try.
func TestAsASendConnectorSpeaks(t *testing.T) {
	sink := peer.StartSink(t, func(s *gosmtp.Server) { s.EnableDSN = true })
	w, _ := newRelayWorld(t, sink.Addr, "")
	cert, key, trust := peer.Certificate(t, filepath.Join(w.dir, "c"))
	relay := w.configure("relay", relayConfig(w, "127.0.0.1:0", sink.Addr, fmt.Sprintf("tls_certificate = %q\ntls_key = %q\n[policy]\nmixed = \"split\"\n[[policy.rule]]\nname = \"no\"\nto = [\"no@example.com\"]\nmode = \"refuse\"\n", cert, key)))
	relay.serve(1)
	at := relay.ready[0].Listen
	mail := func(id int, to string) []byte {
		return relayMail("\"Ann Example\" <ann@example.org>", to, fmt.Sprintf("Message-ID: <%d@EX01.corp.example.org>\nDate: %s\nThread-Topic: x\nX-MS-Has-Attach:\nX-MS-Exchange-Organization-AuthAs: Internal\n", id, time.Now().Format(time.RFC1123Z)))
	}
	var got []string // to whom, in order
	next := func(to string, clearly bool) {
		t.Helper()
		got = append(got, to)
		all := sink.Await(t, len(got))
		if d := all[len(got)-1]; strings.Join(d.To, " ") != to || clear(d) != clearly {
			t.Errorf("mail %d: to %v, in clear %v", len(got), d.To, clear(d))
		}
	}

	t.Run("somebody who only looks", func(t *testing.T) {
		talk(t, at).conn.Close()
		d := talk(t, at)
		d.say("EHLO EX01.corp.example.org", "250")
		d.say("RSET", "250")
		d.say("QUIT", "221")
		d.ends()
		d = talk(t, at)
		d.say("HELO probe", "250")
		d.say("NOOP", "250")
		d.say("MAIL FROM:<>", "250")
		d.say("RSET", "250")
		d.say("QUIT", "221")
		d.ends()
	})

	t.Run("TLS, chunks, several messages", func(t *testing.T) {
		d := talk(t, at)
		offered := d.offers("8BITMIME")
		for _, not := range []string{"X-ANONYMOUSTLS", "X-EXPS", "XEXCH50", "XSHADOW", "XRDST", "BINARYMIME"} {
			if strings.Contains(offered, not) {
				t.Errorf("%s is offered", not)
			}
		}
		d.tls(trust, nil)
		offered = d.offers("DSN")
		for _, word := range []string{"SIZE ", "CHUNKING", "PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", "DSN"} {
			if !strings.Contains(offered, word) {
				t.Errorf("%s is not offered:\n%s", word, offered)
			}
		}
		for i := range 3 {
			m := mail(i, known)
			d.say(fmt.Sprintf("MAIL FROM:<ann@example.org> SIZE=%d BODY=8BITMIME RET=HDRS ENVID=%d", len(m), i), "250")
			d.say("RCPT TO:<"+known+"> NOTIFY=FAILURE,DELAY ORCPT=rfc822;"+known, "250")
			d.bdat(m, []int{1 << 20, 200, 1}[i], "250")
			next(known, false)
		}
		// A recipient is refused, the other goes; then one alone is refused.
		d.say("MAIL FROM:<ann@example.org> SIZE=1000", "250")
		d.say("RCPT TO:<no@example.com> NOTIFY=FAILURE", "550")
		d.say("RCPT TO:<"+unknown+"> NOTIFY=FAILURE", "250")
		d.bdat(mail(10, unknown), 1<<20, "250")
		next(unknown, true)
		d.say("MAIL FROM:<ann@example.org> SIZE=1000", "250")
		d.say("RCPT TO:<no@example.com>", "550")
		d.say("RSET", "250")
		// A report of its own, from nobody.
		d.say("MAIL FROM:<> SIZE=1000", "250")
		d.say("RCPT TO:<"+known+"> NOTIFY=NEVER", "250")
		d.bdat([]byte("From: Microsoft Outlook <MicrosoftExchange329e71ec88ae4615bbc36ab6ce41109e@example.org>\r\nTo: "+known+"\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\n"+relayCanary+"\r\n--b--\r\n"), 1<<20, "250")
		next(known, false)
		d.say("QUIT", "221")
		d.ends()
	})

	t.Run("pipelined", func(t *testing.T) {
		d := talk(t, at)
		d.offers("8BITMIME")
		m := mail(20, known+", "+known2)
		fmt.Fprintf(d.conn, "MAIL FROM:<ann@example.org> SIZE=%d\r\nRCPT TO:<%s>\r\nRCPT TO:<%s>\r\nBDAT %d LAST\r\n%s", len(m), known, known2, len(m), m)
		for range 4 {
			if got := d.answer(); !strings.HasPrefix(got, "250") {
				t.Fatalf("got %q", got)
			}
		}
		next(known+" "+known2, false)
		// All are refused, and the message comes all the same.
		fmt.Fprintf(d.conn, "RSET\r\nMAIL FROM:<ann@example.org>\r\nRCPT TO:<no@example.com>\r\nBDAT %d LAST\r\n%sQUIT\r\n", len(m), m)
		for _, want := range []string{"250", "250", "550", "554", "221"} {
			if got := d.answer(); !strings.HasPrefix(got, want) {
				t.Fatalf("got %q, want %s", got, want)
			}
		}
		d.ends()
	})

	t.Run("what it speaks to its like", func(t *testing.T) {
		d := talk(t, at)
		d.offers("8BITMIME")
		for _, line := range []string{"X-ANONYMOUSTLS", "X-EXPS GSSAPI", "XEXCH50 1024 2", "XSHADOW x"} {
			d.say(line, "500")
		}
		d.say("MAIL FROM:<ann@example.org> XOORG=example.org", "555")
		d.say("MAIL FROM:<ann@example.org> BODY=BINARYMIME", "5")
		d.say("MAIL FROM:<ann@example.org>", "250")
		d.say("RCPT TO:<"+known+">", "250")
		d.say("DATA", "354")
		d.say(string(mail(30, known))+".", "250")
		next(known, false)
		d.say("QUIT", "221")
	})

	t.Run("without extensions (ForceHELO)", func(t *testing.T) {
		d := talk(t, at)
		d.say("HELO EX01.corp.example.org", "250")
		d.say("MAIL FROM:<ann@example.org>", "250")
		d.say("RCPT TO:<"+known+">", "250")
		d.say("DATA", "354")
		d.say(string(mail(40, known))+".", "250")
		next(known, false)
		d.say("QUIT", "221")
	})
	noCanaryIn(t, w)
}
