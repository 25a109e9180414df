package smtpd_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// TestAServerThatThinksBeforeItGreets: it has longer for that than for the connection.
// One that never does may speak TLS, and wait for us.
func TestAServerThatThinksBeforeItGreets(t *testing.T) {
	o := newOddServer(t, map[string]string{"": "~220 odd.example ESMTP", "EHLO": "~250-odd.example\r\n250 AUTH PLAIN", "AUTH": "~235 ok"})
	times := func(connect, greet time.Duration) option {
		return func(c *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
			c.Timeouts.Connect, c.Timeouts.Greet = connect, greet
			a.Upstream.Dial = func(context.Context) (net.Conn, error) { return o.dial(t.Context()) } // however short that is
		}
	}
	const rcpt = "C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: "
	newBridge(t, newUpstream(t), o.as("tim", "x"), times(time.Nanosecond, time.Minute)).login().run(rcpt + "250")
	b := newBridge(t, newUpstream(t), o.as("tim", "x"), times(time.Minute, time.Nanosecond))
	b.login().run(rcpt + "451 4.4.2 your mail server doesn't answer: it takes connections and says nothing; where TLS is from the beginning, as at port 465, upstream in the configuration is submissions://")
	if f := b.server.Faults()["alice@example.org"]; f.Kind != smtpd.FaultTimeout || !strings.Contains(f.Text, "submissions://") {
		t.Errorf("%+v", f)
	}
}

// TestServersOfManyKinds: what they say is understood as they mean it, and told.
func TestServersOfManyKinds(t *testing.T) {
	for _, tt := range []struct {
		name string
		say  map[string]string
		rcpt string // the beginning of the reply to the second of three RCPTs
		dot  string // and of that to the message, which goes to the others
		mail int
	}{
		{"codes alone", map[string]string{"": "220", "EHLO": "250", "MAIL": "250", "RCPT": "250", "DATA": "354", ".": "250"}, "250", "250", 1},
		{"lines that say nothing", map[string]string{"": "220-\r\n220", "EHLO": "250-\r\n250-\r\n250", "MAIL": "250-\r\n250 ", "DATA": "354-\r\n354", ".": "250-\r\n250-\r\n250"}, "250", "250", 1},
		{"no EHLO", map[string]string{"EHLO": "500 what?"}, "250", "250", 1},
		{"line ends without CR", map[string]string{"EHLO": "250-odd.example\n250 8BITMIME", ".": "250-a\n250 b"}, "250", "250", 1},
		{"many and long lines", map[string]string{"": strings.Repeat("220-"+strings.Repeat("no spam ", 200)+"\r\n", 40) + "220 x", ".": "250-" + strings.Repeat("x", 2000) + "\r\n250 ok"}, "250", "250", 1},
		{"SIZE says nothing, and what nobody knows", map[string]string{"EHLO": "250-odd.example\r\n250-SIZE\r\n250-SIZE=5\r\n250-X-EXPS GSSAPI\r\n250-\r\n250-8bitmime\r\n250-PIPECONNECT\r\n250-CHUNKING\r\n250 HELP"}, "250", "250", 1},
		{"251 and 252", map[string]string{"RCPT": "251 2.1.5 user not local; will forward|252 2.0.0 cannot tell"}, "250", "250", 1},
		{"a refused recipient, in two lines", map[string]string{"RCPT TO:<carol": "550-5.1.1 nobody\r\n550 5.1.1  here"}, "550 5.1.1 your mail server says: nobody here", "250", 1},
		{"a code that contradicts its status", map[string]string{"RCPT TO:<carol": "550 4.2.1 busy"}, "550 5.0.0 your mail server says: 4.2.1 busy", "250", 1},
		{"a grey list", map[string]string{"RCPT TO:<carol": "450 4.7.1 come back"}, "450 4.7.1 your mail server says: come back", "250", 1},
		{"it wants a login", map[string]string{"RCPT TO:<carol": "530 5.7.0 Authentication required"}, "550 5.7.0 your mail server says: Authentication required", "250", 1},
		{"it doesn't like how we write him", map[string]string{"RCPT TO:<carol": "501 5.1.3 bad address syntax"}, "550 5.1.3 your mail server says: bad address syntax", "250", 1},
		{"too many, as RFC 821 said it", map[string]string{"RCPT TO:<carol": "552 too many recipients"}, "452 4.5.3 your mail server says: too many", "250", 1},
		{"a mailbox that is full", map[string]string{"RCPT TO:<carol": "552 5.2.2 full"}, "552 5.2.2", "250", 1},
		{"the end is not for now", map[string]string{".": "451 4.7.1 come back"}, "250", "451 4.7.1 your mail server says: come back", 0},
		{"it never takes the end", map[string]string{".": "554-5.7.1 spam\r\n554 5.7.1 really"}, "250", "554 5.7.1 your mail server says: spam really", 0},
		{"it leaves at the end", map[string]string{".": "421 4.3.2 going down!"}, "250", "451 4.3.2 your mail server says: going down", 0},
		{"it leaves when it is asked for DATA", map[string]string{"DATA": "421 4.3.2 going down!"}, "250", "451 4.3.2 your mail server says: going down", 0},
		{"one message for each connection", map[string]string{".": "250 taken!"}, "250", "250", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := newOddServer(t, tt.say)
			b := newBridge(t, newUpstream(t), o.as("", ""))
			k, mail := b.login(), 0
			for i := range 3 {
				k.run("C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 250\nC: RCPT TO:<carol@example.net>\nS: " + tt.rcpt +
					"\nC: RCPT TO:<dave@example.net>\nS: 250\nC: DATA\nS: 354")
				k.send(wired(letter(fmt.Sprint(i), "bob@example.net, carol@example.net, dave@example.net")) + ".\r\n")
				if got := k.reply(); !strings.HasPrefix(got, tt.dot) {
					t.Fatalf("message %d: got %q, want %q", i, got, tt.dot)
				}
				if mail += tt.mail; tt.mail > 0 && len(o.taken()) != mail {
					t.Errorf("message %d: it has %d, want %d", i, len(o.taken()), mail)
				}
			}
		})
	}
}

// TestAConnectionThatHasHadItsFill: it takes no further message, and a new one does.
func TestAConnectionThatHasHadItsFill(t *testing.T) {
	for _, no := range []string{"452 4.5.3 too many messages", "421 4.7.0 too many messages!"} {
		o := newOddServer(t, map[string]string{"MAIL": "250 ok|250 ok|" + no})
		k := newBridge(t, newUpstream(t), o.as("", "")).login()
		for i := range 5 {
			if got := k.submit(wired(letter(fmt.Sprint(i), "bob@example.net")), "bob@example.net"); !strings.HasPrefix(got, "250") {
				t.Errorf("%s: message %d: %q", no, i, got)
			}
		}
		if len(o.taken()) != 5 || o.connected() != 3 {
			t.Errorf("%s: %d messages over %d connections", no, len(o.taken()), o.connected())
		}
	}
	o := newOddServer(t, map[string]string{"MAIL": "452 4.3.1 no room"})
	newBridge(t, newUpstream(t), o.as("", "")).login().run("C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 452 4.3.1 your mail server says: no room")
	if o.connected() != 1 {
		t.Errorf("%d connections to one that has no room", o.connected())
	}
}

// TestAServerThatHasHeardEnough: what it says before the end of a message is the
// reply, whether it hangs up or listens on.
func TestAServerThatHasHeardEnough(t *testing.T) {
	hangUp := func(say string) func(net.Conn, *bufio.Reader) {
		return func(c net.Conn, r *bufio.Reader) {
			io.CopyN(io.Discard, r, 10_000)
			io.WriteString(c, say)
			time.Sleep(50 * time.Millisecond)
		}
	}
	listen := func(c net.Conn, r *bufio.Reader) {
		io.WriteString(c, "552 5.3.4 too large\r\n")
		io.Copy(io.Discard, r)
	}
	for _, tt := range []struct {
		name, to, want string
		lines          int
		body           func(net.Conn, *bufio.Reader)
	}{
		{"it hangs up on a large letter", "stranger@example.com", "552 5.3.4 your mail server says: too large", 300_000, hangUp("552-5.3.4 too\r\n552 5.3.4 large\r\n")},
		{"it hangs up on a large one that is being encrypted", "bob@example.net", "552 5.3.4 your mail server says: too large", 300_000, hangUp("552 5.3.4 too large\r\n")},
		{"it listens on", "stranger@example.com", "552 5.3.4 your mail server says: too large", 300, listen},
		{"it goes away", "bob@example.net", "451 4.3.2 your mail server says: restarting", 300_000, hangUp("421 4.3.2 restarting\r\n")},
		{"it hangs up without a word", "bob@example.net", "451 4.4.1", 300_000, hangUp("")},
		{"it says that all is well", "bob@example.net", "451 4.4", 300_000, hangUp("250 2.0.0 taken\r\n")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := newOddServer(t, map[string]string{"EHLO": "250 odd.example"})
			o.body = tt.body
			k := newBridge(t, newUpstream(t), o.as("", "")).login()
			k.run("C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<" + tt.to + ">\nS: 250\nC: DATA\nS: 354")
			k.send(wired(letter("1", tt.to)))
			k.send(string(bytes.Repeat([]byte("0123456789012345678901234567890123456789\r\n"), tt.lines)) + ".\r\n")
			if got := k.reply(); !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if o.connected() != 1 {
				t.Errorf("it was tried %d times", o.connected())
			}
		})
	}
}

// TestWhoIsRefusedForGoodKeepsNobody: the smarthost refuses a stranger, who gets
// nothing then; the others get theirs encrypted. One whose copy was to be sealed counts
// still, and so does who may yet be taken.
func TestWhoIsRefusedForGoodKeepsNobody(t *testing.T) {
	for _, tt := range []struct{ name, refuse, say, first, want string }{
		{"a stranger, for good", "stranger@example.com", "550 5.1.1 nobody", "550 5.1.1", "250 2.0.0 sent"},
		{"a stranger, for now", "stranger@example.com", "450 4.2.1 later", "450 4.2.1", "550 5.7.1"},
		{"who has a certificate, for good", "bob@example.net", "550 5.1.1 nobody", "550 5.1.1", "550 5.7.1"},
		{"a stranger, who is named again and taken", "stranger@example.com", "550 5.1.1 nobody|250 ok", "550 5.1.1", "550 5.7.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := newOddServer(t, map[string]string{"RCPT TO:<" + tt.refuse: tt.say})
			k := newBridge(t, newUpstream(t), o.as("", ""), asRelay()).mta()
			k.run("C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<" + tt.refuse + ">\nS: " + tt.first)
			for _, to := range []string{"bob@example.net", "carol@example.net", "stranger@example.com"} {
				if to != tt.refuse || strings.Contains(tt.say, "|") {
					k.run("C: RCPT TO:<" + to + ">\nS: 250")
				}
			}
			k.run("C: DATA\nS: 354")
			k.send(wired(letter("1", "bob@example.net, carol@example.net, stranger@example.com")) + ".\r\n")
			if got := k.reply(); !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			for _, m := range o.taken() {
				if strings.Contains(m, canary) {
					t.Error("in clear")
				}
			}
		})
	}
}

// TestWhatWasMeantForSomebodyIsNoSecretOfOthers: a word in the subject would have had
// the copy sealed that the smarthost refuses; without it, it would have gone in clear.
func TestWhatWasMeantForSomebodyIsNoSecretOfOthers(t *testing.T) {
	word := policy.Config{Default: policy.Cleartext, Rules: []policy.Rule{{Name: "word", To: []string{"bob@example.net"}, Subject: []string{"sealed"}, Mode: policy.Require}}}
	for subject, want := range map[string]string{"sealed": "550 5.7.1 this message is encrypted for bob@example.net", "other": "250 2.0.0 sent"} {
		o := newOddServer(t, map[string]string{"RCPT TO:<bob": "550 5.1.1 nobody"})
		k := newBridge(t, newUpstream(t), o.as("", ""), asRelay(), withRules(word)).mta()
		k.run("C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 550 5.1.1\nC: RCPT TO:<stranger@example.com>\nS: 250\nC: DATA\nS: 354")
		k.send(strings.Replace(wired(letter("1", "bob@example.net, stranger@example.com")), "Subject: "+canary, "Subject: "+subject, 1) + ".\r\n")
		if got := k.reply(); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q", subject, got)
		}
		if n := len(o.taken()); want[:1] == "5" && n != 0 {
			t.Errorf("%s: %d copies", subject, n)
		}
	}
}

// TestAMessageThatDoesNotWait: some send all they have without listening. Where there
// is nobody to get it, its lines are no commands.
func TestAMessageThatDoesNotWait(t *testing.T) {
	o := newOddServer(t, map[string]string{"RCPT TO:<bob": "550 5.1.1 nobody"})
	b := newBridge(t, newUpstream(t), o.as("", ""), withRules(policy.Config{}))
	k := b.login()
	k.send("MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\nFrom: alice@example.org\r\n\r\n" +
		"RSET\r\nMAIL FROM:<alice@example.org>\r\nRCPT TO:<stranger@example.com>\r\nDATA\r\nFrom: alice@example.org\r\n\r\nsmuggled\r\n.\r\n")
	k.run("S: 250\nS: 550 5.1.1\nS: 554 5.5.1 there are no recipients\nS: (EOF)")
	if len(o.taken()) != 0 {
		t.Errorf("it has %q", o.taken())
	}
	k = b.login()
	k.run("C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 550\nC: DATA\nS: 554 5.5.1\nC: RSET\nS: 250")
	k.run("C: mail from:alice@example.org size=100\nS: 250\nC: rcpt to: carol@example.net\nS: 250\nC: data\nS: 354")
	k.send(wired(letter("1", "carol@example.net")) + ".\r\nquit\r\n")
	k.run("S: 250 2.0.0 sent\nS: 221")
}
