package pgp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"letterlock.org/letterlock/internal/address"
)

// Verification is one good signature.
type Verification struct {
	Made    time.Time
	Signing Fingerprint // of the key or subkey that made it
	Primary Fingerprint // of its certificate
	Text    bool        // line ends don't count
}

// Verify lists the good ones of detached signatures over data.
func Verify(ctx context.Context, data, signatures []byte, certs []*Certificate, now time.Time) ([]Verification, error) {
	raw, err := dearmored(signatures)
	if err != nil {
		return nil, err
	}
	all, w := hashers(parseSignatures(raw))
	if len(all) == 0 {
		return nil, fmt.Errorf("no signatures: %w", ErrMalformed)
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	return verifications(ctx, all, certs, now)
}

// verifications are the good ones of signatures, by those certificates.
func verifications(ctx context.Context, all []digest, certs []*Certificate, now time.Time) (good []Verification, err error) {
	v := newVerifier(Opening{Certificates: atHand(certs), Now: now})
	for _, d := range all {
		j, err := v.judge(ctx, d)
		if err != nil {
			return nil, err
		}
		if !j.state.Good() || j.by == nil || j.made.After(now.Add(clockSkew)) {
			continue
		}
		id, _ := issuer(d.sig)
		if key := findKey(j.by.entity(strict), id); key != nil {
			good = append(good, Verification{j.made.UTC(), fingerprintOf(key.Fingerprint), j.by.Fingerprint(), d.sig.SigType == packet.SigTypeText})
		}
	}
	return good, nil
}

// atHand is a store of the certificates that are given.
type atHand []*Certificate

func (s atHand) Issuer(_ context.Context, id uint64) (found []*Certificate, err error) {
	for _, c := range s {
		for _, have := range c.KeyIDs() {
			if have == id {
				found = append(found, c)
				break
			}
		}
	}
	return found, nil
}

func (atHand) Identity(context.Context, address.Address, Fingerprint) (Identity, error) {
	return "", nil
}

// SplitSigned parts a message that is signed and not encrypted into what is
// signed and its signatures; it may be in the cleartext signature framework (RFC
// 9580, Section 7), whose text is given with line ends of CRLF.
func SplitSigned(data []byte) (signed, signatures []byte, err error) {
	if text, armored, ok := splitClear(data); ok {
		if signatures, err = dearmored(armored); err != nil {
			return nil, nil, err
		}
		return text, signatures, nil
	}
	raw, err := dearmored(data)
	if err != nil {
		return nil, nil, err
	}
	return splitPackets(raw, true)
}

// splitPackets reads one-pass signatures, one literal, signatures; one
// compressed packet around them is allowed (RFC 9580, Section 10.3).
func splitPackets(raw []byte, compressed bool) (signed, signatures []byte, err error) {
	defer caught(&err)
	bad := fmt.Errorf("not one signed message: %w", ErrMalformed)
	defer func() {
		if err != nil {
			signed, signatures = nil, nil
		}
	}()
	r, have := packet.NewReader(bytes.NewReader(raw)), false
	var sigs bytes.Buffer
	for {
		p, err := r.NextWithUnsupported()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, nil, bad
		}
		switch p := p.(type) {
		case *packet.Compressed:
			inner, err := io.ReadAll(io.LimitReader(p.Body, maxStateless))
			if err != nil || !compressed || have {
				return nil, nil, bad
			}
			if _, err := r.NextWithUnsupported(); err != io.EOF {
				return nil, nil, bad
			}
			return splitPackets(inner, false)
		case *packet.LiteralData:
			if have {
				return nil, nil, bad
			}
			if signed, err = io.ReadAll(io.LimitReader(p.Body, maxStateless)); err != nil {
				return nil, nil, bad
			}
			have = true
		case *packet.Signature:
			if err := p.Serialize(&sigs); err != nil {
				return nil, nil, bad
			}
		case *packet.OnePassSignature, *packet.Marker, *packet.UnsupportedPacket:
		default:
			return nil, nil, bad
		}
	}
	if !have {
		return nil, nil, bad
	}
	return signed, sigs.Bytes(), nil
}
