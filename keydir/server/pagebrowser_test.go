package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/keydir/server"
	"letterlock.org/letterlock/pgp"
)

// step is one thing that a person does; testdata/page.js.
type step struct {
	Go       string `json:"go,omitempty"`
	Mail     int    `json:"mail,omitempty"` // opens the link of that mail, counted from one
	Fill     string `json:"fill,omitempty"` // the label
	File     string `json:"file,omitempty"` // the label
	Text     string `json:"text,omitempty"` // to fill in, or the file's name
	Button   string `json:"button,omitempty"`
	Link     string `json:"link,omitempty"`
	Tabs     int    `json:"tabs,omitempty"`
	Type     string `json:"type,omitempty"` // and Enter
	Open     bool   `json:"open,omitempty"` // what is folded
	Download string `json:"download,omitempty"`
	Shot     string `json:"shot,omitempty"`
}

type visit struct {
	Base   string `json:"base"`
	Steps  []step `json:"steps"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
	Dark   bool   `json:"dark"`
	Script bool   `json:"script"`
	Save   string `json:"save"`
}

// seenPage is a page as it was seen.
type seenPage struct {
	Status                              int
	URL, Title, Text, Background, Color string
	Focus, Outline                      string
	Wide                                bool // wider than the window
	Small                               int  // what is too low to be hit with a finger
	Nameless                            int  // fields without a label
}

type visited struct {
	Requests, Console []string
	Popups, Cookies   int
	Pages             []seenPage
	Files             map[string]string
	dir               string
}

// street is the site on a real port, with a folder for the browser.
type street struct {
	d         *server.Directory
	base, dir string
}

// newStreet serves as letterlock serve does; mails are left in the folder.
func newStreet(t *testing.T) *street {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d, _ := directory(t)
	d.Submission = addr(t, "key-submission@example.org")
	add(t, d, "key-submission@example.org")
	s := &street{d: d, base: "http://" + l.Addr().String(), dir: t.TempDir()}
	n, link := 0, regexp.MustCompile(`http://127\.0\.0\.1:\d+/\w+/[a-z0-9]{32}`)
	post := server.NewPost(func(_ context.Context, m server.Mail) error {
		n++
		name := filepath.Join(s.dir, fmt.Sprintf("mail-%d", n))
		if err := os.WriteFile(name+".part", link.Find(m.Text), 0o600); err != nil {
			return err
		}
		return os.Rename(name+".part", name)
	}, nil)
	h := handler(d)
	site := server.NewSite(h, server.NewIntake(server.IntakeConfig{Directory: d, Domains: []string{"example.org"}, URL: s.base,
		From: addr(t, "keys@example.org"), Post: post, Next: h, Now: d.Now}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 3)
	go func() { post.Run(ctx); done <- nil }()
	go func() { site.Run(ctx); done <- nil }()
	go func() { done <- h.Serve(ctx, l, site, time.Second) }()
	t.Cleanup(func() {
		cancel()
		for range 3 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

// write leaves a file for the browser to upload.
func (s *street) write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// visit drives Debian's Chromium by playwright-core, of which
// LETTERLOCK_PLAYWRIGHT names the node_modules folder. It demands that nothing
// was asked of another host, and that the browser had nothing to complain of.
func (s *street) visit(t *testing.T, v visit) visited {
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
	if v.Base = s.base; v.Width == 0 {
		v.Width, v.Height = 1100, 900
	}
	if shots := os.Getenv("LETTERLOCK_SCREENSHOTS"); shots != "" && v.Save != "" {
		v.Save = filepath.Join(shots, v.Save)
	} else {
		v.Save = ""
	}
	told, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "job.json", told)
	script, err := filepath.Abs("testdata/page.js")
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
	seen := visited{dir: s.dir}
	if err := json.Unmarshal(b, &seen); err != nil {
		t.Fatal(err)
	}
	seen.check(t, s.base)
	return seen
}

func (v visited) check(t *testing.T, base string) {
	t.Helper()
	for _, r := range v.Requests {
		if !strings.HasPrefix(r, base+"/") && r != "data:," {
			t.Errorf("the browser asked for %s", r)
		}
	}
	for _, c := range v.Console {
		// Chromium says so of every answer that is no 2xx.
		if !strings.Contains(c, "Failed to load resource: the server responded with a status of 4") {
			t.Errorf("the browser says %s", c)
		}
	}
	if len(v.Requests) == 0 || v.Popups != 0 || v.Cookies != 0 {
		t.Errorf("%d requests, %d pages, %d windows, %d cookies", len(v.Requests), len(v.Pages), v.Popups, v.Cookies)
	}
	for _, p := range v.Pages {
		if p.Wide || p.Small > 0 || p.Nameless > 0 || p.Title == "" {
			t.Errorf("%s: wider than the window %v, %d too small, %d without label, title %q", p.URL, p.Wide, p.Small, p.Nameless, p.Title)
		}
	}
}

// saw demands of each page a status and a text.
func (v visited) saw(t *testing.T, want ...any) {
	t.Helper()
	if len(v.Pages) != len(want)/2 {
		t.Fatalf("%d pages, want %d", len(v.Pages), len(want)/2)
	}
	for i, p := range v.Pages {
		if p.Status != want[2*i] || !strings.Contains(p.Text, want[2*i+1].(string)) {
			t.Errorf("page %d, %s: %d, want %d and %q:\n%s", i, p.URL, p.Status, want[2*i], want[2*i+1], p.Text)
		}
	}
}

// life is what a person does with the pages, from the first look to the removal.
var life = []step{
	{Go: "/", Open: true, Shot: "home"},
	{Fill: "Mail address", Text: "joe.doe@example.org", Button: "Look up", Shot: "absent"},
	{Link: "Publish", Open: true, Shot: "upload"},
	{File: "A file with your certificate", Text: "joe.asc", Button: "Upload", Shot: "uploaded"},
	{Mail: 1, Shot: "confirm"},
	{Button: "Publish it", Shot: "published"},
	{Link: "See how it is shown", Shot: "found"},
	{Download: "As text"},
	{Download: "Binary"},
	{Link: "Remove", Shot: "remove"},
	{Fill: "Your mail address", Text: "joe.doe@example.org", Button: "Send me the link", Shot: "removing"},
	{Mail: 2, Shot: "withdraw"},
	{Button: "Remove it", Shot: "removed"},
	{Mail: 2, Shot: "used"},
	{Go: "/lookup?address=joe.doe@example.org"},
}

func TestAPersonWithABrowser(t *testing.T) {
	for _, v := range []visit{
		{Save: "desktop"},
		{Save: "phone", Width: 360, Height: 740},
		{Save: "dark", Dark: true},
		{Save: "narrow", Width: 320, Height: 560, Dark: true},
	} {
		t.Run(v.Save, func(t *testing.T) {
			s := newStreet(t)
			c := cert(t, "joe.doe@example.org")
			s.write(t, "joe.asc", []byte(c.Armored()))
			v.Steps = life
			seen := s.visit(t, v)
			seen.saw(t, 200, "Encrypted mail to example.org", 404, "No certificate is published here", 200, "Publish your certificate", 200, "Now look at your mail",
				200, "Publish this certificate?", 200, "finds from now on", 200, grouped(c), 200, "Remove your certificate", 200, "a mail is on its way",
				200, "Remove this certificate?", 200, "Nothing is published any more", 404, "does nothing any more", 404, "No certificate is published here")
			want := map[bool]string{false: "rgb(255, 255, 255)", true: "rgb(20, 24, 28)"}[v.Dark]
			for _, p := range seen.Pages {
				if p.Background != want || p.Color == want {
					t.Errorf("%s: background %s, text %s", p.URL, p.Background, p.Color)
				}
			}
			for _, name := range []string{"certificate.asc", "certificate.pgp"} {
				b, err := os.ReadFile(filepath.Join(s.dir, seen.Files[name]))
				if err != nil {
					t.Fatalf("%s: %v (%v)", name, err, seen.Files)
				}
				if certs, err := pgp.ParseCertificates(b); err != nil || len(certs) != 1 || certs[0].Fingerprint() != c.Fingerprint() || bytes.HasPrefix(b, []byte("-----")) != strings.HasSuffix(name, ".asc") {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

func TestAPersonMakesMistakes(t *testing.T) {
	s := newStreet(t)
	s.write(t, "secret.asc", key(t, "joe.doe@example.org").Marshal())
	s.write(t, "photo.jpg", bytes.Repeat([]byte("photo"), 1<<20))
	s.write(t, "foreign.asc", cert(t, "joe@elsewhere.example").Bytes())
	const file = "A file with your certificate"
	seen := s.visit(t, visit{Save: "fault", Width: 412, Height: 800, Steps: []step{
		{Go: "/upload", File: file, Text: "secret.asc", Button: "Upload", Shot: "secret"},
		{File: file, Text: "photo.jpg", Button: "Upload", Shot: "large"},
		{Go: "/upload", File: file, Text: "foreign.asc", Button: "Upload", Shot: "foreign"},
		{Fill: "or the certificate as text", Text: "Hello", Button: "Upload"},
		{Button: "Upload"},
		{Go: "/lookup?address=joe", Shot: "address"},
	}})
	seen.saw(t, 200, "", 400, "SECRET KEY", 413, "too large", 200, "", 400, "No address of ours", 400, "no certificate", 400, "nothing in it", 400, "no mail address")
}

func TestAPersonWithAKeyboard(t *testing.T) {
	s := newStreet(t)
	c := add(t, s.d, "joe.doe@example.org")
	seen := s.visit(t, visit{Save: "keyboard", Steps: []step{
		{Go: "/", Tabs: 4, Shot: "focus"}, {Type: "joe.doe@example.org"}, {Go: "/remove", Tabs: 5, Shot: "button"},
	}})
	seen.saw(t, 200, "", 200, "", 200, grouped(c), 200, "", 200, "")
	for i, id := range map[int]string{1: "address", 4: ""} {
		if p := seen.Pages[i]; p.Focus != id || p.Outline != "solid" {
			t.Errorf("page %d: focus on %q, outline %q", i, p.Focus, p.Outline)
		}
	}
}

func TestHostileUserIDsInABrowser(t *testing.T) {
	s := newStreet(t)
	var steps []step
	var want []any
	for i, id := range hostileIDs {
		a := fmt.Sprintf("a%d@example.org", i)
		if err := s.d.Add(ctx, addr(t, a), named(t, strings.ReplaceAll(id, "a@example.org", a))); err != nil {
			t.Fatalf("%.30q: %v", id, err)
		}
		steps = append(steps, step{Go: "/lookup?address=" + a, Shot: fmt.Sprint(i)})
		want = append(want, 200, "Name, as its owner wrote it")
	}
	seen := s.visit(t, visit{Save: "hostile", Width: 360, Height: 740, Script: true, Steps: steps})
	seen.saw(t, want...)
	if got := seen.Pages[0].Text; !strings.Contains(got, "&lt;script&gt;alert(1)") {
		t.Errorf("not shown as it is:\n%s", got)
	}
}
