package pgp

import (
	"bufio"
	"hash"
	"io"
)

// maxPackets bounds the packets of one layer of a message: session keys or
// signatures, and what stands between them.
const maxPackets = 300

// gate passes OpenPGP packets on, byte for byte, and asks of each whether it may
// stand where it stands before the engine sees it. The engine reads signatures and
// unknown packets whole, however long and however many they are.
type gate struct {
	r       *bufio.Reader
	admit   func(tag byte) error // left and partial are those of the packet
	room    [8]byte              // for pending
	pending []byte               // of a header, what the reader has still to get
	left    int64                // bytes of the current packet or piece; -1 means to the end
	partial bool                 // another piece follows
	packets int
	tee     hash.Hash // of the current packet's content, or nil
	err     error
}

func (g *gate) Read(p []byte) (int, error) {
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
func (g *gate) body(p []byte) (int, error) {
	if g.left > 0 && int64(len(p)) > g.left {
		p = p[:g.left]
	}
	n, err := g.r.Read(p)
	if g.left > 0 {
		g.left -= int64(n)
	}
	if g.tee != nil {
		g.tee.Write(p[:n])
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

// packet reads the next packet's header and has it admitted.
func (g *gate) packet() error {
	first, err := g.take()
	if err != nil {
		return err // io.EOF is the end of the message
	}
	if g.packets++; first&0x80 == 0 || g.packets > maxPackets {
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
func (g *gate) take() (byte, error) {
	c, err := g.r.ReadByte()
	if len(g.pending) == 0 {
		g.pending = g.room[:0]
	}
	if err == nil {
		g.pending = append(g.pending, c)
	}
	return c, err
}

func (g *gate) number(octets int) (n int64, err error) {
	for range octets {
		c, err := g.take()
		if err == io.EOF {
			return 0, io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, err
		}
		n = n<<8 | int64(c)
	}
	return n, nil
}

func (g *gate) legacyLength(kind byte) (err error) {
	if kind == 3 {
		g.left = -1
		return nil
	}
	g.left, err = g.number(1 << kind)
	return err
}

// piece reads a length in the OpenPGP format (RFC 9580, Section 4.2.1).
func (g *gate) piece() error {
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

// maxInnerPacket bounds what isn't the text: the largest signatures that there are,
// of SLH-DSA, take 50 kB.
const maxInnerPacket = 64 << 10

// newInnerGate is a gate for what is inside of encrypted data or of a compressed
// packet.
func newInnerGate(r io.Reader) *gate {
	g := &gate{r: bufio.NewReaderSize(r, 512)} // what is read in larger pieces passes it by
	g.admit = func(tag byte) error {
		if tag == tagLiteral || tag == tagCompressed || tag == tagPadding && g.left >= 0 && !g.partial {
			return nil
		}
		if g.partial || g.left < 0 || g.left > maxInnerPacket {
			return errGrammar
		}
		return nil
	}
	return g
}
