package pgp_test

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"letterlock.org/letterlock/pgp"
)

// TestArmor: byte for byte the armor that the engine makes, but for line ends,
// whatever the length and however it is written.
func TestArmor(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 3, 47, 48, 49, 96, 3071, 3072, 3073, 3074, 10000} {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		for _, sum := range []bool{true, false} {
			var out bytes.Buffer
			w, err := armor.EncodeWithChecksumOption(&out, "PGP MESSAGE", nil, sum)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = w.Write(b)
			_ = w.Close()
			// The engine writes an empty line for nothing, and none at the end.
			want := strings.ReplaceAll(strings.ReplaceAll(out.String()+"\n", "\n\n\n", "\n\n"), "\n", "\r\n")
			for _, piece := range []int{1, 7, 3072, 1 << 20} {
				if got := pgp.Armor("PGP MESSAGE", b, !sum, piece); got != want {
					t.Fatalf("%d bytes in pieces of %d, checksum %v:\n%s\nwant\n%s", n, piece, sum, got, want)
				}
			}
		}
	}
}

// TestChecksumWhereItBelongs: RFC 9580, Section 6.1 forbids one for SEIPDv2 and
// version 6; GnuPG 2.2 needs it for the rest.
func TestChecksumWhereItBelongs(t *testing.T) {
	t.Parallel()
	old, other := makeKey(t, "alice@example.org"), keyV6(t, "bob@example.net")
	summed := func(mail string) bool {
		i := strings.LastIndex(mail, "\r\n-----END PGP")
		line := mail[strings.LastIndex(mail[:i], "\n")+1 : i]
		return len(line) == 5 && line[0] == '='
	}
	tests := []struct {
		name   string
		signer *pgp.Key
		to     []*pgp.Certificate
		want   bool
	}{
		{"SEIPDv1", old, []*pgp.Certificate{old.Certificate()}, true},
		{"SEIPDv1 for one among two", old, []*pgp.Certificate{other.Certificate(), old.Certificate()}, true},
		{"SEIPDv2", old, []*pgp.Certificate{other.Certificate()}, false},
		{"signature of version 4", old, nil, true},
		{"signature of version 6", other, nil, false},
	}
	for _, tt := range tests {
		if got := summed(protect(t, crlf(letter), pgp.Protection{Signer: tt.signer, Recipients: tt.to})); got != tt.want {
			t.Errorf("%s: checksum %v", tt.name, got)
		}
	}
}
