package pgp

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"letterlock.org/letterlock/internal/message"
)

// job is one call of Open.
type job struct {
	src  message.Source
	root *message.Part
	o    Opening
	v    *verifier
}

// as is a message that stays as it is.
func (j *job) as(c Class) *Opened {
	opened := &Opened{Class: c, Verdict: Verdict{Signature: SignatureNone}}
	opened.describe(j.root.Header)
	opened.Autocrypt = values(j.root.Header, "Autocrypt")
	return opened
}

// opaque is a message that stays closed; nothing of its header is believed.
func (j *job) opaque(reason string) *Opened {
	opened := j.as(Opaque)
	opened.Reason, opened.Autocrypt = reason, nil
	return opened
}

// describe fills in what the visible header says.
func (o *Opened) describe(h message.Header) {
	o.MessageID, o.From, o.Date = h.Get("Message-ID"), oneSender(h), dateOf(h)
}

func values(h message.Header, name string) []string {
	var all []string
	for _, f := range h.All(name) {
		all = append(all, f.Value())
	}
	return all
}

// encrypted opens a message that is encrypted at its root.
func (j *job) encrypted(ctx context.Context) (*Opened, error) {
	inline, apart := j.root.Type == "text", j.root.Subtype == "mixed"
	c := ciphertext{encoding: transferEncoding(j.root.Header), src: message.Section(j.src, j.root.Body, j.root.End-j.root.Body)}
	if !inline {
		box, ok, err := j.envelope()
		if err != nil {
			return nil, err
		}
		switch {
		case !ok && apart:
			return j.as(Plain), nil
		case !ok:
			return nil, refuse(reasonShape)
		}
		c = ciphertext{encoding: transferEncoding(box.Header), src: message.Section(j.src, box.Body, box.End-box.Body)}
	}
	p, err := decrypt(ctx, c, j.o.Keys, j.o.Spool)
	switch {
	case errors.Is(err, errNotArmor) && (inline || apart):
		return j.as(Plain), nil // there is text beside it, or something else in its place
	case errors.Is(err, errNotArmor):
		return nil, refuse(reasonShape)
	case err != nil:
		return nil, err
	}
	opened, err := j.decrypted(ctx, p, inline)
	if err != nil || opened.Rendering != p.text {
		p.text.Close()
	}
	return opened, err
}

// envelope checks what RFC 3156, Section 4 asks of the root, and gives the part
// with the ciphertext.
func (j *job) envelope() (*message.Part, bool, error) {
	r := j.root
	if r.Subtype == "mixed" {
		return j.apart()
	}
	if !strings.EqualFold(r.Params["protocol"], "application/pgp-encrypted") || len(r.Children) != 2 {
		return nil, false, nil
	}
	return j.box(r.Children[0], r.Children[1])
}

// box gives the part with the ciphertext, if control is what comes before it.
func (j *job) box(control, box *message.Part) (*message.Part, bool, error) {
	if control.Type != "application" || control.Subtype != "pgp-encrypted" || control.End-control.Body > 1024 ||
		len(box.Children) > 0 || box.Embedded != nil {
		return nil, false, nil
	}
	text, err := j.trimmed(control)
	return box, err == nil && strings.EqualFold(text, "Version: 1"), err
}

// trimmed is the text of a short part without white space around it.
func (j *job) trimmed(p *message.Part) (string, error) {
	raw, err := io.ReadAll(message.Reader(message.Section(j.src, p.Body, p.End-p.Body)))
	return strings.TrimSpace(string(decodePrefix(raw, transferEncoding(p.Header)))), err
}

// decrypted makes the rendering of what was decrypted.
func (j *job) decrypted(ctx context.Context, p *plaintext, inline bool) (*Opened, error) {
	outer := j.root.Header
	if j.o.Replayed != nil {
		from := outer.Get("From")
		if a := oneSender(outer); !a.IsZero() {
			from = a.Key()
		}
		again, err := j.o.Replayed(ctx, p.packet, from, outer.Get("Message-ID"))
		if err != nil {
			return nil, err
		}
		if again {
			opened := j.opaque(reasonReplayed)
			opened.Verdict.warn(WarnReplayed)
			return opened, nil
		}
	}
	all, err := j.judgeAll(ctx, p.signatures)
	if err != nil {
		return nil, err
	}
	for _, one := range all {
		if one.sealed {
			return j.sealed(p)
		}
	}
	var l *letter
	if inline {
		charset, err := charsetOf(p.text, p.charset, j.root.Params["charset"])
		if err != nil {
			return nil, err
		}
		l = bareLetter(outer, p.text, charset)
	} else if l, err = readLetter(outer, p.text); err != nil {
		return nil, err
	}
	if len(all) == 0 && l.root != nil && signedParts(l.root) { // RFC 3156, Section 6.1
		if all, err = j.signedInside(ctx, p.text, l.root); err != nil {
			return nil, err
		}
	}
	return j.put(ctx, l, all)
}

// signedInside judges a multipart/signed that is all that was encrypted.
func (j *job) signedInside(ctx context.Context, text message.Source, root *message.Part) ([]judged, error) {
	alike, err := framedAlike(ctx, text, root)
	if err != nil || !alike {
		return nil, err
	}
	sigs, err := detached(ctx, text, root)
	if err != nil {
		return nil, err
	}
	return j.judgeAll(ctx, sigs)
}

func (j *job) judgeAll(ctx context.Context, sigs []digest) ([]judged, error) {
	var all []judged
	for _, d := range sigs {
		one, err := j.v.judge(ctx, d)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// sealed gives back what our own Seal stored, byte for byte.
func (j *job) sealed(p *plaintext) (*Opened, error) {
	h, err := message.ReadHeader(p.text, message.Limits{}.Header)
	if err != nil && !errors.Is(err, message.ErrLimit) {
		return nil, err
	}
	opened := &Opened{Class: Encrypted, Rendering: p.text,
		Verdict: Verdict{Encrypted: true, Sealed: true, Signature: SignatureNone}}
	opened.describe(h)
	return opened, nil
}

// put settles the verdict and writes the rendering.
func (j *job) put(ctx context.Context, l *letter, all []judged) (*Opened, error) {
	from, inside := l.sender()
	v, err := j.v.verdict(ctx, all, from, dateOf(l.said("Date")))
	if err != nil {
		return nil, err
	}
	v.Encrypted = true
	bound := v.Signature.Good() && v.Identity.AtLeast(FirstSeen)
	if outer := oneSender(l.outer); inside && !bound && (from.IsZero() || !from.Equal(outer)) {
		v.warn(WarnFromMismatch)
	}
	shown := v
	if j.o.Frozen != nil {
		shown = *j.o.Frozen
	}
	l.raw = j.src
	s := message.NewSpool(j.o.Spool)
	h, err := l.render(ctx, s, shown)
	if err != nil {
		s.Close()
		return nil, err
	}
	opened := &Opened{Class: Encrypted, Verdict: v, Rendering: s}
	opened.describe(h)
	if !v.Warns(WarnFromMismatch) {
		opened.Autocrypt = values(l.inner, "Autocrypt")
		if len(opened.Autocrypt) == 0 {
			opened.Autocrypt = values(l.outer, "Autocrypt")
		}
		opened.Gossip = values(l.inner, "Autocrypt-Gossip")
	}
	return opened, nil
}

// signed judges a message that is signed at its root and not encrypted; it is
// shown as it is.
func (j *job) signed(ctx context.Context) (*Opened, error) {
	if !oneReading(j.root.Header) || j.root.Type == "text" && !decodes(j.root) {
		return j.as(Plain), nil
	}
	opened := j.as(Signed)
	var sigs []digest
	var err error
	if j.root.Type == "multipart" {
		if !signedParts(j.root) || !oneLineEnd(slices.Concat(j.root.Header.Raw, j.root.Children[0].Header.Raw)) {
			return j.as(Plain), nil
		}
		var alike bool
		if alike, err = framedAlike(ctx, j.src, j.root); err == nil && !alike {
			return j.as(Plain), nil
		}
		if err == nil {
			sigs, err = detached(ctx, j.src, j.root)
		}
	} else {
		var ok bool
		sigs, ok, err = clearSigned(message.Section(j.src, j.root.Body, j.root.End-j.root.Body), transferEncoding(j.root.Header))
		if err == nil && !ok {
			return j.as(Plain), nil
		}
	}
	if err != nil {
		return nil, err
	}
	all, err := j.judgeAll(ctx, sigs)
	if err != nil {
		return nil, err
	}
	opened.Verdict, err = j.v.verdict(ctx, all, opened.From, opened.Date)
	if opened.Verdict.Signature.Good() && j.root.Type == "multipart" && !saysAsSigned(j.root.Header, j.root.Children[0]) {
		opened.Verdict.Signature = SignatureMismatch
	}
	return opened, err
}
