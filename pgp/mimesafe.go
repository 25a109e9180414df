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
	root     *message.Part
	do       map[*message.Part]treatment
	// clean are the parts whose bytes may be copied unread.
	clean map[*message.Part]bool
	// seven are the parts that are 7bit when treated.
	seven map[*message.Part]bool
}

// planSafe reads src once and decides what to do.
func planSafe(ctx context.Context, src message.Source, root *message.Part, signOnly bool) (*safe, error) {
	s := &safe{ctx: ctx, src: src, signOnly: signOnly, root: root,
		do:    map[*message.Part]treatment{},
		clean: map[*message.Part]bool{},
		seven: map[*message.Part]bool{}}
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
		s.do[p] = exact
		t, err := scan(s.ctx, s.src, p.Body, p.End)
		s.seven[p] = t.sevenBit()
		return err
	case len(p.Children) > 0:
		s.seven[p] = true
		for _, c := range p.Children {
			if err := s.plan(c); err != nil {
				return err
			}
			s.seven[p] = s.seven[p] && s.seven[c]
		}
		return nil
	case p.Embedded != nil && !encoded(p):
		err := s.plan(p.Embedded)
		s.seven[p] = s.seven[p.Embedded]
		return err
	}
	return s.planLeaf(p)
}

func (s *safe) planLeaf(p *message.Part) error {
	t, err := scan(s.ctx, s.src, p.Body, p.End)
	if err != nil {
		return err
	}
	unsafe := !t.sevenBit() || s.signOnly && (t.trailingWS || t.fromLine)
	s.seven[p] = true
	s.clean[p] = !unsafe && !t.bareLF && !t.bareCR
	encoding := transferEncoding(p.Header)
	switch {
	case encoding == "binary":
		s.do[p] = toBase64 // exact bytes, whatever they are
	case !unsafe:
	case encoding == "quoted-printable":
		s.do[p] = quotedAgain
	case encoding == "base64":
		s.do[p] = base64Again
	case encoding != "" && encoding != "7bit" && encoding != "8bit", p.Type == "multipart" || p.Type == "message":
		// An encoding that we don't know, or a container that may have none.
		s.seven[p] = t.sevenBit()
	case p.Type != "text":
		s.do[p] = toBase64
	case t.nul || t.high > t.size/6: // base64 takes less room
		s.do[p] = textToBase64
	default:
		s.do[p] = toQuoted
	}
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
	if e := s.do[p].encoding(); e != "" {
		return e
	}
	old := transferEncoding(p.Header)
	if (old == "8bit" || old == "binary") && s.seven[p] {
		return "7bit"
	}
	return ""
}
