package form

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// frameHead begins the document in the page's frame. Its policy is the frame's
// second lock; the first is sandbox, the third clean.
const frameHead = `<!doctype html><html><head><meta charset="utf-8">` +
	`<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">` +
	`<meta name="referrer" content="no-referrer"><meta name="color-scheme" content="light">` +
	`<style>body{margin:8px;font:16px/1.5 system-ui,sans-serif;color:#111;background:#fff;overflow-wrap:break-word}` +
	`img{max-width:100%;height:auto}pre{white-space:pre-wrap}</style></head><body>` + "\n"

// elements are those that stay. body becomes a div.
var elements = words("a abbr address article b bdi bdo big blockquote br caption center cite code col colgroup dd del details dfn " +
	"dir div dl dt em figcaption figure font footer h1 h2 h3 h4 h5 h6 header hr i img ins kbd li main mark nav ol p pre q rp rt ruby s " +
	"samp section small span strike strong style sub summary sup table tbody td tfoot th thead time tr tt u ul var wbr")

// swallowed are elements whose content goes with them.
var swallowed = words("applet audio canvas datalist frameset iframe math noembed noframes noscript object plaintext script select svg " +
	"template textarea title video xmp")

// attributes are those that stay, on whatever element.
var attributes = words("abbr align alt bgcolor border cellpadding cellspacing class color colspan datetime dir face headers height lang " +
	"noshade nowrap open reversed rowspan scope size span start style text title type valign value width")

func words(s string) map[string]bool {
	m := map[string]bool{}
	for w := range strings.FieldsSeq(s) {
		m[w] = true
	}
	return m
}

// cleaner makes HTML harmless.
type cleaner struct {
	out bytes.Buffer
	// image gives a data: URL for a Content-ID, or "".
	image func(id string) (string, error)
	links []string // where it led, each once
}

const (
	maxLinks = 200
	maxLink  = 2000 // bytes
)

// link notes where a link led, for the page to list, if it is of a kind that a
// browser or mail program opens.
// It is "" for others.
func (c *cleaner) link(target string) string {
	u, err := url.Parse(strings.TrimSpace(target))
	if err != nil || u.Scheme != "mailto" && (u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
		return ""
	}
	s := u.String()
	if len(s) > maxLink {
		return ""
	}
	if len(c.links) < maxLinks && !slices.Contains(c.links, s) {
		c.links = append(c.links, s)
	}
	return s
}

// clean writes HTML without what runs, loads, asks or leads elsewhere: what is
// not known to be harmless goes. Links lose their target, which becomes their
// title and one of links, since the frame can't open them.
//
// whole is false where the end of the document was swallowed.
func (c *cleaner) clean(r io.Reader) (whole bool, err error) {
	z := html.NewTokenizer(r)
	z.SetMaxBuf(2 * maxText)
	inside, depth := "", 0 // a swallowed element, and how many of its name are open
	styling := false
	for {
		kind := z.Next()
		if kind == html.ErrorToken {
			if err := z.Err(); !errors.Is(err, io.EOF) {
				return false, err
			}
			return inside == "", nil
		}
		t := z.Token()
		switch {
		case inside != "":
			depth += nesting(t, inside)
			if depth <= 0 {
				inside = ""
			}
		case kind == html.StartTagToken && swallowed[t.Data]:
			inside, depth = t.Data, 1
		case kind == html.TextToken && styling:
			if harmlessCSS(t.Data) && !strings.Contains(t.Data, "<") {
				c.out.WriteString(t.Data)
			}
		case kind == html.TextToken:
			c.out.WriteString(html.EscapeString(t.Data))
		default:
			styling = kind == html.StartTagToken && t.Data == "style"
			if err := c.tag(t); err != nil {
				return false, err
			}
		}
	}
}

func nesting(t html.Token, name string) int {
	switch {
	case t.Data != name:
		return 0
	case t.Type == html.StartTagToken:
		return 1
	case t.Type == html.EndTagToken:
		return -1
	}
	return 0
}

// tag writes a start or end tag that stays; comments and doctypes don't.
func (c *cleaner) tag(t html.Token) error {
	if t.Type == html.CommentToken || t.Type == html.DoctypeToken {
		return nil
	}
	name := t.Data
	if name == "body" {
		name = "div"
	}
	if !elements[name] {
		return nil
	}
	if t.Type == html.EndTagToken {
		c.out.WriteString("</" + name + ">")
		return nil
	}
	c.out.WriteString("<" + name)
	for _, a := range t.Attr {
		key, value, err := c.attribute(name, a)
		if err != nil {
			return err
		}
		if key != "" {
			c.out.WriteString(" " + key + `="` + html.EscapeString(value) + `"`)
		}
	}
	c.out.WriteString(">")
	return nil
}

// attribute is what stays of one; key "" means nothing.
func (c *cleaner) attribute(element string, a html.Attribute) (key, value string, err error) {
	switch {
	case a.Namespace != "":
		return "", "", nil
	case element == "img" && a.Key == "src":
		value, err = source(a.Val, c.image)
		if value == "" {
			return "", "", err
		}
		return "src", value, nil
	case element == "a" && a.Key == "href":
		if value = c.link(a.Val); value == "" {
			return "", "", nil
		}
		return "title", value, nil
	case a.Key == "style" && !harmlessCSS(a.Val), a.Key == "title" && element == "a":
		return "", "", nil
	case attributes[a.Key]:
		return a.Key, a.Val, nil
	}
	return "", "", nil
}

// source is an image's that is within the message already; "" for any other.
func source(v string, image func(id string) (string, error)) (string, error) {
	v = strings.TrimSpace(v)
	scheme, rest, _ := strings.Cut(v, ":")
	switch strings.ToLower(scheme) {
	case "cid":
		if id, err := url.PathUnescape(rest); err == nil {
			rest = id
		}
		return image(rest)
	case "data":
		kind, data, ok := strings.Cut(rest, ";base64,")
		switch strings.ToLower(kind) {
		case "image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp":
			if _, err := base64.StdEncoding.DecodeString(data); ok && err == nil {
				return "data:" + strings.ToLower(kind) + ";base64," + data, nil
			}
		}
	}
	return "", nil
}

// harmlessCSS tells whether a style names nothing outside of the document. It
// need not be right for safety, since the frame's policy loads nothing either.
func harmlessCSS(s string) bool {
	s = strings.ToLower(s)
	for _, bad := range []string{`\`, "url", "@import", "image(", "image-set", "src(", "expression", "behavior", "-moz-binding"} {
		if strings.Contains(s, bad) {
			return false
		}
	}
	return true
}

// image gives a part as a data: URL, and notes that it is no file. Too large a
// one stays a file.
func (r *reader) image(id string) (string, error) {
	i := r.images[id]
	if i == nil || i.part.End-i.part.Body > 2*maxImage || r.inline > maxImages {
		return "", nil
	}
	var b bytes.Buffer
	if err := r.decode(&b, i.part); err != nil {
		return "", err
	}
	if b.Len() > maxImage || r.inline+int64(b.Len()) > maxImages {
		return "", nil
	}
	r.inline += int64(b.Len())
	i.used = true
	return "data:" + imageType(i.part) + ";base64," + base64.StdEncoding.EncodeToString(b.Bytes()), nil
}
