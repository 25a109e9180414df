package form

import (
	"bytes"
	"context"
	"fmt"
	"html"
	"io"
	"strings"

	"letterlock.org/letterlock/internal/message"
)

const (
	maxText   = 4 << 20 // bytes of a part that is shown; longer ones are files
	maxImage  = 4 << 20 // bytes of one image within HTML, decoded
	maxImages = 8 << 20 // of all of them
)

// reader sorts the parts of a message: what is shown, and what is a file.
type reader struct {
	ctx    context.Context
	src    message.Source
	c      *Content
	shown  []shown
	files  []*message.Part
	images map[string]*image // by Content-ID, without brackets
	inline int64             // bytes of images in the HTML so far
}

// shown is a text part. Where an alternative has both kinds, each stands in its
// own view only; otherwise it belongs to both.
type shown struct {
	part   *message.Part
	paired bool
}

// image is one that HTML may name by its Content-ID (RFC 2392).
type image struct {
	part *message.Part
	used bool
}

func (r *reader) walk(p *message.Part) {
	switch {
	case p.IsMultipart() && len(p.Children) > 0:
		before := len(r.shown)
		for _, c := range p.Children {
			r.walk(c)
		}
		if p.Subtype == "alternative" {
			pair(r.shown[before:])
		}
	case isText(p):
		r.shown = append(r.shown, shown{part: p})
	default:
		r.files = append(r.files, p)
		if id := strings.Trim(p.Header.Get("Content-ID"), "<> "); id != "" && imageType(p) != "" && r.images[id] == nil {
			r.images[id] = &image{part: p}
		}
	}
}

func pair(some []shown) {
	var plain, rich bool
	for _, s := range some {
		plain = plain || s.part.Is("text/plain")
		rich = rich || s.part.Is("text/html")
	}
	for i := range some {
		some[i].paired = some[i].paired || plain && rich
	}
}

// isText tells of a part that is shown, not offered as a file.
func isText(p *message.Part) bool {
	if !p.Is("text/plain") && !p.Is("text/html") || p.End-p.Body > maxText {
		return false
	}
	disposition, _ := message.ParseParams(p.Header.Get("Content-Disposition"))
	return disposition != "attachment" && fileName(p) == ""
}

// imageType is the media type of an image that every browser shows and that has
// no scripts in it; "" for others.
func imageType(p *message.Part) string {
	if p.Type != "image" {
		return ""
	}
	switch p.Subtype {
	case "png", "jpeg", "gif", "webp", "bmp":
		return "image/" + p.Subtype
	case "jpg":
		return "image/jpeg"
	}
	return ""
}

// finish decodes what walk has sorted: first both views, then the files.
func (r *reader) finish() error {
	text, err := r.text()
	if err != nil {
		return err
	}
	doc, err := r.html()
	if err != nil {
		return err
	}
	for _, view := range []struct {
		size *int64
		body []byte
	}{{&r.c.about.Text, text}, {&r.c.about.HTML, doc}} {
		*view.size = int64(len(view.body))
		err := r.keep(func(w io.Writer) error { _, err := w.Write(view.body); return err })
		if err != nil {
			return err
		}
	}
	for _, p := range r.files {
		if err := r.file(p); err != nil {
			return err
		}
	}
	return nil
}

// text is the view of plain text; empty where some HTML has none beside it.
func (r *reader) text() ([]byte, error) {
	var b bytes.Buffer
	for _, s := range r.shown {
		if s.part.Is("text/html") {
			if !s.paired {
				return nil, nil
			}
			continue
		}
		text, err := r.decodeText(s.part)
		if err != nil {
			return nil, err
		}
		if b.Len() > 0 {
			b.WriteString("\n\n")
		}
		b.WriteString(text)
	}
	return b.Bytes(), nil
}

// html is the view of HTML; empty where the message has none.
func (r *reader) html() ([]byte, error) {
	c := cleaner{image: r.image}
	some := false
	for _, s := range r.shown {
		plain := s.part.Is("text/plain")
		if plain && s.paired {
			continue
		}
		some = some || !plain
		body, err := r.decodeText(s.part)
		if err != nil {
			return nil, err
		}
		if plain {
			fmt.Fprintf(&c.out, "<pre>%s</pre>\n", html.EscapeString(body))
			continue
		}
		whole, err := c.clean(strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		if !whole { // nothing may be missing
			r.files = append(r.files, s.part)
		}
	}
	if !some {
		return nil, nil
	}
	r.c.about.Links = c.links
	return append([]byte(frameHead), c.out.Bytes()...), nil
}

// keep adds what f writes to the spool, as the next piece.
func (r *reader) keep(f func(io.Writer) error) error {
	start := r.c.spool.Size()
	if err := f(r.c.spool); err != nil {
		return err
	}
	r.c.pieces = append(r.c.pieces, stretch{start, r.c.spool.Size() - start})
	return nil
}

// file keeps a part that isn't shown. Images that stand within the HTML are no
// files.
func (r *reader) file(p *message.Part) error {
	for _, i := range r.images {
		if i.part == p && i.used {
			return nil
		}
	}
	if err := r.keep(func(w io.Writer) error { return r.decode(w, p) }); err != nil {
		return err
	}
	size := r.c.pieces[len(r.c.pieces)-1].size
	r.c.about.Files = append(r.c.about.Files, file{Name: safeName(p), Size: size})
	return nil
}
