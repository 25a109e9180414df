package server_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"letterlock.org/letterlock/keydir/server"
)

// A proxy before us and we must not see different requests in the same bytes: of
// what can be read in two ways nothing behind the first request is answered.
func TestRequestsAreNotSmuggled(t *testing.T) {
	d, _ := directory(t)
	add(t, d, "joe.doe@example.org")
	other := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "other %s %s %d", r.Method, r.URL.Path, len(b))
	})
	at := serving(t, handler(d), other)
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
	for _, path := range []string{"/a", "/.well-known/openpgpkey/example.org/hu/" + joe} {
		for _, tt := range []struct{ name, fields, body string }{
			{"a length and chunks", "Host: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"},
			{"two lengths", "Host: h\r\nContent-Length: 0\r\nContent-Length: 37", ""},
			{"two lengths in one field", "Host: h\r\nContent-Length: 0, 37", ""},
			{"a length with a sign", "Host: h\r\nContent-Length: +0", ""},
			{"a length in hex", "Host: h\r\nContent-Length: 0x0", ""},
			{"a negative length", "Host: h\r\nContent-Length: -1", ""},
			{"a blank before the colon of a length", "Host: h\r\nContent-Length : 0", ""},
			{"a blank before the colon of chunks", "Host: h\r\nTransfer-Encoding : chunked", "0\r\n\r\n"},
			{"another coding", "Host: h\r\nTransfer-Encoding: xchunked", "0\r\n\r\n"},
			{"chunks that are not the last coding", "Host: h\r\nTransfer-Encoding: chunked, identity", "0\r\n\r\n"},
			{"two codings in two fields", "Host: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n"},
			{"no coding and a length", "Host: h\r\nTransfer-Encoding: identity\r\nContent-Length: 0", ""},
			{"a bare carriage return", "Host: h\r\nX: y\rContent-Length: 0", ""},
			{"a chunk's size ended by a line feed", "Host: h\r\nTransfer-Encoding: chunked", "0\n\r\n"},
			{"a chunk's size with a sign", "Host: h\r\nTransfer-Encoding: chunked", "-0\r\n\r\n"},
			{"a chunk's size that overflows", "Host: h\r\nTransfer-Encoding: chunked", "100000000000000000000\r\n\r\n"},
			{"a chunk longer than its size", "Host: h\r\nTransfer-Encoding: chunked", "3\r\nabcd\r\n0\r\n\r\n"},
			{"a Host in the trailer", "Host: h\r\nTransfer-Encoding: chunked", "0\r\nHost: evil\r\n\r\n"},
			{"no Host", "X: y", ""},
			{"two Hosts", "Host: h\r\nHost: g", ""},
			{"two Hosts in one field", "Host: h, g", ""},
			{"a path in Host", "Host: h/../x", ""},
			{"a NUL in a name", "Host: h\r\nX\x00Y: z", ""},
			{"a field without a name", "Host: h\r\n: z", ""},
			{"a line without a colon", "Host: h\r\nnocolon", ""},
		} {
			got := raw(t, at, "POST "+path+" HTTP/1.1\r\n"+tt.fields+"\r\n\r\n"+tt.body+smuggled)
			if strings.Contains(got, "/smuggled") || strings.Count(got, "HTTP/1.1 ") > 1 {
				t.Errorf("%s at %s: answered %q", tt.name, path, got)
			}
		}
	}
	for _, line := range []string{"GET  /a HTTP/1.1", "GET\t/a HTTP/1.1", "GET /a HTTP/1.1 x", "GET /a", "PRI * HTTP/2.0", "G\x00T /a HTTP/1.1", "GET /a\x00 HTTP/1.1", "GET /a b HTTP/1.1"} {
		if got := raw(t, at, line+"\r\nHost: h\r\n\r\n"+smuggled); strings.Contains(got, "/smuggled") || strings.Contains(got, " 200 ") {
			t.Errorf("%q: answered %q", line, got)
		}
	}
	// What can be read in one way is: pipelined requests, a body that is not asked for.
	two := "GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc" + smuggled
	if got := raw(t, at, two+strings.Replace(smuggled, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1)); strings.Count(got, "HTTP/1.1 200") != 3 {
		t.Errorf("three requests at once: %q", got)
	}
}

// raw is what is answered to bytes, until the server closes or says no more.
func raw(t testing.TB, at, b string) string {
	t.Helper()
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, b); err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Minute))
	got, _ := io.ReadAll(c)
	return string(got)
}

// Who sends a request slowly is sent away, whatever part of it is slow.
func TestSlowClientsAreSentAway(t *testing.T) {
	d, _ := directory(t)
	h := handler(d)
	h.SetPatience(300 * time.Millisecond)
	at := serving(t, h, nil)
	var all sync.WaitGroup
	for name, drip := range map[string][2]string{
		"the first line": {"", "GET /" + strings.Repeat("a", 4000)},
		"a field":        {"GET / HTTP/1.1\r\nHost: h\r\n", "X: " + strings.Repeat("a", 4000)},
		"fields":         {"GET / HTTP/1.1\r\nHost: h\r\n", strings.Repeat("X: a\r\n", 1000)},
		"a body":         {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4000\r\n\r\n", strings.Repeat("a", 4000)},
		"chunks":         {"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", strings.Repeat("1\r\na\r\n", 1000)},
		"nothing":        {"", ""},
	} {
		all.Go(func() {
			c, err := net.Dial("tcp", at)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, err = io.WriteString(c, drip[0])
			ended := make(chan struct{})
			go func() { _, _ = io.Copy(io.Discard, c); close(ended) }()
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			late := time.After(2 * time.Minute)
			for i := 0; err == nil; i++ {
				select {
				case <-ended:
					return
				case <-late:
					t.Errorf("%s: the connection is open still", name)
					return
				case <-tick.C:
				}
				if i < len(drip[1]) {
					_, err = io.WriteString(c, drip[1][i:i+1])
				}
			}
		})
	}
	all.Wait()
}

// strangers is a listener whose clients come from elsewhere.
type strangers struct {
	net.Listener
	from func() string
}

func (l strangers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	a, err := net.ResolveTCPAddr("tcp", l.from())
	return stranger{c, a}, err
}

type stranger struct {
	net.Conn
	at net.Addr
}

func (c stranger) RemoteAddr() net.Addr { return c.at }

// One client doesn't take all connections, and gives back what it had.
func TestConnectionsOfOneClientAreBounded(t *testing.T) {
	d, _ := directory(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	from := ""
	at := servingOn(t, handler(d), strangers{l, func() string { mu.Lock(); defer mu.Unlock(); return from }})
	// open keeps n connections, and tells how many of them are answered.
	open := func(client string, n int) (conns []net.Conn, answered int) {
		mu.Lock()
		from = client
		mu.Unlock()
		for range n {
			c, err := net.Dial("tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
			_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
			_, _ = io.WriteString(c, "GET /.well-known/openpgpkey/policy HTTP/1.1\r\nHost: example.org\r\n\r\n")
			if n, _ := c.Read(make([]byte, 12)); n > 0 {
				answered++
			}
		}
		return conns, answered
	}
	greedy, n := open("198.51.100.1:1", server.MaxClientConnections+20)
	if n != server.MaxClientConnections {
		t.Errorf("%d connections of one client were served, want %d", n, server.MaxClientConnections)
	}
	for _, other := range []string{"198.51.100.2:1", "[2001:db8::1]:1", "127.0.0.1:1"} {
		c, n := open(other, 1)
		if n != 1 {
			t.Errorf("%s is not served", other)
		}
		c[0].Close()
	}
	for _, c := range greedy {
		c.Close()
	}
	for try := 0; ; try++ { // the server sees their end when it sees it
		c, n := open("198.51.100.1:1", 1)
		c[0].Close()
		if n == 1 {
			break
		}
		if try == 20_000 {
			t.Fatal("what was closed counts still")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// What can be asked for by no whole address, fingerprint or key ID is not found:
// nobody is listed by parts.
func TestNobodyIsListed(t *testing.T) {
	d, _ := directory(t)
	add(t, d, "joe.doe@example.org")
	f := string(served(t, d)[0].Fingerprint())
	h := server.New(server.Config{Directory: d, Domains: []string{"example.org"}, Now: d.Now, Rate: 1e6})
	ask := func(path string) (int, string) {
		r := httptest.NewRequest("GET", "http://example.org"+path, nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	if status, _ := ask("/pks/lookup?op=index&search=0x" + f); status != 200 {
		t.Fatalf("by fingerprint: %d", status)
	}
	for _, search := range []string{"doe", "joe", "example.org", "@example.org", "*", "%25", "%2A@example.org", "joe.doe@example.or", "<joe.doe@example.org", "joe.doe@",
		"0x", "0x" + f[32:], "0x" + f[:16], "0x" + f[:39], f, "=joe.doe@example.org", "joe.doe@example.org joe", ".", "joe.doe%00@example.org"} {
		for _, path := range []string{"/pks/lookup?op=get&search=", "/pks/lookup?op=index&search=", "/pks/lookup?op=vindex&options=mr&search=", "/vks/v1/by-email/", "/vks/v1/by-keyid/", "/vks/v1/by-fingerprint/"} {
			if path == "/vks/v1/by-fingerprint/" && search == f {
				continue
			}
			if status, text := ask(path + strings.ReplaceAll(search, " ", "%20")); status == 200 {
				t.Errorf("%s%s: %d %.80q", path, search, status, text)
			}
		}
	}
	for _, path := range []string{"/.well-known/openpgpkey/example.org/hu/", "/.well-known/openpgpkey/example.org/hu", "/.well-known/openpgpkey/", "/.well-known/openpgpkey/example.org/",
		"/pks/lookup?op=stats", "/pks/lookup?op=index&search=", "/vks/v1/", "/pks/hashquery"} {
		if status, text := ask(path); status == 200 {
			t.Errorf("%s: %d %.80q", path, status, text)
		}
	}
}
