package pgp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
)

// letter is a decrypted message, outside and inside, before it is put together.
type letter struct {
	raw     message.Source // as the upstream has it
	outer   message.Header
	payload message.Source // what was decrypted
	root    *message.Part  // of payload; nil where that is bare text
	charset string         // of bare text
	inner   message.Header // of the cryptographic payload (RFC 9787, Section 4)
	guarded guarding       // whether inner replaces outer
}

// guarding is how a payload protects header fields.
type guarding string

const (
	unguarded guarding = ""
	legacy    guarding = "protected-headers" // RFC 9788, Appendix F.3: some fields, those that are there
	full      guarding = "hp"                // RFC 9788, Section 2.1.1: every field of the message
)

// readLetter looks at a payload of PGP/MIME. A refusal says that it is too much.
func readLetter(outer message.Header, payload message.Source) (*letter, error) {
	l := &letter{outer: outer, payload: payload}
	root, err := message.Parse(payload, message.Limits{})
	if errors.Is(err, message.ErrLimit) {
		return nil, refuse(reasonComplex)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a decrypted message: %w", err)
	}
	if isBare(root.Header) {
		l.charset, err = charsetOf(payload, "", "")
		return l, err
	}
	l.root, l.inner = root, root.Header
	crypt := root
	if signedParts(root) {
		crypt = root.Children[0]
		l.inner = crypt.Header
	}
	if in := wrappedMessage(outer, crypt); in != nil && crypt == root {
		l.root, l.inner, l.guarded = in, in.Header, legacy
		return l, nil
	}
	switch hp := strings.ToLower(crypt.Params["hp"]); {
	case hp == "cipher" || hp == "clear":
		l.guarded = full
	case strings.EqualFold(crypt.Params["protected-headers"], "v1"):
		l.guarded = legacy
	}
	return l, nil
}

// bareLetter is the letter of an inline message: text, and nothing else.
func bareLetter(outer message.Header, payload message.Source, charset string) *letter {
	return &letter{outer: outer, payload: payload, charset: charset}
}

// isBare tells of a payload that has no header at all, only text.
func isBare(h message.Header) bool {
	return len(h.Fields) > 0 && !slices.ContainsFunc(h.Fields, func(f message.Field) bool { return f.Name != "" })
}

// sender is whom the message says it is from, where it is told safest: inside if
// it is told there. inside tells which it was.
func (l *letter) sender() (from address.Address, inside bool) {
	if l.guarded != unguarded && l.inner.Has("From") {
		return oneSender(l.inner), true
	}
	return oneSender(l.outer), false
}

// said is the header that the visible field of that name comes from.
func (l *letter) said(name string) message.Header {
	if l.guarded != unguarded && l.inner.Has(name) {
		return l.inner
	}
	return l.outer
}

// render writes the message as a client sees it, with the verdict v, which is
// the frozen one where there is one. It depends on nothing else.
func (l *letter) render(ctx context.Context, s *message.Spool, v Verdict) (message.Header, error) {
	edits, err := l.legacyDisplay(v)
	if err != nil {
		return message.Header{}, fmt.Errorf("reading a decrypted message: %w", err)
	}
	head := l.header(v, edits)
	parsed := message.ParseHeader(head)
	if !named(parsed) {
		id, err := l.name()
		if err != nil {
			return parsed, err
		}
		head = append([]byte("Message-ID: "+id+"\r\n"), head...)
		parsed = message.ParseHeader(head)
	}
	if len(head) > maxShownHeader || len(parsed.Fields) > maxShownFields {
		return parsed, refuse(reasonComplex)
	}
	if _, err := s.Write(head); err != nil {
		return parsed, err
	}
	start, end := int64(0), l.payload.Size()
	if l.root != nil {
		start, end = l.root.Body, l.root.End
	}
	if l.root != nil && binaryInside(l.root) {
		return parsed, copyEdited(ctx, s, l.payload, start, end, edits)
	}
	return parsed, copyEdited(ctx, &crlfWriter{w: noNUL{s}}, l.payload, start, end, edits)
}

// named tells whether a mail program finds a Message-ID to name in an answer.
func named(h message.Header) bool {
	return slices.ContainsFunc(h.All("Message-ID"), func(f message.Field) bool { return len(message.MessageIDs(f.Value())) > 0 })
}

// name makes an identifier for a message that has none, so that its answer can
// be told to be one. It is the same each time, and tells of nothing but the
// ciphertext, which everyone on the way has.
func (l *letter) name() (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, message.Reader(l.raw)); err != nil {
		return "", fmt.Errorf("naming a message: %w", err)
	}
	return fmt.Sprintf("<%x@letterlock.invalid>", h.Sum(nil)[:16]), nil
}

// binaryInside tells whether a part's line ends are data.
func binaryInside(p *message.Part) bool {
	if transferEncoding(p.Header) == "binary" {
		return true
	}
	return slices.ContainsFunc(p.Children, binaryInside) || p.Embedded != nil && binaryInside(p.Embedded)
}

// header puts the fields together: those outside that stay, in their order;
// those protected inside, in theirs; our verdict; the structure of the payload.
func (l *letter) header(v Verdict, edits []edit) []byte {
	inside := l.shownInside(v)
	replaced := map[string]bool{}
	for _, f := range inside {
		replaced[strings.ToLower(f.Name)] = true
	}
	var out []byte
	for _, f := range l.outer.Fields {
		switch {
		case structural(f.Name), oursToSay(f.Name), replaced[strings.ToLower(f.Name)]:
		case l.guarded == full && saidOnlyInside(f.Name):
		case v.Warns(WarnFromMismatch) && strings.EqualFold(f.Name, "Reply-To"):
		default:
			out = appendField(out, f)
		}
	}
	for _, f := range inside {
		out = appendField(out, f)
	}
	out = append(out, v.statusField()+"\r\nMIME-Version: 1.0\r\n"...)
	return append(l.structure(out, edits), "\r\n"...)
}

// shownInside are the fields inside that are shown. From, and where answers go,
// is not shown of a sender that no signature binds (RFC 9788, Section 4.4).
func (l *letter) shownInside(v Verdict) []message.Field {
	if l.guarded == unguarded {
		return nil
	}
	var shown []message.Field
	seen := map[string]bool{}
	for _, f := range l.inner.Fields {
		n := strings.ToLower(f.Name)
		switch {
		case f.Name == "", structural(n), notInside(n), once(n) && seen[n]:
			continue
		case v.Warns(WarnFromMismatch) && (n == "from" || n == "sender" || n == "reply-to"):
			continue
		case len(appendField(nil, f)) == 0:
			continue
		}
		seen[n] = true
		shown = append(shown, f)
	}
	return shown
}

// structure appends the fields that describe the body.
func (l *letter) structure(out []byte, edits []edit) []byte {
	if l.root == nil {
		return append(out, "Content-Type: text/plain; charset="+l.charset+"\r\nContent-Transfer-Encoding: 8bit\r\n"...)
	}
	seen, typed := map[string]bool{}, false
	for _, f := range l.root.Header.Fields {
		n := strings.ToLower(f.Name)
		// Content-Length is a mailbox file's note, and wrong here.
		if !strings.HasPrefix(n, "content-") || n == "content-length" || seen[n] {
			continue
		}
		seen[n] = true
		before := len(out)
		if i := markAt(f); i >= 0 && len(edits) > 0 && edits[0].off < l.root.Body {
			f.Raw = bytes.Clone(f.Raw)
			f.Raw[i] = '0'
		}
		out = appendField(out, f)
		typed = typed || n == "content-type" && len(out) > before
	}
	if !typed {
		out = append(out, "Content-Type: text/plain; charset=utf-8\r\n"...)
	}
	return out
}
