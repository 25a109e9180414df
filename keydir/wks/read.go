package wks

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"slices"
	"strings"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// mail is a MIME entity.
type mail struct {
	src  message.Source
	root *message.Part
}

// limits of a mail's structure: a signature around a text and the confirmation.
var limits = message.Limits{Depth: 5, Parts: 20, Header: 64 << 10, Fields: 300}

func parse(raw []byte) (mail, error) {
	m := mail{src: message.Bytes(raw)}
	var err error
	if m.root, err = message.Parse(m.src, limits); err != nil {
		return m, fmt.Errorf("%w: %w", ErrMail, err)
	}
	return m, nil
}

// author is the one address of the one From field.
func author(root *message.Part) (address.Address, error) {
	all := root.Header.All("From")
	if len(all) != 1 {
		return address.Address{}, fmt.Errorf("%w: %d From fields", ErrMail, len(all))
	}
	boxes, err := address.ParseList(all[0].Value())
	if err != nil || len(boxes) != 1 {
		return address.Address{}, fmt.Errorf("%w: From is not one address", ErrMail)
	}
	return boxes[0].Address, nil
}

// leaves are the parts of these types that are no containers and no attached
// mail's.
func (m mail) leaves(types ...string) (out []*message.Part) {
	var walk func(p *message.Part)
	walk = func(p *message.Part) {
		if slices.Contains(types, p.Type+"/"+p.Subtype) {
			out = append(out, p)
		}
		for _, c := range p.Children {
			walk(c)
		}
	}
	walk(m.root)
	return out
}

func (m mail) raw(p *message.Part) message.Source {
	return message.Section(m.src, p.Body, p.End-p.Body)
}

func encoding(p *message.Part) string {
	return strings.ToLower(strings.TrimSpace(p.Header.Get("Content-Transfer-Encoding")))
}

// body is a part's content, its transfer encoding undone.
func (m mail) body(p *message.Part) ([]byte, error) {
	raw, err := message.ReadAll(m.raw(p), maxMail)
	if err != nil {
		return nil, err
	}
	switch encoding(p) {
	case "base64":
		raw, err = io.ReadAll(base64.NewDecoder(base64.StdEncoding, bytes.NewReader(bytes.Join(bytes.Fields(raw), nil))))
	case "quoted-printable":
		raw, err = io.ReadAll(quotedprintable.NewReader(bytes.NewReader(raw)))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMail, err)
	}
	return raw, nil
}

func (m mail) decrypt(ctx context.Context, p *message.Part, keys pgp.Decrypter) ([]byte, error) {
	if keys == nil {
		return nil, fmt.Errorf("opening a mail: no key: %w", pgp.ErrMalformed)
	}
	b, err := pgp.DecryptData(ctx, m.raw(p), encoding(p), keys, maxMail)
	if err != nil && !errors.Is(err, pgp.ErrMalformed) {
		return nil, fmt.Errorf("opening a mail: %w", err)
	}
	return b, err
}
