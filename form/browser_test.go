package form_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/form"
	"letterlock.org/letterlock/internal/mailtest/peer"
)

// job is what the browser is to do, seen what came of it; testdata/browser.js.
type job struct {
	Passwords []string `json:"passwords"`
	Width     int      `json:"width"`
	Height    int      `json:"height"`
	Dark      bool     `json:"dark"`
	NoScript  bool     `json:"noscript"`
	HTTP      bool     `json:"http"`
	Save      string   `json:"save"`
	Wait      int      `json:"wait"` // ms until what the frame might load would have been asked for
}

type seen struct {
	Requests, Console, Statuses, Links  []string
	Popups                              int
	Took                                int // ms from Enter to the message
	Secure, Open, Wide, Address, Hidden bool
	Before, Title, Text, Plain, Focus   string
	Files                               map[string]string
	Frame                               *struct {
		URL, Sandbox string
		Tree         []string
	}
	dir string
}

// file is what was downloaded under that name.
func (s seen) file(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, s.Files[name]))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// browse opens a page from the disk in Debian's Chromium, driven by
// playwright-core, of which LETTERLOCK_PLAYWRIGHT names the node_modules folder.
func browse(t *testing.T, page string, j job) (s seen) {
	t.Helper()
	modules := os.Getenv("LETTERLOCK_PLAYWRIGHT")
	if modules == "" {
		if os.Getenv("LETTERLOCK_REQUIRE_PEERS") == "1" {
			t.Fatal("LETTERLOCK_PLAYWRIGHT is not set, and LETTERLOCK_REQUIRE_PEERS=1")
		}
		t.Skip("LETTERLOCK_PLAYWRIGHT names no node_modules folder with playwright-core")
	}
	peer.Require(t, "node", "chromium")
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal(err)
	}
	s.dir = t.TempDir()
	if shots := os.Getenv("LETTERLOCK_SCREENSHOTS"); shots != "" && j.Save != "" {
		j.Save = filepath.Join(shots, j.Save)
	} else {
		j.Save = ""
	}
	told, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"message.html": page, "job.json": string(told)} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script, err := filepath.Abs("testdata/browser.js")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", script, modules, chromium, s.dir)
	cmd.Env = append(os.Environ(), "HOME="+s.dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("browser: %v\n%s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(s.dir, "told.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// quiet demands that nothing was asked for but the page itself and what lies in
// it, and that nothing ran or opened.
func (s seen) quiet(t *testing.T) {
	t.Helper()
	for _, r := range s.Requests {
		if !strings.HasPrefix(r, "file://"+s.dir+"/message.html") && !strings.HasPrefix(r, "data:") && !strings.HasPrefix(r, "blob:") {
			t.Errorf("the page asked for %s", r)
		}
	}
	if len(s.Requests) == 0 {
		t.Error("no request was recorded, not even the page")
	}
	for _, c := range s.Console {
		t.Errorf("the browser says %s", c)
	}
	if s.Popups != 0 {
		t.Errorf("%d pages were opened", s.Popups)
	}
}

const letter = "From: Alice Liddell <alice@example.org>\r\nTo: Bob <bob@example.net>\r\nSubject: Quarterly figures\r\n" +
	"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" +
	"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nDear Bob,\r\n\r\nhere are the figures – please keep them to yourself.\r\n" +
	"The agenda is at https://example.org/agenda?day=1 as always.\r\n\r\nAlice\r\n--b\r\n" +
	"Content-Type: application/pdf; name=\"figures.pdf\"\r\nContent-Disposition: attachment\r\nContent-Transfer-Encoding: base64\r\n\r\nQ0FOQVJZLWRhdGE=\r\n" +
	"--b\r\nContent-Type: text/html\r\nContent-Disposition: attachment; filename=evil.html\r\n\r\n<script>alert(1)</script>\r\n--b--\r\n"

func TestAPersonOpensThePage(t *testing.T) {
	password := form.NewPassword()
	page := makeMail(t, letter, form.Options{Password: password, NoOpenPGP: true}).page
	// As people type it: in capitals, with an O for the zero, without hyphens.
	typed := strings.NewReplacer("-", " ", "0", "O", "1", "l").Replace(strings.ToUpper(password.Reveal()))
	s := browse(t, page, job{Passwords: []string{typed}, Save: "desktop"})
	s.quiet(t)
	if !s.Secure || !s.Open {
		t.Fatalf("secure context %v, open %v: %q", s.Secure, s.Open, s.Statuses)
	}
	for _, want := range []string{"Quarterly figures", "Alice Liddell <alice@example.org>", "Bob <bob@example.net>", "23 November 2026", "here are the figures – please", "figures.pdf", "not protected"} {
		if !strings.Contains(s.Text, want) {
			t.Errorf("the page doesn't show %q:\n%s", want, s.Text)
		}
	}
	if strings.Contains(s.Title, "figures") {
		t.Errorf("title %q, which the browser's history keeps", s.Title)
	}
	if s.Focus != "subject" {
		t.Errorf("focus is on %q", s.Focus)
	}
	if got := string(s.file(t, "figures.pdf")); got != "CANARY-data" {
		t.Errorf("downloaded %q", got)
	}
	if got := string(s.file(t, "evil.html")); got != "<script>alert(1)</script>" || !s.Address {
		t.Errorf("downloaded %q; still on the page: %v", got, s.Address)
	}
	if !slices.Equal(s.Links, []string{"https://example.org/agenda?day=1"}) {
		t.Errorf("links %q", s.Links)
	}
}

func TestAPersonTypesAWrongPassword(t *testing.T) {
	password, other := form.NewPassword(), form.NewPassword()
	page := makeMail(t, letter, form.Options{Password: password, NoOpenPGP: true}).page
	mistyped := []byte(password.Reveal())
	if mistyped[0]++; mistyped[0] == ':' || mistyped[0] == '{' || strings.ContainsRune("ilou", rune(mistyped[0])) {
		mistyped[0] = '2'
	}
	s := browse(t, page, job{Passwords: []string{"hello", string(mistyped), other.Reveal(), password.Reveal()}, Save: "wrong", Width: 360, Height: 700})
	s.quiet(t)
	for i, want := range []string{"four groups of five", "There is a mistake", "not the password of this message", ""} {
		if !strings.Contains(s.Statuses[i], want) || want == "" && s.Statuses[i] != "" {
			t.Errorf("answer %d: %q", i, s.Statuses[i])
		}
	}
	if !s.Open || s.Wide {
		t.Errorf("open %v, wider than a telephone %v", s.Open, s.Wide)
	}
}

func TestAnAgreedPasswordIsTypedAsItIs(t *testing.T) {
	password, err := form.Agreed("Mu\u0308nchen im Winter")
	if err != nil {
		t.Fatal(err)
	}
	page := makeMail(t, letter, form.Options{Password: password, NoOpenPGP: true}).page
	s := browse(t, page, job{Passwords: []string{"münchen im winter", " Mu\u0308nchen im Winter"}, Save: "dark", Dark: true})
	s.quiet(t)
	if !s.Open || !strings.Contains(s.Statuses[0], "not the password") {
		t.Errorf("open %v, %q", s.Open, s.Statuses)
	}
}

// TestABrowserWithoutCryptographySaysWhatToDo: over http there is none.
func TestABrowserWithoutCryptographySaysWhatToDo(t *testing.T) {
	page := makeMail(t, letter, form.Options{Password: form.NewPassword(), NoOpenPGP: true}).page
	s := browse(t, page, job{HTTP: true, Save: "insecure"})
	if s.Secure || !s.Hidden || !strings.Contains(s.Before, "Save this page to your device and open it from there") {
		t.Errorf("secure context %v, form hidden %v:\n%s", s.Secure, s.Hidden, s.Before)
	}
}

func TestABrowserRefusesADamagedPage(t *testing.T) {
	password := form.NewPassword()
	page := makeMail(t, letter, form.Options{Password: password, NoOpenPGP: true}).page
	at := strings.Index(page, "</script>") - 40
	damaged := []byte(page)
	if damaged[at]++; damaged[at] == '{' || damaged[at] == '[' || damaged[at] == ':' || damaged[at] == ',' {
		damaged[at] -= 2
	}
	s := browse(t, string(damaged), job{Passwords: []string{password.Reveal()}, Save: "damaged"})
	s.quiet(t)
	if s.Open || !strings.Contains(s.Statuses[0], "damaged or was changed") || strings.Contains(s.Text, "figures") {
		t.Errorf("open %v: %s", s.Open, s.Text)
	}
	changed := strings.Replace(page, `const damaged`, `fetch("https://example.org/"); const damaged`, 1)
	s = browse(t, changed, job{NoScript: true})
	if !strings.Contains(s.Before, "can't open it") {
		t.Errorf("without JavaScript: %s", s.Before)
	}
	if b, err := json.Marshal(browseChanged(t, changed)); err != nil || strings.Contains(string(b), "example.org/") {
		t.Errorf("a changed script ran: %s %v", b, err)
	}
}

// browseChanged opens a page whose script isn't ours: nothing of it may run, so
// that there is nowhere to enter a password.
func browseChanged(t *testing.T, page string) seen {
	t.Helper()
	s := browse(t, page, job{NoScript: false, Passwords: nil})
	if s.Open || len(s.Requests) != 1 {
		t.Errorf("requests %q", s.Requests)
	}
	s.Console = nil // the policy's complaint has the script in it
	return s
}

const hostile = `<html><head><title>x</title><base href="https://evil.example/"><meta http-equiv="refresh" content="0;url=https://evil.example/refresh">
<link rel="stylesheet" href="https://evil.example/css"><style>@import "https://evil.example/import"; p{color:red}</style>
<style>body{background:url(https://evil.example/background)}</style><style>.ok{color:green}</style></head>
<body onload="alert(1)" background="https://evil.example/body"><script>alert(2)</script><SCRIPT SRC=https://evil.example/js></SCRIPT>
<p class="ok" onclick="alert(3)">Visible words</p><img src="https://evil.example/pixel.png" onerror="alert(4)"><img src=x onerror=alert(5)>
<img src="cid:logo@x" alt="Logo"><img src="data:image/svg+xml;base64,PHN2Zy8+"><svg onload=alert(6)><image href="https://evil.example/svg"/></svg>
<iframe src="https://evil.example/frame"></iframe><object data="https://evil.example/object"></object><embed src="https://evil.example/embed">
<form action="https://evil.example/form"><input name="q" autofocus onfocus=alert(7)><button>Send</button></form>
<video src="https://evil.example/video" poster="https://evil.example/poster"></video><div style="background-image:url('https://evil.example/style')">styled</div>
<div style="background-image:u\72l(https://evil.example/escaped)">escaped</div><a href="javascript:alert(8)">run</a>
<a href="https://example.com/page" target="_top">Read more</a><a href="mailto:x@example.com" ping="https://evil.example/ping">write</a>
<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=alert(9)&gt;"></mglyph></table></mtext></math>
<!--[if mso]><img src="https://evil.example/mso"><![endif]--><p>The end</p></body></html>`

func TestHostileHTMLDoesNothing(t *testing.T) {
	src := "From: alice@example.org\r\nTo: bob@example.net\r\nSubject: <img src=x onerror=alert(0)>\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/related; boundary=b\r\n\r\n--b\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n" +
		"--c\r\nContent-Type: text/plain\r\n\r\nPlain words <script>alert(10)</script>\r\n--c\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + hostile +
		"\r\n--c--\r\n--b\r\nContent-Type: image/png\r\nContent-ID: <logo@x>\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==\r\n--b--\r\n"
	password := form.NewPassword()
	page := makeMail(t, src, form.Options{Password: password, NoOpenPGP: true}).page
	s := browse(t, page, job{Passwords: []string{password.Reveal()}, Save: "hostile", Wait: 1500})
	s.quiet(t)
	if s.Frame == nil || s.Frame.Sandbox != "" || s.Frame.URL != "about:srcdoc" {
		t.Fatalf("frame %+v", s.Frame)
	}
	tree := strings.Join(s.Frame.Tree, "\n")
	for _, want := range []string{"Visible words", "The end", "data:image/png;base64,", "styled", ".ok{color:green}"} {
		if !strings.Contains(tree, want) {
			t.Errorf("the frame doesn't show %q:\n%s", want, tree)
		}
	}
	for _, bad := range []string{"evil.example", "alert(", "\nscript", "\nsvg", "\nform", "\ninput", "\niframe", "href", " on", "\nbase", "refresh"} {
		if strings.Contains(strings.ToLower(tree), bad) {
			t.Errorf("the frame has %q:\n%s", bad, tree)
		}
	}
	if !strings.Contains(s.Text, "<img src=x onerror=alert(0)>") || !strings.Contains(s.Plain, "Plain words <script>alert(10)</script>") {
		t.Errorf("subject or text is not shown as it is: %s\n%s", s.Text, s.Plain)
	}
	if !slices.Equal(s.Links, []string{"https://example.com/page", "mailto:x@example.com"}) || len(s.Files) != 0 {
		t.Errorf("links %q, files %v", s.Links, s.Files)
	}
}

// TestTheFrameIsALockOfItsOwn has HTML that nobody cleaned, as if we had a
// mistake there: the sandbox and the page's policy alone hold it.
func TestTheFrameIsALockOfItsOwn(t *testing.T) {
	password := form.NewPassword()
	page := makeMail(t, letter, form.Options{Password: password, NoOpenPGP: true}).page
	there, asked := evil(t)
	s := browse(t, resealed(t, page, password.Reveal(), there(hostile)), job{Passwords: []string{password.Reveal()}, Wait: 1500})
	if !s.Open || s.Frame == nil {
		t.Fatalf("open %v: %q", s.Open, s.Statuses)
	}
	tree := strings.Join(s.Frame.Tree, "\n")
	if !strings.Contains(tree, "onerror alert(5)") || !strings.Contains(tree, there("https://evil.example/js")) {
		t.Fatalf("the frame doesn't have what was put in:\n%s", tree)
	}
	if n := asked(); n != 0 || s.Popups != 0 || strings.Contains(strings.Join(s.Console, "\n"), "dialog:") {
		t.Errorf("%d requests, %d pages, %q", n, s.Popups, s.Console)
	}
	// Without our page around it, the same HTML does ask.
	if browse(t, strings.ReplaceAll(there(hostile), "refresh", "nothing"), job{NoScript: true}); asked() == 0 {
		t.Error("nothing was noticed of HTML that is free: this test can't fail")
	}
}

// evil is a server in the place of evil.example, which counts what is asked of it.
// A connection on which nothing is said doesn't count: Chromium makes one for a
// frame before it asks the policy, and then leaves it. What is cleaned has no
// frames.
func evil(t *testing.T) (there func(html string) string, asked func() int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var n atomic.Int64
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			go func() {
				defer c.Close()
				c.SetReadDeadline(time.Now().Add(10 * time.Second))
				if k, _ := c.Read(make([]byte, 1)); k > 0 {
					n.Add(1)
				}
			}()
		}
	}()
	there = func(html string) string {
		return strings.ReplaceAll(html, "https://evil.example", "http://"+l.Addr().String())
	}
	return there, func() int { return int(n.Load()) }
}

func TestTenMegabytes(t *testing.T) {
	data := make([]byte, 10<<20)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	var encoded strings.Builder
	for b := base64.StdEncoding.EncodeToString(data); b != ""; b = b[min(76, len(b)):] {
		encoded.WriteString(b[:min(76, len(b))] + "\r\n")
	}
	password := form.NewPassword()
	page := makeMail(t, strings.Replace(letter, "Q0FOQVJZLWRhdGE=\r\n", encoded.String(), 1), form.Options{Password: password, NoOpenPGP: true}).page
	s := browse(t, page, job{Passwords: []string{password.Reveal()}, Save: "big"})
	s.quiet(t)
	if !s.Open || !bytes.Equal(s.file(t, "figures.pdf"), data) {
		t.Errorf("open %v after %d ms; what was downloaded is another file", s.Open, s.Took)
	}
	t.Logf("opened in %d ms", s.Took)
}
