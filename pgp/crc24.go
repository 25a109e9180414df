package pgp

import "encoding/binary"

// crc24 is the armor's checksum (RFC 9580, Section 6.1.1). It is kept in the
// upper three bytes of 32 bits, and computed sixteen bytes at a time: of their tables
// only four wait for the bytes before.
func crc24(crc uint32, b []byte) uint32 {
	t := &crcTables
	for len(b) >= 16 {
		x, y := crc^binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
		z, w := binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])
		crc = t[11][y>>24] ^ t[10][y>>16&0xff] ^ t[9][y>>8&0xff] ^ t[8][y&0xff] ^
			t[7][z>>24] ^ t[6][z>>16&0xff] ^ t[5][z>>8&0xff] ^ t[4][z&0xff] ^
			t[3][w>>24] ^ t[2][w>>16&0xff] ^ t[1][w>>8&0xff] ^ t[0][w&0xff] ^
			(t[15][x>>24] ^ t[14][x>>16&0xff] ^ t[13][x>>8&0xff] ^ t[12][x&0xff])
		b = b[16:]
	}
	for _, c := range b {
		crc = crc<<8 ^ t[0][byte(crc>>24)^c]
	}
	return crc
}

const (
	crcInit = 0xb704ce << 8
	crcPoly = 0x864cfb << 8
)

// crcTables[n] is the checksum of each byte followed by n zero bytes.
var crcTables = func() (t [16][256]uint32) {
	for i := range t[0] {
		crc := uint32(i) << 24
		for range 8 {
			top := crc >> 31
			crc = crc<<1 ^ crcPoly*top
		}
		t[0][i] = crc
	}
	for n := 1; n < len(t); n++ {
		for i, crc := range t[n-1] {
			t[n][i] = crc<<8 ^ t[0][crc>>24]
		}
	}
	return t
}()
