package smtpd_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// canary stands in every message of these tests.
const canary = "canary-7f3a19c2-in-clear"

// bridge is a server under test with one account, Alice's.
type bridge struct {
	t       testing.TB
	addr    string
	server  *smtpd.Server
	queue   *queue.Queue
	account *smtpd.Account
	log     *lockedBuffer
	stop    func()
}

type option func(*smtpd.Config, *smtpd.Account, *queue.Config)

func newBridge(t testing.TB, u *upstream, opts ...option) *bridge {
	t.Helper()
	st, err := store.OpenMemory(queue.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return newBridgeOn(t, u, st, opts...)
}

func newBridgeOn(t testing.TB, u *upstream, st store.Store, opts ...option) *bridge {
	t.Helper()
	b := &bridge{t: t, log: &lockedBuffer{}}
	logger := slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b.account = &smtpd.Account{
		Addresses: []address.Address{addr("alice@example.org"), addr("a.liddell@example.org")},
		Signer:    func(context.Context, address.Address) (pgp.Signer, error) { return key(t, "alice@example.org"), nil },
		Find:      directory{t: t, has: []string{"bob@example.net", "carol@example.net", "dave@example.net", "erin@example.net"}},
		Rules:     func() *policy.Rules { return rules(t, policy.Config{}) },
		Upstream:  u.config(),
	}
	qc := queue.Config{Store: st, Logger: logger}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := smtpd.Config{
		Logger: logger, // the timeouts are long: who is slow here isn't dead
		Listeners: []smtpd.Listener{{Listener: ln, Login: func(_ context.Context, _ net.Addr, user, password string) (*smtpd.Account, error) {
			if user != "alice@example.org" || password != "pw" {
				return nil, smtpd.ErrCredentials
			}
			return b.account, nil
		}, Capabilities: func() smtpd.Capabilities { return smtpd.Capabilities{EightBit: true, UTF8: true, DSN: true} }}},
	}
	for _, o := range opts {
		o(&c, b.account, &qc)
	}
	if b.queue, err = queue.New(qc); err != nil {
		t.Fatal(err)
	}
	c.Queue = b.queue
	if b.server, err = smtpd.New(c); err != nil {
		t.Fatal(err)
	}
	b.addr = ln.Addr().String()
	done := make(chan error, 1)
	go func() { done <- b.server.Serve(context.Background()) }()
	b.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := b.server.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(b.stop)
	return b
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// directory knows certificates; domains beginning with "down." can't be asked.
type directory struct {
	t   testing.TB
	has []string
}

func (d directory) Find(_ context.Context, a address.Address) (keydir.Finding, error) {
	f := keydir.Finding{Address: a, Outcome: keydir.Absent}
	if strings.HasPrefix(a.Domain, "down.") {
		f.Outcome = keydir.Unavailable
	}
	for _, h := range d.has {
		if a.Equal(addr(h)) {
			f.Outcome, f.Identity = keydir.Found, pgp.Directory
			f.Certificates = []*pgp.Certificate{key(d.t, h).Certificate()}
		}
	}
	return f, nil
}

func addr(s string) address.Address {
	a, err := address.Parse(s)
	if err != nil {
		panic(err)
	}
	return a
}

func rules(t testing.TB, c policy.Config) *policy.Rules {
	r, err := policy.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var keys = struct {
	sync.Mutex
	m map[string]*pgp.Key
}{m: map[string]*pgp.Key{}}

// key is the key of an address, made once.
func key(t testing.TB, a string) *pgp.Key {
	keys.Lock()
	defer keys.Unlock()
	if k := keys.m[a]; k != nil {
		return k
	}
	k, err := pgp.GenerateKey(addr(a), pgp.DefaultProfile, time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	keys.m[a] = k
	return k
}

// talk is a client's connection.
type talk struct {
	t testing.TB
	c net.Conn
	r *bufio.Reader
}

func (b *bridge) dial() *talk {
	b.t.Helper()
	c, err := net.Dial("tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	return &talk{b.t, c, bufio.NewReader(c)}
}

// login opens a session that is ready for MAIL.
func (b *bridge) login() *talk {
	b.t.Helper()
	k := b.dial()
	k.run(`
		S: 220
		C: EHLO client
		S: 250
		C: AUTH PLAIN ` + base64.StdEncoding.EncodeToString([]byte("\x00alice@example.org\x00pw")) + `
		S: 235`)
	return k
}

// run holds a conversation: lines that begin with "C:" are sent, those with
// "S:" are beginnings of the last line of the reply.
func (k *talk) run(script string) string {
	k.t.Helper()
	var last string
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "C: "):
			k.send(line[3:] + "\r\n")
		case strings.HasPrefix(line, "S: "):
			last = k.reply()
			if !strings.HasPrefix(last, line[3:]) {
				k.t.Fatalf("reply: got %q, want %q…", last, line[3:])
			}
		}
	}
	return last
}

func (k *talk) send(s string) {
	if _, err := k.c.Write([]byte(s)); err != nil {
		k.t.Logf("client: %v", err)
	}
}

// reply reads a reply; of several lines all, joined by spaces after the code.
func (k *talk) reply() string {
	var all []string
	for {
		line, err := k.r.ReadString('\n')
		if err != nil {
			return strings.Join(append(all, "("+err.Error()+")"), " ")
		}
		line = strings.TrimRight(line, "\r\n")
		if len(line) < 4 || line[3] != '-' {
			if len(all) > 0 {
				return line[:min(4, len(line))] + strings.Join(all, " ") + " " + line[min(4, len(line)):]
			}
			return line
		}
		all = append(all, line[4:])
	}
}

// submit sends a message to recipients that must all be accepted, and returns
// the reply to it.
func (k *talk) submit(msg string, rcpts ...string) string {
	k.t.Helper()
	k.run("C: MAIL FROM:<alice@example.org>\nS: 250")
	for _, r := range rcpts {
		k.run("C: RCPT TO:<" + r + ">\nS: 250")
	}
	k.run("C: DATA\nS: 354")
	k.send(msg + ".\r\n")
	return k.reply()
}

// letter is a message with the canary in its subject and body.
func letter(id, to string, extra ...string) string {
	return strings.ReplaceAll(fmt.Sprintf(`From: Alice <alice@example.org>
To: %s
Subject: %s
Message-ID: <%s@example.org>
Date: Sun, 22 Nov 2026 12:00:00 +0000
%sMIME-Version: 1.0
Content-Type: text/plain; charset=us-ascii

Dear friend,
this is the %s.
..and a line with dots
.
`, to, canary, id, strings.Join(extra, ""), canary), "\n", "\r\n")
}

// wired is a message as it goes over the wire: dots doubled.
func wired(msg string) string { return strings.ReplaceAll(msg, "\r\n.", "\r\n..") }

// eventually waits for what must come about; only a failure waits for all of its time.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(4 * time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never happened: %s", what)
}

var _ = tls.VersionTLS13
