package pgp

import (
	"context"
	"fmt"

	"letterlock.org/letterlock/internal/message"
)

// treatment is what is done to the body of a part.
type treatment int

const (
	asIs         treatment = iota // line ends made CRLF, nothing else
	exact                         // not one byte changed: the part is signed
	toQuoted                      // encoded as quoted-printable
	toBase64                      // encoded as base64
	quotedAgain                   // is quoted-printable already, but unsafe
	base64Again                   // is base64 already, but unsafe
	textToBase64                  // encoded as base64, its line ends made CRLF
)

// encoding is the Content-Transfer-Encoding that a treatment gives, or "" where
// it leaves it.
func (t treatment) encoding() string {
	switch t {
	case toQuoted:
		return "quoted-printable"
	case toBase64, textToBase64:
		return "base64"
	}
	return ""
}

// safe makes a message safe to sign and to carry over 7-bit transports, with as
// few changes as possible (RFC 3156, Section 3): bodies that aren't 7bit are
// encoded, in embedded messages too, since RFC 2046, Section 5.2.1 allows those
// no encoding of their own. A multipart/signed inside stays byte for byte; so
// does a multipart/encrypted.
type safe struct {
	ctx      context.Context
	src      message.Source
	signOnly bool
	plain    bool // every body is 7bit with CRLF
	root     *message.Part
	parts    map[*message.Part]plan
}

// plan is what is known of a part, and done to it.
type plan struct {
	do    treatment
	clean bool // its bytes may be copied unread
	seven bool // it is 7bit when treated
}

// planSafe reads src once, unless it is known to be plain, and decides what to do.
func planSafe(ctx context.Context, src message.Source, root *message.Part, signOnly, plain bool) (*safe, error) {
	s := &safe{ctx: ctx, src: src, signOnly: signOnly, plain: plain, root: root, parts: map[*message.Part]plan{}}
	if err := s.plan(root); err != nil {
		return nil, fmt.Errorf("reading a message: %w", err)
	}
	return s, nil
}

// plan decides for p and what is below; parts are at most as deep as the
// limits of message.Parse.
func (s *safe) plan(p *message.Part) error {
	switch {
	case p.Is("multipart/signed") || p.Is("multipart/encrypted"):
		t, err := s.scan(p)
		s.parts[p] = plan{do: exact, seven: t.sevenBit()}
		return err
	case len(p.Children) > 0:
		seven := true
		for _, c := range p.Children {
			if err := s.plan(c); err != nil {
				return err
			}
			seven = seven && s.parts[c].seven
		}
		s.parts[p] = plan{seven: seven}
		return nil
	case p.Embedded != nil && !encoded(p):
		err := s.plan(p.Embedded)
		s.parts[p] = plan{seven: s.parts[p.Embedded].seven}
		return err
	}
	return s.planLeaf(p)
}

// scan looks at the body of p.
func (s *safe) scan(p *message.Part) (traits, error) {
	if s.plain {
		return traits{size: p.End - p.Body}, nil
	}
	return scan(s.ctx, s.src, p.Body, p.End)
}

func (s *safe) planLeaf(p *message.Part) error {
	t, err := s.scan(p)
	if err != nil {
		return err
	}
	unsafe := !t.sevenBit() || s.signOnly && (t.trailingWS || t.fromLine)
	is := plan{seven: true, clean: !unsafe && !t.bareLF && !t.bareCR}
	encoding := transferEncoding(p.Header)
	switch {
	case encoding == "binary":
		is.do = toBase64 // exact bytes, whatever they are
	case !unsafe:
	case encoding == "quoted-printable":
		is.do = quotedAgain
	case encoding == "base64":
		is.do = base64Again
	case encoding != "" && encoding != "7bit" && encoding != "8bit", p.Type == "multipart" || p.Type == "message":
		// An encoding that we don't know, or a container that may have none.
		is.seven = t.sevenBit()
	case p.Type != "text":
		is.do = toBase64
	case t.nul || t.high > t.size/6: // base64 takes less room
		is.do = textToBase64
	default:
		is.do = toQuoted
	}
	s.parts[p] = is
	return nil
}

// transferEncoding is the Content-Transfer-Encoding in lower case, "" if unset.
func transferEncoding(h message.Header) string {
	word, _ := message.ParseParams(h.Get("Content-Transfer-Encoding"))
	return word
}

// encoded tells whether a container has, against RFC 2046, an encoding.
func encoded(p *message.Part) bool {
	e := transferEncoding(p.Header)
	return e == "base64" || e == "quoted-printable"
}

// newEncoding is the Content-Transfer-Encoding that p must have now, or "" for
// the one it has.
func (s *safe) newEncoding(p *message.Part) string {
	is := s.parts[p]
	if e := is.do.encoding(); e != "" {
		return e
	}
	old := transferEncoding(p.Header)
	if (old == "8bit" || old == "binary") && is.seven {
		return "7bit"
	}
	return ""
}
