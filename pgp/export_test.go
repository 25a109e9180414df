package pgp

import (
	"bytes"
	"context"
	"io"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"letterlock.org/letterlock/internal/message"
)

// SessionKeysFit is what stands between the engine's session key packets and
// the message: nil if there is exactly one for each recipient.
func SessionKeysFit(packets []byte, to ...*Certificate) error {
	g := keyGate{recipients: to}
	g.keys = *bytes.NewBuffer(packets)
	return g.check()
}

// Armor encodes b as a block, in pieces of that many bytes.
func Armor(typ string, b []byte, plain bool, piece int) string {
	var out bytes.Buffer
	a := newArmor(&out, typ)
	a.plain = plain
	for len(b) > 0 {
		n := min(piece, len(b))
		_, _ = a.Write(b[:n])
		b = b[n:]
	}
	_ = a.Close()
	return out.String()
}

// NewAhead is what lets another goroutine write a long message.
func NewAhead(w io.Writer) io.WriteCloser { return &ahead{w: w} }

// Payload writes what of a message is signed where there are no recipients.
func Payload(ctx context.Context, w io.Writer, src message.Source, p Protection) error {
	c, err := compose(ctx, src, p)
	if err != nil {
		return err
	}
	defer c.free()
	return c.write(w)
}

// Checks is how many signatures of a key are verified at most in a certificate.
func Checks(key *packet.PublicKey) int { return maxSelfChecks / checkCost(key) }
