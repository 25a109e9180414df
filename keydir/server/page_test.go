package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"html"
	"mime/multipart"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/keydir/server"
	"letterlock.org/letterlock/pgp"
)

// newSite is an office whose visitors are people.

func newSite(t testing.TB, d *server.Directory) *office {
	t.Helper()
	return newSiteFor(t, d, server.IntakeConfig{URL: "https://keys.example.org/", From: addr(t, "keys@example.org"), Domains: []string{"example.org"}})
}

func newSiteFor(t testing.TB, d *server.Directory, c server.IntakeConfig) *office {
	t.Helper()
	o := &office{t: t, d: d, in: make(chan server.Mail, 100), at: newClock(d.Now())}
	o.at.of(d)
	post := server.NewPost(func(_ context.Context, m server.Mail) error { o.in <- m; return nil }, nil)
	if c.URL != "" {
		c.Post = post
	}
	h := server.New(server.Config{Directory: d, Domains: c.Domains, Now: func() time.Time { return d.Now() }})
	c.Directory, c.Next, c.Now = d, h, func() time.Time { return d.Now() }
	site := server.NewSite(h, server.NewIntake(c))
	o.h = site
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	go func() { post.Run(ctx); done <- struct{}{} }()
	go func() { site.Run(ctx); done <- struct{}{} }()
	t.Cleanup(func() { cancel(); <-done; <-done })
	return o
}

// give uploads by the form: a file, a text, or both.

func (o *office) give(file, text string) (int, string) {
	o.t.Helper()
	body, contentType := multipartForm(o.t, file, text)
	return o.do("POST", "/upload", contentType, body)
}

func multipartForm(t testing.TB, file, text string) (body, contentType string) {
	t.Helper()
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	f, err := m.CreateFormFile("file", "my key.asc")
	if err == nil {
		_, err = f.Write([]byte(file))
	}
	if err == nil {
		err = m.WriteField("keytext", text)
	}
	if err == nil {
		err = m.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), m.FormDataContentType()
}

var withdrawPattern = regexp.MustCompile(`https://keys\.example\.org(/withdraw/[a-z0-9]{32})\r\n`)

func (o *office) removal(a string) (int, string) {
	o.t.Helper()
	return o.do("POST", "/remove", "application/x-www-form-urlencoded", url.Values{"address": {a}}.Encode())
}

func (o *office) withdrawLink() string {
	o.t.Helper()
	f := withdrawPattern.FindSubmatch(o.mail().Text)
	if f == nil {
		o.t.Fatal("no link in the mail")
	}
	return string(f[1])
}

func TestAPersonPublishesAndRemoves(t *testing.T) {
	d, _ := directory(t)
	o := newSite(t, d)
	c := cert(t, "joe.doe@example.org")
	if status, page := o.do("GET", "/lookup?address=joe.doe@example.org", "", ""); status != 404 || !strings.Contains(page, "No certificate is published here") {
		t.Fatalf("before: %d %s", status, page)
	}
	status, page := o.give(string(c.Bytes()), "")
	if status != 200 || !strings.Contains(page, "Now look at your mail") || !strings.Contains(page, "joe.doe@example.org") {
		t.Fatalf("upload: %d %s", status, page)
	}
	link := o.link()
	for _, method := range []string{"GET", "HEAD", "GET"} { // scanners
		if status, _ := o.do(method, link, "", ""); status != 200 || served(t, d) != nil {
			t.Fatalf("%s of the link: %d, published %v", method, status, served(t, d))
		}
	}
	if status, page := o.do("POST", link, "application/x-www-form-urlencoded", ""); status != 200 || !strings.Contains(page, "<h1>Published</h1>") {
		t.Fatalf("confirm: %d %s", status, page)
	}
	status, page = o.do("GET", "/lookup?address=Joe.Doe@example.org", "", "")
	if status != 200 || !strings.Contains(page, grouped(c)) || !strings.Contains(page, "<svg ") || !strings.Contains(page, c.Algorithm()) || !strings.Contains(page, "1 May 2026") {
		t.Fatalf("look-up: %d %s", status, page)
	}
	for _, download := range regexp.MustCompile(`href="([^"]*)" download`).FindAllStringSubmatch(page, -1) {
		status, b := o.do("GET", html.UnescapeString(download[1]), "", "")
		if certs, err := pgp.ParseCertificates([]byte(b)); status != 200 || err != nil || len(certs) != 1 || certs[0].Fingerprint() != c.Fingerprint() {
			t.Errorf("download %s: %d %v", download[1], status, err)
		}
	}
	if n := strings.Count(page, " download="); n != 2 {
		t.Errorf("%d downloads", n)
	}
	if status, page := o.give("", c.Armored()); status != 200 || !strings.Contains(page, "<h1>Published</h1>") || strings.Contains(page, "mail is on its way") {
		t.Errorf("uploaded again: %d %s", status, page)
	}

	o.removal("joe.doe@example.org")
	away := o.withdrawLink()
	if status, page := o.do("GET", away, "", ""); status != 200 || served(t, d) == nil || !strings.Contains(page, grouped(c)) {
		t.Fatalf("GET of the link that removes: %d %s", status, page)
	}
	if status, _ := o.do("POST", away, "", "", "Sec-Fetch-Site", "cross-site"); status != 403 || served(t, d) == nil {
		t.Fatalf("another site's form: %d", status)
	}
	if status, page := o.do("POST", away, "", ""); status != 200 || served(t, d) != nil || !strings.Contains(page, "<h1>Removed</h1>") {
		t.Fatalf("POST: %d %s", status, page)
	}
	for _, method := range []string{"GET", "POST"} {
		if status, page := o.do(method, away, "", ""); status != 404 || !strings.Contains(page, "does nothing any more") {
			t.Errorf("%s of a used link: %d", method, status)
		}
	}
	o.noMail()
}

// grouped is a fingerprint as pages show it.

func grouped(c *pgp.Certificate) string {
	return strings.TrimSpace(regexp.MustCompile("....").ReplaceAllString(string(c.Fingerprint()), "$0 "))
}

func TestHeadersOfPages(t *testing.T) {
	d, _ := directory(t)
	o := newSite(t, d)
	add(t, d, "has@example.org")
	for _, path := range []string{"/", "/lookup?address=has@example.org", "/lookup?address=no@example.org", "/lookup?address=x", "/upload", "/remove",
		"/withdraw/" + strings.Repeat("y", 32), "/publish/" + strings.Repeat("y", 32), "/lookup?" + strings.Repeat("x", 2000)} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "https://keys.example.org"+path, nil)
		o.h.ServeHTTP(w, r)
		h, page := w.Header(), w.Body.String()
		style := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindStringSubmatch(page)
		if style == nil || !strings.Contains(page, `<html lang="en">`) {
			t.Fatalf("%s: %d %s", path, w.Code, page)
		}
		sum := sha256.Sum256([]byte(style[1]))
		policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
		for name, want := range map[string]string{"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
			"Cache-Control": "no-store", "Set-Cookie": "", "Content-Type": "text/html; charset=utf-8", "Access-Control-Allow-Origin": ""} {
			if got := h.Get(name); got != want {
				t.Errorf("%s: %s: %q, want %q", path, name, got, want)
			}
		}
		for _, bad := range []string{"<script", "javascript:", " style=", "http://", "https://", " on"} {
			if strings.Contains(strings.ReplaceAll(strings.SplitAfter(page, "</style>")[1], " on ", " "), bad) && bad != " on" {
				t.Errorf("%s has %q", path, bad)
			}
		}
		labels := regexp.MustCompile(`<label for="([^"]+)"`).FindAllStringSubmatch(page, -1)
		if fields := regexp.MustCompile(`<(?:input|textarea) id="([^"]+)"`).FindAllStringSubmatch(page, -1); len(fields) != len(labels) {
			t.Errorf("%s: fields %v, labels %v", path, fields, labels)
		}
	}
}

func TestADomainByHostOrByChoice(t *testing.T) {
	d, _ := directory(t)
	o := newSiteFor(t, d, server.IntakeConfig{Domains: []string{"example.org", "Example.NET", "b.example.org"}, URL: "https://keys.example.org", From: addr(t, "keys@example.org")})
	for _, tt := range []struct{ name, host, path, want string }{
		{"the domain itself", "example.org", "/", "Encrypted mail to <bdi>example.org</bdi>"},
		{"the advanced method's name, with a port", "openpgpkey.example.net:8443", "/", "Encrypted mail to <bdi>example.net</bdi>"},
		{"the narrowest that fits", "keys.B.example.org.", "/", "Encrypted mail to <bdi>b.example.org</bdi>"},
		{"a foreign host gets the choice", "keys.elsewhere.example", "/", `<a href="/?domain=example.net">`},
		{"an address of the machine", "[::1]:80", "/", `<a href="/?domain=example.org">`},
		{"what was chosen", "[::1]:80", "/?domain=example.net", "Encrypted mail to <bdi>example.net</bdi>"},
		{"a choice that isn't ours", "keys.elsewhere.example", "/?domain=evil.example", `<a href="/?domain=example.net">`},
		{"a name that only ends like ours", "notexample.org", "/", `<a href="/?domain=example.org">`},
		{"a hostile Host", `<b>"`, "/", `<a href="/?domain=example.org">`},
	} {
		if status, page := o.do("GET", tt.path, "", "", "Host", tt.host); status != 200 || !strings.Contains(page, tt.want) || strings.Contains(page, "evil") {
			t.Errorf("%s: %d, want %q:\n%s", tt.name, status, tt.want, page)
		}
	}
	d.Submission = addr(t, "key-submission@example.org")
	if _, page := o.do("GET", "/", "", "", "Host", "example.org"); strings.Contains(page, "key-submission") {
		t.Error("a submission address without a key is shown")
	}
	add(t, d, "key-submission@example.org")
	if _, page := o.do("GET", "/", "", "", "Host", "example.org"); !strings.Contains(page, "<code>key-submission@example.org</code>") {
		t.Error("the submission address isn't shown")
	}
}

func TestADomainInItsOwnLetters(t *testing.T) {
	d, _ := directory(t)
	o := newSiteFor(t, d, server.IntakeConfig{Domains: []string{"bücher.example"}})
	add(t, d, "jörg@bücher.example")
	for path, want := range map[string]string{"/": "Encrypted mail to <bdi>bücher.example</bdi>", "/lookup?address=j%C3%B6rg@b%C3%BCcher.example": "<h1><bdi>jörg@bücher.example</bdi></h1>"} {
		if status, page := o.do("GET", path, "", "", "Host", "openpgpkey.xn--bcher-kva.example"); status != 200 || !strings.Contains(page, want) {
			t.Errorf("%s: %d %s", path, status, page)
		}
	}
}

// TestPagesDoTheSameWork: what a request asks of the store is where the time of

// its answer comes from.

func TestMethodsAndPaths(t *testing.T) {
	d, _ := directory(t)
	o := newSite(t, d)
	for _, tt := range []struct {
		method, path string
		status       int
	}{
		{"POST", "/", 405}, {"POST", "/lookup", 405}, {"DELETE", "/upload", 405}, {"PUT", "/withdraw/x", 405}, {"OPTIONS", "/remove", 405},
		{"HEAD", "/", 200}, {"GET", "/lookup", 303}, {"GET", "/withdraw/", 404}, {"GET", "/withdraw/../upload", 404}, {"GET", "/withdraw/%79", 404},
		{"GET", "/elsewhere", 404}, {"GET", "/Upload", 404}, {"GET", "/.well-known/openpgpkey/example.org/policy", 200},
	} {
		if status, body := o.do(tt.method, tt.path, "", ""); status != tt.status || tt.method == "HEAD" && body != "" {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.path, status, tt.status)
		}
	}
}

// TestTooLargeUploadsAreAnswered: a browser that is still sending when the

// connection closes shows nothing but that.

// hostileIDs are user IDs of one who wants to do harm to whoever looks. Those

// with line ends, or with angle brackets in the name, don't count as user IDs.

// named is a certificate with this user ID, which our own keys wouldn't have.

// FuzzPages: whatever is asked, a page comes, without a piece of it in markup.

func FuzzPages(f *testing.F) {
	d, _ := directory(f)
	site := newSite(f, d)
	add(f, d, "has@example.org")
	f.Add("has@example.org", "keys.example.org", "--b\r\nContent-Disposition: form-data; name=file\r\n\r\nx\r\n--b--", "multipart/form-data; boundary=b")
	f.Add("<script>@x", "<script>", "<script>", "multipart/form-data; boundary=\"<script>\"")
	f.Fuzz(func(t *testing.T, typed, host, body, contentType string) {
		o := *site
		o.t = t
		for _, path := range []string{"/lookup?address=" + url.QueryEscape(typed), "/?domain=" + url.QueryEscape(typed)} {
			if status, page := o.do("GET", path, "", "", "Host", host); status >= 500 || strings.Contains(strings.ToLower(page), "<script") {
				t.Errorf("%q: %d %s", path, status, page)
			}
		}
		if status, page := o.do("POST", "/upload", contentType, body); status >= 500 || strings.Contains(strings.ToLower(page), "<script") {
			t.Errorf("upload of %q: %d %s", body, status, page)
		}
		if status, _ := o.do("POST", "/remove", contentType, "address="+url.QueryEscape(typed)); status >= 500 && status != 503 {
			t.Errorf("removal of %q: %d", typed, status)
		}
	})
}
