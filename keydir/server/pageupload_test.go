package server_test

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/keydir/server"
)

func TestFaultsOfUploads(t *testing.T) {
	d, _ := directory(t)
	o := newSite(t, d)
	c, k := cert(t, "joe.doe@example.org"), key(t, "joe.doe@example.org")
	armored := "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n" + base64.StdEncoding.EncodeToString(k.Marshal()) + "\n-----END PGP PRIVATE KEY BLOCK-----\n"
	for _, tt := range []struct {
		name, file, text string
		status           int
		says             string
	}{
		{"a secret key in a file", string(k.Marshal()), "", 400, "SECRET KEY"},
		{"a secret key as text", "", armored, 400, "SECRET KEY"},
		{"a damaged secret key", "", "-----BEGIN PGP PRIVATE KEY BLOCK-----\nlXgEX\n", 400, "SECRET KEY"},
		{"a secret key behind a certificate", string(c.Bytes()) + string(k.Marshal()), "", 400, "SECRET KEY"},
		{"another domain's", string(cert(t, "x@elsewhere.example").Bytes()), "", 400, "No address of ours"},
		{"150,000 forged signatures", string(flooded(c, 150_000)), "", 413, "too large"},
		{"noise", "noise", "", 400, "This is no certificate"},
		{"half a certificate", "", c.Armored()[:200], 400, "This is no certificate"},
		{"nothing", " \r\n", "", 400, "There was nothing in it"},
		{"both", string(c.Bytes()), c.Armored(), 400, "one of them"},
	} {
		status, page := o.give(tt.file, tt.text)
		if status != tt.status || !strings.Contains(page, tt.says) || !strings.Contains(page, `role="alert"`) || !strings.Contains(page, `type="file"`) {
			t.Errorf("%s: %d, want %d and %q:\n%s", tt.name, status, tt.status, tt.says, page)
		}
	}
	o.at.set(today.AddDate(3, 0, 0))
	if status, page := o.give(string(c.Bytes()), ""); status != 400 || !strings.Contains(page, "has expired") {
		t.Errorf("expired: %d %s", status, page)
	}
	for _, contentType := range []string{"", "text/plain", "multipart/form-data", "multipart/form-data; boundary=x", ";"} {
		if status, _ := o.do("POST", "/upload", contentType, "--y\r\n"); status != 400 {
			t.Errorf("content type %q: %d", contentType, status)
		}
	}
	o.noMail()
	if served(t, d) != nil {
		t.Error("something was published")
	}
}

func TestNothingOfASecretKeyIsKept(t *testing.T) {
	d, st := directory(t)
	o := newSite(t, d)
	o.give(string(key(t, "joe.doe@example.org").Marshal()), "")
	o.give("", "-----BEGIN PGP PRIVATE KEY BLOCK-----")
	for _, table := range []string{"keydirserver_pending", "keydirserver_cert", "keydirserver_revoked", "keydirserver_former"} {
		if n := rows(t, st, table); n != 0 {
			t.Errorf("%d rows in %s", n, table)
		}
	}
}

func TestADirectoryWithoutMailSaysSo(t *testing.T) {
	d, _ := directory(t)
	o := newSiteFor(t, d, server.IntakeConfig{Domains: []string{"example.org"}})
	c := add(t, d, "has@example.org")
	if status, page := o.give(string(cert(t, "new@example.org").Bytes()), ""); status != 200 || !strings.Contains(page, "Not published") || !strings.Contains(page, "Ask its operator") {
		t.Errorf("a new address: %d %s", status, page)
	}
	if status, page := o.give(string(c.Bytes()), ""); status != 200 || !strings.Contains(page, "<h1>Published</h1>") {
		t.Errorf("what is published: %d %s", status, page)
	}
	for _, path := range []string{"/upload", "/remove"} {
		if _, page := o.do("GET", path, "", ""); !strings.Contains(page, "sends no mail") {
			t.Errorf("%s: %s", path, page)
		}
	}
	if status, _ := o.removal("has@example.org"); status != 503 {
		t.Errorf("removal: %d", status)
	}
}

func TestARevocationIsUploadedByAPerson(t *testing.T) {
	d, _ := directory(t)
	o := newSite(t, d)
	k := key(t, "joe.doe@example.org")
	if err := d.Add(ctx, addr(t, "joe.doe@example.org"), k.Certificate()); err != nil {
		t.Fatal(err)
	}
	if status, page := o.give("", revoked(t, k).Armored()); status != 200 || !strings.Contains(page, "The revocation is taken") {
		t.Errorf("%d %s", status, page)
	}
	if !served(t, d)[0].Revoked(today.Add(time.Second)) {
		t.Error("it is not served as revoked")
	}
	o.noMail()
}

func TestTooLargeUploadsAreAnswered(t *testing.T) {
	d, _ := directory(t)
	o := newSite(t, d)
	at := serving(t, handler(d), o.h)
	base := "http://" + at
	const size = 12 << 20 // more than the sockets' buffers take
	for name, head := range map[string]string{
		"with a length": fmt.Sprintf("Content-Length: %d\r\n\r\n", size),
		"in one chunk":  fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", size),
	} {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
		// As browsers do: all of it goes out before the answer is looked at.
		if _, err := c.Write([]byte("POST /upload HTTP/1.1\r\nHost: k\r\nContent-Type: multipart/form-data; boundary=b\r\n" + head + strings.Repeat("x", size))); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		a, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		b, err := io.ReadAll(a.Body)
		if err != nil || a.StatusCode != 413 || !strings.Contains(string(b), "too large") || a.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: %d %v %s", name, a.StatusCode, err, b)
		}
	}
	// What fits comes through the same engine whole.
	c := cert(t, "joe.doe@example.org")
	body, contentType := multipartForm(t, string(c.Bytes()), "")
	a, err := http.Post(base+"/upload", contentType, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(a.Body)
	a.Body.Close()
	if err != nil || a.StatusCode != 200 || !strings.Contains(string(b), grouped(c)) {
		t.Errorf("%d %v %s", a.StatusCode, err, b)
	}
}
