package form_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/net/html"

	"letterlock.org/letterlock/form"
	"letterlock.org/letterlock/internal/message"
)

// harm names what may not be in the frame's HTML; "" if there is nothing. It
// reads as a browser does, by the tree, where clean reads tags.
func harm(doc string) string {
	_, body, ok := strings.Cut(doc, "<body>")
	if !ok {
		return ""
	}
	root, err := html.Parse(strings.NewReader(body))
	if err != nil {
		return ""
	}
	for n := range root.Descendants() {
		if n.Type == html.CommentNode {
			return "a comment"
		}
		if n.Type != html.ElementNode {
			continue
		}
		switch n.Data {
		case "script", "iframe", "object", "embed", "svg", "math", "form", "input", "button", "link", "meta", "base", "video", "audio", "template", "noscript", "frame":
			return n.Data
		}
		if n.Namespace != "" {
			return "namespace " + n.Namespace
		}
		for _, a := range n.Attr {
			v := strings.ToLower(a.Val)
			switch {
			case strings.HasPrefix(a.Key, "on"), a.Key == "href", a.Key == "srcset", a.Key == "background", a.Key == "action", a.Key == "srcdoc",
				a.Key == "src" && !strings.HasPrefix(v, "data:image/"), a.Key == "style" && (strings.Contains(v, "url") || strings.Contains(v, "\\")):
				return a.Key + "=" + a.Val
			}
		}
	}
	return ""
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(letter))
	f.Add([]byte(simple))
	f.Add([]byte("From: a@b\r\nContent-Type: text/html\r\n\r\n" + hostile))
	f.Add([]byte("Content-Type: text/html\r\n\r\n<style><!--</style><img title=\"--&gt;&lt;script&gt;\"><plaintext>x"))
	f.Add([]byte("Content-Type: text/plain; format=flowed; delsp=yes\r\nContent-Transfer-Encoding: base64\r\n\r\nPj4geCA=\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := form.Read(context.Background(), message.Bytes(raw), message.SpoolOptions{})
		if err != nil {
			if !errors.Is(err, message.ErrLimit) {
				t.Fatal(err)
			}
			return
		}
		defer c.Close()
		o, err := parted(c)
		if err != nil {
			t.Fatal(err)
		}
		if what := harm(o.html); what != "" {
			t.Errorf("HTML has %s:\n%s", what, o.html)
		}
		if !utf8.ValidString(o.text) || !utf8.ValidString(o.html) {
			t.Error("what the page shows is not UTF-8")
		}
		for _, n := range o.Files {
			if n.Name == "" || len(n.Name) > 120 || strings.ContainsAny(n.Name, "/\\\x00\r\n") {
				t.Errorf("file name %q", n.Name)
			}
		}
	})
}
