package smtpd_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"letterlock.org/letterlock/policy"
)

// TestClientsOfManyKinds: each says what some program says, and gets its letter to
// where it should go, once.
func TestClientsOfManyKinds(t *testing.T) {
	const auth, mail, rcpt = "AUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAHB3\r\n", "MAIL FROM:<alice@example.org>\r\n", "RCPT TO:<bob@example.net>\r\n"
	data := "DATA\r\n" + wired(letter("1", "bob@example.net")) + ".\r\n"
	bdat := func(s string) string { return fmt.Sprintf("BDAT %d", len(s)) }
	msg := letter("1", "bob@example.net")
	for _, tt := range []struct {
		name, say string // behind EHLO and the login
		codes     string // of the replies
		to        []string
	}{
		{"small letters and white space", "mail from: <alice@example.org> \r\nrcpt to:  <bob@example.net>  \r\ndata \r\n" + strings.TrimPrefix(data, "DATA\r\n") + "quit \r\n", "250 250 354 250 221", []string{"bob@example.net"}},
		{"all in one go", mail + rcpt + data + "QUIT\r\n", "250 250 354 250 221", []string{"bob@example.net"}},
		{"no brackets", "MAIL FROM:alice@example.org\r\nRCPT TO: bob@example.net\r\n" + data, "250 250 354 250", []string{"bob@example.net"}},
		{"a source route", mail + "RCPT TO:<@relay.example,@other.example:bob@example.net>\r\n" + data, "250 250 354 250", []string{"bob@example.net"}},
		{"quotes without need", mail + "RCPT TO:<\"bob\"@example.net>\r\n" + data, "250 250 354 250", []string{"bob@example.net"}},
		{"one mailbox in three spellings", mail + rcpt + "RCPT TO:<BOB@EXAMPLE.NET>\r\nRCPT TO:<\"Bob\"@example.net>\r\n" + data, "250 250 250 250 354 250", []string{"bob@example.net"}},
		{"a domain in letters beyond ASCII", "MAIL FROM:<alice@example.org> SMTPUTF8\r\nRCPT TO:<zoe@BÜCHER.example>\r\n" + data, "250 250 354 250", []string{"zoe@xn--bcher-kva.example"}},
		{"and without saying so", mail + "RCPT TO:<zoe@bücher.example>\r\n" + data, "250 250 354 250", []string{"zoe@xn--bcher-kva.example"}},
		{"and the same as it goes", mail + "RCPT TO:<zoe@XN--BCHER-KVA.example>\r\n" + data, "250 250 354 250", []string{"zoe@xn--bcher-kva.example"}},
		{"another EHLO", mail + rcpt + "EHLO again\r\n" + rcpt + mail + rcpt + data, "250 250 250 503 250 250 354 250", []string{"bob@example.net"}},
		{"RSET between chunks", mail + rcpt + bdat("MAIL ") + "\r\nMAIL RSET\r\nBDAT 3 LAST\r\nx\r\n" + mail + rcpt + bdat(msg) + " last\r\n" + msg, "250 250 250 250 503 250 250 250", []string{"bob@example.net"}},
		{"EHLO between chunks", mail + rcpt + "BDAT 2\r\nx\nEHLO again\r\n" + mail + rcpt + "BDAT 0\r\n" + bdat(msg) + "\r\n" + msg + "BDAT 0 LAST\r\n", "250 250 250 250 250 250 250 250 250", []string{"bob@example.net"}},
		{"DATA between chunks", mail + rcpt + bdat(msg) + "\r\n" + msg + "DATA\r\n", "250 250 250 503", nil},
		{"chunks for nobody", mail + "RCPT TO:<x@down.example>\r\n" + bdat(msg) + " LAST\r\n" + msg + "RSET\r\n" + mail + rcpt + data, "250 451 554 250 250 250 354 250", []string{"bob@example.net"}},
		{"RSET again and again", strings.Repeat("RSET\r\n", 30) + "NOOP\r\nVRFY bob\r\n" + mail + rcpt + data, strings.Repeat("250 ", 31) + "252 250 250 354 250", []string{"bob@example.net"}},
		{"the same twice", mail + rcpt + data + mail + rcpt + data, "250 250 354 250 250 250 354 250", []string{"bob@example.net"}},
		{"a second login", auth + mail + rcpt + data, "503 250 250 354 250", []string{"bob@example.net"}},
		{"what an MTA says", "MAIL FROM:<alice@example.org> SIZE=400 BODY=7BIT RET=HDRS ENVID=a+2Bb\r\nRCPT TO:<bob@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;bob+40example.net\r\n" + data, "250 250 354 250", []string{"bob@example.net"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpstream(t)
			k := newBridge(t, u, withRules(policy.Config{})).dial()
			k.send("EHLO x\r\n" + auth + tt.say)
			k.run("S: 220\nS: 250\nS: 235")
			for i, want := range strings.Fields(tt.codes) {
				if got := k.reply(); !strings.HasPrefix(got, want) {
					t.Fatalf("reply %d: got %q, want %s", i, got, want)
				}
			}
			var to []string
			for _, m := range u.received() {
				to = append(to, m.rcpts...)
			}
			if !slices.Equal(to, tt.to) {
				t.Errorf("it went to %q, want %q", to, tt.to)
			}
		})
	}
}

// TestLoginsOfManyClients: each way to say PLAIN and LOGIN that programs have.
func TestLoginsOfManyClients(t *testing.T) {
	const plain = "AGFsaWNlQGV4YW1wbGUub3JnAHB3"
	user, password := b64("alice@example.org"), b64("pw")
	for name, say := range map[string]string{
		"PLAIN at once":              "AUTH PLAIN " + plain + "\r\n",
		"small letters, more spaces": "auth  plain  " + plain + " \r\n",
		"PLAIN, asked for":           "AUTH PLAIN\r\n" + plain + "\r\n",
		"the user as whom he acts":   "AUTH PLAIN " + b64("alice@example.org\x00alice@example.org\x00pw") + "\r\n",
		"LOGIN":                      "AUTH LOGIN\r\n" + user + "\r\n" + password + "\r\n",
		"LOGIN with its user":        "Auth Login " + user + "\r\n" + password + "\r\n",
		"after what we don't have":   "AUTH CRAM-MD5\r\nAUTH XOAUTH2 abc\r\nAUTH PLAIN " + plain + "\r\n",
		"after it gave up once":      "AUTH LOGIN\r\n*\r\nAUTH PLAIN " + plain + "\r\n",
	} {
		k := newBridge(t, newUpstream(t)).dial()
		k.send("EHLO x\r\n" + say)
		for range 8 {
			got := k.reply()
			if strings.HasPrefix(got, "235") {
				break
			}
			if !strings.HasPrefix(got, "220") && !strings.HasPrefix(got, "250") && !strings.HasPrefix(got, "334") && !strings.HasPrefix(got, "50") {
				t.Errorf("%s: %q", name, got)
				break
			}
		}
		k.run("C: MAIL FROM:<alice@example.org>\nS: 250 2.1.0")
	}
}
