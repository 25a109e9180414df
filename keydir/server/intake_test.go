package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/keydir/server"
)

// office is an Intake with its mails.
type office struct {
	t  testing.TB
	d  *server.Directory
	h  http.Handler
	in chan server.Mail
	at *clock // of d
}

func newOffice(t testing.TB, d *server.Directory) *office {
	t.Helper()
	o := &office{t: t, d: d, in: make(chan server.Mail, 100), at: newClock(d.Now())}
	o.at.of(d)
	post := server.NewPost(func(_ context.Context, m server.Mail) error { o.in <- m; return nil }, nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { post.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	o.h = server.NewIntake(server.IntakeConfig{Directory: d, Domains: []string{"example.org"}, URL: "https://keys.example.org/",
		From: addr(t, "keys@example.org"), Post: post, Next: handler(d), Now: func() time.Time { return d.Now() }})
	return o
}

func (o *office) do(method, path, contentType, body string, fields ...string) (int, string) {
	o.t.Helper()
	r := httptest.NewRequest(method, "https://keys.example.org"+path, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:1234"
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(fields); i += 2 {
		if fields[i] == "Host" {
			r.Host = fields[i+1]
		}
		r.Header.Set(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	o.h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// mail is the next mail that was sent.
func (o *office) mail() server.Mail {
	o.t.Helper()
	select {
	case m := <-o.in:
		return m
	case <-time.After(time.Minute):
		o.t.Fatal("no mail was sent")
		panic("")
	}
}

func (o *office) noMail() {
	o.t.Helper()
	select {
	case m := <-o.in:
		o.t.Errorf("a mail to %s was sent", m.To)
	case <-time.After(50 * time.Millisecond):
	}
}

var linkPattern = regexp.MustCompile(`https://keys\.example\.org(/publish/[a-z0-9]{32})\r\n`)

func (o *office) link() string {
	o.t.Helper()
	m := o.mail()
	f := linkPattern.FindSubmatch(m.Text)
	if f == nil {
		o.t.Fatalf("no link in %s", m.Text)
	}
	return string(f[1])
}

type vks struct {
	Fingerprint string            `json:"key_fpr"`
	Status      map[string]string `json:"status"`
	Token       string            `json:"token"`
	Error       string            `json:"error"`
}

func (o *office) vks(path string, question any) (int, vks) {
	o.t.Helper()
	q, err := json.Marshal(question)
	if err != nil {
		o.t.Fatal(err)
	}
	status, body := o.do("POST", "/vks/v1/"+path, "application/json; charset=utf-8", string(q))
	var a vks
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		o.t.Fatalf("%s: %q: %v", path, body, err)
	}
	return status, a
}

func TestUploadByVKS(t *testing.T) {
	d, _ := directory(t)
	o := newOffice(t, d)
	c := cert(t, "Joe.Doe@example.org")
	status, up := o.vks("upload", map[string]string{"keytext": c.Armored()})
	if status != 200 || up.Fingerprint != string(c.Fingerprint()) || up.Status["Joe.Doe@example.org"] != "unpublished" || len(up.Status) != 1 {
		t.Fatal(status, up)
	}
	o.noMail()
	_, asked := o.vks("request-verify", map[string]any{"token": up.Token, "addresses": []string{"joe.doe@example.org", "eve@example.org", "\r\n"}, "locale": []string{"de"}})
	if asked.Status["Joe.Doe@example.org"] != "pending" || len(asked.Status) != 1 {
		t.Fatal(asked)
	}
	m := o.mail()
	if m.To.String() != "Joe.Doe@example.org" || m.From.String() != "keys@example.org" || !bytes.Contains(m.Text, []byte("\r\nAuto-Submitted: auto-generated\r\n")) {
		t.Errorf("mail from %s to %s: %s", m.From, m.To, m.Text)
	}
	if bytes.Contains(bytes.ReplaceAll(m.Text, []byte("\r\n"), nil), []byte("\n")) {
		t.Error("a line of the mail ends in a bare LF")
	}
	path := string(linkPattern.FindSubmatch(m.Text)[1])
	for range 3 { // scanners
		if status, page := o.do("GET", path, "", ""); status != 200 || !strings.Contains(page, `<form method="post">`) || !strings.Contains(page, string(c.Fingerprint())[:4]+" ") {
			t.Fatalf("GET: %d %s", status, page)
		}
	}
	if served(t, d) != nil {
		t.Fatal("a GET published")
	}
	if status, _ := o.do("POST", path, "", "", "Sec-Fetch-Site", "cross-site"); status != 400 || served(t, d) != nil {
		t.Fatalf("another site's form: %d", status)
	}
	if status, page := o.do("POST", path, "application/x-www-form-urlencoded", "", "Sec-Fetch-Site", "same-origin", "Origin", "null"); status != 200 || !strings.Contains(page, "Published") {
		t.Fatalf("POST: %d %s", status, page)
	}
	if got := served(t, d); len(got) != 1 || got[0].Fingerprint() != c.Fingerprint() {
		t.Fatal("not published")
	}
	for _, method := range []string{"GET", "POST"} {
		if status, _ := o.do(method, path, "", ""); status != 404 {
			t.Errorf("%s of a used link: %d", method, status)
		}
	}
	if _, up := o.vks("upload", map[string]string{"keytext": c.Armored()}); up.Status["Joe.Doe@example.org"] != "published" {
		t.Errorf("uploaded again: %v", up)
	}
}

func TestBodiesOfUploads(t *testing.T) {
	d, _ := directory(t)
	o := newOffice(t, d)
	c, k := cert(t, "joe.doe@example.org"), key(t, "joe.doe@example.org")
	text, _ := json.Marshal(map[string]string{"keytext": c.Armored()})
	secret := string(k.Marshal())
	form := url.Values{"keytext": {c.Armored()}}.Encode()
	for _, tt := range []struct {
		name, path, contentType, body string
		status                        int
		says                          string
	}{
		{"JSON", "/vks/v1/upload", "application/json", string(text), 200, `"unpublished"`},
		{"binary", "/vks/v1/upload", "application/octet-stream", string(c.Bytes()), 200, `"unpublished"`},
		{"armored", "/vks/v1/upload", "application/pgp-keys", c.Armored(), 200, `"unpublished"`},
		{"no JSON", "/vks/v1/upload", "application/json", c.Armored(), 400, "cannot be read"},
		{"JSON without keytext", "/vks/v1/upload", "application/json", "{}", 400, "cannot be read"},
		{"a malformed type", "/vks/v1/upload", ";", "{}", 400, "cannot be read"},
		{"a secret key", "/vks/v1/upload", "application/octet-stream", secret, 400, "SECRET KEY"},
		{"a secret key in a form", "/pks/add", "application/x-www-form-urlencoded", url.Values{"keytext": {secret}}.Encode(), 400, "SECRET KEY"},
		{"another domain's", "/vks/v1/upload", "application/octet-stream", string(cert(t, "x@elsewhere.example").Bytes()), 400, "no valid user ID"},
		{"150,000 forged signatures", "/vks/v1/upload", "application/octet-stream", string(flooded(c, 150_000)), 413, "too large"},
		{"noise", "/vks/v1/upload", "application/octet-stream", "noise", 400, "no OpenPGP certificate"},
		{"a form", "/pks/add", "application/x-www-form-urlencoded", form, 200, "Taken"},
		{"an empty form", "/pks/add", "application/x-www-form-urlencoded", "x=y", 400, "cannot be read"},
		{"GET of the form's path", "/pks/add", "GET", "", 404, ""},
		{"an unknown token", "/vks/v1/request-verify", "application/json", `{"token":"` + strings.Repeat("y", 32) + `","addresses":[]}`, 404, "used already"},
		{"no token", "/vks/v1/request-verify", "application/json", `{}`, 404, "used already"},
	} {
		method := "POST"
		if tt.contentType == "GET" {
			method = "GET"
		}
		status, body := o.do(method, tt.path, tt.contentType, tt.body)
		if status != tt.status || !strings.Contains(body, tt.says) {
			t.Errorf("%s: %d %q, want %d %q", tt.name, status, body, tt.status, tt.says)
		}
	}
	o.link() // of the one form that was taken
	o.noMail()
}

func TestAnswersDoNotTellWhoIsHere(t *testing.T) {
	d, _ := directory(t)
	o := newOffice(t, d)
	add(t, d, "has@example.org")
	mallory := func(a string) string {
		_, up := o.vks("upload", map[string]string{"keytext": cert(t, a).Armored()})
		var all []string
		for range 5 { // also beyond the day's mails
			status, v := o.vks("request-verify", map[string]any{"token": up.Token, "addresses": []string{a}})
			all = append(all, http.StatusText(status), v.Status[a], v.Error)
		}
		return up.Status[a] + strings.Join(all, " ")
	}
	if has, hasNot := mallory("has@example.org"), mallory("nobody@example.org"); has != hasNot {
		t.Errorf("with a certificate %q, without %q", has, hasNot)
	}
	for range 6 {
		o.mail()
	}
	o.noMail()
}

func TestARevocationNeedsNoMail(t *testing.T) {
	d, _ := directory(t)
	o := newOffice(t, d)
	k := key(t, "joe.doe@example.org")
	if err := d.Add(ctx, addr(t, "joe.doe@example.org"), k.Certificate()); err != nil {
		t.Fatal(err)
	}
	if status, body := o.do("POST", "/pks/add", "", url.Values{"keytext": {revoked(t, k).Armored()}}.Encode()); status != 200 {
		t.Fatal(status, body)
	}
	if !served(t, d)[0].Revoked(today.Add(time.Second)) {
		t.Error("it is not served as revoked")
	}
	o.noMail()
}

func TestClientsAreLimited(t *testing.T) {
	d, _ := directory(t)
	o := newOffice(t, d)
	ask := func(remote string, forwarded ...string) int {
		r := httptest.NewRequest("POST", "https://keys.example.org/vks/v1/upload", strings.NewReader("x"))
		r.RemoteAddr = remote
		r.Header["X-Forwarded-For"] = forwarded
		w := httptest.NewRecorder()
		o.h.ServeHTTP(w, r)
		return w.Code
	}
	for i := range 12 {
		if got, want := ask("192.0.2.1:99"), map[bool]int{true: 400, false: 429}[i < 10]; got != want {
			t.Errorf("request %d: %d, want %d", i, got, want)
		}
	}
	if got := ask("192.0.2.2:99"); got != 400 {
		t.Errorf("another client: %d", got)
	}
	for i := range 12 { // the first entry is the client's own invention
		if got, want := ask("127.0.0.1:99", fmt.Sprintf("198.51.100.%d, 192.0.2.3", i)), map[bool]int{true: 400, false: 429}[i < 10]; got != want {
			t.Errorf("request %d through a proxy: %d, want %d", i, got, want)
		}
	}
	if got := ask("192.0.2.1:99", "198.51.100.1"); got != 429 {
		t.Errorf("a client that forges the field: %d", got)
	}
	if status, _ := o.do("GET", "/.well-known/openpgpkey/example.org/policy", "", ""); status != 200 {
		t.Errorf("a look-up through the intake: %d", status)
	}
}
