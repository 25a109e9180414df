package imapd_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/internal/mailtest"
)

// TestSelectingIsNoNews: the indexer is told of mail that arrives, and not of what was
// there when a mailbox was selected, in whatever order the upstream tells of it.
func TestSelectingIsNoNews(t *testing.T) {
	d := &double{answer: func(c string) string {
		switch {
		case strings.HasPrefix(c, "SELECT"):
			return "* OK [UIDVALIDITY 7] ok\r\n* 3 EXISTS\r\nTAG OK [READ-WRITE] done\r\n"
		case strings.HasPrefix(c, "NOOP"):
			return "* 4 EXISTS\r\nTAG OK done\r\n"
		}
		return ""
	}}
	d.start(t)
	b := startBridge(t, d.addr, "up", "pw", nil)
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{user: "pw"}, Record: true}) // for the indexer
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	for _, box := range []string{"INBOX", "Archive"} {
		if err := up.Deliver(user, box, []byte("From: a@example.org\r\n\r\nx\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	begin, waits := make(chan bool), make(chan bool, 10)
	x, err := index.NewIndexer(index.IndexerConfig{
		Library: b.library,
		Dial: func(ctx context.Context) (net.Conn, error) {
			select {
			case <-begin:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			return new(net.Dialer).DialContext(ctx, "tcp", up.IMAPAddr)
		},
		Login: func(_ context.Context, c *imapclient.Client) error { return c.Login(user, "pw").Wait() },
		Busy:  func() bool { return false },
		After: func(time.Duration) <-chan time.Time { waits <- true; return make(chan time.Time) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); x.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	begin <- true // now it knows whom to hear
	<-waits
	for _, box := range []string{"Archive", "INBOX"} {
		c := login(t, b.addr, user, password)
		c.ok("SELECT " + box)
		if box == "INBOX" {
			c.ok("NOOP")
		}
	}
	begin <- true
	<-waits
	heard := string(up.Heard())
	if in, archive := strings.Count(heard, "EXAMINE INBOX"), strings.Count(heard, `EXAMINE "Archive"`); in != 2 || archive != 1 {
		t.Errorf("it looked into INBOX %d times, want 2, and into Archive %d times, want 1", in, archive)
	}
}
