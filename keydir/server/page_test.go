package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir/server"
	"letterlock.org/letterlock/pgp"
	"rsc.io/qr"
)

// newSite is an office whose visitors are people.
func newSite(t testing.TB, d *server.Directory) *office {
	t.Helper()
	return newSiteFor(t, d, server.IntakeConfig{URL: "https://keys.example.org/", From: addr(t, "keys@example.org"), Domains: []string{"example.org"}})
}

func newSiteFor(t testing.TB, d *server.Directory, c server.IntakeConfig) *office {
	t.Helper()
	o := &office{t: t, d: d, in: make(chan server.Mail, 100)}
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
	d.Now = func() time.Time { return today.AddDate(3, 0, 0) }
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

func TestPagesOfAbsentAddressesAreAlike(t *testing.T) {
	d, _ := directory(t)
	o := newSite(t, d)
	add(t, d, "gone@example.org")
	if err := d.Remove(ctx, addr(t, "gone@example.org")); err != nil {
		t.Fatal(err)
	}
	o.give(string(cert(t, "soon@example.org").Bytes()), "")
	page := func(a string) string {
		status, page := o.do("GET", "/lookup?address="+a, "", "")
		return http.StatusText(status) + strings.ReplaceAll(page, a, "ADDRESS")
	}
	want := page("nobody@example.org")
	for _, a := range []string{"gone@example.org", "soon@example.org", "who@elsewhere.example", "who@example.com"} {
		if got := page(a); got != want {
			t.Errorf("%s:\n%s\nnot as of one that never was:\n%s", a, got, want)
		}
	}
}

func TestRemovalsDoNotTellWhoIsHere(t *testing.T) {
	d, _ := directory(t)
	o := newSite(t, d)
	add(t, d, "has@example.org")
	ask := func(a string) string {
		var all []string
		for range 5 { // also beyond the day's mails
			status, page := o.removal(a)
			all = append(all, http.StatusText(status)+strings.ReplaceAll(page, a, "ADDRESS"))
		}
		return strings.Join(all, "\n")
	}
	if has, hasNot := ask("has@example.org"), ask("nobody@example.org"); has != hasNot {
		t.Errorf("with a certificate %q, without %q", has, hasNot)
	}
	for range 3 {
		if m := o.mail(); m.To.String() != "has@example.org" || strings.Contains(strings.ReplaceAll(string(m.Text), "\r\n", ""), "\n") {
			t.Errorf("mail to %s: %q", m.To, m.Text)
		}
	}
	o.noMail()
	for a, says := range map[string]string{"x": "no mail address", "x@elsewhere.example": "No address of ours", "\"\r\n\"@example.org": "no mail address", "": "no mail address"} {
		if status, page := o.removal(a); status != 400 || !strings.Contains(page, says) {
			t.Errorf("%q: %d %s", a, status, page)
		}
	}
}

func TestARemovalIsOfOneCertificateAndOneUse(t *testing.T) {
	d, _ := directory(t)
	o := newSite(t, d)
	a := addr(t, "joe.doe@example.org")
	add(t, d, "joe.doe@example.org")
	o.removal("joe.doe@example.org")
	old := o.withdrawLink()
	add(t, d, "joe.doe@example.org") // another key in its place
	if status, _ := o.do("POST", old, "", ""); status != 404 || served(t, d) == nil {
		t.Errorf("a link for what was replaced since: %d", status)
	}
	o.removal("joe.doe@example.org")
	late := o.withdrawLink()
	d.Now = func() time.Time { return today.Add(73 * time.Hour) }
	if status, _ := o.do("POST", late, "", ""); status != 404 || served(t, d) == nil {
		t.Errorf("a link that is too old: %d", status)
	}
	d.Now = func() time.Time { return today }
	// Tokens of one way are good for that way only.
	publish, err := d.Begin(ctx, server.ByLink, a, cert(t, "joe.doe@example.org"))
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := o.do("POST", "/withdraw/"+publish, "", ""); status != 404 || served(t, d) == nil {
		t.Errorf("a token to publish removed: %d", status)
	}
	before := served(t, d)[0].Fingerprint()
	if status, _ := o.do("POST", strings.Replace(late, "withdraw", "publish", 1), "", ""); status != 404 || served(t, d)[0].Fingerprint() != before {
		t.Errorf("a token to remove published: %d", status)
	}
	// Who removes by token leaves what can still be revoked.
	if status, _ := o.do("POST", late, "", ""); status != 200 || served(t, d) != nil {
		t.Errorf("the link in time: %d", status)
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
func TestPagesDoTheSameWork(t *testing.T) {
	st, err := store.OpenMemory(server.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	c := &counting{Store: st}
	d := reopened(c)
	add(t, d, "has@example.org")
	o := &office{t: t, d: d}
	h := handler(d)
	o.h = server.NewSite(h, server.NewIntake(server.IntakeConfig{Directory: d, Domains: []string{"example.org"}, URL: "https://k", From: addr(t, "k@example.org"),
		Post: server.NewPost(nil, nil), Next: h, Now: d.Now})) // nothing runs: mails are made beside
	for path, ask := range map[string]func(local string){
		"/lookup": func(local string) { o.do("GET", "/lookup?address="+local+"@example.org", "", "") },
		"/remove": func(local string) { o.removal(local + "@example.org") },
	} {
		ask("has") // the first one reads the snapshot
		c.work()
		for _, local := range []string{"has", "not"} {
			ask(local)
			if got := c.work(); got != "0 views, 0 updates, 0 statements" {
				t.Errorf("%s of %s asks the store: %s", path, local, got)
			}
		}
	}
}

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

func TestCertificatesThatNobodyShouldUseAreSaidSo(t *testing.T) {
	d, _ := directory(t)
	o := newSite(t, d)
	c := add(t, d, "old@example.org")
	if err := d.Add(ctx, addr(t, "revoked@example.org"), revoked(t, key(t, "revoked@example.org"))); err != nil {
		t.Fatal(err)
	}
	d.Now = func() time.Time { return today.Add(time.Second) }
	if status, page := o.do("GET", "/lookup?address=revoked@example.org", "", ""); status != 200 || !strings.Contains(page, "REVOKED") || strings.Contains(page, "In use") {
		t.Errorf("revoked: %d %s", status, page)
	}
	d.Now = func() time.Time { return today.AddDate(3, 0, 0) }
	if status, page := o.do("GET", "/lookup?address=old@example.org", "", ""); status != 200 || !strings.Contains(page, "EXPIRED") || !strings.Contains(page, grouped(c)) {
		t.Errorf("expired: %d %s", status, page)
	}
}

func TestTheQRCodeIsTheFingerprint(t *testing.T) {
	d, _ := directory(t)
	o := newSite(t, d)
	c := add(t, d, "joe.doe@example.org")
	page := second(o.do("GET", "/lookup?address=joe.doe@example.org", "", ""))
	want, err := qr.Encode("OPENPGP4FPR:"+string(c.Fingerprint()), qr.M)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(page, fmt.Sprintf(`viewBox="0 0 %[1]d %[1]d"`, want.Size+8)) {
		t.Error("no quiet zone of four")
	}
	black := map[[2]int]bool{}
	for _, run := range regexp.MustCompile(`M(\d+) (\d+)h(\d+)v1h-(\d+)z`).FindAllStringSubmatch(page, -1) {
		var n [4]int
		for i := range n {
			n[i], _ = strconv.Atoi(run[i+1])
		}
		for x := range n[2] {
			black[[2]int{n[0] + x, n[1]}] = n[2] == n[3]
		}
	}
	for y := -4; y < want.Size+4; y++ {
		for x := -4; x < want.Size+4; x++ {
			if got := black[[2]int{x + 4, y + 4}]; got != want.Black(x, y) {
				t.Fatalf("%d, %d is black: %v", x, y, got)
			}
		}
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

func TestOddAddressesCanBeDownloaded(t *testing.T) {
	d, _ := directory(t)
	o := newSite(t, d)
	for _, a := range []string{"a+b/c%41@example.org", "jörg@example.org", `"a b?"@example.org`, "x&y=z@example.org", "'o'@example.org"} {
		add(t, d, a)
		page := second(o.do("GET", "/lookup?"+url.Values{"address": {a}}.Encode(), "", ""))
		links := regexp.MustCompile(`href="([^"]*)" download`).FindAllStringSubmatch(page, -1)
		if len(links) != 2 {
			t.Errorf("%s: %d links", a, len(links))
		}
		for _, l := range links {
			status, b := o.do("GET", html.UnescapeString(l[1]), "", "")
			if certs, err := pgp.ParseCertificates([]byte(b)); status != 200 || err != nil || !certs[0].Has(addr(t, a)) {
				t.Errorf("%s: %s: %d %v", a, l[1], status, err)
			}
		}
	}
}

// TestTooLargeUploadsAreAnswered: a browser that is still sending when the
// connection closes shows nothing but that.
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
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
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

// hostileIDs are user IDs of one who wants to do harm to whoever looks. Those
// with line ends, or with angle brackets in the name, don't count as user IDs.
var hostileIDs = []string{
	`&lt;script&gt;alert(1)&lt;/script&gt; <a@example.org>`,
	`" onmouseover="alert(2)" style="position:fixed;inset:0 <a@example.org>`,
	"\u202egro.elpmaxe@nimda\u202c \u2066\u200f <a@example.org>",
	"\u05d0\u05d1\u05d2 \u0627\u0644\u0633\u0644\u0627\u0645 (1) <a@example.org>",
	strings.Repeat("W", 1500) + " <a@example.org>",
	"Z" + strings.Repeat("\u0316\u0301", 300) + " <a@example.org>",
	"{{.Fingerprint}} ${1} }} */ <a@example.org>",
	"zero\u200b\u2060\ufeffwidth \U000e0041 <a@example.org>",
}

func TestHostileUserIDsAreHarmless(t *testing.T) {
	for _, id := range hostileIDs {
		d, _ := directory(t)
		o := newSite(t, d)
		c := named(t, id)
		if err := d.Add(ctx, addr(t, "a@example.org"), c); err != nil {
			t.Errorf("%.30q: %v", id, err)
			continue
		}
		for _, page := range []string{second(o.do("GET", "/lookup?address=a@example.org", "", "")), second(o.give(string(c.Bytes()), ""))} {
			if !strings.Contains(page, "&lt;a@example.org&gt;</bdi>") || len(page) > 40_000 {
				t.Errorf("%.30q: %d bytes, or the address is not to be seen", id, len(page))
			}
			for _, bad := range []string{"<script", "<img", "\u202e", "\u2066", "\u200b", "\u200f", "\ufeff", "\U000e0041", strings.Repeat("W", 200), `" onmouse`, "&lt;script"} {
				if strings.Contains(page, bad) {
					t.Errorf("%.30q is shown with %q", id, bad)
				}
			}
		}
	}
	d, _ := directory(t)
	o := newSite(t, d)
	for _, typed := range []string{`"><script>alert(1)</script>@example.org`, "\u202e@example.org", strings.Repeat("x", 900)} {
		page := second(o.do("GET", "/lookup?address="+url.QueryEscape(typed), "", ""))
		if strings.Contains(page, "<script") || strings.Contains(page, "\u202e") || strings.Contains(page, strings.Repeat("x", 200)) {
			t.Errorf("%.30q: %s", typed, page)
		}
	}
}

// named is a certificate with this user ID, which our own keys wouldn't have.
func named(t testing.TB, id string) *pgp.Certificate {
	t.Helper()
	return changed(t, key(t, "a@example.org"), func(e *openpgp.Entity, at *packet.Config) error {
		for _, was := range e.Identities {
			was.Name, was.UserId = id, &packet.UserId{Id: id}
			e.Identities = map[string]*openpgp.Identity{id: was}
			return was.SelfCertifications[0].Packet.SignUserId(id, e.PrimaryKey, e.PrivateKey, at)
		}
		return errors.New("no user ID")
	})
}

func second(_ int, page string) string { return page }

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
