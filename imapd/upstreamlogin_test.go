package imapd_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"

	"letterlock.org/letterlock/imapd"
	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/internal/mailtest/peer"
)

// TestUpstreamRefusals: what has nothing to do with the password is not said of
// it, since clients would ask for another one. RFC 5530, Section 3.
func TestUpstreamRefusals(t *testing.T) {
	for _, tt := range []struct{ name, said, stored, passthrough string }{
		{"a wrong password", "NO [AUTHENTICATIONFAILED] no",
			"NO [UNAVAILABLE] the upstream server refused the stored password*", "NO [AUTHENTICATIONFAILED]*"},
		{"a refusal without a code", "NO no",
			"NO [UNAVAILABLE] the upstream server refused the stored password*", "NO [AUTHENTICATIONFAILED]*"},
		{"too many connections, as Dovecot says it", "NO [LIMIT] Maximum number of connections from user+IP exceeded",
			"NO [UNAVAILABLE] the upstream server allows no more connections*", "NO [UNAVAILABLE] the upstream server allows no more connections*"},
		{"too many connections, as Gmail says it", "NO [ALERT] Too many simultaneous connections. (Failure)",
			"NO [UNAVAILABLE] the upstream server allows no more connections*", "NO [UNAVAILABLE] the upstream server allows no more connections*"},
		{"too many connections, as older Dovecots say it", "NO [UNAVAILABLE] Maximum number of connections from user+IP exceeded (mail_max_userip_connections=10)",
			"NO [UNAVAILABLE] the upstream server allows no more connections*", "NO [UNAVAILABLE] the upstream server allows no more connections*"},
		{"an alert that is about the password", "NO [ALERT] Application-specific password required (Failure)",
			"NO [UNAVAILABLE] the upstream server refused the stored password*", "NO [AUTHENTICATIONFAILED]*"},
		{"too much traffic", "NO [OVERQUOTA] Account exceeded command or bandwidth limits. (Failure)",
			"NO [UNAVAILABLE] the upstream server cannot be reached*", "NO [UNAVAILABLE] the upstream server cannot be reached*"},
		{"a user database that is down", "NO [UNAVAILABLE] Temporary authentication failure.",
			"NO [UNAVAILABLE] the upstream server cannot be reached*", "NO [UNAVAILABLE] the upstream server cannot be reached*"},
		{"a user who may not log in", "NO [AUTHORIZATIONFAILED] no",
			"NO [UNAVAILABLE] the upstream server cannot be reached*", "NO [UNAVAILABLE] the upstream server cannot be reached*"},
		{"a password that is to come under TLS", "NO [PRIVACYREQUIRED] no",
			"NO [UNAVAILABLE] the upstream server cannot be trusted*", "NO [UNAVAILABLE] the upstream server cannot be trusted*"},
		{"a password that is too old", "NO [EXPIRED] no",
			"NO [UNAVAILABLE] the upstream server refused the stored password*", "NO [AUTHENTICATIONFAILED]*"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := (&double{answer: func(c string) string {
				if strings.HasPrefix(c, "AUTHENTICATE") {
					return "TAG " + tt.said + "\r\n"
				}
				return ""
			}}).start(t)
			for up, want := range map[string]string{"stored-pw": tt.stored, password: tt.passthrough} {
				b := startBridge(t, d.addr, "up", up, nil)
				talk(t, dial(t, b.addr), "S: * OK*\nC: a LOGIN "+user+" "+password+"\nS: a "+want)
			}
		})
	}
}

// TestFarewellForTooMany: servers that have too many connections say so before
// anything was asked of them, or hang up while somebody logs in.
func TestFarewellForTooMany(t *testing.T) {
	for _, d := range []*double{
		{greeting: "* BYE Too many connections from your address"},
		{answer: func(c string) string {
			if strings.HasPrefix(c, "AUTHENTICATE") {
				return "* BYE [ALERT] Maximum number of sessions reached\r\n"
			}
			return ""
		}},
	} {
		b := startBridge(t, d.start(t).addr, "up", "pw", nil)
		talk(t, dial(t, b.addr), "S: * OK*\nC: a LOGIN "+user+" "+password+"\nS: a NO [UNAVAILABLE] the upstream server allows no more connections*")
	}
}

// TestUpstreamNotTrustedIsSaid: a person can do something about a certificate
// that isn't valid, and nothing about one who is told to try again later.
func TestUpstreamNotTrustedIsSaid(t *testing.T) {
	d := (&double{caps: "IMAP4rev1 LOGINDISABLED"}).start(t)
	b := startBridge(t, d.addr, "up", "pw", nil)
	talk(t, dial(t, b.addr), "S: * OK*\nC: a LOGIN "+user+" "+password+"\nS: a NO [UNAVAILABLE] the upstream server cannot be trusted with the password*")

	stranger := httptest.NewTLSServer(nil) // of an authority that nobody knows
	defer stranger.Close()
	b = startBridge(t, "", "up", "pw", func(_ *imapd.Config, a *imapd.Account) {
		a.Dial = func(ctx context.Context) (net.Conn, error) {
			d := &tls.Dialer{Config: &tls.Config{ServerName: "localhost"}}
			return d.DialContext(ctx, "tcp", stranger.Listener.Addr().String())
		}
	})
	talk(t, dial(t, b.addr), "S: * OK*\nC: a LOGIN "+user+" "+password+"\nS: a NO [UNAVAILABLE] the upstream server's TLS certificate is not valid*")
}

// TestIndexerYields: where the server allows no more connections, the mail
// program's counts for more than the indexer's.
func TestIndexerYields(t *testing.T) {
	d := peer.StartDovecot(t, peer.DovecotOptions{
		Users: map[string]string{peer.Alice: peer.AlicePassword},
		Extra: "mail_max_userip_connections = 2\n",
	})
	d.Append(t, peer.Alice, "INBOX", []byte("Subject: x\r\n\r\nx\r\n"))
	b := startBridge(t, d.Addr, peer.Alice, peer.AlicePassword, nil)
	waits, resume := make(chan time.Duration), make(chan time.Time)
	var busy atomic.Bool
	busy.Store(true)
	x, err := index.NewIndexer(index.IndexerConfig{
		Library: b.library, Dial: b.account.Dial, Busy: busy.Load,
		Login: func(_ context.Context, c *imapclient.Client) error {
			return c.Login(peer.Alice, peer.AlicePassword).Wait()
		},
		After: func(d time.Duration) <-chan time.Time { waits <- d; return resume },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = x.Run(ctx) }()
	defer func() { cancel(); <-done }()
	if w := <-waits; w != 250*time.Millisecond || !x.Status().Running {
		t.Fatalf("waits %v: it was to give way, connected", w)
	}
	first := login(t, b.addr, user, password)
	var second *client
	eventually(t, "the server has noticed that the indexer's connection is gone", func() bool {
		second = dial(t, b.addr)
		second.response()
		r := second.cmd("LOGIN " + user + " " + password)
		in := strings.Contains(r[len(r)-1], " OK ")
		if !in {
			talk(t, second, "C: x NOOP\nS: x OK*")
			second.conn.Close()
			if !strings.Contains(r[len(r)-1], "allows no more connections") {
				t.Fatalf("login: %q", r)
			}
			time.Sleep(50 * time.Millisecond)
		}
		return in
	})
	first.ok("NOOP")
	second.ok("SELECT INBOX")
	busy.Store(false)
	resume <- time.Time{}
	if w, s := <-waits, x.Status(); w != 5*time.Minute || s.Running || !strings.Contains(s.Problem, "mail program") {
		t.Errorf("waits %v, status %+v", w, s)
	}
	// With nothing to give, it is said why.
	talk(t, dial(t, b.addr), "S: * OK*\nC: a LOGIN "+user+" "+password+"\nS: a NO [UNAVAILABLE] the upstream server allows no more connections*")
	second.ok("LOGOUT")
	eventually(t, "it comes back, once the server has noticed that there is room", func() bool {
		resume <- time.Time{}
		w, s := <-waits, x.Status()
		if strings.Contains(s.Problem, "Maximum number of connections") {
			return false
		}
		if w != 5*time.Minute || s.Problem != "" || s.Finished.IsZero() {
			t.Fatalf("waits %v, status %+v", w, s)
		}
		return true
	})
}
