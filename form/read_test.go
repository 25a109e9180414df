package form_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"letterlock.org/letterlock/form"
	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/message"
)

// read takes a message apart; LF in src stands for CRLF.
func read(t *testing.T, src string) opened {
	t.Helper()
	c, err := form.Read(context.Background(), message.Bytes([]byte(strings.ReplaceAll(src, "\n", "\r\n"))), message.SpoolOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	o, err := parted(c)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

const top = "From: a@example.org\nMIME-Version: 1.0\n"

func TestWhatIsShownAndWhatIsAFile(t *testing.T) {
	for name, tt := range map[string]struct {
		src, text, html string // html: words that must be there, in order, separated by |
		files           []string
	}{
		"a message without MIME": {"From: a@example.org\n\nhello\n", "hello\n", "", nil},
		"text and HTML":          {top + "Content-Type: multipart/alternative; boundary=b\n\n--b\n\nplain\n--b\nContent-Type: text/html\n\n<p>rich\n--b--\n", "plain", "<p>rich", nil},
		"HTML alone":             {top + "Content-Type: text/html\n\n<p>rich\n", "", "<p>rich", nil},
		"a footer beside an alternative": {top + "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/alternative; boundary=b\n\n--b\n\nplain\n--b\nContent-Type: text/html\n\n<p>rich\n--b--\n--a\n\na <footer>\n--a--\n",
			"plain\n\na <footer>", "<p>rich|<pre>a &lt;footer&gt;</pre>", nil},
		"HTML beside text that says something else": {top + "Content-Type: multipart/mixed; boundary=a\n\n--a\n\nfirst\n--a\nContent-Type: text/html\n\n<p>second\n--a--\n",
			"", "<pre>first</pre>|<p>second", nil},
		"a calendar in an alternative": {top + "Content-Type: multipart/alternative; boundary=b\n\n--b\n\nplain\n--b\nContent-Type: text/calendar\n\nBEGIN:VCALENDAR\n--b--\n", "plain", "", []string{"attachment.ics=BEGIN:VCALENDAR"}},
		"a text with a name":           {top + "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nplain\n--b\nContent-Type: text/plain; name=notes.txt\n\nnotes\n--b--\n", "plain", "", []string{"notes.txt=notes"}},
		"a forwarded message":          {top + "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nplain\n--b\nContent-Type: message/rfc822\n\nSubject: x\n\ninner\n--b--\n", "plain", "", []string{"attachment.eml=Subject: x\r\n\r\ninner"}},
		"a signed message":             {top + "Content-Type: multipart/signed; boundary=b\n\n--b\n\nplain\n--b\nContent-Type: application/pgp-signature\n\nsig\n--b--\n", "plain", "", []string{"attachment.asc=sig"}},
		"flowed text": {top + "Content-Type: text/plain; format=flowed\n\nOne long \nline.\n\n> quoted \n> line\n>> deeper\n from here \n-- \nAlice\n",
			"One long line.\n\n> quoted line\n>> deeper\nfrom here \n-- \nAlice\n", "", nil},
		"flowed text with delsp": {top + "Content-Type: text/plain; format=Flowed; delsp=yes\n\nOne lo \nng line.\n", "One long line.\n", "", nil},
		"base64 with noise in it": {top + "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b\nContent-Type: application/x; name=f\nContent-Transfer-Encoding: BASE64\n\n Zm9v\n!YmFy\nYg\n--b--\n",
			"x", "", []string{"f=foobarb"}},
		"quoted-printable that is none": {top + "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b\nContent-Type: application/x; name=f\nContent-Transfer-Encoding: quoted-printable\n\n=3D and =ZZ=\x00\n--b--\n",
			"x", "", []string{"f==3D and =ZZ=\x00"}},
		"a character set nobody knows":        {top + "Content-Type: text/plain; charset=x-none\n\nw\xffrds\n", "w\uFFFDrds\n", "", nil},
		"a related image":                     {top + "Content-Type: multipart/related; boundary=b\n\n--b\nContent-Type: text/html\n\n<img src=\"cid:a%40b\">\n--b\nContent-Type: image/png\nContent-ID: <a@b>\n\npng\n--b--\n", "", `<img src="data:image/png;base64,cG5n">`, nil},
		"a related image that nobody names":   {top + "Content-Type: multipart/related; boundary=b\n\n--b\nContent-Type: text/html\n\n<p>x\n--b\nContent-Type: image/png\nContent-ID: <a@b>\n\npng\n--b--\n", "", "<p>x", []string{"attachment.png=png"}},
		"an SVG image stays a file":           {top + "Content-Type: multipart/related; boundary=b\n\n--b\nContent-Type: text/html\n\n<img src=\"cid:a\" alt=pic>\n--b\nContent-Type: image/svg+xml\nContent-ID: <a>\n\n<svg/>\n--b--\n", "", `<img alt="pic">`, []string{"attachment=<svg/>"}},
		"HTML whose end is swallowed":         {top + "Content-Type: text/html\n\n<p>seen<svg><p>unseen\n", "", "<p>seen", []string{"attachment.html=<p>seen<svg><p>unseen\r\n"}},
		"HTML that is swallowed and returns":  {top + "Content-Type: text/html\n\n<p>seen<svg><svg>x</svg>y</svg>again\n", "", "<p>seen|again", nil},
		"a multipart without parts is a file": {top + "Content-Type: multipart/mixed\n\nwords\n", "", "", []string{"attachment=words\r\n"}},
	} {
		o := read(t, tt.src)
		if o.text != tt.text {
			t.Errorf("%s: text %q, want %q", name, o.text, tt.text)
		}
		_, body, _ := strings.Cut(o.html, "<body>")
		if tt.html == "" && o.html != "" {
			t.Errorf("%s: HTML %q", name, o.html)
		}
		for want := range strings.SplitSeq(tt.html, "|") {
			before, after, ok := strings.Cut(body, want)
			if !ok || strings.Contains(before, "un"+"seen") {
				t.Errorf("%s: no %q in %q", name, want, body)
			}
			body = after
		}
		var files []string
		for i, f := range o.Files {
			files = append(files, f.Name+"="+string(o.data[i]))
		}
		if strings.Join(files, "|") != strings.Join(tt.files, "|") {
			t.Errorf("%s: files %q, want %q", name, files, tt.files)
		}
	}
}

func TestFileNamesAreSafe(t *testing.T) {
	for given, want := range map[string]string{
		`"report.pdf"`: "report.pdf", `"../../etc/passwd"`: "passwd", `"C:\\windows\\x.exe"`: "x.exe", `".bashrc"`: "bashrc", `"con.txt"`: "_con.txt",
		`"lpt1"`: "_lpt1", `"a<b>:c|d?.txt"`: "a_b__c_d_.txt", `"x. . "`: "x", `"evil\u202Efdp.exe"`: "evilfdp.exe", `"=?utf-8?q?=C3=BC.txt?="`: "ü.txt",
		`"` + strings.Repeat("long", 60) + `.pdf"`: strings.Repeat("long", 29) + ".pdf", `"` + strings.Repeat("ü", 100) + `"`: strings.Repeat("ü", 60), `"..."`: "attachment",
	} {
		given = strings.ReplaceAll(given, `\u202E`, "\u202e")
		o := read(t, top+"Content-Type: application/octet-stream\nContent-Disposition: attachment; filename="+given+"\n\nx\n")
		if len(o.Files) != 1 || o.Files[0].Name != want {
			t.Errorf("%s: %+v, want %q", given, o.Files, want)
		}
	}
}

// TestTheCorpusIsShown: every message is taken apart, and no HTML of it keeps
// what runs or loads.
func TestTheCorpusIsShown(t *testing.T) {
	n := 0
	err := filepath.WalkDir(peer.Corpus(t), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".eml") {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		c, err := form.Read(context.Background(), message.Bytes(raw), message.SpoolOptions{})
		if err != nil {
			return nil // beyond the limits of structure
		}
		defer c.Close()
		o, err := parted(c)
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(path), err)
		}
		if what := harm(o.html); what != "" {
			t.Errorf("%s: HTML has %s", filepath.Base(path), what)
		}
		n++
		return nil
	})
	if err != nil || n == 0 {
		t.Fatalf("%d messages: %v", n, err)
	}
}
