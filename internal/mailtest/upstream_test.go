package mailtest_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest"
)

const (
	alice, bob = "alice@example.org", "bob@example.org"
	raw        = "From: alice@example.org\r\nTo: bob@example.org\r\nSubject: hi\r\n\r\n.dot\r\n"
)

func start(t *testing.T, o mailtest.Options) *mailtest.Upstream {
	t.Helper()
	o.Users = map[string]string{alice: "a", bob: "b"}
	u, err := mailtest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}

func TestSubmittedMailIsStoredByteForByte(t *testing.T) {
	u := start(t, mailtest.Options{Record: true})
	if err := mailtest.Submit(mailtest.Login{Addr: u.SMTPAddr, User: alice, Password: "a"}, alice, []string{bob}, []byte(raw)); err != nil {
		t.Fatal(err)
	}
	got, err := u.Stored(bob, "INBOX")
	if err != nil || len(got) != 1 {
		t.Fatalf("Bob has %d messages, %v", len(got), err)
	}
	if string(got[0].Raw) != raw || got[0].Size != int64(len(raw)) {
		t.Errorf("stored %q of size %d, want %q", got[0].Raw, got[0].Size, raw)
	}
	if d := u.Delivered(); len(d) != 1 || d[0].From != alice || d[0].To[0] != bob {
		t.Errorf("delivered %+v", d)
	}
	if !bytes.Contains(u.Heard(), []byte("Subject: hi")) {
		t.Error("what was said was not recorded: a canary could never be found")
	}
}

func TestOnlyUsersMaySubmitAndReceive(t *testing.T) {
	u := start(t, mailtest.Options{})
	if err := mailtest.Submit(mailtest.Login{Addr: u.SMTPAddr, User: alice, Password: "x"}, alice, []string{bob}, []byte(raw)); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a wrong password gives %v", err)
	}
	if err := mailtest.Submit(mailtest.Login{Addr: u.SMTPAddr, User: alice, Password: "a"}, alice, []string{"eve@example.org"}, []byte(raw)); err == nil {
		t.Error("an unknown recipient was taken")
	}
}

func TestFaultAfterDeliveryLosesTheReply(t *testing.T) {
	u := start(t, mailtest.Options{Fault: func(at mailtest.Point, _ string) error {
		if at == mailtest.AfterTaken {
			return mailtest.ErrDrop
		}
		return nil
	}})
	if err := mailtest.Submit(mailtest.Login{Addr: u.SMTPAddr, User: alice, Password: "a"}, alice, []string{bob}, []byte(raw)); err == nil {
		t.Error("the reply arrived")
	}
	if got, err := u.Stored(bob, "INBOX"); err != nil || len(got) != 1 {
		t.Errorf("Bob has %d messages, %v; want the one that was taken", len(got), err)
	}
}

func TestHalfAMessageIsNotStored(t *testing.T) {
	u := start(t, mailtest.Options{})
	for _, half := range []string{"", "From: alice@"} {
		c, err := net.Dial("tcp", u.IMAPAddr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "a LOGIN %s b\r\nb APPEND INBOX {100+}\r\n%s", bob, half)
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(c); err != nil { // to its end
			t.Error(err)
		}
		c.Close()
	}
	if got, err := u.Stored(bob, "INBOX"); err != nil || len(got) != 0 {
		t.Errorf("Bob has %+v, %v", got, err)
	}
}
