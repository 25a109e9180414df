package pgp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// More packet types (RFC 9580, Section 5).
const (
	tagSKESK         = 3
	tagCompressed    = 8
	tagSED           = 9
	tagMarker        = 10
	tagLiteral       = 11
	tagTrust         = 12
	tagUserAttribute = 17
	tagSEIPD         = 18
	tagAEAD          = 20
	tagPadding       = 21
)

// Bounds of what is read as certificates: one of them, and all of one input.
const (
	maxCertificateSize    = 1 << 20
	maxCertificatePackets = 4000
	maxCertificatesInput  = 16 << 20
)

// rawPacket is one packet as it lay there.
type rawPacket struct {
	tag  byte
	body []byte
	raw  []byte // header and body
}

// cutPackets cuts b into packets without understanding them. Partial and
// indeterminate lengths are only for data packets (RFC 9580, Section 4.2.1.4)
// and malformed here. What precedes the first fault is returned with the error.
func cutPackets(b []byte) ([]rawPacket, error) {
	var all []rawPacket
	for len(b) > 0 {
		tag, head, n, err := packetHeader(b)
		if err != nil {
			return all, err
		}
		if n > len(b)-head {
			return all, fmt.Errorf("packet of type %d is cut off: %w", tag, ErrMalformed)
		}
		all = append(all, rawPacket{tag: tag, body: b[head : head+n], raw: b[:head+n]})
		b = b[head+n:]
	}
	return all, nil
}

// packetHeader reads the header that b begins with: the packet's type, the
// length of its header and of its body.
func packetHeader(b []byte) (tag byte, head, n int, err error) {
	if b[0]&0x80 == 0 {
		return 0, 0, 0, fmt.Errorf("no packet header: %w", ErrMalformed)
	}
	if b[0]&0x40 == 0 { // legacy format, RFC 9580, Section 4.2.2
		tag = b[0] >> 2 & 0x0f
		size := 1 << (b[0] & 3)
		if size == 8 || len(b) < 1+size {
			return tag, 0, 0, fmt.Errorf("packet of type %d without length: %w", tag, ErrMalformed)
		}
		for _, c := range b[1 : 1+size] {
			n = n<<8 | int(c)
		}
		return tag, 1 + size, n, nil
	}
	tag = b[0] & 0x3f
	bad := fmt.Errorf("packet of type %d without length: %w", tag, ErrMalformed)
	switch {
	case len(b) < 2:
		return tag, 0, 0, bad
	case b[1] < 192:
		return tag, 2, int(b[1]), nil
	case b[1] < 224:
		if len(b) < 3 {
			return tag, 0, 0, bad
		}
		return tag, 3, (int(b[1])-192)<<8 + int(b[2]) + 192, nil
	case b[1] == 255:
		if len(b) < 6 {
			return tag, 0, 0, bad
		}
		return tag, 6, int(binary.BigEndian.Uint32(b[2:6])), nil
	}
	return tag, 0, 0, fmt.Errorf("packet of type %d has a partial length: %w", tag, ErrMalformed)
}

// parsePacket has the engine read one packet. The engine panics on some
// hostile input; that is an error like any other.
func parsePacket(raw []byte) (p packet.Packet, err error) {
	defer caught(&err)
	r := bytes.NewReader(raw)
	p, err = packet.Read(r)
	if err == nil && r.Len() > 0 {
		err = io.ErrUnexpectedEOF
	}
	return p, err
}

// caught turns a panic of the engine into ErrMalformed; use with defer.
func caught(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the OpenPGP engine failed on this input: %w", ErrMalformed)
	}
}
