package pgp

import (
	"crypto"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// engineConfig is how the engine is always called for writing: never nil (it
// dereferences one with SEIPDv2 recipients), strict, AES-256, SHA-256, no
// compression.
func engineConfig(now time.Time) *packet.Config {
	c := strictConfig(now)
	c.DefaultCipher = packet.CipherAES256
	c.DefaultHash = crypto.SHA256
	c.DefaultCompressionAlgo = packet.CompressionNone
	return c
}
