package search

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime/quotedprintable"
	"strings"

	"github.com/emersion/go-message/charset"

	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/text"
)

// Kind is where in a message a text stands.
type Kind int

const (
	Headers Kind = 0 // of the message, its parts and the messages in it: "Name: value", decoded
	Bodies  Kind = 1 // of text and message parts, decoded
)

// Text is folded text of a message. Texts are one after the other in the
// message; a word never spans two of them.
type Text struct {
	Kind Kind
	Text []byte
}

// MaxText bounds what Extract takes of one message; longer ones are searched in
// their rendering.
const MaxText = 4 << 20

// Extract gives the text of a message that SEARCH looks at, folded: of Headers
// and of Bodies one Text each. whole is false if it was too long; then texts is
// empty.
func Extract(m *render.Message) (texts []Text, whole bool, err error) {
	var headers, bodies bytes.Buffer
	err = walk(m, func(kind Kind, r io.Reader) error {
		to := &bodies
		if kind == Headers {
			to = &headers
		}
		if _, err := io.Copy(to, io.LimitReader(r, int64(MaxText-to.Len()+1))); err != nil {
			return err
		}
		to.WriteByte(0) // so that nothing matches across the border
		if to.Len() > MaxText {
			return errLong
		}
		return nil
	})
	if errors.Is(err, errLong) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	return []Text{{Headers, Fold(headers.Bytes())}, {Bodies, Fold(bodies.Bytes())}}, true, nil
}

var errLong = errors.New("more text than is kept")

// walk gives each text of a message, decoded to UTF-8, not folded. An error of
// each ends it; what cannot be decoded is given as it stands.
func walk(m *render.Message, each func(Kind, io.Reader) error) error {
	for p := range m.Root.All() {
		if err := each(Headers, bytes.NewReader(headerText(p.Header))); err != nil {
			return err
		}
		// The parts of a multipart and of an embedded message come by themselves.
		if p.IsMultipart() || p.Embedded != nil || p.Type != "text" && p.Type != "message" {
			continue
		}
		body := message.Reader(message.Section(m.Source, p.Body, p.End-p.Body))
		if err := each(Bodies, decode(p, body)); err != nil {
			return err
		}
	}
	return nil
}

// headerText is a header as it is searched: each field unfolded and decoded.
func headerText(h message.Header) []byte {
	var b bytes.Buffer
	for _, f := range h.Fields {
		if f.Name != "" {
			b.WriteString(f.Name)
			b.WriteString(": ")
		}
		b.WriteString(fieldText(f))
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// fieldText is a field's value decoded; that of an address field as addresses,
// so that a folded or commented one is found as it is shown.
func fieldText(f message.Field) string {
	if !isAddressField(f.Name) {
		return f.Text()
	}
	var b strings.Builder
	for i, a := range render.ParseAddresses(f.Value()) {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(text.Decode(a.String()))
	}
	return b.String()
}

func isAddressField(name string) bool {
	switch strings.ToLower(name) {
	case "from", "to", "cc", "bcc", "sender", "reply-to":
		return true
	}
	return false
}

// decode undoes the transfer encoding of p's body and makes it UTF-8.
func decode(p *message.Part, r io.Reader) io.Reader {
	switch encoding, _ := message.ParseParams(p.Header.Get("Content-Transfer-Encoding")); encoding {
	case "base64":
		r = lenient{base64.NewDecoder(base64.StdEncoding, r)}
	case "quoted-printable":
		r = lenient{quotedprintable.NewReader(r)}
	}
	switch strings.ToLower(p.Params["charset"]) {
	case "", "utf-8", "us-ascii":
		return r
	}
	if utf8, err := charset.Reader(p.Params["charset"], r); err == nil {
		return utf8
	}
	return r
}

// lenient ends what is read at the first malformed byte: the part is as long as
// it can be decoded. Errors of reading itself look the same; a rendering's
// spool has none but after it was closed.
type lenient struct{ r io.Reader }

func (l lenient) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if err != nil {
		err = io.EOF
	}
	return n, err
}
