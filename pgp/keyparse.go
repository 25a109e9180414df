package pgp

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Packet tags of RFC 9580, Section 5.
const (
	tagPKESK        = 1
	tagSignature    = 2
	tagSecretKey    = 5
	tagPublicKey    = 6
	tagSecretSubkey = 7
	tagUserID       = 13
	tagPublicSubkey = 14
)

// maxKeyFile bounds what ParseKeys reads, in bytes.
const maxKeyFile = 4 << 20

// maxArgonMemory is the greatest memory exponent (KiB) of an Argon2 S2K that we
// try: 1 GiB. The engine would accept 2 TiB.
const maxArgonMemory = 20

// Passphrase asks for the passphrase of a locked key. It may be asked once for
// each key of a file.
type Passphrase func(c *Certificate) ([]byte, error)

// ParseKeys reads transferable secret keys, binary or armored, one or several.
// Locked ones are unlocked with what ask returns; a nil ask, or a wrong
// passphrase, is ErrLocked. A file of certificates or stubs is ErrNoSecret. A key
// that can't be had is left out of the answer and told in err beside the ones
// that are well.
func ParseKeys(b []byte, ask Passphrase) (keys []*Key, err error) {
	defer caught(&err)
	if len(b) > maxKeyFile {
		return nil, fmt.Errorf("key file of more than %d bytes: %w", maxKeyFile, ErrMalformed)
	}
	blocks, armorErr := dearmorKeys(b)
	errs := []error{armorErr}
	for _, raw := range blocks {
		groups, err := keyGroups(raw)
		if len(blocks) == 1 || !errors.Is(err, ErrNoSecret) { // a certificate beside the keys
			errs = append(errs, err)
		}
		for _, g := range groups {
			k, err := unlock(g, ask)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			keys = append(keys, k)
		}
	}
	err = errors.Join(errs...)
	if len(keys) == 0 && err == nil {
		err = errCertificateOnly
	}
	return keys, err
}

// errCertificateOnly says what to do about a file without secrets.
var errCertificateOnly = fmt.Errorf("the file holds a certificate only; export the secret key (gpg --export-secret-keys): %w", ErrNoSecret)

var errNoKeys = fmt.Errorf("the file holds no OpenPGP key: %w", ErrMalformed)

// dearmorKeys gives the binary packets of every armor block, each by itself, or
// b itself. A block that is malformed is told in err.
func dearmorKeys(b []byte) (blocks [][]byte, err error) {
	begin := []byte("-----BEGIN PGP ")
	if !bytes.Contains(b, begin) {
		if len(b) == 0 || b[0] < 0x80 { // RFC 9580, Section 4.2: of no packet's first byte
			return nil, errNoKeys
		}
		return [][]byte{b}, nil
	}
	var errs []error
	for {
		i := bytes.Index(b, begin)
		if i < 0 {
			return blocks, errors.Join(errs...)
		}
		b = b[i:]
		end := len(b) // one block can't take in the next one
		if n := bytes.Index(b[1:], begin); n >= 0 {
			end = n + 1
		}
		body, err := dearmor(b[:end])
		if err != nil {
			errs = append(errs, fmt.Errorf("reading armor: %w: %w", ErrMalformed, err))
		} else {
			blocks = append(blocks, body)
		}
		b = b[end:]
	}
}

func dearmor(b []byte) ([]byte, error) {
	block, err := armor.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(block.Body)
}

// keyGroups cuts packets into keys, each beginning with its primary key.
// Packets of certificates among them are left out, unless there is nothing else.
// Where packets end in a fault, the keys before the one that it cut off are
// returned with the error.
func keyGroups(raw []byte) ([][]*packet.OpaquePacket, error) {
	var groups [][]*packet.OpaquePacket
	public, inSecret := 0, false
	r := packet.NewOpaqueReader(bytes.NewReader(raw))
	for {
		p, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			if inSecret {
				groups = groups[:len(groups)-1]
			}
			return groups, fmt.Errorf("reading packets: %w: %w", ErrMalformed, err)
		}
		switch p.Tag {
		case tagSecretKey:
			groups, inSecret = append(groups, nil), true
		case tagPublicKey:
			public, inSecret = public+1, false
		}
		if inSecret {
			groups[len(groups)-1] = append(groups[len(groups)-1], p)
		}
	}
	switch {
	case len(groups) > 0:
		return groups, nil
	case public > 0:
		return nil, errCertificateOnly
	}
	return nil, errNoKeys
}

// unlock makes a Key of one group. What was locked is written anew and read
// once more, so that nothing is stored that could not be read again.
func unlock(group []*packet.OpaquePacket, ask Passphrase) (k *Key, err error) {
	defer caught(&err)
	group, err = readable(group)
	if err != nil {
		return nil, err
	}
	secrets, err := secretPackets(group)
	if err != nil {
		return nil, err
	}
	var locked []*packet.PrivateKey
	present := 0
	for _, s := range secrets {
		switch {
		case s == nil || s.Dummy():
		case s.Encrypted:
			locked = append(locked, s)
			present++
		default:
			present++
		}
	}
	if present == 0 {
		return nil, fmt.Errorf("the file holds only stubs of the key; its secrets are on a smart card or in another place: %w", ErrNoSecret)
	}
	if len(locked) > 0 {
		if err := decryptSecrets(group, locked, ask); err != nil {
			return nil, err
		}
	}
	var out bytes.Buffer
	for i, p := range group {
		if secrets[i] == nil || len(locked) == 0 {
			err = p.Serialize(&out)
		} else {
			err = secrets[i].Serialize(&out)
		}
		if err != nil {
			return nil, fmt.Errorf("reading a secret key: %w: %w", ErrMalformed, err)
		}
	}
	if len(locked) > 0 {
		return newKey(out.Bytes())
	}
	return assemble(out.Bytes(), group, secrets)
}

// readable is the group with what the engine can't read made harmless: a subkey
// of an algorithm that it doesn't know is left out with its signatures, and the
// stub of a key on a smart card becomes that of an offline one.
func readable(group []*packet.OpaquePacket) ([]*packet.OpaquePacket, error) {
	var kept []*packet.OpaquePacket
	skip := false
	for _, p := range group {
		if p.Tag == tagSignature && skip {
			continue
		}
		skip = false
		if p.Tag == tagSecretKey || p.Tag == tagSecretSubkey {
			n, err := publicLength(p.Contents)
			var unsupported pgperrors.UnsupportedError
			switch {
			case err == nil && isCardStub(p.Contents[n:]):
				stub := append(bytes.Clone(p.Contents[:n]), "\xff\x00\x65\x00GNU\x01"...)
				p = &packet.OpaquePacket{Tag: p.Tag, Contents: stub}
			case err != nil && p.Tag == tagSecretSubkey && errors.As(err, &unsupported):
				skip = true
				continue
			case err != nil:
				return nil, err
			}
		}
		kept = append(kept, p)
	}
	return kept, nil
}

// secretPackets parses the secret key packets of a group; nil for others.
func secretPackets(group []*packet.OpaquePacket) ([]*packet.PrivateKey, error) {
	secrets := make([]*packet.PrivateKey, len(group))
	for i, p := range group {
		if p.Tag != tagSecretKey && p.Tag != tagSecretSubkey {
			continue
		}
		if heavyArgon(p.Contents) {
			return nil, fmt.Errorf("the key's Argon2 parameters need too much memory: %w", ErrLocked)
		}
		parsed, err := p.Parse()
		s, ok := parsed.(*packet.PrivateKey)
		if err != nil || !ok {
			return nil, fmt.Errorf("reading a secret key packet: %w: %w", ErrMalformed, errors.Join(err))
		}
		secrets[i] = s
	}
	return secrets, nil
}

func decryptSecrets(group []*packet.OpaquePacket, locked []*packet.PrivateKey, ask Passphrase) error {
	if ask == nil {
		return fmt.Errorf("the key has a passphrase: %w", ErrLocked)
	}
	public, _, err := publicGroup(group)
	if err != nil {
		return err
	}
	certs, err := ParseCertificates(public)
	if len(certs) != 1 { // of no use, unlocked or not
		return fmt.Errorf("reading a secret key's certificate: %w", errors.Join(ErrMalformed, err))
	}
	passphrase, err := ask(certs[0])
	if err != nil {
		return fmt.Errorf("asking for the passphrase: %w", err)
	}
	if err := packet.DecryptPrivateKeys(locked, passphrase); err != nil {
		return fmt.Errorf("the passphrase does not open the key: %w", ErrLocked)
	}
	return nil
}

// isCardStub finds GnuPG's S2K "divert to card" (101, GNU, mode 2) in what
// follows the public key.
func isCardStub(secret []byte) bool {
	return len(secret) >= 8 && secret[2] == 101 && string(secret[4:8]) == "GNU\x02"
}

// heavyArgon looks for an Argon2 S2K specifier (RFC 9580, Section 3.7.1.4) that
// asks for more memory than maxArgonMemory. It looks where one may stand, after
// a usage octet of 253, and may refuse an odd key needlessly, never the reverse.
func heavyArgon(contents []byte) bool {
	public, err := publicLength(contents)
	if err != nil {
		return false // the engine refuses it before it derives anything
	}
	c := contents[public:]
	if len(c) == 0 || c[0] != 253 {
		return false
	}
	// usage, [count], cipher, AEAD, [length], specifier
	for _, at := range []int{3, 5} {
		if len(c) > at+19 && c[at] == 4 && c[at+19] > maxArgonMemory {
			return true
		}
	}
	return false
}
