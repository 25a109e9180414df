package pgp_test

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"letterlock.org/letterlock/pgp"
)

// longSignature is a signature packet of version 6 with that many subpackets of two
// bytes, which mean nothing.
func longSignature(subpackets int) []byte {
	hashed := append([]byte{5, 2, 0x60, 0, 0, 0}, bytes.Repeat([]byte{1, 100}, subpackets)...)
	body := binary.BigEndian.AppendUint32([]byte{6, 0, byte(packet.PubKeyAlgoEd25519), 10}, uint32(len(hashed)))
	body = append(append(body, hashed...), make([]byte, 4)...)
	body = append(append(body, 0, 0, 32), make([]byte, 32+64)...)
	return append(binary.BigEndian.AppendUint32([]byte{0xc2, 255}, uint32(len(body))), body...)
}

// allocated is how many bytes f allocates. Not for tests that run beside others.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestPacketsInsideAreBounded: some kilobytes, compressed and encrypted to us by
// anybody, must not make the engine keep gigabytes, or read packets without end.
func TestPacketsInsideAreBounded(t *testing.T) {
	c := newCouple(t)
	lit := literal(t, payload)
	marker, unknown := []byte{0xca, 3, 'P', 'G', 'P'}, []byte{0xc0 | 60, 0}
	padding := append(binary.BigEndian.AppendUint32([]byte{0xc0 | 21, 255}, 1<<20), make([]byte, 1<<20)...)
	tests := []struct {
		name   string
		before []byte
		want   string
	}{
		{"a signature of a million subpackets", longSignature(1 << 20), "opaque"},
		{"a signature of some subpackets", longSignature(1000), "encrypted bad"},
		{"many markers", bytes.Repeat(marker, 1<<18), "opaque"},
		{"some markers", bytes.Repeat(marker, 3), "encrypted none"},
		{"many packets of an unknown type", bytes.Repeat(unknown, 1<<18), "opaque"},
		{"a packet of an unknown type", unknown, "encrypted none"},
		{"a long packet of an unknown type", retag(padding, 60), "opaque"},
		{"a long signature of no version", append(binary.BigEndian.AppendUint32([]byte{0xc2, 255}, 1<<20), make([]byte, 1<<20)...), "opaque"},
		{"long padding", padding, "encrypted none"},
		{"padding in pieces", append([]byte{0xc0 | 21, 0xe9}, append(make([]byte, 512), 0)...), "opaque"},
	}
	for _, tt := range tests {
		for _, where := range []string{"compressed", "as it is"} {
			inner := append(bytes.Clone(tt.before), lit...)
			if where == "compressed" {
				inner = pressed(t, inner, packet.CompressionZLIB, 1)
			}
			k, d := locked(t, inner, c.bob)
			mail := []byte(mime(outside, append(k, d...)))
			var got *pgp.Opened
			n := allocated(func() { got = openBytes(t, mail, c.opening()) })
			if summary(got) != tt.want {
				t.Errorf("%s, %s: got %q (%s), want %q", tt.name, where, summary(got), got.Reason, tt.want)
			}
			if most := uint64(16<<20 + 8*len(mail)); n > most {
				t.Errorf("%s, %s: a mail of %d bytes took %d, more than %d", tt.name, where, len(mail), n, most)
			}
		}
	}
}
