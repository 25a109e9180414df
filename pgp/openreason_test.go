package pgp_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"letterlock.org/letterlock/pgp"
)

// TestReasons: what stays closed says why, so that its reader knows what helps.
func TestReasons(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	_, data := locked(t, literal(t, payload), c.bob)
	var blowfish bytes.Buffer
	must(t, packet.SerializeEncryptedKey(&blowfish, engineOf(t, c.bob).Subkeys[0].PublicKey, packet.CipherFunction(4), make([]byte, 16), at(testNow)))
	ordinary := mime(outside, written(t, payload, c.alice, nil, c.bob))
	parts := strings.Replace(ordinary, "--bb--", strings.Repeat("--bb\r\n\r\n\r\n", 1100)+"--bb--", 1)
	tests := []struct {
		name, mail string
		class      pgp.Class
		reason     string
	}{
		{"for somebody else", mime(outside, written(t, payload, c.alice, nil, c.mallory)), pgp.Opaque, "none of your keys"},
		{"with a password", mime(outside, password(t, payload)), pgp.Opaque, "a password"},
		{"with a cipher of old", mime(outside, append(blowfish.Bytes(), data...)), pgp.Opaque, "an old cipher"},
		{"in more parts than are read", parts, pgp.Opaque, "too many parts"},
		{"in a mail of more parts than are read that isn't encrypted", strings.Replace(parts, "multipart/encrypted", "multipart/mixed", 1), pgp.Plain, ""},
	}
	for _, tt := range tests {
		got := openBytes(t, []byte(tt.mail), c.opening())
		if got.Class != tt.class || !strings.Contains(got.Reason, tt.reason) || tt.reason == "" && got.Reason != "" {
			t.Errorf("%s: got %s %q, want %s for %q", tt.name, got.Class, got.Reason, tt.class, tt.reason)
		}
	}
}
