package form

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html"
	"io"
	"strconv"
	"strings"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
	//go:embed page.js
	pageJS string
)

// policy lets the page's own script run and nothing else; nothing is loaded from
// anywhere. The frame inherits it, and so style and images within the message
// must be allowed here.
var policy = "default-src 'none'; script-src 'sha256-" + scriptHash() + "'; style-src 'unsafe-inline'; img-src data:; " +
	"connect-src 'none'; frame-src 'none'; object-src 'none'; base-uri 'none'; form-action 'none'"

// scriptHash is of what stands between the tags; browsers make line ends LF
// before they hash, however the page was carried.
func scriptHash() string {
	sum := sha256.Sum256([]byte("\n" + pageJS))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// WritePage writes the page that shows the content to who has the password. It
// is ASCII in lines of at most 998 bytes that end in CRLF. In clear it tells the
// sender's address, how long the content is, and whether we made the password.
func WritePage(ctx context.Context, w io.Writer, c *Content, password Password) error {
	s, p, err := newSealer(nil, password)
	if err != nil {
		return err
	}
	kind, hint := "agreed", "It is the password that you and the sender have agreed upon; it never comes by mail."
	if password.Made() {
		kind, hint = "made", "The sender tells you the password of this message in another way, never by mail."
	}
	filled := strings.NewReplacer(
		"{policy}", policy, "{style}", pageCSS, "{script}", pageJS, "{sender}", ascii(c.author), "{kind}", kind, "{hint}", hint,
		"{rounds}", strconv.Itoa(rounds), "{chunk}", strconv.Itoa(chunkSize),
		"{salt}", base64.StdEncoding.EncodeToString(p.salt[:]), "{check}", base64.StdEncoding.EncodeToString(p.check[:]),
	)
	before, after, _ := strings.Cut(pageHTML, "{sealed}")
	if err := crlf(w, filled.Replace(before)); err != nil {
		return err
	}
	lines := &base64Lines{w: w}
	s.w = lines
	if _, err := c.WriteTo(ctxWriter{ctx, s}); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	if err := lines.Close(); err != nil {
		return err
	}
	return crlf(w, filled.Replace(after))
}

// ascii escapes for HTML, beyond ASCII by numbers.
func ascii(s string) string {
	var b strings.Builder
	for _, r := range html.EscapeString(s) {
		if r < 0x80 {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "&#%d;", r)
		}
	}
	return b.String()
}

func crlf(w io.Writer, s string) error {
	_, err := io.WriteString(w, strings.ReplaceAll(s, "\n", "\r\n"))
	return err
}

// base64Lines encodes in lines of 76 characters.
type base64Lines struct {
	w    io.Writer
	rest []byte // less than a line's
	out  []byte
}

const lineBytes = 57

// Write implements io.Writer.
func (b *base64Lines) Write(p []byte) (int, error) {
	n := len(p)
	b.out = b.out[:0]
	if len(b.rest) > 0 {
		m := min(lineBytes-len(b.rest), len(p))
		b.rest, p = append(b.rest, p[:m]...), p[m:]
		if len(b.rest) < lineBytes {
			return n, nil
		}
		b.line(b.rest)
		b.rest = b.rest[:0]
	}
	for len(p) >= lineBytes {
		b.line(p[:lineBytes])
		p = p[lineBytes:]
	}
	b.rest = append(b.rest, p...)
	_, err := b.w.Write(b.out)
	return n, err
}

func (b *base64Lines) line(p []byte) {
	b.out = append(base64.StdEncoding.AppendEncode(b.out, p), '\r', '\n')
}

// Close writes the last line. It doesn't close w.
func (b *base64Lines) Close() error {
	b.out = b.out[:0]
	if len(b.rest) > 0 {
		b.line(b.rest)
	}
	_, err := b.w.Write(b.out)
	return err
}

// ctxWriter stops when its context does.
type ctxWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c ctxWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}
