package pgp

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/ProtonMail/go-crypto/openpgp/s2k"
)

// Marshal is the whole key without a passphrase, binary, for the encrypted
// store and nowhere else. The caller owns the bytes and should clear them.
func (k *Key) Marshal() []byte { return bytes.Clone(k.secret) }

// Export is the whole key, binary, for a person to keep or to move: locked with
// the passphrase, unless that is empty. It uses iterated S2K with SHA-256 and
// AES-256, which GnuPG 2.2 reads.
func (k *Key) Export(passphrase []byte) (out []byte, err error) {
	defer caught(&err)
	if len(passphrase) == 0 {
		return k.Marshal(), nil
	}
	groups, err := keyGroups(k.secret)
	if err != nil {
		return nil, err
	}
	secrets, err := secretPackets(groups[0])
	if err != nil {
		return nil, err
	}
	if err := packet.EncryptPrivateKeys(secrets, passphrase, exportConfig()); err != nil {
		return nil, fmt.Errorf("locking the exported key: %w", err)
	}
	var b bytes.Buffer
	for i, p := range groups[0] {
		if secrets[i] != nil {
			err = secrets[i].Serialize(&b)
		} else {
			err = p.Serialize(&b)
		}
		if err != nil {
			return nil, fmt.Errorf("exporting a key: %w", err)
		}
	}
	return b.Bytes(), nil
}

// ExportArmored is Export in ASCII armor.
func (k *Key) ExportArmored(passphrase []byte) (string, error) {
	b, err := k.Export(passphrase)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	w := newArmor(&out, blockSecret)
	w.plain = k.cert.Version() >= 6
	if _, err := w.Write(b); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	return out.String(), nil
}

// exportConfig leaves AEADConfig unset, so that secrets are locked with usage
// octet 254 and CFB (RFC 9580, Section 3.7.2.1), which every peer reads.
func exportConfig() *packet.Config {
	return &packet.Config{
		DefaultCipher: packet.CipherAES256,
		S2KConfig: &s2k.Config{
			S2KMode:  s2k.IteratedSaltedS2K,
			S2KCount: 65011712, // the greatest there is (RFC 9580, Section 3.7.1.3)
			Hash:     crypto.SHA256,
		},
		Time: time.Now,
	}
}

// publicGroup is the transferable public key of a transferable secret key,
// packet by packet in the same order. offline tells that the primary secret is
// a stub.
func publicGroup(group []*packet.OpaquePacket) (public []byte, offline bool, err error) {
	var out bytes.Buffer
	for _, p := range group {
		q := *p
		switch p.Tag {
		case tagSecretKey:
			q.Tag = tagPublicKey
		case tagSecretSubkey:
			q.Tag = tagPublicSubkey
		}
		if q.Tag != p.Tag {
			n, err := publicLength(p.Contents)
			if err != nil {
				return nil, false, err
			}
			q.Contents = p.Contents[:n]
			offline = offline || p.Tag == tagSecretKey && bytes.Contains(p.Contents[n:], []byte("GNU\x01"))
		}
		if err := q.Serialize(&out); err != nil {
			return nil, false, err
		}
	}
	return out.Bytes(), offline, nil
}

// publicLength is how many of a secret key packet's bytes are the public key
// (RFC 9580, Section 5.5.3: they come first).
func publicLength(contents []byte) (int, error) {
	r := bytes.NewReader(contents)
	op := packet.OpaquePacket{Tag: tagPublicKey, Contents: contents}
	p, err := op.Parse()
	pub, ok := p.(*packet.PublicKey)
	if err != nil || !ok {
		return 0, fmt.Errorf("reading a public key: %w: %w", ErrMalformed, errors.Join(err))
	}
	var b bytes.Buffer
	if err := pub.Serialize(&b); err != nil {
		return 0, fmt.Errorf("reading a public key: %w", ErrMalformed)
	}
	own, err := packet.NewOpaqueReader(&b).Next()
	if err != nil && err != io.EOF {
		return 0, fmt.Errorf("reading a public key: %w", ErrMalformed)
	}
	n := len(own.Contents)
	if n > r.Len() || !bytes.Equal(own.Contents, contents[:n]) {
		return 0, fmt.Errorf("public key with unusual number encoding: %w", ErrMalformed)
	}
	return n, nil
}
