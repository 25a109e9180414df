package pgp

import (
	"bytes"
	"context"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"letterlock.org/letterlock/internal/message"
)

// Bounds of signatures that stand apart from what they sign.
const (
	maxSignatureText = 256 << 10
	maxClearSigned   = 8 << 20
)

// signedParts tells whether a part is what RFC 3156, Section 5 describes: two
// parts, the second a signature.
func signedParts(p *message.Part) bool {
	return p.Type == "multipart" && p.Subtype == "signed" && len(p.Children) == 2 &&
		strings.EqualFold(p.Params["protocol"], "application/pgp-signature") &&
		p.Children[1].Type == "application" && p.Children[1].Subtype == "pgp-signature"
}

// detached reads the signatures of a multipart/signed part of src and hashes
// the part that they are over, exactly as it lies there but with line ends of
// CRLF (RFC 3156, Section 5). What isn't a signature gives none that is good.
func detached(ctx context.Context, src message.Source, p *message.Part) ([]digest, error) {
	signed, box := p.Children[0], p.Children[1]
	sigs, err := readSignatures(message.Section(src, box.Body, box.End-box.Body), transferEncoding(box.Header))
	if err != nil {
		return nil, err
	}
	all, w := hashers(sigs)
	if len(all) == 0 {
		return []digest{{}}, nil
	}
	err = copyRange(ctx, &crlfWriter{w: w}, src, signed.Start, signed.End)
	return all, err
}

// readSignatures reads one armored block of signatures. The error is only of src.
func readSignatures(src message.Source, encoding string) ([]*packet.Signature, error) {
	if src.Size() > maxSignatureText {
		return nil, nil
	}
	raw, err := io.ReadAll(message.Reader(src))
	if err != nil {
		return nil, fmt.Errorf("reading a signature: %w", err)
	}
	a, err := newArmorReader(transferDecoder(bytes.NewReader(raw), encoding), blockSignature, src.Size())
	if err != nil {
		return nil, nil
	}
	b, err := io.ReadAll(a)
	if err != nil {
		return nil, nil
	}
	return parseSignatures(b), nil
}

// parseSignatures gives the signatures of b; nil stands for one that we can't read.
func parseSignatures(b []byte) []*packet.Signature {
	packets, err := cutPackets(b)
	if err != nil || len(packets) > maxSignatures {
		return nil
	}
	var all []*packet.Signature
	for _, raw := range packets {
		switch raw.tag {
		case tagSignature:
			p, _ := parsePacket(raw.raw)
			sig, _ := p.(*packet.Signature)
			all = append(all, sig)
		case tagMarker, tagPadding:
		default:
			return nil
		}
	}
	return all
}

// hashers prepares a digest for each signature, and what feeds them all.
func hashers(sigs []*packet.Signature) ([]digest, io.Writer) {
	var all []digest
	var writers []io.Writer
	for _, sig := range sigs {
		d := digest{sig: sig}
		if sig != nil {
			d.weak = weakHash(sig.Hash)
			if h := hashFor(sig); h != nil && !d.weak {
				d.hash = h
				writers = append(writers, wrapped(h, sig.SigType == packet.SigTypeText))
			}
		}
		all = append(all, d)
	}
	return all, io.MultiWriter(writers...)
}

func hashFor(sig *packet.Signature) (h hash.Hash) {
	if sig.SigType != packet.SigTypeBinary && sig.SigType != packet.SigTypeText {
		return nil
	}
	err := recoverCall(func() (err error) {
		h, err = sig.PrepareVerify()
		return err
	})
	if err != nil {
		return nil
	}
	return h
}

// clearSigned reads a body that is exactly one message in the cleartext
// signature framework (RFC 9580, Section 7). ok is false if it is not.
func clearSigned(body message.Source, encoding string) (all []digest, ok bool, err error) {
	if body.Size() > maxClearSigned {
		return nil, false, nil
	}
	raw, err := io.ReadAll(message.Reader(body))
	if err != nil {
		return nil, false, fmt.Errorf("reading a signed text: %w", err)
	}
	if !oneDecoding(raw, encoding) {
		return nil, false, nil
	}
	b, err := io.ReadAll(transferDecoder(bytes.NewReader(raw), encoding))
	if err != nil {
		return nil, false, nil
	}
	text, signature, ok := splitClear(b)
	if !ok || !framedClear(b, signature) {
		return nil, false, nil
	}
	sigs, err := readSignatures(message.Bytes(signature), "")
	if err != nil || len(sigs) == 0 {
		return nil, false, err
	}
	all, w := hashers(sigs)
	_, err = w.Write(text)
	return all, true, err
}

// splitClear gives the text as it is hashed, and the armored signature after it.
// Only Hash headers are allowed, and their value is not believed.
func splitClear(b []byte) (text, signature []byte, ok bool) {
	b = bytes.TrimLeft(b, " \t\r\n")
	line, b := cutLine(b)
	if string(bytes.TrimRight(line, " \t")) != "-----BEGIN PGP SIGNED MESSAGE-----" {
		return nil, nil, false
	}
	for {
		line, rest := cutLine(b)
		if line == nil {
			return nil, nil, false
		}
		b = rest
		if len(bytes.TrimRight(line, " \t")) == 0 {
			break
		}
		if !bytes.HasPrefix(line, []byte("Hash: ")) {
			return nil, nil, false
		}
	}
	for first := true; ; first = false {
		line, rest := cutLine(b)
		if line == nil {
			return nil, nil, false
		}
		if bytes.HasPrefix(line, []byte("-----BEGIN PGP SIGNATURE-----")) {
			return text, b, true
		}
		if !first {
			text = append(text, "\r\n"...)
		}
		switch {
		case bytes.HasPrefix(line, []byte("- ")):
			line = line[2:]
		case bytes.HasPrefix(line, []byte("-")): // must be escaped, Section 7.1
			return nil, nil, false
		}
		text = append(text, bytes.TrimRight(line, " \t")...)
		b = rest
	}
}
