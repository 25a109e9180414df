package keydir_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

const advanced, direct = "openpgpkey.example.org", "example.org"

func status(code int) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(code) }
}

func body(contentType string, b []byte) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", contentType)
		rw.Write(b)
	}
}

func redirect(to string) http.HandlerFunc {
	return func(rw http.ResponseWriter, req *http.Request) { http.Redirect(rw, req, to, http.StatusFound) }
}

func dnsError(e net.DNSError) func() ([]netip.Addr, error) {
	return func() ([]netip.Addr, error) { return nil, &e }
}

// Each thing that a directory, or the network before it, may do, and what it
// counts as: invariant 1 of the design, line by line.
func TestOutcomes(t *testing.T) {
	k, other := key(t, bob), key(t, carol)
	secret := k.Marshal()
	cert := k.Certificate().Bytes()
	tests := []struct {
		name string
		set  func(w *world)
		want keydir.Outcome
		says string
	}{
		{"the advanced method has it", func(w *world) { w.web(advanced, advanced, body("application/octet-stream", cert)) }, keydir.Found, ""},
		{"an armored answer is read too", func(w *world) { w.web(advanced, advanced, body("text/plain", []byte(k.Certificate().Armored()))) }, keydir.Found, ""},
		{"an armored answer by the type of a web page too", func(w *world) { w.web(advanced, advanced, body("text/html", []byte(k.Certificate().Armored()))) }, keydir.Found, ""},
		{"the direct method has it where the advanced name does not exist", func(w *world) { w.web(direct, direct, body("application/octet-stream", cert)) }, keydir.Found, ""},
		{"the same host redirects", func(w *world) {
			w.web(advanced, advanced, func(rw http.ResponseWriter, req *http.Request) {
				if strings.HasPrefix(req.URL.Path, "/there") {
					rw.Write(cert)
					return
				}
				http.Redirect(rw, req, "/there", http.StatusMovedPermanently)
			})
		}, keydir.Found, ""},

		{"404 over verified TLS", func(w *world) { w.web(advanced, advanced, status(404)) }, keydir.Absent, "404"},
		{"410 over verified TLS", func(w *world) { w.web(advanced, advanced, status(410)) }, keydir.Absent, "410"},
		{"404 of the advanced method settles it though the direct one has it", func(w *world) {
			w.web(advanced, advanced, status(404))
			w.web(direct, direct, body("application/octet-stream", cert))
		}, keydir.Absent, "404"},
		{"404 of the direct method", func(w *world) { w.web(direct, direct, status(404)) }, keydir.Absent, "404"},
		{"NXDOMAIN for both names", func(w *world) {}, keydir.Absent, "DNS has no address"},
		{"NODATA for both names", func(w *world) {
			w.resolve(advanced)
			w.name(advanced, dnsError(net.DNSError{Err: "no such host", IsNotFound: true}))
		}, keydir.Absent, "DNS has no address"},

		{"the advanced host refuses", func(w *world) { w.refuse(advanced) }, keydir.NoDirectory, "refuses"},
		{"the advanced host refuses though the direct one has it", func(w *world) {
			w.refuse(advanced)
			w.web(direct, direct, body("application/octet-stream", cert))
		}, keydir.NoDirectory, "refuses"},
		{"the direct host refuses", func(w *world) { w.refuse(direct) }, keydir.NoDirectory, "refuses"},
		{"the host has another name", func(w *world) { w.web(advanced, "hosting.example", status(404)) }, keydir.NoDirectory, "another name"},
		{"the host has another name and nobody knows its authority", func(w *world) {
			w.serve(advanced, newAuthority(w.t).issue("hosting.example", start), status(404))
		}, keydir.NoDirectory, "another name"},
		{"the host has another name and expired", func(w *world) {
			w.serve(advanced, w.ca.issue("hosting.example", time.Time{}), status(404))
		}, keydir.NoDirectory, "another name"},
		{"the host knows no such name", func(w *world) {
			w.listen(advanced, raw(func(c net.Conn) { c.Write([]byte{21, 3, 3, 0, 2, 2, 112}) }))
		}, keydir.NoDirectory, "no TLS certificate of its own"},
		{"the host redirects away", func(w *world) { w.web(advanced, advanced, redirect("https://www.example.org/")) }, keydir.NoDirectory, "redirects"},
		{"the host redirects to cleartext", func(w *world) { w.web(advanced, advanced, redirect("http://openpgpkey.example.org/x")) }, keydir.NoDirectory, "redirects"},
		{"the host redirects to another port", func(w *world) { w.web(advanced, advanced, redirect("https://openpgpkey.example.org:8443/x")) }, keydir.NoDirectory, "redirects"},
		{"the host redirects into the cloud's metadata", func(w *world) { w.web(advanced, advanced, redirect("http://169.254.169.254/latest/")) }, keydir.NoDirectory, "redirects"},
		{"the web server forbids", func(w *world) { w.web(direct, direct, status(403)) }, keydir.NoDirectory, "403"},
		{"the web server has a page for everything", func(w *world) { w.web(direct, direct, body("text/html", []byte("<!doctype html><p>hello"))) }, keydir.NoDirectory, "web page"},
		{"the web page has no type", func(w *world) { w.web(direct, direct, body("", []byte("\ufeff\n <html>"))) }, keydir.NoDirectory, "web page"},
		{"the web page is longer than an answer may be", func(w *world) {
			w.web(direct, direct, body("text/html", []byte(strings.Repeat("page ", 64<<10))))
		}, keydir.NoDirectory, "web page"},

		{"SERVFAIL", func(w *world) {
			w.name(advanced, dnsError(net.DNSError{Err: "server misbehaving", IsTemporary: true}))
		}, keydir.Unavailable, "could not be resolved"},
		{"DNS times out", func(w *world) { w.name(advanced, dnsError(net.DNSError{Err: "i/o timeout", IsTimeout: true})) }, keydir.Unavailable, "could not be resolved"},
		{"not found, but only for now", func(w *world) {
			w.name(advanced, dnsError(net.DNSError{Err: "?", IsNotFound: true, IsTemporary: true}))
		}, keydir.Unavailable, "could not be resolved"},
		{"SERVFAIL for the direct name", func(w *world) {
			w.name(direct, dnsError(net.DNSError{Err: "server misbehaving", IsTemporary: true}))
		}, keydir.Unavailable, "could not be resolved"},
		{"the network is unreachable", func(w *world) { w.resolve(advanced, "198.51.100.9") }, keydir.Unavailable, "failed"},
		{"one address refuses, another can't be reached", func(w *world) {
			w.refuse(advanced)
			w.resolve(advanced, "203.0.113.1", "198.51.100.9")
		}, keydir.Unavailable, "failed"},
		{"one address refuses, to another there is no route", func(w *world) {
			w.refuse(advanced)
			w.resolve(advanced, "198.51.100.99", "203.0.113.1")
		}, keydir.NoDirectory, "refuses"},
		{"no route to any", func(w *world) { w.resolve(advanced, "198.51.100.99") }, keydir.Unavailable, "failed"},
		{"500", func(w *world) { w.web(advanced, advanced, status(500)) }, keydir.Unavailable, "500"},
		{"503", func(w *world) { w.web(advanced, advanced, status(503)) }, keydir.Unavailable, "503"},
		{"429 says not now", func(w *world) { w.web(advanced, advanced, status(429)) }, keydir.Unavailable, "429"},
		{"204 says nothing", func(w *world) { w.web(advanced, advanced, status(204)) }, keydir.Unavailable, "204"},
		{"304 says nothing", func(w *world) { w.web(advanced, advanced, status(304)) }, keydir.Unavailable, "304"},
		{"the host redirects in circles", func(w *world) { w.web(advanced, advanced, redirect("/again")) }, keydir.Unavailable, "circles"},
		{"nobody knows the authority", func(w *world) {
			w.serve(advanced, newAuthority(w.t).issue(advanced, start), status(404))
		}, keydir.Unavailable, "verified"},
		{"the TLS certificate expired", func(w *world) { w.serve(advanced, w.ca.issue(advanced, time.Time{}), status(404)) }, keydir.Unavailable, "verified"},
		{"the handshake fails", func(w *world) {
			w.listen(advanced, raw(func(c net.Conn) { c.Write([]byte{21, 3, 3, 0, 2, 2, 40}) }))
		}, keydir.Unavailable, "failed"},
		{"no TLS at all", func(w *world) {
			w.listen(advanced, raw(func(c net.Conn) { io.WriteString(c, "HTTP/1.1 404 Not Found\r\n\r\n") }))
		}, keydir.Unavailable, "failed"},
		{"the connection is closed at once", func(w *world) { w.listen(advanced, raw(func(net.Conn) {})) }, keydir.Unavailable, "failed"},
		{"the host says nothing", func(w *world) { w.listen(advanced, raw(func(c net.Conn) { io.Copy(io.Discard, c) })) }, keydir.Unavailable, "in time"},
		{"the answer never ends", func(w *world) {
			w.web(advanced, advanced, func(rw http.ResponseWriter, req *http.Request) {
				rw.Write(cert[:10])
				rw.(http.Flusher).Flush()
				<-req.Context().Done()
			})
		}, keydir.Unavailable, ""},
		{"the answer breaks off", func(w *world) {
			w.web(advanced, advanced, func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Content-Length", "9999")
				rw.Write(cert)
			})
		}, keydir.Unavailable, "broke off"},
		{"the answer is too long", func(w *world) { w.web(advanced, advanced, body("", append([]byte(nil), make([]byte, 65<<10)...))) }, keydir.Unavailable, "longer"},
		{"the header is too long", func(w *world) {
			w.web(advanced, advanced, func(rw http.ResponseWriter, _ *http.Request) { rw.Header().Set("X-A", strings.Repeat("a", 20<<10)) })
		}, keydir.Unavailable, "failed"},
		{"the answer is compressed", func(w *world) {
			w.web(advanced, advanced, func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Content-Encoding", "gzip")
				rw.Write(cert)
			})
		}, keydir.Unavailable, "compressed"},
		{"the answer is empty", func(w *world) { w.web(advanced, advanced, status(200)) }, keydir.Unavailable, "empty"},
		{"the answer is rubbish", func(w *world) { w.web(advanced, advanced, body("", []byte("key not found"))) }, keydir.Unavailable, "no OpenPGP"},
		{"the certificate is cut short", func(w *world) { w.web(advanced, advanced, body("", cert[:len(cert)/8])) }, keydir.Unavailable, "no OpenPGP"},
		{"the certificate is another's", func(w *world) { w.web(advanced, advanced, body("", other.Certificate().Bytes())) }, keydir.Unavailable, "other addresses"},
		{"the answer is a secret key", func(w *world) { w.web(advanced, advanced, body("", secret)) }, keydir.Unavailable, "secret key"},
		{"the answer has too many certificates", func(w *world) {
			w.web(advanced, advanced, body("", many(t, 5)))
		}, keydir.Unavailable, "5 certificates"},

		{"the name is our own loopback", func(w *world) { w.resolve(advanced, "127.0.0.1") }, keydir.Unavailable, "not public"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(c *keydir.Config) {
				if tt.name == "the host says nothing" || tt.name == "the answer never ends" { // else who is slow is not late
					c.Network.Timeout = time.Second
				}
			})
			tt.set(w)
			f := w.find(bob)
			if f.Outcome != tt.want {
				t.Errorf("outcome %q (%s), want %q", f.Outcome, f.Detail, tt.want)
			}
			if !strings.Contains(f.Detail, tt.says) {
				t.Errorf("detail %q does not say %q", f.Detail, tt.says)
			}
			if f.Outcome == keydir.Found && (f.Identity != pgp.Directory || f.Certificates[0].Fingerprint() != k.Fingerprint()) {
				t.Errorf("identity %q, certificate %s", f.Identity, f.Certificates[0].Fingerprint())
			}
			if len(f.Attempts) == 0 {
				t.Error("no attempt told")
			}
			for _, host := range w.lookedUp() {
				if !strings.HasSuffix(host, ".example.org.") && host != "example.org." {
					t.Errorf("%q was looked up", host)
				}
			}
		})
	}
}

// raw answers each connection once.
func raw(answer func(net.Conn)) func(net.Listener) {
	return func(l net.Listener) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			hello := make([]byte, 5)
			io.ReadFull(c, hello)
			io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint16(hello[3:])))
			answer(c)
			c.Close()
		}
	}
}

func many(t *testing.T, n int) (b []byte) {
	for range n {
		b = append(b, key(t, bob).Certificate().Bytes()...)
	}
	return b
}

// A domain that was seen with a directory has one: what else would count as none
// is then only a directory that can't be reached.
func TestNoDirectoryCountsOnlyWhereNoneWasSeen(t *testing.T) {
	for name, fault := range map[string]func(w *world){
		"refuses":        func(w *world) { w.refuse(advanced) },
		"wrong name":     func(w *world) { w.web(advanced, "hosting.example", status(404)) },
		"redirects away": func(w *world) { w.web(advanced, advanced, redirect("https://else.example/")) },
		"web page":       func(w *world) { w.web(advanced, advanced, body("text/html", []byte("<html>"))) },
		"forbids":        func(w *world) { w.web(advanced, advanced, status(403)) },
	} {
		for seen, before := range map[string]func(w *world){
			"with a certificate": func(w *world) { w.web(advanced, advanced, body("", key(t, bob).Certificate().Bytes())) },
			"with a 404":         func(w *world) { w.web(advanced, advanced, status(404)) },
		} {
			t.Run(name+" after it was seen "+seen, func(t *testing.T) {
				w := newWorld(t)
				before(w)
				w.find(bob)
				fault(w)
				w.open()
				if f := w.finds("another address of the domain", carol, keydir.Unavailable, "", pgp.Unknown); !strings.Contains(f.Detail, "before") {
					t.Errorf("detail %q", f.Detail)
				}
			})
		}
	}
}

func TestRequest(t *testing.T) {
	w := newWorld(t)
	d := w.directory()
	d.set(404)
	joe := bob
	joe.Local = "Joe.Doe" // the draft's example
	w.find(joe)
	req := w.requests()[0]
	if got, want := req.URL.String(), "/.well-known/openpgpkey/example.org/hu/iy9q119eutrkn8s1mk4r39qejnbu3n5q?l=Joe.Doe"; got != want {
		t.Errorf("path %q, want %q", got, want)
	}
	if len(req.Header) != 2 || req.Header.Get("User-Agent") != "letterlock" || req.Header.Get("Connection") != "close" || req.Host != advanced {
		t.Errorf("host %q, header %v: want nothing but User-Agent and Connection", req.Host, req.Header)
	}
}

// What resolves to our own network is not asked, by whatever spelling.
func TestAddressesThatAreNotPublic(t *testing.T) {
	for _, ip := range []string{"127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
		"255.255.255.255", "198.18.0.1", "192.0.0.8", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
		"100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b::a00:1", "64:ff9b::",
		"2001:0:cb00:7101::1", "2002:a00:1::1", "::10.0.0.1", "fe80::a9fe:a9fe%eth0", "ff0e::1", "240.0.0.1", "0.1.2.3",
		"::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::", "2001::1", "fec0::1", "::ffff:0:127.0.0.1", "fe80::1%lo"} {
		w := newWorld(t)
		w.resolve(advanced, "198.51.100.1", ip) // a public one first doesn't help
		w.finds(ip, bob, keydir.Unavailable, "", pgp.Unknown)
		if len(w.connectedTo()) > 0 {
			t.Errorf("%s: dialed %s", ip, w.connectedTo())
		}
	}
}

// A network of IPv6 alone reaches public directories of IPv4.
func TestAddressesBehindNAT64(t *testing.T) {
	if err := keydir.CheckControl("tcp", "[64:ff9b::203.0.113.1]:443", nil); err != nil {
		t.Error(err)
	}
}

// A name that is public when it is checked and ours when it is connected to
// gains nothing: it is resolved once. The real dialer looks again all the same.
func TestRebinding(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	reached := make(chan struct{}, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			c.Close()
			reached <- struct{}{}
		}
	}()
	w := newWorld(t)
	answers := []string{"203.0.113.77", "127.0.0.1", "127.0.0.1"}
	w.name(advanced, func() ([]netip.Addr, error) {
		a := answers[0]
		answers = answers[1:]
		return []netip.Addr{netip.MustParseAddr(a)}, nil
	})
	w.finds("rebound", bob, keydir.Unavailable, "", pgp.Unknown)
	if len(answers) != 2 || len(w.connectedTo()) != 1 || w.connectedTo()[0] != "203.0.113.77:443" {
		t.Errorf("resolved %d times, dialed %s: want once, the address that was checked", 3-len(answers), w.connectedTo())
	}
	if err := keydir.CheckControl("tcp", l.Addr().String(), nil); err == nil {
		t.Error("the dialer's own check lets loopback pass")
	}
	if err := keydir.CheckControl("tcp", "203.0.113.1:443", nil); err != nil {
		t.Errorf("the dialer's own check: %v", err)
	}
	if err := keydir.CheckControl("unix", "/run/x", nil); err == nil {
		t.Error("the dialer's own check lets what is no address pass")
	}
	select {
	case <-reached:
		t.Error("loopback was connected to")
	default:
	}
}

func TestNoLookupForAddressLiterals(t *testing.T) {
	w := newWorld(t)
	for _, domain := range []string{"[192.0.2.1]", "[IPv6:2001:db8::1]", "192.0.2.1"} {
		a := bob
		a.Domain = domain
		w.finds(domain, a, keydir.NoDirectory, "", pgp.Unknown)
	}
	if len(w.lookedUp())+len(w.connectedTo()) > 0 {
		t.Errorf("looked up %s, dialed %s", w.lookedUp(), w.connectedTo())
	}
}

func TestOverride(t *testing.T) {
	k := key(t, bob)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if strings.HasPrefix(req.URL.Path, "/base/.well-known/openpgpkey/example.org/hu/") {
			rw.Write(k.Certificate().Bytes())
			return
		}
		http.NotFound(rw, req)
	})}
	go s.Serve(l)
	w := newWorld(t, func(c *keydir.Config) {
		c.Override = map[string]string{"Example.ORG": "http://" + l.Addr().String() + "/base/"}
	})
	w.finds("asked at the override", bob, keydir.Found, "", pgp.Directory, k)
	s.Close()
	if len(w.lookedUp()) > 0 {
		t.Errorf("looked up %s", w.lookedUp())
	}
	w = newWorld(t, func(c *keydir.Config) { c.Override = map[string]string{"example.org": "http://" + l.Addr().String()} })
	w.finds("an override is a directory, though it always refused", bob, keydir.Unavailable, "", pgp.Unknown)
	if len(w.lookedUp()) > 0 {
		t.Errorf("looked up %s", w.lookedUp())
	}
}

func TestConfig(t *testing.T) {
	_, err := keydir.New(keydir.Config{
		Discovery: keydir.Discovery{Sources: []string{"wkd", "pigeon"},
			Proxy:    "http://127.0.0.1:8080",
			Override: map[string]string{"a.example": "http://directory.a.example", "b.example": "ftp://x", "c.example": "https://u:p@x/", "no domain": "https://x", "d.example": "https://ok.example"}},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"no store", `"pigeon" is not known`, "write socks5://", "http://directory.a.example for a.example", "for b.example", "for c.example is no base URL", `"no domain" is no domain`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "d.example") || strings.Contains(err.Error(), "u:p") {
		t.Errorf("%v", err)
	}
}

// Over a proxy nothing tells that a name doesn't exist.
func TestProxy(t *testing.T) {
	k := key(t, bob)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := newWorld(t, func(c *keydir.Config) { c.Proxy = "socks5://" + l.Addr().String() })
	go socks(l, w)
	w.finds("no host connects", bob, keydir.Unavailable, "", pgp.Unknown)
	w.web(direct, direct, status(404))
	w.pass(time.Hour)
	w.finds("the direct method's 404 leaves the advanced one open", bob, keydir.Unavailable, "", pgp.Unknown)
	w.web(direct, direct, body("", k.Certificate().Bytes()))
	w.pass(time.Hour)
	w.finds("the direct method's certificate counts", bob, keydir.Found, "", pgp.Directory, k)
	w.web(advanced, advanced, status(404))
	w.finds("the advanced method's 404 counts", carol, keydir.Absent, "", pgp.Unknown)
	if len(w.lookedUp()) > 0 {
		t.Errorf("resolved %s beside the proxy", w.lookedUp())
	}
}

// Over Tor, which resolves, a domain without openpgpkey is one without directory
// where its own host has none either, as long as it was never seen with one.
func TestProxyThatResolves(t *testing.T) {
	k := key(t, bob)
	over := func(tor bool) *world {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		w := newWorld(t, func(c *keydir.Config) { c.Proxy = "socks5://" + l.Addr().String() })
		w.tor = tor
		go socks(l, w)
		return w
	}
	servfail := dnsError(net.DNSError{Err: "server misbehaving", IsTemporary: true})
	for _, tt := range []struct {
		name string
		tor  bool
		set  func(w *world)
		want keydir.Outcome
	}{
		{"no openpgpkey, and the domain's host has nothing", true, func(w *world) { w.web(direct, direct, status(404)) }, keydir.NoDirectory},
		{"no openpgpkey, and the domain's host has another name", true, func(w *world) { w.web(direct, "hosting.example", status(404)) }, keydir.NoDirectory},
		{"no openpgpkey, and the domain's host has it", true, func(w *world) { w.web(direct, direct, body("", k.Certificate().Bytes())) }, keydir.Found},
		{"no openpgpkey, and the domain's host is broken", true, func(w *world) { w.web(direct, direct, status(503)) }, keydir.Unavailable},
		{"openpgpkey is there, but down", true, func(w *world) {
			w.lead(advanced, "127.0.0.1:1")
			w.web(direct, direct, status(404))
		}, keydir.Unavailable},
		{"neither resolves, perhaps since DNS is down", true, func(w *world) { w.name(direct, servfail); w.name(advanced, servfail) }, keydir.Unavailable},
		{"no name exists, which it can't tell", true, func(w *world) {}, keydir.Unavailable},
		{"a proxy that doesn't resolve", false, func(w *world) { w.web(direct, direct, status(404)) }, keydir.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := over(tt.tor)
			tt.set(w)
			if f := w.find(bob); f.Outcome != tt.want {
				t.Errorf("%q (%s), want %q", f.Outcome, f.Detail, tt.want)
			}
		})
	}
	w := over(true)
	w.web(advanced, advanced, status(404))
	w.finds("seen with a directory", carol, keydir.Absent, "", pgp.Unknown)
	w.name(advanced, nil)
	w.web(direct, direct, status(404))
	w.finds("whose name doesn't resolve any more", bob, keydir.Unavailable, "", pgp.Unknown)
}

// An override elsewhere goes through the proxy too: every look-up does.
func TestOverrideThroughProxy(t *testing.T) {
	k := key(t, bob)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := newWorld(t, func(c *keydir.Config) {
		c.Proxy, c.Override = "socks5://"+l.Addr().String(), map[string]string{"example.org": "https://keys.example"}
	})
	go socks(l, w)
	w.web("keys.example", "keys.example", body("", k.Certificate().Bytes()))
	w.finds("found", bob, keydir.Found, "", pgp.Directory, k)
}

// socks is a SOCKS5 proxy into w (RFC 1928).
func socks(l net.Listener, w *world) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			b := make([]byte, 260)
			io.ReadFull(c, b[:2])
			io.ReadFull(c, b[2:2+b[1]])
			c.Write([]byte{5, 0})
			io.ReadFull(c, b[:5])
			n, command := int(b[4]), b[1]
			io.ReadFull(c, b[:n+2])
			w.mu.Lock()
			f := w.names[string(b[:n])]
			w.mu.Unlock()
			if command == 0xf0 {
				c.Write([]byte{5, w.resolveReply(f), 0, 1, 203, 0, 113, 1, 0, 0})
				return
			}
			if b[3] == 1 || f == nil {
				c.Write([]byte{5, 4, 0, 1, 0, 0, 0, 0, 0, 0})
				return
			}
			ips, err := f()
			if err != nil {
				c.Write([]byte{5, 4, 0, 1, 0, 0, 0, 0, 0, 0})
				return
			}
			up, err := w.dial(context.Background(), "tcp", ips[0].String()+":443")
			if err != nil {
				c.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
				return
			}
			defer up.Close()
			c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
			go io.Copy(up, c)
			io.Copy(c, up)
		}()
	}
}

// TestTimePassesWhileADirectoryIsAsked: what it said a moment after somebody
// began to look is its word, not that of a clock that was set back since.
func TestTimePassesWhileADirectoryIsAsked(t *testing.T) {
	w := newWorld(t)
	w.tick = 50 * time.Millisecond
	d := w.directory()
	d.set(404)
	if f := w.find(carol); f.Outcome != keydir.Absent {
		t.Errorf("first asked: %q (%s), want absent", f.Outcome, f.Detail)
	}
	if f := w.find(carol); f.Outcome != keydir.Absent {
		t.Errorf("asked again: %q (%s), want absent", f.Outcome, f.Detail)
	}
	if n := d.requests(); n != 1 {
		t.Errorf("the directory was asked %d times, want 1", n)
	}
}
