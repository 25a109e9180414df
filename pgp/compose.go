package pgp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
)

// ErrUnfit means that a message can't be protected as it is; its sender can
// change it. Asking again doesn't help.
var ErrUnfit = errors.New("message cannot be protected")

// composed is a message split into what everyone sees and what is protected.
type composed struct {
	outer   []byte // header fields, without structural ones
	payload []byte // header of the payload, with its empty line
	body    *safe
	bufs    *headerBuffers // behind outer and payload, where they are not longer
}

// free ends the use of c. Who has given outer away doesn't call it.
func (c *composed) free() {
	headers.Put(c.bufs)
	c.outer, c.payload, c.bufs = nil, nil, nil
}

// write writes the payload (RFC 9787, Section 1.1.1: the Cryptographic Payload).
func (c *composed) write(w io.Writer) error {
	if _, err := w.Write(c.payload); err != nil {
		return err
	}
	return c.body.body(w, c.body.root)
}

// compose follows RFC 9788, Section 5.2.1 (Compose), with signing only where
// there are no recipients, and without legacy display elements (Section 5.2.2:
// MAY). Steps are numbered as there.
func compose(ctx context.Context, src message.Source, p Protection) (*composed, error) {
	root, err := p.Root, error(nil)
	if root == nil {
		root, err = message.Parse(src, message.Limits{})
	}
	if err != nil {
		if errors.Is(err, message.ErrLimit) {
			return nil, fmt.Errorf("%w: %w", ErrUnfit, err)
		}
		return nil, err
	}
	signOnly := len(p.Recipients) == 0
	b := headers.Get().(*headerBuffers)
	c := &composed{outer: b.outer[:0], payload: b.payload[:0], bufs: b}
	if c.body, err = planSafe(ctx, src, root, signOnly, p.Plain && !signOnly); err != nil {
		return nil, err
	}
	if p.From = p.sender(root.Header); p.From.IsZero() && !signOnly && addressesOnly("", root.Header.Get("From"), false) == "" {
		return nil, fmt.Errorf("%w: its From field is malformed", ErrUnfit)
	}
	said, passed, err := sayings(root.Header, p)
	if err != nil {
		return nil, err
	}
	for _, f := range passed {
		c.outer = f.append(c.outer)
	}
	// Step 3: every field of the original goes into the payload.
	for _, f := range said {
		c.payload = f.append(c.payload)
	}
	hp := "clear" // step 4
	if !signOnly {
		hp = "cipher" // step 5
	}
	for _, f := range said {
		out := f
		if !signOnly {
			// Step 5.2 to 5.5: the policy decides what is seen, and the payload
			// says so.
			if out.value = p.outside(f); out.value == "" {
				continue
			}
			c.payload = field{"HP-Outer", " " + out.name + ":" + out.value}.append(c.payload)
		}
		c.outer = out.append(c.outer)
	}
	c.payload = append(c.payload, "MIME-Version: 1.0\r\n"...)
	c.payload = c.body.structuralFields(c.payload, root, hp)
	c.payload = append(c.payload, '\r', '\n')
	return c, nil
}

// sayings are the fields of the message that mean something, cleaned and
// completed, and those that servers added on the way.
func sayings(h message.Header, p Protection) (said, passed []field, err error) {
	if n := len(h.All("From")); n != 1 {
		return nil, nil, fmt.Errorf("%w: it has %d From fields", ErrUnfit, n)
	}
	seen := map[string]bool{}
	for _, f := range h.Fields {
		n := strings.ToLower(f.Name)
		switch {
		case f.Name == "" || structural(n) || dropped(n):
		case n == "autocrypt" && p.Autocrypt != nil:
		case once(n) && seen[n]:
		case trace(n):
			passed = append(passed, cleanField(f))
		default:
			seen[n] = true
			said = append(said, cleanField(f))
		}
	}
	if !seen["date"] {
		said = append(said, field{"Date", dateValue(p.Now)})
	}
	if !seen["message-id"] {
		said = append(said, field{"Message-ID", newMessageID(p.From.Domain)})
	}
	if p.Autocrypt != nil {
		if a, ok := autocryptField(p.Autocrypt, p.From, p.Now); ok {
			said = append(said, a)
		}
	}
	return said, passed, nil
}

// sender is Protection.From, or the address in the From field.
func (p Protection) sender(h message.Header) address.Address {
	if !p.From.IsZero() {
		return p.From
	}
	if list, err := address.ParseList(h.Get("From")); err == nil && len(list) == 1 {
		return list[0].Address
	}
	return address.Address{}
}

// structuralFields appends those of the root, with the mark of RFC 9788,
// Section 2.1.1.
func (s *safe) structuralFields(out []byte, root *message.Part, hp string) []byte {
	out = field{"Content-Type", markedType(root.Header, hp)}.append(out)
	encoding := s.newEncoding(root)
	seen := map[string]bool{"content-type": true}
	for _, f := range root.Header.Fields {
		n := strings.ToLower(f.Name)
		if !strings.HasPrefix(n, "content-") || seen[n] {
			continue
		}
		seen[n] = true
		if n == "content-transfer-encoding" && encoding != "" {
			continue
		}
		out = cleanField(f).append(out)
	}
	if encoding != "" {
		out = append(out, "Content-Transfer-Encoding: "+encoding+"\r\n"...)
	}
	return out
}

// markedType is the root's Content-Type, its parameters one to a line. Marks of
// header protection that were there are replaced, since this header is of our
// making. The second mark is for programs older than RFC 9788 (Appendix F.3),
// which show the inner subject only with it.
func markedType(h message.Header, hp string) string {
	word, params := message.ParseParams(h.Get("Content-Type"))
	if !strings.Contains(word, "/") {
		word, params = "text/plain", nil
	}
	seen := map[string]bool{"hp": true, "hp-legacy-display": true, "protected-headers": true}
	var b strings.Builder
	b.WriteString(" " + word)
	for _, p := range params {
		if n := strings.ToLower(p.Name); !seen[n] {
			seen[n] = true
			b.WriteString(";\r\n " + p.Name + "=" + quoteParam(p.Value))
		}
	}
	b.WriteString(";\r\n hp=\"" + hp + "\"; protected-headers=\"v1\"")
	return b.String()
}

// quoteParam quotes a parameter's value where it is no token (RFC 2045, Section
// 5.1).
func quoteParam(v string) string {
	if v != "" && !strings.ContainsFunc(v, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune("()<>@,;:\\\"/[]?=", r)
	}) {
		return v
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(v); i++ {
		switch c := v[i]; c {
		case '"', '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case '\r', '\n', 0:
			b.WriteByte(' ')
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
