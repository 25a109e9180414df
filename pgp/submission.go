package pgp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"letterlock.org/letterlock/internal/message"
)

// SealKind is how a submitted message is encrypted already.
type SealKind string

const (
	NotSealed SealKind = ""       // in clear
	PGPMIME   SealKind = "pgp"    // multipart/encrypted, RFC 3156
	InlinePGP SealKind = "inline" // the body is one armored message
	SMIME     SealKind = "smime"  // application/pkcs7-mime, enveloped
)

// Submission is what can be seen from outside of a message that its sender
// encrypted.
type Submission struct {
	Kind SealKind
	// KeyIDs are whom the session key packets name; 0 for one who isn't named.
	// S/MIME has none: we can't tell whom it covers.
	KeyIDs []uint64
}

// maxPKESK bounds the session key packets that are read.
const maxPKESK = 1000

// IsSealedSubmission tells whether a message is encrypted already, and to whom.
// It goes by the packets and not by the labels: what only claims to be encrypted
// is NotSealed. The error is only of reading src.
func IsSealedSubmission(root *message.Part, src message.Source) (s Submission, err error) {
	defer caught(&err)
	switch {
	case root.Is("multipart/encrypted"):
		if len(root.Children) != 2 || !root.Children[0].Is("application/pgp-encrypted") || saysMore(root, src) {
			return s, nil
		}
		s.Kind, root = PGPMIME, root.Children[1]
	case root.Is("text/plain"):
		if beginsOtherwise(root, src) {
			return s, nil
		}
		s.Kind = InlinePGP
	case root.Is("application/pkcs7-mime"), root.Is("application/x-pkcs7-mime"):
		return smimeSubmission(root, src), nil
	default:
		return s, nil
	}
	ids, err := sessionKeys(decodedBody(root, src), root.End-root.Body)
	switch {
	case errors.Is(err, ErrMalformed):
		return Submission{}, nil
	case err != nil:
		return Submission{}, fmt.Errorf("reading a submission: %w", err)
	}
	s.KeyIDs = ids
	return s, nil
}

// beginsOtherwise tells of a body that armor can't begin, where that is seen at
// its first byte: almost every text.
func beginsOtherwise(p *message.Part, src message.Source) (other bool) {
	if encoded(p) {
		return false
	}
	_, _ = message.InMemory(src, p.Body, p.End, func(b []byte) error {
		other = len(b) > 0 && b[0] > ' ' && b[0] < 0x7f && b[0] != '-'
		return nil
	})
	return other
}

// saysMore tells of words in clear beside the ciphertext of a multipart/encrypted:
// in its first part, which has nothing to say, or behind its end. What stands
// before it, mail programs write for others that can't read it.
func saysMore(root *message.Part, src message.Source) bool {
	control, box := root.Children[0], root.Children[1]
	words := func(r io.Reader) string {
		b, err := io.ReadAll(io.LimitReader(r, 4<<10+1))
		if err != nil || len(b) > 4<<10 {
			return "more than anybody has to say there"
		}
		return strings.TrimSpace(string(b))
	}
	end := words(io.NewSectionReader(src, box.End, root.End-box.End))
	return !strings.EqualFold(words(decodedBody(control, src)), "Version: 1") ||
		end != "" && end != "--"+root.Params["boundary"]+"--"
}

// smimeSubmission goes by the content type inside (RFC 5652, Section 3): what is
// only signed or compressed is readable by anyone, whatever its label says.
func smimeSubmission(root *message.Part, src message.Source) Submission {
	head := make([]byte, 64)
	n, _ := io.ReadFull(decodedBody(root, src), head)
	for _, oid := range [][]byte{
		{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03},             // envelopedData
		{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x17}, // authEnvelopedData
	} {
		if bytes.HasPrefix(contentType(head[:n]), oid) {
			return Submission{Kind: SMIME}
		}
	}
	return Submission{}
}

// contentType is what follows the tag and length of the object identifier that a
// ContentInfo begins with, or nil.
func contentType(b []byte) []byte {
	if len(b) < 2 || b[0] != 0x30 { // SEQUENCE
		return nil
	}
	skip := 2
	if b[1] > 0x80 { // X.690, Section 8.1.3.5; 0x80 alone is the indefinite form
		skip += int(b[1] & 0x7f)
	}
	if len(b) < skip+2 || b[skip] != 0x06 { // OBJECT IDENTIFIER
		return nil
	}
	return b[skip+2:]
}

// Covers tells whether session key packets name a key of the certificate.
func Covers(keyIDs []uint64, c *Certificate) bool {
	return slices.ContainsFunc(c.KeyIDs(), func(id uint64) bool { return id != 0 && slices.Contains(keyIDs, id) })
}

func decodedBody(p *message.Part, src message.Source) io.Reader {
	return transferDecoder(io.NewSectionReader(src, p.Body, p.End-p.Body), transferEncoding(p.Header))
}

// sessionKeys reads the session key packets of an armored message, which must
// be followed by encrypted data; else ErrMalformed. Nothing but white space may
// stand before or after the armor: a line that somebody wrote below it would
// travel in clear.
func sessionKeys(r io.Reader, size int64) ([]uint64, error) {
	b := borrowReader(r) // which the armor reader takes for its own
	defer returnReader(b)
	body, err := newArmorReader(b, blockMessage, size)
	if err != nil {
		return nil, err
	}
	ids, err := readSessionKeys(body)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, body)
	return ids, err
}

func readSessionKeys(body io.Reader) ([]uint64, error) {
	var ids []uint64
	packets := packet.NewReader(body)
	for range maxPKESK {
		p, err := packets.NextWithUnsupported()
		if err != nil {
			return nil, ErrMalformed
		}
		if u, ok := p.(*packet.UnsupportedPacket); ok {
			p = u.IncompletePacket
		}
		switch p := p.(type) {
		case *packet.EncryptedKey:
			ids = append(ids, p.KeyId)
		case *packet.SymmetricKeyEncrypted, *packet.Marker, *packet.Padding:
		case *packet.SymmetricallyEncrypted, *packet.AEADEncrypted:
			return ids, nil
		default:
			return nil, ErrMalformed
		}
	}
	return nil, ErrMalformed
}
