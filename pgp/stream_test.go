package pgp_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"letterlock.org/letterlock/pgp"
)

// TestSealedPackets has the engine read what we write ourselves, at the sizes
// where lengths take another form and where pieces end.
func TestSealedPackets(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	sizes := []int{0, 1, 15, 16, 17, 191 - 6, 192 - 6, 8383 - 6, 8384 - 6, 100_000}
	for _, at := range []int{1 << 15, 2 << 15} {
		for n := at - 90; n < at+10; n++ {
			sizes = append(sizes, n)
		}
	}
	for _, n := range sizes {
		body := bytes.Repeat([]byte("0123456789abcde\n"), n/16+1)[:n]
		var sealed bytes.Buffer
		if err := pgp.SealLiteral(&sealed, key, body); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		got, err := unsealLiteral(&sealed, key)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if !bytes.Equal(got, body) {
			t.Errorf("%d bytes: got other bytes", n)
		}
		if sealed.Len() > 0 {
			t.Errorf("%d bytes: %d bytes after the packet", n, sealed.Len())
		}
	}
}

func unsealLiteral(r io.Reader, key []byte) ([]byte, error) {
	p, err := packet.Read(r)
	if err != nil {
		return nil, err
	}
	inside, err := p.(*packet.SymmetricallyEncrypted).Decrypt(packet.CipherAES256, key)
	if err != nil {
		return nil, err
	}
	if p, err = packet.Read(inside); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(p.(*packet.LiteralData).Body)
	if err != nil {
		return nil, err
	}
	if rest, err := io.ReadAll(inside); err != nil || len(rest) > 0 {
		return nil, io.ErrNoProgress
	}
	return body, inside.Close() // checks the modification detection code
}
