package imapd_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/imapd"
	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

const user, password = "alice@example.test", "local-pw"

// patience is how long something may take that is to happen, on a machine that has
// much else to do. What comes to its end is over before, however long that takes.
const patience = 5 * time.Minute

// eventually waits until something is so of which nobody tells.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in %v: %s", patience, what)
		}
	}
}

// noCertificates knows nobody.
type noCertificates struct{ own []*pgp.Certificate }

func (n noCertificates) Issuer(context.Context, uint64) ([]*pgp.Certificate, error) {
	return n.own, nil
}

func (noCertificates) Identity(context.Context, address.Address, pgp.Fingerprint) (pgp.Identity, error) {
	return pgp.Unknown, nil
}

// bridge is a server of ours before an upstream.
type bridge struct {
	addr    string
	account *imapd.Account
	key     *pgp.Key
	library *index.Library
	server  *imapd.Server
	store   store.Store
}

var testKey = func() func(t testing.TB) *pgp.Key {
	var key *pgp.Key
	return func(t testing.TB) *pgp.Key {
		t.Helper()
		if key == nil {
			a, err := address.Parse(user)
			if err != nil {
				t.Fatal(err)
			}
			if key, err = pgp.GenerateKey(a, pgp.DefaultProfile, time.Now().Add(-time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		return key
	}
}()

// startBridge starts a bridge before the server at upstream. It says nothing to a
// client that waits, whose answers are compared, unless change has it say something.
func startBridge(t testing.TB, upstream, upUser, upPassword string, change func(*imapd.Config, *imapd.Account)) *bridge {
	t.Helper()
	st, err := store.OpenMemory(index.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	key := testKey(t)
	own, err := address.Parse(user)
	if err != nil {
		t.Fatal(err)
	}
	lib, err := index.New(index.Config{
		Store: st, Account: own.Key(), Own: []address.Address{own},
		Keys:         func(context.Context) (pgp.Decrypter, error) { return pgp.Keys(key), nil },
		Certificates: noCertificates{[]*pgp.Certificate{key.Certificate()}},
		Spool:        message.SpoolOptions{Dir: t.TempDir()},
	})
	if err != nil {
		t.Fatal(err)
	}
	b := &bridge{key: key, library: lib, store: st}
	b.account = &imapd.Account{
		Name: own.Key(), User: upUser, Library: lib, SearchUpstream: true,
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", upstream)
		},
		Seal: func(ctx context.Context, w io.Writer, src message.Source) error {
			return pgp.Seal(ctx, w, src, pgp.Sealing{Signer: key, Storage: key.Certificate(), Now: time.Now()})
		},
		Spool: message.SpoolOptions{Dir: t.TempDir()},
	}
	c := imapd.Config{
		KeepAlive: time.Hour,
		Grace:     100 * time.Millisecond, // tests end in the middle of things
		Logger:    slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Login: func(_ context.Context, _ net.Addr, u, p string) (*imapd.Account, string, error) {
			if u != user || p != password {
				return nil, "", imapd.ErrRefused
			}
			return b.account, upPassword, nil
		},
	}
	if change != nil {
		change(&c, b.account)
	}
	b.server = imapd.New(c)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = b.server.Serve(ctx, l, false) }()
	t.Cleanup(func() {
		stop, end := context.WithTimeout(context.Background(), patience)
		defer end()
		if err := b.server.Shutdown(stop); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		cancel()
		<-done
	})
	return b
}

// client speaks IMAP as it is written.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	n    int
	// rest is of a command that the server asks for, where it has no LITERAL+.
	rest  string
	asked bool // literals wait for the server
	// waits tells that it passes over what is said to somebody who waits, which may come
	// before any answer.
	waits bool
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &client{t: t, conn: conn, r: bufio.NewReader(conn)}
}

// login dials, reads the greeting and logs in.
func login(t testing.TB, addr, user, password string) *client {
	t.Helper()
	c := dial(t, addr)
	c.response()
	if r := c.cmd("LOGIN " + user + " " + password); !strings.Contains(r[len(r)-1], " OK ") {
		t.Fatalf("login: %q", r)
	}
	return c
}

// response reads one response with its literals, without the last CRLF.
func (c *client) response() string {
	c.t.Helper()
	s, err := c.tryResponse()
	if err != nil {
		c.t.Fatalf("reading: %v", err)
	}
	return s
}

func (c *client) tryResponse() (string, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	var b bytes.Buffer
	for {
		line, err := c.r.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			return b.String(), err
		}
		line = strings.TrimSuffix(line, "\r\n")
		if c.waits && line == "* OK still working" {
			b.Reset()
			continue
		}
		if c.rest != "" && strings.HasPrefix(line, "+") {
			c.send(c.rest)
			b.Reset()
			continue
		}
		open := strings.LastIndexByte(line, '{')
		if open < 0 || !strings.HasSuffix(line, "}") {
			return strings.TrimSuffix(b.String(), "\r\n"), nil
		}
		n, err := strconv.Atoi(line[open+1 : len(line)-1])
		if err != nil {
			return strings.TrimSuffix(b.String(), "\r\n"), nil
		}
		if _, err := io.CopyN(&b, c.r, int64(n)); err != nil {
			return b.String(), err
		}
	}
}

func (c *client) send(s string) {
	c.t.Helper()
	c.rest = ""
	_ = c.conn.SetWriteDeadline(time.Now().Add(patience))
	if at := strings.Index(s, "+}\r\n"); at >= 0 && c.asked {
		s, c.rest = s[:at]+"}\r\n", s[at+len("+}\r\n"):]
	}
	if _, err := io.WriteString(c.conn, s); err != nil {
		c.t.Fatalf("sending: %v", err)
	}
}

// hurl sends what the server need not read to its end, nor need the test wait for
// that.
func (c *client) hurl(s string) {
	go func() { _, _ = io.WriteString(c.conn, s) }()
}

// cmd sends a command and gives all responses up to its own.
func (c *client) cmd(command string) []string {
	c.t.Helper()
	c.n++
	tag := fmt.Sprintf("t%d", c.n)
	c.send(tag + " " + command + "\r\n")
	return c.until(tag)
}

func (c *client) until(tag string) []string {
	c.t.Helper()
	var all []string
	for {
		r := c.response()
		all = append(all, r)
		if strings.HasPrefix(r, tag+" ") {
			return all
		}
		if len(all) > 100000 {
			c.t.Fatal("no end")
		}
	}
}

// ok is cmd that must succeed; it gives the untagged responses.
func (c *client) ok(command string) []string {
	c.t.Helper()
	all := c.cmd(command)
	if !strings.Contains(all[len(all)-1], " OK") {
		c.t.Fatalf("%s: %q", command[:min(80, len(command))], all[len(all)-1])
	}
	return all[:len(all)-1]
}

// upload appends a message.
func (c *client) upload(mailbox string, args string, raw []byte) []string {
	c.t.Helper()
	return c.ok(fmt.Sprintf("APPEND %s %s{%d+}\r\n%s", mailbox, args, len(raw), raw))
}
