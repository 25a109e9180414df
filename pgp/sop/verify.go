package sop

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"letterlock.org/letterlock/pgp"
)

func verify(ctx context.Context, k *call) error {
	if k.needs(len(k.operands) >= 2, missingArg, "a signature and a certificate are needed"); k.err != nil {
		return k.err
	}
	signatures := k.read(k.operands[0])
	certs := k.certificates(k.operands[1:])
	data := k.stdin()
	if k.err != nil {
		return k.err
	}
	lines, err := k.good(pgp.Verify(ctx, data, signatures, certs, k.Now()))
	if err != nil {
		return err
	}
	return k.out(lines)
}

func inlineVerify(ctx context.Context, k *call) error {
	k.needs(len(k.operands) > 0, missingArg, "a certificate is missing")
	certs := k.certificates(k.operands)
	b := k.stdin()
	if k.err != nil {
		return k.err
	}
	data, signatures, err := pgp.SplitSigned(b)
	if err != nil {
		return err
	}
	if len(signatures) == 0 {
		return failure(noSignature, "nothing is signed")
	}
	lines, err := k.good(pgp.Verify(ctx, data, signatures, certs, k.Now()))
	if err != nil {
		return err
	}
	if err := k.also("verifications-out", lines); err != nil {
		return err
	}
	return k.out(native(b, data))
}

func inlineDetach(_ context.Context, k *call) error {
	k.needs(k.has("signatures-out"), missingArg, "--signatures-out is missing")
	b := k.stdin()
	if k.err != nil {
		return k.err
	}
	data, signatures, err := pgp.SplitSigned(b)
	if err != nil {
		return err
	}
	if !k.has("no-armor") {
		text, err := pgp.ArmorData(signatures)
		if err != nil {
			return err
		}
		signatures = []byte(text)
	}
	if err := k.also("signatures-out", signatures); err != nil {
		return err
	}
	return k.out(native(b, data))
}

// native gives text that was signed in the clear the line ends of files: those
// that were hashed are CRLF.
func native(message, signed []byte) []byte {
	if bytes.HasPrefix(bytes.TrimLeft(message, " \t\r\n"), []byte("-----BEGIN PGP SIGNED MESSAGE-----")) {
		return bytes.ReplaceAll(signed, []byte("\r\n"), []byte("\n"))
	}
	return signed
}

// good checks what was verified, and gives the lines that tell of it.
func (k *call) good(all []pgp.Verification, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	s := k.span("not-before", "not-after")
	if k.err != nil {
		return nil, k.err
	}
	lines := s.within(all)
	if len(lines) == 0 {
		return nil, failure(noSignature, "no signature is good")
	}
	return lines, nil
}

// span is what --not-before and --not-after allow.
type span struct{ from, to time.Time }

func (k *call) span(before, after string) span {
	s := span{k.date(before), k.date(after)}
	if s.to.IsZero() {
		s.to = k.Now()
	}
	return s
}

// date reads an option that has a date; zero for "-" and for none.
func (k *call) date(option string) time.Time {
	switch v := k.one(option, "-"); v {
	case "-":
		return time.Time{}
	case "now":
		return k.Now()
	default:
		t, err := time.Parse(time.RFC3339, v)
		k.needs(err == nil, unsupportedOption, "--%s=%s is no date", option, v)
		return t
	}
}

// within leaves what was made in the span, and tells of each in a line (Section
// 5.9 of the draft).
func (s span) within(good []pgp.Verification) (lines []byte) {
	for _, v := range good {
		if v.Made.Before(s.from.Truncate(time.Second)) || v.Made.After(s.to) {
			continue
		}
		mode := "binary"
		if v.Text {
			mode = "text"
		}
		lines = fmt.Appendf(lines, "%s %s %s mode:%s\n", v.Made.UTC().Format("2006-01-02T15:04:05Z"), v.Signing, v.Primary, mode)
	}
	return lines
}
