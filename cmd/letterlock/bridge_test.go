package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"letterlock.org/letterlock/internal/mailtest"
	"letterlock.org/letterlock/internal/mailtest/peer"
)

// TestBridgesBeforeDovecotAndPostfix sends a letter between two people whose
// mail servers are real ones, with TLS on every connection.
func TestBridgesBeforeDovecotAndPostfix(t *testing.T) {
	for _, tt := range []struct{ name, imap, smtp string }{
		{"implicit TLS on both sides", `listen = "imaps://127.0.0.1:0", upstream = "imaps://localhost:`, `listen = "submissions://127.0.0.1:0", upstream = "submissions://localhost:`},
		{"STARTTLS on both sides", `listen = "127.0.0.1:0", upstream = "imap://localhost:`, `listen = "127.0.0.1:0", upstream = "submission://localhost:`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := peer.Postfix(t)
			imapAddr, smtpAddr := p.Dovecot.Addr, p.Addr
			if strings.Contains(tt.imap, "imaps") {
				imapAddr, smtpAddr = p.Dovecot.TLSAddr, p.TLSAddr
			}
			ca, err := os.ReadFile(p.CA)
			if err != nil {
				t.Fatal(err)
			}
			dovecotCA, err := os.ReadFile(p.Dovecot.CA)
			if err != nil {
				t.Fatal(err)
			}
			both := filepath.Join(t.TempDir(), "ca.pem")
			if err := os.WriteFile(both, append(ca, dovecotCA...), 0o600); err != nil {
				t.Fatal(err)
			}
			w := newWorldOf(t, world{domain: "example.test", imap: tt.imap + port(imapAddr) + `"`, smtp: tt.smtp + port(smtpAddr) + `"`,
				more: `upstream_ca = "` + both + `"`})
			a, b := w.bridge(peer.Alice, peer.AlicePassword), w.bridge(peer.Bob, peer.BobPassword)
			body := newCanary("body")
			raw := []byte("From: " + peer.Alice + "\r\nTo: " + peer.Bob + "\r\nSubject: hello\r\nMessage-ID: <1@example.test>\r\n\r\n" + body.text + "\r\n")
			if err := mailtest.Submit(a.smtp, peer.Alice, []string{peer.Bob}, raw); err != nil {
				t.Fatal(err)
			}
			got := arrival(t, b)
			if !bytes.Contains(got.Raw, []byte("signature=valid")) || !body.in(got.Raw) {
				t.Errorf("Bob sees\n%s", got.Raw)
			}
			for _, f := range filesWith(t, body, p.Dovecot.Mail) {
				t.Errorf("Dovecot stores the body in %s", f)
			}
		})
	}
}

func port(addr string) string { _, p, _ := net.SplitHostPort(addr); return p }

// arrival waits for the first message in the inbox.
func arrival(t *testing.T, b *bridge) mailtest.Message {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		got, err := mailtest.Fetch(b.imap, "INBOX")
		if err != nil {
			t.Fatal(err)
		}
		if len(got) > 0 {
			return got[0]
		}
	}
	t.Fatal("nothing arrived")
	return mailtest.Message{}
}

// In passthrough mode the client gives the mail server's password. Until we know
// it by a verifier of our own, it opens nothing.
func TestPassthrough(t *testing.T) {
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{alice: "upstream-alice", bob: "upstream-bob"}})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	w := newWorld(t, up)
	w.more = `auth = "passthrough"`
	a := w.bridge(alice, "upstream-alice")
	a.imap.Password, a.smtp.Password = "upstream-alice", "upstream-alice"
	if _, err := mailtest.Fetch(a.imap, "INBOX"); err != nil {
		t.Errorf("the mail server's password opens nothing: %v", err)
	}
	if err := mailtest.Submit(a.smtp, alice, []string{alice}, []byte("From: "+alice+"\r\nTo: "+alice+"\r\nSubject: x\r\n\r\ny\r\n")); err != nil {
		t.Errorf("the mail server's password does not send: %v", err)
	}
	// The mail server would take this one, but it is not what we know.
	a.command("account", "password", alice, "--password-file", w.file("other", "another password\n"))
	if _, err := mailtest.Fetch(a.imap, "INBOX"); err == nil {
		t.Error("an upstream's OK alone opened a session")
	}
}

func TestServeTellsSystemd(t *testing.T) {
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{alice: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	path := filepath.Join(t.TempDir(), "notify")
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	w := newWorld(t, up)
	heard := func() string {
		b := make([]byte, 200)
		notify.SetReadDeadline(time.Now().Add(patience))
		n, err := notify.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	if got := heard(); got != "READY=1" {
		t.Errorf("first it says %q", got)
	}
	w.hardened(w.keydir)
	w.stop()
	if got := heard(); got != "STOPPING=1" {
		t.Errorf("at the end it says %q", got)
	}
}

// hardened makes sure that a serve leaves no core dump and only private files.
func (w *world) hardened(b *bridge) {
	w.t.Helper()
	proc := func(name string) string {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(b.process.Process.Pid), name))
		if err != nil {
			w.t.Skipf("no /proc to look at: %v", err)
		}
		return string(text)
	}
	if !regexp.MustCompile(`Max core file size +0 +0 `).MatchString(proc("limits")) {
		w.t.Error("it may dump core")
	}
	if !strings.Contains(proc("status"), "Umask:\t0077") {
		w.t.Error("its files may be read by others")
	}
}

// An upstream that is down is told to the mail program as a fault of the moment,
// and stops nobody else.
func TestUpstreamDown(t *testing.T) {
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{alice: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, up)
	a := w.bridge(alice, "a")
	up.Close()
	_, err = mailtest.Dial(a.imap)
	if err == nil || !strings.Contains(err.Error(), "UNAVAILABLE") {
		t.Errorf("IMAP says %v, want UNAVAILABLE", err)
	}
	err = mailtest.Submit(a.smtp, alice, []string{bob}, []byte("From: "+alice+"\r\nTo: "+bob+"\r\n\r\nx\r\n"))
	var reply *smtp.SMTPError
	if !errors.As(err, &reply) || reply.Code/100 != 4 {
		t.Errorf("SMTP says %v, want a temporary reply", err)
	}
	var st struct {
		Faults []struct{ Account, Kind, Text string } `json:"upstream_faults"`
	}
	if err := json.Unmarshal([]byte(a.command("status", "--json")), &st); err != nil {
		t.Fatal(err)
	}
	if len(st.Faults) != 1 || st.Faults[0].Account != alice || st.Faults[0].Kind != "connect" || st.Faults[0].Text == "" {
		t.Errorf("status tells of %+v", st.Faults)
	}
}
