package form

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime/quotedprintable"
	"strings"

	"github.com/emersion/go-message/charset"

	"letterlock.org/letterlock/internal/message"
)

// decode writes the body of a part without its transfer encoding (RFC 2045,
// Section 6). What doesn't decode comes as it stands: a file that has to be
// repaired is better than one without its end.
func (r *reader) decode(w io.Writer, p *message.Part) error {
	body := message.Section(r.src, p.Body, p.End-p.Body)
	encoding, _ := message.ParseParams(p.Header.Get("Content-Transfer-Encoding"))
	if p.Embedded != nil { // read as it stands, whatever it says
		encoding = ""
	}
	if encoding == "quoted-printable" {
		if _, err := io.Copy(io.Discard, quotedprintable.NewReader(message.Reader(body))); err != nil {
			encoding = ""
		}
	}
	decoder := message.Reader(body)
	switch encoding {
	case "base64":
		decoder = wholeQuanta(base64.NewDecoder(base64.StdEncoding, &base64Only{r: decoder}))
	case "quoted-printable":
		decoder = quotedprintable.NewReader(decoder)
	}
	_, err := io.Copy(w, r.watched(decoder))
	return err
}

// decodeText gives the body of a text part as UTF-8, its lines ended by LF.
func (r *reader) decodeText(p *message.Part) (string, error) {
	var raw bytes.Buffer
	if err := r.decode(&raw, p); err != nil {
		return "", err
	}
	text := raw.Bytes()
	name := strings.ToLower(p.Params["charset"])
	if name != "" && name != "utf-8" && name != "us-ascii" {
		if c, err := charset.Reader(name, bytes.NewReader(text)); err == nil {
			if decoded, err := io.ReadAll(c); err == nil {
				text = decoded
			}
		}
	}
	s := strings.ReplaceAll(strings.ToValidUTF8(string(text), "\uFFFD"), "\r\n", "\n")
	if p.Is("text/plain") && strings.EqualFold(p.Params["format"], "flowed") {
		s = unflow(s, strings.EqualFold(p.Params["delsp"], "yes"))
	}
	return s, nil
}

// watched ends reading when the context does.
func (r *reader) watched(from io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if err := r.ctx.Err(); err != nil {
			return 0, err
		}
		return from.Read(p)
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// wholeQuanta ends where base64 breaks off within a byte.
func wholeQuanta(from io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		n, err := from.Read(p)
		if err == io.ErrUnexpectedEOF {
			err = io.EOF
		}
		return n, err
	})
}

// base64Only leaves out what isn't base64, as decoders have to (RFC 2045,
// Section 6.8), and what follows the padding, and adds padding that is missing.
type base64Only struct {
	r     io.Reader
	n     int // characters so far
	ended bool
	pad   int // padding still to give
}

func (f *base64Only) Read(p []byte) (int, error) {
	for {
		if f.ended {
			if f.pad == 0 {
				return 0, io.EOF
			}
			n := min(f.pad, len(p))
			copy(p, "==="[:n])
			f.pad -= n
			return n, nil
		}
		n, err := f.r.Read(p)
		n = f.keep(p[:n])
		if err == io.EOF && !f.ended {
			f.end()
		} else if err != nil && err != io.EOF {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
	}
}

func (f *base64Only) keep(p []byte) (n int) {
	for _, c := range p {
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '+', c == '/':
			p[n] = c
			n++
		case c == '=':
			f.n += n
			f.end()
			return n
		}
	}
	f.n += n
	return n
}

func (f *base64Only) end() {
	f.ended = true
	if f.pad = (4 - f.n%4) % 4; f.pad == 3 {
		f.pad = 0 // six bits alone are nothing; see wholeQuanta
	}
}
