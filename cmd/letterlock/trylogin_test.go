package main_test

import (
	"bufio"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"letterlock.org/letterlock/internal/mailtest"
)

// doorkeeper is an IMAP server that answers every login with the same words.
type doorkeeper struct {
	addr string

	mu         sync.Mutex // guards what follows
	caps, says string
	asked      []string // the commands that were logins, without what follows
}

func startDoorkeeper(t *testing.T) *doorkeeper {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	d := &doorkeeper{addr: l.Addr().String()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go d.serve(c)
		}
	}()
	return d
}

func (d *doorkeeper) serve(c net.Conn) {
	defer c.Close()
	d.mu.Lock()
	caps, says := d.caps, d.says
	d.mu.Unlock()
	fmt.Fprintf(c, "* OK [CAPABILITY IMAP4rev1 %s] come near\r\n", caps)
	for r := bufio.NewScanner(c); r.Scan(); {
		tag, command, _ := strings.Cut(r.Text(), " ")
		verb, _, _ := strings.Cut(command, " ")
		if verb != "LOGIN" && verb != "AUTHENTICATE" {
			fmt.Fprintf(c, "%s OK\r\n", tag)
			continue
		}
		d.mu.Lock()
		d.asked = append(d.asked, verb)
		d.mu.Unlock()
		fmt.Fprintf(c, "%s %s\r\n", tag, says)
	}
}

func (d *doorkeeper) now(caps, says string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.caps, d.says, d.asked = caps, says, nil
}

// heard are the logins since now.
func (d *doorkeeper) heard() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.asked, " ")
}

// TestAPasswordThatIsTried: a person is asked for another password only where it is
// the password. RFC 5530, Section 3; RFC 4954, Section 6.
func TestAPasswordThatIsTried(t *testing.T) {
	imap := startDoorkeeper(t)
	smtp, err := mailtest.StartWicked()
	if err != nil {
		t.Fatal(err)
	}
	defer smtp.Close()
	w := newWorldOf(t, world{domain: "example.org"})
	b := w.configure("alice", fmt.Sprintf(`[[bridge]]
address = %q
imap = { listen = "127.0.0.1:0", upstream = "imap+insecure://%s" }
smtp = { listen = "127.0.0.1:0", upstream = "smtp+insecure://%s" }`, alice, imap.addr, smtp.Addr))
	const another, unsure = "give another with: letterlock account password alice@example.org", "is stored, but could not be tried"
	const plain = "AUTH=PLAIN SASL-IR"
	for _, tt := range []struct {
		name, caps, imap, smtp string
		want                   string // "" for nothing at all
		not                    string
	}{
		{"all is well", plain, "OK welcome", "", "", ""},
		{"no code at all", plain, "NO no", "", another, unsure},
		{"a wrong password", "ID", "NO [AUTHENTICATIONFAILED] no", "", another, unsure},
		{"a password that is too old", plain, "NO [EXPIRED] no", "", another, unsure},
		{"a user database that is down", plain, "NO [UNAVAILABLE] Temporary authentication failure", "", "can't look up passwords now (UNAVAILABLE)", another},
		{"too many connections", plain, "NO [LIMIT] too many", "", "no more connections now (LIMIT)", another},
		{"a mailbox that is open elsewhere", plain, "NO [INUSE] locked", "", "has the mailbox open", another},
		{"an account to ask about", plain, "NO [CONTACTADMIN] ask", "", "its administrator (CONTACTADMIN)", another},
		{"who may not", plain, "NO [AUTHORIZATIONFAILED] no", "", "the password is right", another},
		{"TLS wanted", plain, "NO [PRIVACYREQUIRED] no", "", "under TLS only", another},
		{"a server that doesn't understand", plain, "BAD what", "", "answers BAD to the login", another},
		{"no way to log in", "LOGINDISABLED", "OK welcome", "", "takes no password here", another},
		{"AUTHENTICATE only", "LOGINDISABLED " + plain, "OK welcome", "", "", ""},
		{"mail is sent with another password", plain, "OK welcome", "535 5.7.8 no\r\n", another, unsure},
		{"mail can't be sent now", plain, "OK welcome", "454 4.7.0 later\r\n", "lets nobody log in now: 454 4.7.0 later", another},
		{"the mail server is full", plain, "OK welcome", "421 4.3.2 later\r\n", "lets nobody log in now: 421 4.3.2 later", another},
		{"an app password is wanted", plain, "OK welcome", "534 5.7.9 no\r\n", "app password) (534 5.7.9)", another},
		{"who may not send", plain, "OK welcome", "525 5.7.13 no\r\n", "may not log in there (525 5.7.13)", another},
	} {
		t.Run(tt.name, func(t *testing.T) {
			imap.now(tt.caps, tt.imap)
			smtp.Fault(func(step string) (string, bool) {
				if step == "AUTH" {
					return tt.smtp, false
				}
				return "", false
			})
			cmd := exec.Command("letterlock", "account", "password", alice, "--password-file", w.file("pw", "secret-of-alice\n"))
			cmd.Env = b.env
			var said strings.Builder
			cmd.Stderr = &said
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v: %s", err, said.String())
			}
			got := said.String()
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) || tt.not != "" && strings.Contains(got, tt.not) || strings.Contains(got, "secret") {
				t.Errorf("it says %q", got)
			}
			if strings.Contains(tt.caps, "LOGINDISABLED") && strings.Contains(imap.heard(), "LOGIN") {
				t.Error("a password went where LOGIN is disabled")
			}
		})
	}
}

// A right password ends what status tells of a wrong one, not only the next mail.
func TestARightPasswordIsTheEndOfAFault(t *testing.T) {
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{alice: "upstream-alice"}})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	w := newWorld(t, up)
	a := w.bridge(alice, "yesterday's")
	if err := mailtest.Submit(a.smtp, alice, []string{bob}, []byte("From: "+alice+"\r\nTo: "+bob+"\r\n\r\nx\r\n")); err == nil {
		t.Fatal("a wrong password sends mail")
	}
	const told = "refuses the user or password; it may have changed"
	if out := a.command("status"); !strings.Contains(out, told) {
		t.Errorf("status says %s", out)
	}
	a.command("account", "password", alice, "--password-file", w.file("pw", "upstream-alice\n"))
	if out := a.command("status"); strings.Contains(out, told) {
		t.Errorf("with the right password status says %s", out)
	}
}
