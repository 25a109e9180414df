package smtpd_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// TestDialogue holds conversations about what SMTP itself asks for.
func TestDialogue(t *testing.T) {
	for _, tt := range []struct{ name, script string }{
		{"HELO has no extensions", `
			S: 220 letterlock.invalid ESMTP
			C: HELO x
			S: 250 letterlock.invalid
			C: AUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAHB3
			S: 503 5.5.1`},
		{"EHLO needs a name", `
			S: 220
			C: EHLO
			S: 501 5.5.4
			C: MAIL FROM:<alice@example.org>
			S: 503 5.5.1 EHLO first`},
		{"EHLO again ends the transaction", `
			LOGIN
			C: MAIL FROM:<alice@example.org>
			S: 250
			C: EHLO y
			S: 250
			C: RCPT TO:<bob@example.net>
			S: 503 5.5.1
			C: MAIL FROM:<alice@example.org>
			S: 250`},
		{"commands that ask for nothing", `
			S: 220
			C: NOOP anything goes
			S: 250 2.0.0
			C: VRFY bob
			S: 252 2.5.0
			C: EXPN list
			S: 502 5.5.1
			C: HELP
			S: 214 2.0.0
			C: rset
			S: 250 2.0.0
			C: RSET now
			S: 501 5.5.4
			C: TURN
			S: 500 5.5.1
			C: QUIT
			S: 221 2.0.0
			S: (EOF)`},
		{"a line that is too long is skipped", `
			LOGIN
			C: NOOP LONG
			S: 500 5.5.2 line too long
			C: NOOP
			S: 250`},
		{"a login with an initial response", `
			S: 220
			C: EHLO x
			S: 250
			C: AUTH LOGIN YWxpY2VAZXhhbXBsZS5vcmc=
			S: 334 UGFzc3dvcmQ6
			C: cHc=
			S: 235 2.7.0
			C: AUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAHB3
			S: 503 5.5.1 you are logged in already
			C: STARTTLS
			S: 502`},
		{"a login in steps, given up, malformed, unknown", `
			S: 220
			C: EHLO x
			S: 250
			C: AUTH PLAIN
			S: 334 
			C: *
			S: 501 5.7.0
			C: AUTH PLAIN ???
			S: 501 5.5.2
			C: AUTH PLAIN =
			S: 501 5.5.2
			C: AUTH GSSAPI
			S: 504 5.5.4
			C: AUTH PLAIN
			S: 334 
			C: AGFsaWNlQGV4YW1wbGUub3JnAHB3
			S: 235`},
		{"too many failed logins", `
			S: 220
			C: EHLO x
			S: 250
			C: AUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAG5v
			S: 535
			C: AUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAG5v
			S: 535
			C: AUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAG5v
			S: 535
			S: (EOF)`},
		{"too many bad commands", strings.Repeat(`
			C: FOO
			S: 500`, 10) + `
			C: FOO
			S: 421 4.7.0 too many errors
			S: (EOF)`},
		{"parameters", `
			LOGIN
			C: MAIL FROM:<alice@example.org> SIZE=1000 BODY=8BITMIME AUTH=<> SMTPUTF8 RET=FULL ENVID=x
			S: 250 2.1.0
			C: RCPT TO:<bob@example.net> NOTIFY=NEVER ORCPT=rfc822;bob@example.net
			S: 250 2.1.5
			C: RCPT TO:<bob@example.net> NOTIFY=SOMETIMES
			S: 501 5.5.4
			C: RCPT TO:<bob@example.net> RRVS=x
			S: 555 5.5.4
			C: RSET
			S: 250
			C: MAIL FROM:<alice@example.org> SIZE=many
			S: 501 5.5.4
			C: MAIL FROM:<alice@example.org> BODY=BINARYMIME
			S: 501 5.5.4
			C: MAIL FROM:<alice@example.org> HOLDFOR=3
			S: 555 5.5.4
			C: MAIL FROM:<alice@example.org>, <bob@example.net>
			S: 501 5.5.2
			C: MAIL FROM: <alice@example.org>
			S: 250`},
		{"letters beyond ASCII need SMTPUTF8", `
			LOGIN
			C: MAIL FROM:<alice@example.org>
			S: 250
			C: RCPT TO:<bäb@example.net>
			S: 553 5.6.7
			C: RSET
			S: 250
			C: MAIL FROM:<alice@example.org> SMTPUTF8
			S: 250`},
		{"DATA and BDAT out of order", `
			LOGIN
			C: DATA
			S: 503 5.5.1
			C: BDAT 0 LAST
			S: 503 5.5.1
			C: MAIL FROM:<alice@example.org>
			S: 250
			C: DATA
			S: 503 5.5.1
			C: RCPT TO:<bob@example.net>
			S: 250
			C: BDAT 0
			S: 250
			C: DATA
			S: 503 5.5.1
			C: RCPT TO:<carol@example.net>
			S: 503 5.5.1
			C: BDAT x
			S: 501 5.5.4
			S: (EOF)`},
		{"nobody may use XCLIENT", `
			LOGIN
			C: XCLIENT ADDR=1.2.3.4
			S: 550 5.7.0
			C: XFORWARD ADDR=1.2.3.4
			S: 550 5.7.0`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBridge(t, newUpstream(t))
			script, k := strings.ReplaceAll(tt.script, "LONG", strings.Repeat("x", 3000)), (*talk)(nil)
			if rest, ok := strings.CutPrefix(strings.TrimSpace(script), "LOGIN"); ok {
				k, script = b.login(), rest
			} else if k = b.dial(); !strings.Contains(script, "S: 220") {
				k.run("S: 220")
			}
			k.run(script)
		})
	}
}

// TestBareLineEndsInCommands: what follows one is never executed.
func TestBareLineEndsInCommands(t *testing.T) {
	b := newBridge(t, newUpstream(t))
	for _, cmd := range []string{"NOOP\nMAIL FROM:<alice@example.org>\r\n", "NOOP\rMAIL FROM:<alice@example.org>\r\n", "NOOP\r\r\nRSET\r\n", "\nNOOP\r\n"} {
		k := b.login()
		k.send(cmd)
		rest, _ := io.ReadAll(k.r)
		if got := string(rest); !strings.HasPrefix(got, "500 5.5.2") || strings.Contains(got, "250") {
			t.Errorf("%q: got %q", cmd, got)
		}
	}
}

// TestPipelining: commands in one go get their replies in one go, and what
// follows the end of a message in the same packet is executed.
func TestPipelining(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u)
	k := b.login()
	k.send("MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\nRCPT TO:<nobody\r\nDATA\r\n")
	k.run("S: 250\nS: 250\nS: 501\nS: 354")
	k.send(wired(letter("1", "bob@example.net")) + ".\r\nMAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n" +
		wired(letter("2", "bob@example.net")) + ".\r\nQUIT\r\n")
	k.run("S: 250 2.0.0 sent\nS: 250\nS: 250\nS: 354\nS: 250 2.0.0 sent\nS: 221\nS: (EOF)")
	if n := len(u.received()); n != 2 {
		t.Errorf("%d messages", n)
	}
}

// TestRecipientsInOneGo: the upstream is asked about them in one flight, in
// order, and each has its own reply in its place, whoever settles it.
func TestRecipientsInOneGo(t *testing.T) {
	u := newUpstream(t)
	u.failWith(func(step string, _ int, arg string) fault {
		if strings.EqualFold(step, "rcpt") && strings.Contains(arg, "carol@") {
			return fault{reply: "550 5.1.1 no such user"}
		}
		return fault{}
	})
	b := newBridge(t, u)
	k := b.login()
	k.send("MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\nRCPT TO:<nobody\r\nrcpt TO:<carol@example.net>\r\nRCPT TO:<stranger@example.net>\r\n" +
		"RCPT TO:<dave@example.net>\r\nRCPT TO:<bob@example.net>\r\nRCPT TO:<x@down.example>\r\nRCPT TO:<erin@example.net>\r\nRCPT \x01\r\nNOOP\r\n")
	k.run("S: 250 2.1.0\nS: 250 2.1.5\nS: 501 5.5.2\nS: 550 5.1.1\nS: 250 2.1.5\nS: 250 2.1.5\nS: 250 2.1.5\nS: 451 4.4.3\nS: 250 2.1.5\nS: 500 5.5.2\nS: 250 2.0.0")
	k.run("C: RSET\nS: 250")

	var many strings.Builder
	for range 40 { // more than what is read at once
		many.WriteString("RCPT TO:<bob@example.net>\r\nRCPT TO:<dave@example.net>\r\n")
	}
	k.send("MAIL FROM:<alice@example.org>\r\n" + many.String() + "DATA\r\n")
	k.run("S: 250 2.1.0" + strings.Repeat("\nS: 250 2.1.5", 80) + "\nS: 354")
	k.send(wired(letter("1", "bob@example.net, dave@example.net")) + ".\r\n")
	k.run("S: 250 2.0.0 sent")
	if got := u.received(); len(got) != 1 || len(got[0].rcpts) != 2 {
		t.Errorf("got %+v", got)
	}
}

// TestRecipientsAreAskedInOneFlight: this upstream answers no RCPT before it has
// read all three.
func TestRecipientsAreAskedInOneFlight(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for c, err := ln.Accept(); err == nil; c, err = ln.Accept() {
			io.WriteString(c, "220 x\r\n")
			for in, rcpts := bufio.NewScanner(c), 0; in.Scan(); {
				switch verb, _, _ := strings.Cut(in.Text(), " "); verb {
				case "EHLO":
					io.WriteString(c, "250-x\r\n250 PIPELINING\r\n")
				case "RCPT":
					if rcpts++; rcpts == 3 {
						io.WriteString(c, "250 a\r\n550 b\r\n250 c\r\n")
					}
				default:
					io.WriteString(c, "250 ok\r\n")
				}
			}
			c.Close()
		}
	}()
	b := newBridge(t, newUpstream(t), func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
		a.Upstream.Dial = func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", ln.Addr().String())
		}
	})
	k := b.login()
	k.send("MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\nRCPT TO:<dave@example.net>\r\nRCPT TO:<carol@example.net>\r\n")
	k.run("S: 250\nS: 250\nS: 550\nS: 250")
}

// TestCertificatesAreLookedUpAtOneTime, and a panic in one look-up is that one's.
func TestCertificatesAreLookedUpAtOneTime(t *testing.T) {
	var asked atomic.Int64
	together := make(chan struct{})
	b := newBridge(t, newUpstream(t), func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
		known := a.Find
		a.Find = finder(func(ctx context.Context, to address.Address) (keydir.Finding, error) {
			if asked.Add(1) == 3 {
				close(together)
			}
			select {
			case <-together:
			case <-time.After(time.Minute):
				t.Error("looked for one after another")
			}
			if to.Local == "dave" {
				panic("dave")
			}
			return known.Find(ctx, to)
		})
	})
	k := b.login()
	k.send("MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\nRCPT TO:<dave@example.net>\r\nRCPT TO:<carol@example.net>\r\nNOOP\r\n")
	k.run("S: 250\nS: 250\nS: 451 4.3.0\nS: 250\nS: 250")
}

type finder func(context.Context, address.Address) (keydir.Finding, error)

func (f finder) Find(ctx context.Context, a address.Address) (keydir.Finding, error) {
	return f(ctx, a)
}

func TestCommandsBeforeTLSEndTheSession(t *testing.T) {
	server, _ := certify(t)
	b := newBridge(t, newUpstream(t), func(c *smtpd.Config, _ *smtpd.Account, _ *queue.Config) { c.TLS = server })
	k := b.dial()
	k.run("S: 220\nC: EHLO x\nS: 250")
	k.send("STARTTLS\r\nMAIL FROM:<alice@example.org>\r\n")
	k.run("S: 554 5.5.1\nS: (EOF)")
}

// forwarding is a bridge whose clients come from an MTA that speaks for others.
func forwarding(t *testing.T, peers *[]smtpd.Peer, more ...option) *bridge {
	return newBridge(t, newUpstream(t), append(more, withRules(policy.Config{}), func(c *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
		c.Listeners[0].Forward = func(p smtpd.Peer) bool { return p.Via == nil && p.Remote.(*net.TCPAddr).IP.IsLoopback() }
		c.Listeners[0].Open = func(_ context.Context, p smtpd.Peer) *smtpd.Account {
			*peers = append(*peers, p)
			if p.Remote.(*net.TCPAddr).IP.String() == "192.0.2.7" || p.Remote.(*net.TCPAddr).IP.IsLoopback() {
				return a
			}
			return nil
		}
	})...)
}

func TestXCLIENT(t *testing.T) {
	var peers []smtpd.Peer
	k := forwarding(t, &peers).dial()
	got := k.run("S: 220\nC: EHLO mta\nS: 250")
	if !strings.Contains(got, "XCLIENT NAME ADDR") || !strings.Contains(got, "XFORWARD NAME ADDR") {
		t.Errorf("EHLO: %q", got)
	}
	k.run(`
		C: XCLIENT ADDR=203.0.113.9 PORT=77 HELO=evil+2Eexample NAME=[UNAVAILABLE]
		S: 220
		C: MAIL FROM:<alice@example.org>
		S: 503
		C: EHLO evil.example
		S: 250
		C: MAIL FROM:<alice@example.org>
		S: 530 5.7.0
		C: XCLIENT ADDR=IPV6:2001:db8::1
		S: 220
		C: XCLIENT ADDR=nowhere
		S: 501 5.5.4
		C: XCLIENT FOO=bar
		S: 501 5.5.4
		C: XCLIENT ADDR=192.0.2.7 LOGIN=carol
		S: 220
		C: EHLO good.example
		S: 250
		C: MAIL FROM:<alice@example.org>
		S: 250
		C: XCLIENT ADDR=192.0.2.8
		S: 503`)
	last := peers[len(peers)-1]
	if last.Login != "carol" || last.Helo != "good.example" || last.Via == nil || last.TLS != nil {
		t.Errorf("peer %+v", last)
	}
}

// TestTLSDoesNotMakeAClientTheMTA: who the MTA said it speaks for is still that
// after STARTTLS, which the client behind a proxy may well say.
func TestTLSDoesNotMakeAClientTheMTA(t *testing.T) {
	var peers []smtpd.Peer
	server, client := certify(t)
	k := forwarding(t, &peers, func(c *smtpd.Config, _ *smtpd.Account, _ *queue.Config) { c.TLS = server }).dial()
	k.run(`
		S: 220
		C: EHLO mta
		S: 250
		C: XCLIENT ADDR=203.0.113.9
		S: 220
		C: EHLO evil.example
		S: 250
		C: STARTTLS
		S: 220`)
	tc := tls.Client(k.c, client)
	k = &talk{t, tc, bufio.NewReader(tc)}
	k.run("C: EHLO evil.example\nS: 250\nC: MAIL FROM:<alice@example.org>\nS: 530")
	for _, p := range peers {
		if p.Via == nil || p.TLS != nil || !strings.HasPrefix(p.Remote.String(), "203.0.113.9:") {
			t.Errorf("peer %+v", p)
		}
	}
}

func TestXFORWARD(t *testing.T) {
	var peers []smtpd.Peer
	b := forwarding(t, &peers)
	k := b.dial()
	k.run(`
		S: 220
		C: EHLO mta
		S: 250
		C: XFORWARD NAME=spike.example ADDR=192.0.2.9 PROTO=ESMTP
		S: 250
		C: XFORWARD HELO=spike+2B SOURCE=REMOTE IDENT=4711 PORT=25
		S: 250
		C: XFORWARD FOO=1
		S: 501
		C: MAIL FROM:<alice@example.org>
		S: 250
		C: XFORWARD ADDR=192.0.2.10
		S: 503`)
	want := smtpd.Forwarded{Name: "spike.example", Addr: "192.0.2.9", Port: "25", Proto: "ESMTP", Helo: "spike+", Ident: "4711", Source: "REMOTE"}
	if len(peers) != 1 || peers[0].Forwarded != want {
		t.Errorf("peers %+v", peers)
	}
}

// TestAClientCertificateOpensAnAccount: it is asked for where Config.TLS says so,
// and what an MTA proves by its own isn't proved of whom it speaks for.
func TestAClientCertificateOpensAnAccount(t *testing.T) {
	server, client := certify(t)
	server.ClientAuth, server.ClientCAs = tls.VerifyClientCertIfGiven, client.RootCAs
	b := newBridge(t, newUpstream(t), func(c *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
		c.TLS = server
		c.Listeners[0].Login = nil
		c.Listeners[0].Forward = func(p smtpd.Peer) bool { return p.TLS != nil && len(p.TLS.VerifiedChains) > 0 }
		c.Listeners[0].Open = func(_ context.Context, p smtpd.Peer) *smtpd.Account {
			if p.TLS != nil && len(p.TLS.VerifiedChains) > 0 {
				return a
			}
			return nil
		}
	})
	for _, tt := range []struct{ name, script string }{
		{"without a certificate", "C: EHLO x\nS: 250\nC: MAIL FROM:<alice@example.org>\nS: 530\nC: AUTH PLAIN =\nS: 502\nC: XCLIENT ADDR=192.0.2.1\nS: 550"},
		{"with one", "C: EHLO x\nS: 250\nC: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 250"},
		{"with one, speaking for another", "C: EHLO x\nS: 250\nC: XCLIENT ADDR=192.0.2.1\nS: 220\nC: EHLO x\nS: 250\nC: MAIL FROM:<alice@example.org>\nS: 530"},
	} {
		conf := client.Clone()
		if tt.name != "without a certificate" {
			conf.Certificates = server.Certificates
		}
		k := b.dial()
		k.run("S: 220\nC: EHLO x\nS: 250\nC: STARTTLS\nS: 220")
		tc := tls.Client(k.c, conf)
		k = &talk{t, tc, bufio.NewReader(tc)}
		k.run(tt.script)
	}
}

// TestDeadlines: whoever doesn't log in is sent away after a while, however
// busy; a message that drips is given up.
func TestDeadlines(t *testing.T) {
	b := newBridge(t, newUpstream(t), func(c *smtpd.Config, _ *smtpd.Account, _ *queue.Config) {
		c.Timeouts.Login, c.Timeouts.Client = 300*time.Millisecond, 30*time.Second
	})
	k := b.dial()
	said := k.reply()
	eventually(t, "a busy stranger is sent away", func() bool {
		k.send("NOOP\r\n")
		said = k.reply()
		return strings.HasPrefix(said, "421") || strings.HasPrefix(said, "(")
	})
	var in *talk
	eventually(t, "somebody logs in before it is too late for that", func() bool {
		in = b.dial()
		in.send("EHLO x\r\nAUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAHB3\r\n")
		return in.says("220", "250", "235")
	})
	time.Sleep(700 * time.Millisecond) // the time for the login is over
	in.run("C: NOOP\nS: 250")
}

// says tells whether the replies that come begin so.
func (k *talk) says(replies ...string) bool {
	for _, want := range replies {
		if !strings.HasPrefix(k.reply(), want) {
			return false
		}
	}
	return true
}

// soon is a session that waits for a message, where a client has little time for each
// command: a slow one has to try again.
func (b *bridge) soon() (k *talk) {
	b.t.Helper()
	eventually(b.t, "a client is fast enough to begin a message", func() bool {
		k = b.dial()
		k.send("EHLO x\r\nAUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAHB3\r\nMAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n")
		return k.says("220", "250", "235", "250", "250", "354")
	})
	return k
}

func TestADrippingMessageIsGivenUp(t *testing.T) {
	b := newBridge(t, newUpstream(t), func(c *smtpd.Config, _ *smtpd.Account, _ *queue.Config) { c.Timeouts.Client = 400 * time.Millisecond })
	k := b.soon()
	stop := make(chan struct{})
	defer close(stop)
	go func() { // a byte at a time, always in time
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-stop:
				return
			case <-tick.C:
				if _, err := io.WriteString(k.c, "x"); err != nil {
					return
				}
			}
		}
	}()
	if got := k.reply(); !strings.HasPrefix(got, "421 4.4.2") {
		t.Errorf("got %q", got)
	}
}

// TestTenThousandConnections: each costs little while it waits, and none keeps
// who logs in out.
func TestTenThousandConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 10,000 connections")
	}
	crowd(t, 10000)
}
