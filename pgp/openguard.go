package pgp

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Bounds of an encrypted message (reference security.md, rule 18).
const (
	maxRecipientKeys   = 100
	maxWildcardKeys    = 64
	maxSessionKeySize  = 8 << 10
	maxPasswordPackets = 16
)

// What a guard refuses before the engine sees it.
var (
	errNotEncrypted = errors.New("what stands in the place of the encrypted data is not encrypted")
	errNoIntegrity  = errors.New("the message is encrypted without protection against change")
	errTooManyKeys  = errors.New("the message names too many recipients")
	errGrammar      = errors.New("the encrypted data is not one well-formed OpenPGP message")
)

// guard is the gate of an OpenPGP message's outermost packets: session keys within
// bounds, then exactly one packet of integrity protected data, then nothing. It
// hashes the content of that one: not the session keys, which anybody can add to,
// nor the framing by partial lengths, which anybody can change.
type guard struct {
	gate
	begun   bool // the encrypted data was seen
	keys    int
	wild    int
	secrets int // password packets, never tried
	sum     hash.Hash
}

// newGuard guards r, which is at most size bytes long.
func newGuard(r io.Reader, size int64) *guard {
	g := &guard{gate: gate{r: bufio.NewReaderSize(r, int(min(size, 32<<10)))}, sum: sha256.New()}
	g.admit = g.outermost
	return g
}

// chunk is a good size for what is read at once.
func (g *guard) chunk() int { return max(4<<10, g.r.Size()) }

// digest is the hash of the encrypted data, once all was read.
func (g *guard) digest() (d [32]byte) {
	g.sum.Sum(d[:0])
	return d
}

// outermost decides whether a packet may stand where it stands.
func (g *guard) outermost(tag byte) error {
	g.tee = nil
	if tag != tagSEIPD && tag != tagAEAD && (g.partial || g.left < 0) {
		if tag == tagSED {
			return errNoIntegrity
		}
		return errNotEncrypted
	}
	switch {
	case tag == tagMarker, tag == tagPadding: // RFC 9580, Sections 5.8 and 5.14: ignored
		return nil
	case g.begun:
		return errGrammar
	case tag == tagPKESK:
		return g.sessionKey()
	case tag == tagSKESK:
		if g.secrets++; g.secrets > maxPasswordPackets {
			return errTooManyKeys
		}
		return nil
	case tag == tagSED:
		return errNoIntegrity
	case tag == tagSEIPD, tag == tagAEAD:
		g.begun, g.tee = true, g.sum
		return nil
	}
	return errNotEncrypted
}

// sessionKey counts, and looks for hidden recipients, each of which costs a
// try with every key.
func (g *guard) sessionKey() error {
	if g.keys++; g.keys > maxRecipientKeys || g.left > maxSessionKeySize {
		return errTooManyKeys
	}
	head, err := g.r.Peek(int(min(g.left, 9)))
	if err != nil {
		return fmt.Errorf("session key packet: %w", io.ErrUnexpectedEOF)
	}
	hidden := len(head) == 9 && head[0] == 3 && [8]byte(head[1:]) == [8]byte{} ||
		len(head) > 1 && head[0] == 6 && head[1] == 0
	if hidden {
		if g.wild++; g.wild > maxWildcardKeys {
			return errTooManyKeys
		}
	}
	return nil
}
