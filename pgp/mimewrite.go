package pgp

import (
	"context"
	"fmt"
	"io"

	"letterlock.org/letterlock/internal/message"
)

// body writes the body of p, safe.
func (s *safe) body(w io.Writer, p *message.Part) error {
	is := s.parts[p]
	switch {
	case is.do == exact:
		return s.copy(w, p.Body, p.End)
	case len(p.Children) > 0:
		return s.multipart(w, p)
	case p.Embedded != nil && !encoded(p):
		return s.part(w, p.Embedded, true)
	case is.clean && is.do == asIs:
		return s.copy(w, p.Body, p.End)
	}
	e := encoder(w, is.do)
	if err := s.copy(e, p.Body, p.End); err != nil {
		return err
	}
	return e.Close()
}

func encoder(w io.Writer, t treatment) io.WriteCloser {
	switch t {
	case toQuoted, quotedAgain:
		return &quoted{w: w, again: t == quotedAgain}
	case toBase64:
		return newBase64Lines(w)
	case base64Again:
		return &rewrap{w: w}
	case textToBase64:
		return &chain{lineEnds{w: newBase64Lines(w), keepCR: true}}
	}
	return &lineEnds{w: w}
}

// chain closes the base64 encoder behind the line ends too.
type chain struct{ lineEnds }

func (c *chain) Close() error {
	if err := c.lineEnds.Close(); err != nil {
		return err
	}
	return c.w.(io.Closer).Close()
}

// multipart writes preamble, delimiters and epilogue as they are, and parts.
func (s *safe) multipart(w io.Writer, p *message.Part) error {
	at := p.Body
	for _, c := range p.Children {
		if err := s.between(w, at, c.Start); err != nil {
			return err
		}
		if err := s.part(w, c, false); err != nil {
			return err
		}
		at = c.End
	}
	return s.between(w, at, p.End)
}

func (s *safe) between(w io.Writer, off, end int64) error {
	if off >= end {
		return nil
	}
	l := &lineEnds{w: w}
	if err := s.copy(l, off, end); err != nil {
		return err
	}
	return l.Close()
}

// part writes header and body. Without MIME-Version, a message inside that is
// encoded anew would be read as if it were not (RFC 2045, Section 4).
func (s *safe) part(w io.Writer, p *message.Part, isMessage bool) error {
	if s.parts[p].do == exact {
		return s.copy(w, p.Start, p.End)
	}
	var out []byte
	encoding, ended := s.newEncoding(p), int64(0)
	for _, f := range p.Header.Fields {
		ended = f.Start + int64(len(f.Raw))
		if encoding != "" && f.Is("Content-Transfer-Encoding") {
			continue
		}
		out = appendLines(out, f.Raw)
	}
	if encoding != "" && isMessage && !p.Header.Has("MIME-Version") {
		out = append(out, "MIME-Version: 1.0\r\n"...)
	}
	if encoding != "" {
		out = append(out, "Content-Transfer-Encoding: "+encoding+"\r\n"...)
	}
	if ended < p.Body-p.Start || p.Body < p.End {
		out = append(out, '\r', '\n')
	}
	if _, err := w.Write(out); err != nil {
		return err
	}
	return s.body(w, p)
}

// appendLines appends raw lines with every line end CRLF and no other CR.
func appendLines(out, raw []byte) []byte {
	for i, c := range raw {
		switch {
		case c == '\n':
			out = append(out, '\r', '\n')
		case c == '\r' && i+1 < len(raw) && raw[i+1] == '\n':
		case c == '\r':
			out = append(out, ' ')
		default:
			out = append(out, c)
		}
	}
	if n := len(out); n > 0 && out[n-1] != '\n' {
		out = append(out, '\r', '\n')
	}
	return out
}

func (s *safe) copy(w io.Writer, off, end int64) error {
	return copyRange(s.ctx, w, s.src, off, end)
}

// copyRange copies the bytes of src from off to end, 32 KiB at a time.
func copyRange(ctx context.Context, w io.Writer, src message.Source, off, end int64) error {
	chunk := chunks.Get().(*[]byte)
	defer chunks.Put(chunk)
	buf := *chunk
	for off < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buf[:min(int64(len(buf)), end-off)]
		n, err := src.ReadAt(b, off)
		if n < len(b) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("reading a message: %w", err)
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}
