package pgp

import "encoding/binary"

// crc24 is the armor's checksum (RFC 9580, Section 6.1.1). It is kept in the
// upper three bytes of 32 bits, and computed eight bytes at a time.
func crc24(crc uint32, b []byte) uint32 {
	for len(b) >= 8 {
		x, y := crc^binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
		crc = crcTables[7][x>>24] ^ crcTables[6][x>>16&0xff] ^ crcTables[5][x>>8&0xff] ^ crcTables[4][x&0xff] ^
			crcTables[3][y>>24] ^ crcTables[2][y>>16&0xff] ^ crcTables[1][y>>8&0xff] ^ crcTables[0][y&0xff]
		b = b[8:]
	}
	for _, c := range b {
		crc = crc<<8 ^ crcTables[0][byte(crc>>24)^c]
	}
	return crc
}

const (
	crcInit = 0xb704ce << 8
	crcPoly = 0x864cfb << 8
)

// crcTables[n] is the checksum of each byte followed by n zero bytes.
var crcTables = func() (t [8][256]uint32) {
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
