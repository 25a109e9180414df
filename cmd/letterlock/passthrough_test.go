package main_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/mailtest"
)

// liar is an IMAP server that answers a login as it is told to, whatever the
// password is. Its methods may be called concurrently.
type liar struct {
	addr string

	mu    sync.Mutex // guards what follows
	says  string     // to a login, with TAG for its tag; "" hangs up
	heard bytes.Buffer
}

func startLiar(t *testing.T) *liar {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	l := &liar{addr: ln.Addr().String(), says: "TAG OK come in\r\n"}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go l.serve(c)
		}
	}()
	return l
}

// Write remembers what clients send.
func (l *liar) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heard.Write(p)
}

func (l *liar) say(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.says = s
	l.heard.Reset()
}

// passwords are those that it was given since say.
func (l *liar) passwords() (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.heard.String()) {
		if _, b64, ok := strings.Cut(strings.TrimSpace(line), " AUTHENTICATE PLAIN "); ok {
			b, _ := base64.StdEncoding.DecodeString(b64)
			out = append(out, string(b[bytes.LastIndexByte(b, 0)+1:]))
		}
	}
	return out
}

func (l *liar) serve(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(io.TeeReader(c, l))
	io.WriteString(c, "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] here\r\n")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		tag, command, _ := strings.Cut(strings.TrimSpace(line), " ")
		said := "TAG OK done\r\n"
		switch {
		case strings.HasPrefix(command, "CAPABILITY"):
			said = "* CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR\r\n" + said
		case strings.HasPrefix(command, "AUTHENTICATE"):
			l.mu.Lock()
			said = l.says
			l.mu.Unlock()
		case strings.HasPrefix(command, "SELECT"):
			said = "* 0 EXISTS\r\n* OK [UIDVALIDITY 1] x\r\n* OK [UIDNEXT 1] x\r\n" + said
		}
		if said == "" {
			return
		}
		io.WriteString(c, strings.ReplaceAll(said, "TAG", tag))
	}
}

// converse has a conversation with a server: lines of "C: " and "S: ", of which the
// latter are what a line begins with. It gives the text of the last one.
func converse(t *testing.T, addr, script string) (last string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(c)
	for step := range strings.Lines(script) {
		step = strings.TrimSuffix(step, "\n")
		if out, ok := strings.CutPrefix(step, "C: "); ok {
			io.WriteString(c, strings.ReplaceAll(out, "␀", "\x00")+"\r\n")
			continue
		}
		want := strings.TrimPrefix(step, "S: ")
		last, err = r.ReadString('\n')
		for err == nil && want != "" && strings.HasPrefix(last, "250-") { // of EHLO
			last, err = r.ReadString('\n')
		}
		last = strings.TrimRight(last, "\r\n")
		if !strings.HasPrefix(last, want) {
			t.Fatalf("%.300s\nat %q it says %q, %v", script, want, last, err)
		}
	}
	return last
}

func plain(parts ...string) string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Join(parts, "\x00")))
}

// TestPassthroughBeforeALiar: neither the answers of the mail server nor the
// shape of what a client sends open a session; the password that we know does,
// and only that one is ever forwarded.
func TestPassthroughBeforeALiar(t *testing.T) {
	up := startLiar(t)
	out, err := mailtest.StartWicked()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w := newWorldOf(t, world{domain: "example.org", more: `auth = "passthrough"`,
		imap: fmt.Sprintf(`listen = "127.0.0.1:0", upstream = "imap+insecure://%s"`, up.addr),
		smtp: fmt.Sprintf(`listen = "127.0.0.1:0", upstream = "smtp+insecure://%s"`, out.Addr)})
	const right = "pass-through"
	a := w.bridge(alice, right)
	imap, smtp := a.imap.Addr, a.smtp.Addr

	t.Run("every password is welcome upstream", func(t *testing.T) {
		up.say("TAG OK come in\r\n")
		refused := []string{
			"C: a LOGIN " + alice + " wrong\nS: a NO [AUTHENTICATIONFAILED]",
			"C: a LOGIN " + alice + " \"\"\nS: a NO [",
			"C: a AUTHENTICATE PLAIN " + plain("", alice, right+"x") + "\nS: a NO [",
			"C: a AUTHENTICATE PLAIN =\nS: a BAD",
			"C: a AUTHENTICATE PLAIN\nS: +\nC: *\nS: a BAD",
			"C: a AUTHENTICATE PLAIN\nS: +\nC: " + plain("", alice) + "\nS: a BAD",
			"C: a AUTHENTICATE PLAIN " + plain(bob, alice, right) + "\nS: a NO [AUTHORIZATIONFAILED]",
			"C: a AUTHENTICATE PLAIN " + plain("", alice, right, "x") + "\nS: a BAD",
			"C: a AUTHENTICATE PLAIN " + strings.Repeat("QUFB", 9000) + "\nS: a NO [TOOBIG]",
			"C: a AUTHENTICATE LOGIN\nS: +\nC: " + plain(alice) + "\nS: +\nC: *\nS: a BAD",
			"C: a AUTHENTICATE LOGIN\nS: +\nC: " + plain(alice) + "\nS: +\nC: " + plain("wrong") + "\nS: a NO [AUTHENTICATIONFAILED] user",
			"C: a AUTHENTICATE EXTERNAL " + plain(alice) + "\nS: a NO [CANNOT]",
			fmt.Sprintf("C: a LOGIN %s {%d+}\nC: %s␀x\nS: a ", alice, len(right)+2, right),
			"C: a LOGIN " + bob + " " + right + "\nS: a NO [AUTHENTICATIONFAILED]",
		}
		var failed time.Time // just before the fourth failure, which costs a second
		for _, script := range refused {
			if strings.Contains(script, plain("wrong")) {
				failed = time.Now()
			}
			if last := converse(t, imap, "S: * OK\n"+script); strings.HasPrefix(last, "a OK") {
				t.Errorf("%.300s\nopens", script)
			}
		}
		if p := up.passwords(); len(p) > 0 {
			t.Errorf("the mail server was told %q", p)
		}
		opens := "S: * OK\nC: a LOGIN " + alice + " " + right + "\n"
		got := converse(t, imap, opens+"S: a ")
		if early := time.Since(failed) < time.Second; !strings.HasPrefix(got, "a NO [AUTHENTICATIONFAILED] too many") && (early || !strings.HasPrefix(got, "a OK")) {
			t.Errorf("after all that, the right password gives %q", got)
		}
		time.Sleep(2100 * time.Millisecond) // what five of them would cost
		converse(t, imap, opens+"S: a OK")
		converse(t, imap, "S: * OK\nC: a AUTHENTICATE PLAIN\nS: +\nC: "+plain(alice, alice, right)+"\nS: a OK")
	})
	t.Run("the same by SMTP", func(t *testing.T) {
		before := len(out.Heard()) // setup has tried the password that it was given
		for _, script := range []string{
			"C: AUTH PLAIN " + plain("", alice, "wrong") + "\nS: 535",
			"C: AUTH PLAIN " + plain(bob, alice, right) + "\nS: 535",
			"C: AUTH PLAIN " + plain("", alice, right, "") + "\nS: 501",
			"C: AUTH PLAIN\nS: 334\nC: *\nS: 501",
			"C: AUTH PLAIN\nS: 334\nC: " + strings.Repeat("QUFB", 9000) + "\nS: 500",
			"C: AUTH PLAIN =\nS: 501",
			"C: AUTH LOGIN\nS: 334\nC: " + plain(alice) + "\nS: 334\nC: " + plain("wrong") + "\nS: 535",
			"C: AUTH LOGIN\nS: 334\nC: " + plain(alice) + "\nS: 334\nC: " + plain(right+"\x00") + "\nS: 535",
			"C: AUTH CRAM-MD5\nS: 504",
			"C: MAIL FROM:<" + alice + ">\nS: 530",
		} {
			converse(t, smtp, "S: 220\nC: EHLO x\nS: 250 \n"+script+"\nC: MAIL FROM:<"+alice+">\nS: 530")
		}
		if heard := out.Heard()[before:]; bytes.Contains(heard, []byte("AUTH")) {
			t.Errorf("the mail server was told a password: %q", heard)
		}
		converse(t, smtp, "S: 220\nC: EHLO x\nS: 250 \nC: AUTH LOGIN "+plain(alice)+"\nS: 334\nC: "+plain(right)+"\nS: 235\nC: MAIL FROM:<"+alice+">\nS: 250\nC: RCPT TO:<"+alice+">\nS: 250")
		if heard := out.Heard()[before:]; !bytes.Contains(heard, []byte(plain("", alice, right))) {
			t.Errorf("the mail server was not told the right password: %q", heard)
		}
	})
	t.Run("answers that are none", func(t *testing.T) {
		for _, tt := range []struct{ name, says, want string }{
			{"no", "TAG NO no\r\n", "a NO [AUTHENTICATIONFAILED] the upstream"},
			{"nothing", "", "a NO [UNAVAILABLE]"},
			{"somebody else's OK", "S0 OK yes\r\n", "a NO [UNAVAILABLE]"},
			{"a BYE", "* BYE come back later\r\n", "a NO [UNAVAILABLE]"},
			{"a continuation without end", strings.Repeat("+ \r\n", 2000), "a NO [UNAVAILABLE]"},
			{"PREAUTH", "* PREAUTH welcome\r\nTAG OK\r\n", "a NO [UNAVAILABLE]"},
			{"a line without end", strings.Repeat("x", 300_000), "a NO [UNAVAILABLE]"},
			{"no such user any more", "TAG NO [CONTACTADMIN] no\r\n", "a NO [UNAVAILABLE]"},
		} {
			up.say(tt.says)
			last := converse(t, imap, "S: * OK\nC: a LOGIN "+alice+" "+right+"\nS: a ")
			if !strings.HasPrefix(last, tt.want) {
				t.Errorf("%s: %q", tt.name, last)
			}
		}
		up.say("TAG OK [CAPABILITY IMAP4rev1] yes\r\n* BYE and out\r\n")
		converse(t, imap, "S: * OK\nC: a LOGIN "+alice+" "+right+"\nS: a OK\nC: b NOOP\nS: * BYE")
		out.HangUp()
		out.Fault(func(step string) (string, bool) {
			if step == "AUTH" {
				return "535 5.7.8 no\r\n", false
			}
			return "", false
		})
		defer out.Fault(nil)
		last := converse(t, smtp, "S: 220\nC: EHLO x\nS: 250 \nC: AUTH PLAIN "+plain("", alice, right)+"\nS: 235\nC: MAIL FROM:<"+alice+">\nS: 250\nC: RCPT TO:<"+alice+">\nS: ")
		if !strings.HasPrefix(last, "451 4.7.0") || !strings.Contains(last, "account password") {
			t.Errorf("a password that the mail server refuses gives %q", last)
		}
	})
	t.Run("another password", func(t *testing.T) {
		up.say("TAG OK come in\r\n")
		a.command("account", "password", alice, "--password-file", w.file("next", "next-one\n"))
		up.say("TAG OK come in\r\n")
		converse(t, imap, "S: * OK\nC: a LOGIN "+alice+" "+right+"\nS: a NO [AUTHENTICATIONFAILED]")
		converse(t, smtp, "S: 220\nC: EHLO x\nS: 250 \nC: AUTH PLAIN "+plain("", alice, right)+"\nS: 535")
		converse(t, imap, "S: * OK\nC: a LOGIN "+alice+" next-one\nS: a OK")
		if p := up.passwords(); len(p) != 1 || p[0] != "next-one" {
			t.Errorf("the mail server was told %q", p)
		}
	})
	w.stop()
	os.Remove(filepath.Join(w.dir, "next"))
	for _, secret := range []string{right, "next-one"} {
		w.search(canary{"a password", secret})
	}
}
