package peer_test

import (
	"crypto/tls"
	"io"
	"net/smtp"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

func TestSubmittedMailArrives(t *testing.T) {
	p := peer.Postfix(t)
	c, err := smtp.Dial(p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.StartTLS(&tls.Config{ServerName: "localhost", RootCAs: peer.Pool(t, p.CA)}); err != nil {
		t.Fatal(err)
	}
	step := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	step(c.Auth(smtp.PlainAuth("", peer.Alice, peer.AlicePassword, "127.0.0.1")))
	step(c.Mail(peer.Alice))
	step(c.Rcpt(peer.Bob))
	w, err := c.Data()
	step(err)
	_, err = io.WriteString(w, "From: alice@example.test\r\nTo: bob@example.test\r\nSubject: hello\r\n\r\nHi Bob\r\n")
	step(err)
	step(w.Close())
	step(c.Quit())

	ic := p.Dovecot.Client(t, peer.Bob)
	for end := time.Now().Add(3 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		box, err := ic.Select("INBOX", nil).Wait()
		step(err)
		if box.NumMessages == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no message arrived")
		}
	}
	msgs, err := ic.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{}}}).Collect()
	step(err)
	if got := string(msgs[0].BodySection[0].Bytes); !strings.HasSuffix(got, "\r\n\r\nHi Bob\r\n") {
		t.Errorf("got %q", got)
	}
}

func TestAppendGivesUIDs(t *testing.T) {
	d := peer.StartDovecot(t, peer.DovecotOptions{Capability: "IMAP4rev1 UIDPLUS IDLE"})
	m := []byte("Subject: a\r\n\r\nb\r\n")
	if got := d.Append(t, peer.Alice, "Box", m, m); len(got) != 2 || got[0] != 1 || got[1] != 2 {
		t.Errorf("UIDs are %v, want 1 and 2", got)
	}
}
