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

// guard passes an OpenPGP message on, byte for byte, and sees to its outermost
// packets: session keys within bounds, then exactly one packet of integrity
// protected data, then nothing. It hashes the content of that one: not the
// session keys, which anybody can add to, nor the framing by partial lengths,
// which anybody can change.
type guard struct {
	r       *bufio.Reader
	pending []byte // headers that the reader has still to get
	left    int64  // bytes of the current packet or piece; -1 means to the end
	partial bool   // another piece follows
	inData  bool   // the current packet is the encrypted data
	begun   bool   // the encrypted data was seen
	keys    int
	wild    int
	secrets int // password packets, never tried
	sum     hash.Hash
	err     error
}

// newGuard guards r, which is at most size bytes long.
func newGuard(r io.Reader, size int64) *guard {
	return &guard{r: bufio.NewReaderSize(r, int(min(size, 32<<10))), sum: sha256.New()}
}

// chunk is a good size for what is read at once.
func (g *guard) chunk() int { return max(4<<10, g.r.Size()) }

// digest is the hash of the encrypted data, once all was read.
func (g *guard) digest() (d [32]byte) {
	g.sum.Sum(d[:0])
	return d
}

func (g *guard) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		switch {
		case len(g.pending) > 0:
			n := copy(p, g.pending)
			g.pending = g.pending[n:]
			return n, nil
		case g.err != nil:
			return 0, g.err
		case g.left != 0:
			return g.body(p)
		}
		if g.partial {
			g.err = g.piece()
		} else {
			g.err = g.packet()
		}
	}
}

// body passes on what is left of the current packet.
func (g *guard) body(p []byte) (int, error) {
	if g.left > 0 && int64(len(p)) > g.left {
		p = p[:g.left]
	}
	n, err := g.r.Read(p)
	if g.left > 0 {
		g.left -= int64(n)
	}
	if g.inData {
		g.sum.Write(p[:n])
	}
	switch {
	case err == io.EOF && g.left < 0: // indeterminate length ends with the data
		g.left = 0
	case err == io.EOF && g.left > 0:
		g.err = io.ErrUnexpectedEOF
	case err != nil && err != io.EOF:
		g.err = err
	}
	if n == 0 && g.err != nil {
		return 0, g.err
	}
	return n, nil
}

// packet reads the next packet's header and decides on it.
func (g *guard) packet() error {
	first, err := g.take()
	if err != nil {
		return err // io.EOF is the end of the message
	}
	if first&0x80 == 0 {
		return errGrammar
	}
	tag := first & 0x3f
	if first&0x40 == 0 {
		tag = tag >> 2
		err = g.legacyLength(first & 3)
	} else {
		err = g.piece()
	}
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	return g.admit(tag)
}

// take reads one byte of a header and keeps it for the reader.
func (g *guard) take() (byte, error) {
	c, err := g.r.ReadByte()
	if err == nil {
		g.pending = append(g.pending, c)
	}
	return c, err
}

func (g *guard) number(octets int) (n int64, err error) {
	for range octets {
		c, err := g.take()
		if err != nil {
			return 0, io.ErrUnexpectedEOF
		}
		n = n<<8 | int64(c)
	}
	return n, nil
}

func (g *guard) legacyLength(kind byte) (err error) {
	if kind == 3 {
		g.left = -1
		return nil
	}
	g.left, err = g.number(1 << kind)
	return err
}

// piece reads a length in the OpenPGP format (RFC 9580, Section 4.2.1).
func (g *guard) piece() error {
	n, err := g.number(1)
	if err != nil {
		return err
	}
	g.partial = false
	switch {
	case n < 192:
		g.left = n
	case n < 224:
		more, err := g.number(1)
		g.left = (n-192)<<8 + more + 192
		return err
	case n == 255:
		g.left, err = g.number(4)
	default:
		g.left, g.partial = 1<<(n&0x1f), true
	}
	return err
}

// admit decides whether a packet may stand where it stands.
func (g *guard) admit(tag byte) error {
	g.inData = false
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
		g.begun, g.inData = true, true
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
