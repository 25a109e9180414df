package server_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/keydir/server"
)

// serving starts the fast engine.
func serving(t testing.TB, h *server.Handler, other http.Handler) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return servingAt(t, h, other, l)
}

// servingOn serves at a listener of its own.
func servingOn(t testing.TB, h *server.Handler, l net.Listener) (addr string) {
	t.Helper()
	return servingAt(t, h, nil, l)
}

func servingAt(t testing.TB, h *server.Handler, other http.Handler, l net.Listener) (addr string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Serve(ctx, l, other, time.Second) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error("Serve:", err)
		}
	})
	return l.Addr().String()
}

// exchange sends raw bytes and reads one response.
func exchange(t testing.TB, addr, method, raw string) (*http.Response, string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	io.WriteString(c, raw)
	r, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	b, _ := io.ReadAll(r.Body)
	return r, string(b)
}

func TestBothEnginesAnswerAlike(t *testing.T) {
	d, _ := directory(t)
	c := add(t, d, "Joe.Doe@example.org")
	h := handler(d)
	fast := serving(t, h, nil)
	slow, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go srv.Serve(slow)
	t.Cleanup(func() { srv.Close() })
	_, body := exchange(t, fast, "GET", "GET /.well-known/openpgpkey/hu/"+joe+" HTTP/1.1\r\nHost: example.org\r\n\r\n")
	if body != string(c.Bytes()) {
		t.Fatalf("another body than the certificate: %q", body)
	}
	etag := func() string {
		r, _ := exchange(t, fast, "GET", "GET /.well-known/openpgpkey/hu/"+joe+" HTTP/1.1\r\nHost: example.org\r\n\r\n")
		return r.Header.Get("ETag")
	}()
	for _, tt := range []struct{ name, method, target, host, field string }{
		{"a certificate", "GET", "/.well-known/openpgpkey/hu/" + joe + "?l=Joe.Doe", "example.org", ""},
		{"HEAD of it", "HEAD", "/.well-known/openpgpkey/hu/" + joe, "example.org", ""},
		{"the advanced method", "GET", "/.well-known/openpgpkey/example.org/hu/" + joe, "h", ""},
		{"not modified", "GET", "/.well-known/openpgpkey/hu/" + joe, "example.org", "If-None-Match: " + etag + "\r\n"},
		{"an older one", "GET", "/.well-known/openpgpkey/hu/" + joe, "example.org", "If-None-Match: \"x\"\r\n"},
		{"several tags", "GET", "/.well-known/openpgpkey/hu/" + joe, "example.org", "If-None-Match: \"x\"\r\nIf-None-Match: W/" + etag + "\r\n"},
		{"the policy", "GET", "/.well-known/openpgpkey/policy", "example.org", ""},
		{"HEAD of the policy", "HEAD", "/.well-known/openpgpkey/policy", "example.org", ""},
		{"nobody", "GET", "/.well-known/openpgpkey/hu/" + keydir.WKDHash("nobody"), "example.org", ""},
		{"an l of somebody else", "GET", "/.well-known/openpgpkey/hu/" + joe + "?l=eve", "example.org", ""},
		{"a percent sign", "GET", "/.well-known/openpgpkey/hu/" + joe[:31] + "%0a", "example.org", ""},
		{"two dots", "GET", "/.well-known/openpgpkey/hu/../hu/" + joe, "example.org", ""},
		{"POST", "POST", "/.well-known/openpgpkey/hu/" + joe, "example.org", "Content-Length: 0\r\n"},
		{"another path", "GET", "/", "example.org", ""},
		{"a whole URL", "GET", "http://example.org/.well-known/openpgpkey/hu/" + joe, "other.example", ""},
		{"a whole URL of another host", "GET", "http://other.example/.well-known/openpgpkey/hu/" + joe, "example.org", ""},
		{"two slashes", "GET", "//.well-known/openpgpkey/hu/" + joe, "example.org", ""},
		{"an empty query", "GET", "/.well-known/openpgpkey/hu/" + joe + "?", "example.org", ""},
		{"a query in the query", "GET", "/.well-known/openpgpkey/hu/" + joe + "?l=joe.doe?l=eve", "example.org", ""},
		{"two l that fit", "GET", "/.well-known/openpgpkey/hu/" + joe + "?l=joe.doe&l=JOE.DOE", "example.org", ""},
		{"two l, one of somebody else", "GET", "/.well-known/openpgpkey/hu/" + joe + "?l=joe.doe&l=eve", "example.org", ""},
		{"a percent-encoded letter of the hash", "GET", "/.well-known/openpgpkey/hu/%69" + joe[1:], "example.org", ""},
		{"a percent-encoded slash", "GET", "/.well-known/openpgpkey/hu%2F" + joe, "example.org", ""},
		{"a percent-encoded domain", "GET", "/.well-known/openpgpkey/example%2Eorg/hu/" + joe, "h", ""},
		{"a hash in capitals", "GET", "/.well-known/openpgpkey/hu/" + strings.ToUpper(joe), "example.org", ""},
		{"something behind the hash", "GET", "/.well-known/openpgpkey/hu/" + joe + "/", "example.org", ""},
		{"a host with a port and a dot", "GET", "/.well-known/openpgpkey/hu/" + joe, "example.org.:8443", ""},
		{"a host in capitals", "GET", "/.well-known/openpgpkey/hu/" + joe, "EXAMPLE.ORG", ""},
		{"a part of a search by HKP", "GET", "/pks/lookup?op=index&search=doe", "example.org", ""},
		{"a search by HKP for everybody of a domain", "GET", "/pks/lookup?op=index&search=@example.org", "example.org", ""},
		{"a search by HKP with a wildcard", "GET", "/pks/lookup?op=index&search=*@example.org", "example.org", ""},
		{"VKS with an encoded address", "GET", "/vks/v1/by-email/joe.doe%40example.org", "example.org", ""},
		{"VKS with a slash", "GET", "/vks/v1/by-email/joe.doe%40example.org/", "example.org", ""},
	} {
		raw := tt.method + " " + tt.target + " HTTP/1.1\r\nHost: " + tt.host + "\r\n" + tt.field + "\r\n"
		show := func(addr string) string {
			r, b := exchange(t, addr, tt.method, raw)
			r.Header.Del("Date")
			return fmt.Sprint(r.StatusCode, r.Header, r.ContentLength, b)
		}
		if got, want := show(fast), show(slow.Addr().String()); got != want {
			t.Errorf("%s:\n got %.300q\nwant %.300q", tt.name, got, want)
		}
	}
}

func TestTheRestGoesToAnotherHandler(t *testing.T) {
	d, _ := directory(t)
	other := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "other ", r.URL.Path, r.FormValue("x")) })
	at := serving(t, handler(d), other)
	if _, b := exchange(t, at, "GET", "GET /other?x=y HTTP/1.1\r\nHost: h\r\n\r\n"); b != "other /othery" {
		t.Errorf("got %q", b)
	}
	if r, _ := exchange(t, at, "GET", "GET /.well-known/openpgpkey/policy HTTP/1.1\r\nHost: h\r\n\r\n"); r.StatusCode != 404 {
		t.Errorf("status %d", r.StatusCode)
	}
}

func TestHostileRequestsAreBounded(t *testing.T) {
	d, _ := directory(t)
	at := serving(t, handler(d), nil)
	for _, tt := range []struct{ name, raw string }{
		{"a long target", "GET /" + strings.Repeat("x", 1<<20) + " HTTP/1.1\r\n\r\n"},
		{"a long header", "GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n"},
		{"a long body", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n"},
		{"no HTTP", strings.Repeat("\x00", 1<<20)},
	} {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(2 * time.Minute))
		go io.WriteString(c, tt.raw)
		b, _ := io.ReadAll(c) // the server closes
		c.Close()
		if len(b) > 1<<16 || strings.Contains(string(b), " 200 ") {
			t.Errorf("%s: answered %.100q", tt.name, b)
		}
	}
	if r, _ := exchange(t, at, "GET", "GET /.well-known/openpgpkey/policy HTTP/1.1\r\nHost: example.org\r\n\r\n"); r.StatusCode != 200 {
		t.Errorf("afterwards: status %d", r.StatusCode)
	}
}

func TestNodesFollowEachOther(t *testing.T) {
	one, st := directory(t)
	two := reopened(st)
	ask := func(d *server.Directory) int { return get(handler(d), "GET", advanced+"hu/"+joe).StatusCode }
	if got := ask(two); got != 404 {
		t.Fatalf("before: %d", got)
	}
	a := addr(t, "joe.doe@example.org")
	add(t, one, "joe.doe@example.org")
	for _, step := range []struct {
		name string
		do   func() error
		want int
	}{
		{"published elsewhere", func() error { return nil }, 200},
		{"withdrawn elsewhere", func() error { return one.Remove(ctx, a) }, 404},
		{"published again", func() error { return one.Add(ctx, a, cert(t, "joe.doe@example.org")) }, 200},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if err := two.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		if got := ask(two); got != step.want || ask(one) != step.want {
			t.Errorf("%s: %d and %d, want %d", step.name, got, ask(one), step.want)
		}
	}
}
