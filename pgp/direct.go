package pgp

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

const (
	tagOnePass = 4
	tagLiteral = 11

	hashSHA256 = 8 // RFC 9580, Section 9.5
)

// direct is the usual message, which we write ourselves: AES-256 and SHA-256,
// version 1 SEIPD, signed by a version 4 key. The engine makes the session key
// packets and the signature; around them it copies and allocates more than the
// cryptography costs. Whatever is not usual goes through the engine as a whole.
type direct struct {
	encryption
	config *packet.Config
	keys   []openpgp.Key // to encrypt to
	signer *packet.PrivateKey
}

// direct tells whether every key is fine with the usual choices, by the
// preferences that the engine would go by.
func (e encryption) direct(keys []openpgp.Key, config *packet.Config) (*direct, bool) {
	signing, ok := e.signer.signingEntity().SigningKeyById(e.now, 0, config)
	if !ok || signing.PrivateKey == nil || signing.PrivateKey.Encrypted || signing.PrivateKey.Version != 4 ||
		!prefers(signing.PrimarySelfSignature, false) {
		return nil, false
	}
	switch signing.PrivateKey.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoEdDSA, packet.PubKeyAlgoEd25519:
	default: // others may need another hash
		return nil, false
	}
	for _, k := range keys {
		if !prefers(k.PrimarySelfSignature, true) {
			return nil, false
		}
	}
	return &direct{encryption: e, config: config, keys: keys, signer: signing.PrivateKey}, true
}

// prefers tells whether a self-signature lists SHA-256 and, for who decrypts,
// AES-256 in a version 1 SEIPD.
func prefers(self *packet.Signature, decrypts bool) bool {
	if self == nil || !slices.Contains(self.PreferredHash, hashSHA256) {
		return false
	}
	return !decrypts || !self.SEIPDv2 && slices.Contains(self.PreferredSymmetric, uint8(packet.CipherAES256))
}

// write writes session keys to gate.keys and the encrypted data to gate.
func (d *direct) write(ctx context.Context, gate *keyGate, content func(io.Writer) error) error {
	key := make([]byte, packet.CipherAES256.KeySize())
	defer clear(key)
	rand.Read(key)
	for _, to := range d.keys {
		if err := packet.SerializeEncryptedKeyAEAD(&gate.keys, to.PublicKey, packet.CipherAES256, false, key, d.config); err != nil {
			return fmt.Errorf("encrypting a session key: %w", err)
		}
	}
	sealed, err := newSealer(gate, key)
	if err != nil {
		return fmt.Errorf("encrypting: %w", err)
	}
	defer sealed.free()
	if err := d.signed(ctx, sealed, content); err != nil {
		return err
	}
	return sealed.Close()
}

// signed writes a one-pass signed message (RFC 9580, Section 10.3): one-pass
// packet, literal data, signature.
func (d *direct) signed(ctx context.Context, w io.Writer, content func(io.Writer) error) error {
	onePass := &packet.OnePassSignature{Version: 3, SigType: packet.SigTypeBinary, Hash: crypto.SHA256,
		PubKeyAlgo: d.signer.PubKeyAlgo, KeyId: d.signer.KeyId, IsLast: true}
	if err := onePass.Serialize(w); err != nil {
		return err
	}
	literal := newPacketStream(w, tagLiteral)
	defer literal.free()
	// Binary, no file name, no date: none of them is signed (Section 5.9).
	if _, err := literal.Write([]byte{'b', 0, 0, 0, 0, 0}); err != nil {
		return err
	}
	sum := sha256.New()
	if err := content(hashedWriter{ctx, literal, sum}); err != nil {
		return err
	}
	if err := literal.Close(); err != nil {
		return err
	}
	sig := d.signature()
	if err := sig.Sign(sum, d.signer, d.config); err != nil {
		return fmt.Errorf("signing: %w", err)
	}
	return sig.Serialize(w)
}

// signature is the packet as the engine makes it, not yet signed.
func (d *direct) signature() *packet.Signature {
	pub := &d.signer.PublicKey
	never := uint32(0)
	sig := &packet.Signature{
		Version: pub.Version, SigType: packet.SigTypeBinary, PubKeyAlgo: pub.PubKeyAlgo, Hash: crypto.SHA256,
		CreationTime: d.config.Now(), SigLifetimeSecs: &never,
		IssuerKeyId: &pub.KeyId, IssuerKeyVersion: uint8(pub.Version), IssuerFingerprint: pub.Fingerprint,
		Notations: d.config.Notations(),
	}
	for _, to := range d.keys { // Section 5.2.3.36
		primary := to.Entity.PrimaryKey
		sig.IntendedRecipients = append(sig.IntendedRecipients, &packet.Recipient{KeyVersion: primary.Version, Fingerprint: primary.Fingerprint})
	}
	return sig
}

// hashedWriter writes to the literal data what it hashes, while ctx lasts.
type hashedWriter struct {
	ctx context.Context
	w   *packetStream
	sum hash.Hash
}

func (h hashedWriter) Write(p []byte) (int, error) {
	if err := h.ctx.Err(); err != nil {
		return 0, err
	}
	h.sum.Write(p)
	return h.w.Write(p)
}
