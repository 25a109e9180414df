package imapd_test

import (
	"bufio"
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	"letterlock.org/letterlock/imapd"
	"letterlock.org/letterlock/internal/mailtest/peer"
)

// TestAMessageTooLargeToOpen is shown as it arrived, with a warning: a NO would
// fail the whole FETCH, each time and for the other messages too.
func TestAMessageTooLargeToOpen(t *testing.T) {
	d := peer.Dovecot(t)
	b := startBridge(t, d.Addr, peer.Alice, peer.AlicePassword, func(_ *imapd.Config, a *imapd.Account) { a.Spool.Limit = 20_000 })
	letter := func(text string) []byte {
		return []byte("From: bob@example.test\r\nSubject: x\r\nMessage-ID: <" + text[:4] + "@x>\r\n\r\n" + text + "\r\n")
	}
	large := encrypt(t, b.key, letter(strings.Repeat("large letter\r\n", 3000)))
	d.Append(t, peer.Alice, "INBOX", encrypt(t, b.key, letter("first letter")), large, encrypt(t, b.key, letter("last letter")))
	c := login(t, b.addr, user, password)
	c.ok("SELECT INBOX")
	got := c.fetch("UID FETCH 1:3 (FLAGS RFC822.SIZE BODY.PEEK[])")
	if !strings.Contains(got["1"]["BODY[]"], "first letter") || !strings.Contains(got["3"]["BODY[]"], "last letter") {
		t.Errorf("the others: %.200q", got)
	}
	if got["2"]["BODY[]"] != string(large) {
		t.Errorf("the large one has %d bytes, want %d as they arrived", len(got["2"]["BODY[]"]), len(large))
	}
	if flags := c.fetch("UID FETCH 2 (FLAGS)")["2"]["FLAGS"]; !strings.Contains(flags, "$LetterlockWarning") {
		t.Errorf("the large one has FLAGS %s", flags)
	}
}

// TestIdleStrangersKeepNobodyOut: every program on the machine can connect.
func TestIdleStrangersKeepNobodyOut(t *testing.T) {
	d := (&double{}).start(t)
	b := startBridge(t, d.addr, "up", "pw", func(c *imapd.Config, _ *imapd.Account) { c.MaxSessions = 8 })
	first := login(t, b.addr, user, password)
	for range 3 {
		for range 8 {
			conn, err := net.Dial("tcp", b.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		login(t, b.addr, user, password).ok("NOOP")
	}
	first.ok("NOOP")
}

// said is an upstream connection that keeps what is sent.
type said struct {
	net.Conn
	mu   *sync.Mutex
	text *strings.Builder
}

func (s said) Write(b []byte) (int, error) {
	s.mu.Lock()
	s.text.Write(b)
	s.mu.Unlock()
	return s.Conn.Write(b)
}

// TestASearchFetchesWhatIsTooLargeToOpenOnce: it is noted then, and what is found in it
// is what the upstream finds in it as it arrived.
func TestASearchFetchesWhatIsTooLargeToOpenOnce(t *testing.T) {
	d := peer.Dovecot(t)
	var mu sync.Mutex
	var text strings.Builder
	b := startBridge(t, d.Addr, peer.Alice, peer.AlicePassword, func(_ *imapd.Config, a *imapd.Account) {
		a.Spool.Limit = 20_000
		a.Dial = func(ctx context.Context) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", d.Addr)
			return said{conn, &mu, &text}, err
		}
	})
	letter := func(text string) []byte {
		return []byte("From: bob@example.test\r\nSubject: x\r\nMessage-ID: <" + text[:4] + "@x>\r\n\r\n" + text + "\r\n")
	}
	d.Append(t, peer.Alice, "INBOX", encrypt(t, b.key, letter("first letter")), encrypt(t, b.key, letter(strings.Repeat("large letter\r\n", 3000))))
	c := login(t, b.addr, user, password)
	c.ok("SELECT INBOX")
	for range 3 {
		for search, want := range map[string]string{"TEXT letter": "* SEARCH 1", "LARGER 20000": "* SEARCH 2", "TEXT multipart/encrypted": "* SEARCH 2"} {
			if got := c.ok("SEARCH " + search); len(got) == 0 || got[len(got)-1] != want {
				t.Errorf("%s: %q, want %q", search, got, want)
			}
		}
	}
	mu.Lock()
	fetched := strings.Count(text.String(), "BODY.PEEK[])")
	mu.Unlock()
	if fetched != 1 { // both by one command
		t.Errorf("messages were fetched by %d commands", fetched)
	}
	if flags := c.fetch("UID FETCH 2 (FLAGS)")["2"]["FLAGS"]; !strings.Contains(flags, "$LetterlockWarning") {
		t.Errorf("the large one has FLAGS %s", flags)
	}
}
