package pgp

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime/quotedprintable"
	"strings"

	"letterlock.org/letterlock/internal/message"
)

// Class is what kind of message a UID is, as far as we are concerned.
type Class string

const (
	Unclassified Class = ""
	Plain        Class = "plain"
	Encrypted    Class = "encrypted" // opened, shown as its rendering
	Signed       Class = "signed"    // multipart/signed or clear-signed: shown as it is, with keywords
	Opaque       Class = "opaque"    // encrypted, but shown as it arrived
)

// Shape is what Classify looks at: the root of a message, as BODYSTRUCTURE, its
// header and the first bytes of its body tell it.
type Shape struct {
	Type, Subtype string            // of the root, "text" and "plain" where unset
	Params        map[string]string // of its Content-Type, names in lower case
	Encoding      string            // its Content-Transfer-Encoding
	Exchange      bool              // its header went through an Exchange server, see FromExchange
	Text          []byte            // first bytes of the body, as they lie there; 512 are plenty
}

// Classify says from its shape alone what Open can make of a message. Plain is
// final. Encrypted means that Open decides, and may say Opaque or, for text
// that only begins like an armor block, Plain; Signed may become Plain likewise.
func Classify(s Shape) Class {
	switch {
	case s.Type == "multipart" && s.Subtype == "encrypted":
		return Encrypted
	case s.Type == "multipart" && s.Subtype == "signed":
		if strings.EqualFold(s.Params["protocol"], "application/pgp-signature") {
			return Signed
		}
	case s.mayBeApart():
		if saysPGP(s.Text) {
			return Encrypted
		}
	case s.Type == "text" && s.Subtype == "plain":
		text := bytes.TrimLeft(decodePrefix(s.Text, s.Encoding), " \t\r\n")
		switch {
		case bytes.HasPrefix(text, []byte("-----BEGIN PGP MESSAGE-----")):
			return Encrypted
		case bytes.HasPrefix(text, []byte("-----BEGIN PGP SIGNED MESSAGE-----")):
			return Signed
		}
	}
	return Plain
}

// Suffices tells whether Classify says the same of s however its Text goes on.
func Suffices(s Shape) bool {
	if s.mayBeApart() {
		return len(s.Text) >= 512 || saysPGP(s.Text)
	}
	if s.Type != "text" || s.Subtype != "plain" || len(s.Text) >= 512 {
		return true
	}
	text := bytes.TrimLeft(s.Text, " \t\r\n")
	if len(text) == 0 {
		return false
	}
	switch strings.ToLower(strings.TrimSpace(s.Encoding)) {
	case "base64":
		return false
	case "quoted-printable": // which writes whatever it doesn't change as it is
		return text[0] != '-' && text[0] != '='
	}
	for _, begin := range []string{"-----BEGIN PGP MESSAGE-----", "-----BEGIN PGP SIGNED MESSAGE-----"} {
		if n := min(len(text), len(begin)); n < len(begin) && string(text[:n]) == begin[:n] {
			return false
		}
	}
	return true
}

// NeedsText tells whether Classify looks at the Text at all.
func (s Shape) NeedsText() bool {
	return s.Type == "text" && s.Subtype == "plain" || s.mayBeApart()
}

// ClassOf is Classify of a parsed message: nothing else is ever opened by Open.
// The error is only of reading src.
func ClassOf(root *message.Part, src message.Source) (Class, error) {
	shape, err := shapeOf(src, root)
	if err != nil {
		return Unclassified, err
	}
	return Classify(shape), nil
}

// shapeOf is the Shape of a parsed message.
func shapeOf(src message.Source, root *message.Part) (Shape, error) {
	s := Shape{Type: root.Type, Subtype: root.Subtype, Params: root.Params, Encoding: transferEncoding(root.Header)}
	for _, f := range root.Header.Fields {
		s.Exchange = s.Exchange || FromExchange(f.Name)
	}
	if !s.NeedsText() {
		return s, nil
	}
	s.Text = make([]byte, min(512, root.End-root.Body))
	n, err := src.ReadAt(s.Text, root.Body)
	if n < len(s.Text) && err != nil && err != io.EOF {
		return s, err
	}
	s.Text = s.Text[:n]
	return s, nil
}

// decodePrefix decodes as much of a cut-off body as it can.
func decodePrefix(b []byte, encoding string) []byte {
	if encoding == "" {
		return b
	}
	out, _ := io.ReadAll(transferDecoder(bytes.NewReader(b), encoding))
	return out
}

// transferDecoder undoes a Content-Transfer-Encoding (RFC 2045, Section 6);
// unknown ones are taken for identity, as 7bit and 8bit are.
func transferDecoder(r io.Reader, encoding string) io.Reader {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "quoted-printable":
		return quotedprintable.NewReader(r)
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, &noSpace{r: r})
	}
	return r
}

// noSpace leaves white space out of what it reads.
type noSpace struct{ r io.Reader }

func (s *noSpace) Read(p []byte) (int, error) {
	for {
		n, err := s.r.Read(p)
		k := 0
		for _, c := range p[:n] {
			if c > ' ' {
				p[k] = c
				k++
			}
		}
		if k > 0 || err != nil {
			return k, err
		}
	}
}
