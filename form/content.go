package form

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
)

// Content is a message taken apart as its page shows it: header fields, a text,
// cleaned HTML, files; all decoded. It is read only, and closed by whoever has
// it.
type Content struct {
	about  about
	author string    // the address of the first one, which stands outside too
	pieces []stretch // what about tells the sizes of, in that order
	spool  *message.Spool
}

// about is what the page reads first.
type about struct {
	From    string `json:"from"`
	To      string `json:"to,omitempty"`
	Cc      string `json:"cc,omitempty"`
	Date    string `json:"date,omitempty"` // RFC 3339
	Subject string `json:"subject,omitempty"`
	Text    int64  `json:"text"` // bytes of UTF-8
	HTML    int64  `json:"html"` // bytes of a whole document
	Files   []file `json:"files"`
	// Links are where HTML led, which the frame doesn't open.
	Links []string `json:"links,omitempty"`
}

type file struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

// stretch is some bytes of the spool.
type stretch struct{ start, size int64 }

// Read takes a message apart. It decodes what MIME encoded, once, into a spool;
// what it can't decode becomes a file as it stands. Nothing is left out but
// blind recipients and what HTML may do.
func Read(ctx context.Context, src message.Source, o message.SpoolOptions) (c *Content, err error) {
	root, err := message.Parse(src, message.Limits{})
	if err != nil {
		return nil, err
	}
	c = &Content{spool: message.NewSpool(o)}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	c.about, c.author = headerOf(root.Header), "Somebody"
	if list, err := address.ParseList(root.Header.Get("From")); err == nil && len(list) > 0 {
		c.author = list[0].Address.String()
	}
	r := &reader{ctx: ctx, src: src, c: c, images: map[string]*image{}}
	r.walk(root)
	return c, r.finish()
}

// Close frees the decoded parts.
func (c *Content) Close() error { return c.spool.Close() }

func headerOf(h message.Header) about {
	field := func(name string) string {
		var all string
		for _, f := range h.All(name) {
			if v := f.Text(); v != "" && all != "" {
				all += ", " + v
			} else {
				all += v
			}
		}
		return all
	}
	a := about{From: field("From"), To: field("To"), Cc: field("Cc"), Subject: field("Subject"), Files: []file{}}
	if d := dateOf(h.Get("Date")); !d.IsZero() {
		a.Date = d.Format(time.RFC3339)
	}
	return a
}

// WriteTo implements io.WriterTo: four bytes for the length of a JSON object,
// the object, then what it tells the sizes of.
func (c *Content) WriteTo(w io.Writer) (int64, error) {
	head, err := json.Marshal(c.about)
	if err != nil {
		return 0, err
	}
	out := binary.BigEndian.AppendUint32(nil, uint32(len(head)))
	n, err := w.Write(append(out, head...))
	written := int64(n)
	for _, p := range c.pieces {
		if err != nil {
			return written, err
		}
		var m int64
		m, err = io.Copy(w, message.Reader(message.Section(c.spool, p.start, p.size)))
		written += m
		if err == nil && m != p.size {
			err = fmt.Errorf("a decoded part has %d bytes, not %d", m, p.size)
		}
	}
	return written, err
}
