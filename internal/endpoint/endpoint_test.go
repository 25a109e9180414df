package endpoint_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/endpoint"
	"letterlock.org/letterlock/internal/store"
)

func TestParseListen(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		protocol endpoint.Protocol
		want     endpoint.Address
		err      string
	}{
		{"host and port begin in cleartext", "127.0.0.1:1143", endpoint.IMAP, endpoint.Address{Protocol: endpoint.IMAP, Security: endpoint.STARTTLS, Host: "127.0.0.1", Port: 1143}, ""},
		{"port 0 picks one", "[::1]:0", endpoint.SMTP, endpoint.Address{Protocol: endpoint.SMTP, Security: endpoint.STARTTLS, Host: "::1"}, ""},
		{"imaps is implicit TLS", "imaps://localhost:1993", endpoint.IMAP, endpoint.Address{Protocol: endpoint.IMAP, Security: endpoint.TLS, Host: "localhost", Port: 1993}, ""},
		{"submissions is implicit TLS", "submissions://127.0.0.1:1465", endpoint.SMTP, endpoint.Address{Protocol: endpoint.SMTP, Security: endpoint.TLS, Host: "127.0.0.1", Port: 1465}, ""},
		{"an upstream notation is told what to write", "imap://127.0.0.1:1", endpoint.IMAP, endpoint.Address{}, "imaps://HOST:PORT"},
		{"the other protocol's notation is refused", "submissions://127.0.0.1:1", endpoint.IMAP, endpoint.Address{}, "imaps://HOST:PORT"},
		{"a host alone is not enough", "127.0.0.1", endpoint.IMAP, endpoint.Address{}, "no port"},
		{"a path is refused", "127.0.0.1:1/x", endpoint.IMAP, endpoint.Address{}, "more than a host"},
		{"a bare IPv6 address is told about brackets", "::1:1143", endpoint.IMAP, endpoint.Address{}, "[::1]:PORT"},
		{"a port beyond 65535 is refused", "127.0.0.1:70000", endpoint.SMTP, endpoint.Address{}, "not a number"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := endpoint.ParseListen(tt.protocol, tt.in)
			checkErr(t, err, tt.err)
			if got != tt.want {
				t.Errorf("ParseListen(%q) = %+v, want %+v", tt.in, got, tt.want)
			}
		})
	}
}

func checkErr(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case err == nil && want == "":
	case err == nil || want == "" || !strings.Contains(err.Error(), want):
		t.Errorf("error is %v, want one about %q", err, want)
	}
}

func TestParseUpstream(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		protocol endpoint.Protocol
		security endpoint.Security
		hostport string
		err      string
	}{
		{"imaps has its port", "imaps://imap.example.org", endpoint.IMAP, endpoint.TLS, "imap.example.org:993", ""},
		{"imap demands STARTTLS", "imap://imap.example.org", endpoint.IMAP, endpoint.STARTTLS, "imap.example.org:143", ""},
		{"submissions has its port", "submissions://smtp.example.org", endpoint.SMTP, endpoint.TLS, "smtp.example.org:465", ""},
		{"submission demands STARTTLS", "submission://smtp.example.org:25", endpoint.SMTP, endpoint.STARTTLS, "smtp.example.org:25", ""},
		{"cleartext is for loopback", "smtp+insecure://127.0.0.1:2525", endpoint.SMTP, endpoint.Cleartext, "127.0.0.1:2525", ""},
		{"cleartext to IPv6 loopback", "imap+insecure://[::1]:2143", endpoint.IMAP, endpoint.Cleartext, "[::1]:2143", ""},
		{"cleartext elsewhere is refused", "imap+insecure://imap.example.org", endpoint.IMAP, "", "", "write imap://"},
		{"cleartext SMTP elsewhere is refused", "smtp+insecure://192.0.2.1:25", endpoint.SMTP, "", "", "write submission://"},
		{"a name that begins like loopback is not", "imap+insecure://127.0.0.1.example.org", endpoint.IMAP, "", "", "loopback addresses only"},
		{"no scheme is told the choices", "imap.example.org:993", endpoint.IMAP, "", "", "imaps://HOST"},
		{"the other protocol is told the choices", "submissions://h", endpoint.IMAP, "", "", "imaps://HOST"},
		{"a password in the URL is refused", "imaps://alice:secret@h", endpoint.IMAP, "", "", "more than a host"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := endpoint.ParseUpstream(tt.protocol, tt.in)
			checkErr(t, err, tt.err)
			if tt.err == "" && (got.Security != tt.security || got.HostPort() != tt.hostport) {
				t.Errorf("ParseUpstream(%q) = %s %s, want %s %s", tt.in, got.Security, got.HostPort(), tt.security, tt.hostport)
			}
		})
	}
}

func TestListenerOffLoopbackMustBeAskedFor(t *testing.T) {
	for _, host := range []string{"", "0.0.0.0", "192.0.2.1", "::"} {
		a := endpoint.Address{Protocol: endpoint.IMAP, Security: endpoint.TLS, Host: host, Port: 1}
		if err := a.Check(false); !errors.Is(err, endpoint.ErrExposed) {
			t.Errorf("Check of %s is %v, want ErrExposed", a, err)
		}
		if err := a.Check(true); err != nil {
			t.Errorf("Check of %s with expose is %v", a, err)
		}
	}
	if err := (endpoint.Address{Host: "127.0.0.1"}).Check(false); err != nil {
		t.Error(err)
	}
}

func authority(t *testing.T, s store.Store, now time.Time) *endpoint.Authority {
	t.Helper()
	a, err := endpoint.OpenAuthority(t.Context(), s, now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func memory(t *testing.T) store.Store {
	t.Helper()
	s, err := store.OpenMemory(endpoint.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// serve greets whoever connects over TLS, and returns its port.
func serve(t *testing.T, config *tls.Config) int {
	t.Helper()
	plain, err := endpoint.Address{Protocol: endpoint.IMAP, Security: endpoint.TLS, Host: "127.0.0.1"}.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l := tls.NewListener(plain, config)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.WriteString(c, "hello"); c.Close() }()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

func TestDialVerifiesTheLocalAuthority(t *testing.T) {
	s := memory(t)
	a := authority(t, s, time.Now())
	port := serve(t, a.TLSConfig())
	u := endpoint.Upstream{Protocol: endpoint.IMAP, Security: endpoint.TLS, Host: "localhost", Port: port, Roots: a.Pool()}
	for _, host := range []string{"localhost", "127.0.0.1"} {
		u.Host = host
		c, err := u.Dial(t.Context())
		if err != nil {
			t.Fatalf("dialling %s: %v", host, err)
		}
		if b, _ := io.ReadAll(c); string(b) != "hello" {
			t.Errorf("got %q", b)
		}
		c.Close()
	}
	u.Roots = nil
	if _, err := u.Dial(t.Context()); err == nil {
		t.Error("an unknown authority was accepted")
	}
}

func TestAuthorityVouchesForLocalhostOnly(t *testing.T) {
	a := authority(t, memory(t), time.Now())
	leaf := a.TLSConfig().Certificates[0].Leaf
	if err := leaf.VerifyHostname("imap.example.org"); err == nil {
		t.Error("the localhost certificate is good for another name")
	}
	if got := a.Constraints(); got != "localhost 127.0.0.1/32 ::1/128" {
		t.Errorf("the authority may vouch for %q", got)
	}
}

func TestAuthorityIsKeptAndRenewed(t *testing.T) {
	s, now := memory(t), time.Now()
	first := authority(t, s, now)
	again := authority(t, s, now.Add(24*time.Hour))
	if string(first.PEM()) != string(again.PEM()) || !first.TLSConfig().Certificates[0].Leaf.Equal(again.TLSConfig().Certificates[0].Leaf) {
		t.Error("the authority changed within a day")
	}
	later := authority(t, s, now.Add(790*24*time.Hour))
	if string(first.PEM()) != string(later.PEM()) {
		t.Error("the authority changed where only its leaf had to")
	}
	if first.TLSConfig().Certificates[0].Leaf.Equal(later.TLSConfig().Certificates[0].Leaf) {
		t.Error("the localhost certificate was not renewed before its end")
	}
}

func TestPortInUseSaysSo(t *testing.T) {
	a := endpoint.Address{Protocol: endpoint.SMTP, Security: endpoint.STARTTLS, Host: "127.0.0.1"}
	l, err := a.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a.Port = l.Addr().(*net.TCPAddr).Port
	_, err = a.Listen(t.Context())
	checkErr(t, err, "in use by another program")
}

func TestCleartextDialRefusesANameThatLeadsElsewhere(t *testing.T) {
	u := endpoint.Upstream{Protocol: endpoint.SMTP, Security: endpoint.Cleartext, Host: "192.0.2.1", Port: 25, DialTimeout: time.Second}
	if _, err := u.Dial(t.Context()); !errors.Is(err, endpoint.ErrCleartext) {
		t.Errorf("dialling gave %v, want ErrCleartext", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u.Host, u.Port = "127.0.0.1", l.Addr().(*net.TCPAddr).Port
	c, err := u.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// A date that was wrong for a while costs nobody their mail once it is right again.
func TestAClockThatWasWrong(t *testing.T) {
	s, now := memory(t), time.Now()
	first := authority(t, s, now)
	for name, wrong := range map[string]time.Duration{"years ahead": 4 * 365 * 24 * time.Hour, "as after a start without a battery": -20 * 365 * 24 * time.Hour} {
		authority(t, s, now.Add(wrong))
		a := authority(t, s, now)
		if string(a.PEM()) != string(first.PEM()) {
			t.Errorf("%s: mail programs have to trust another authority", name)
		}
		if a.Begins().After(now) {
			t.Errorf("%s: what it vouches for is valid from %v on", name, a.Begins())
		}
		u := endpoint.Upstream{Protocol: endpoint.IMAP, Security: endpoint.TLS, Host: "localhost", Port: serve(t, a.TLSConfig()), Roots: a.Pool()}
		c, err := u.Dial(t.Context())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c.Close()
	}
}
