package pgp

import (
	"errors"
	"fmt"
	"io"
	"time"

	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/message"
)

// Bounds of what is inside an encrypted message. The engine's own reader keeps
// a hash for every announced signature, however many, so that a small message
// can take gigabytes; that is why the packets are read here.
const (
	maxSignatures  = 32
	maxCompression = 4 // layers; bzip2 takes 4 MiB for each
)

var (
	errNoKey    = errors.New("none of the keys fits")
	errNoCipher = errors.New("the key fits, but not the cipher")
)

// unseal reads one message: session keys, the encrypted data, and in it perhaps
// layers of compression, signatures, exactly one literal, signatures (RFC 9580,
// Section 10.3, which the engine's check reader sees to). The text goes to spool
// and is worth nothing unless the error is nil: integrity is known at the end.
func unseal(g *guard, watch *watched, keys Decrypter, spool *message.Spool, limit int64) (all []digest, err error) {
	defer caught(&err)
	if limit <= 0 {
		limit = 128 << 20
	}
	packets := packet.NewCheckReader(g)
	body, err := openData(packets, keys)
	if err != nil {
		return nil, err
	}
	if err := packets.Push(newInnerGate(body)); err != nil {
		return nil, err
	}
	l, said, err := toLiteral(packets, limit+(64<<10), watch)
	if err != nil {
		return nil, err
	}
	sums := newSums(said)
	if err := copyText(spool, l.Body, sums, watch, g.chunk()); err != nil {
		return nil, err
	}
	after, err := trailing(packets)
	if err != nil {
		return nil, err
	}
	if err := body.Close(); err != nil { // the check of integrity
		return nil, err
	}
	// The packets' end is the guard's end too, or something follows.
	if _, err := g.Read(make([]byte, 1)); err != io.EOF {
		return nil, errGrammar
	}
	return pair(said, after, sums), nil
}

// openData reads up to the encrypted data and opens it with the first of our
// keys that fits a session key packet. Passwords are never tried.
func openData(packets *packet.CheckReader, keys Decrypter) (io.ReadCloser, error) {
	var sessions []*packet.EncryptedKey
	for {
		p, err := packets.Next()
		if err != nil {
			return nil, err
		}
		var data packet.EncryptedDataPacket
		switch p := p.(type) {
		case *packet.EncryptedKey:
			sessions = append(sessions, p) // the guard counts them
			continue
		case *packet.SymmetricKeyEncrypted, packet.Padding, *packet.Padding, *packet.Marker:
			continue
		case *packet.SymmetricallyEncrypted:
			if !p.IntegrityProtected {
				return nil, errNoIntegrity
			}
			data = p
		case *packet.AEADEncrypted:
			data = p
		default:
			return nil, errNotEncrypted
		}
		return openWith(data, sessions, keys)
	}
}

// openWith tries every key that a session key packet may mean.
func openWith(data packet.EncryptedDataPacket, sessions []*packet.EncryptedKey, keys Decrypter) (io.ReadCloser, error) {
	if keys == nil {
		return nil, errNoKey
	}
	cfg := lenientConfig(time.Now()) // of the time nothing depends here
	var ours []openpgp.Key
	for _, e := range keys.decryptionKeys() {
		ours = append(ours, decrypters(e, cfg)...)
	}
	failed := errNoKey
	for _, s := range sessions {
		for _, k := range ours {
			if s.KeyId != 0 && s.KeyId != k.PublicKey.KeyId || s.Algo != k.PublicKey.PubKeyAlgo {
				continue
			}
			if err := recoverCall(func() error { return s.Decrypt(k.PrivateKey, cfg) }); err != nil || len(s.Key) == 0 {
				var unsupported pgperrors.UnsupportedError
				if s.KeyId != 0 && errors.As(err, &unsupported) {
					failed = errNoCipher
				}
				continue
			}
			body, err := data.Decrypt(s.CipherFunc, s.Key)
			if err == nil && body != nil {
				return body, nil
			}
			s.Key = nil
			if err != nil && !errors.Is(err, pgperrors.ErrKeyIncorrect) && s.KeyId != 0 {
				return nil, err
			}
		}
	}
	return nil, failed
}

// decrypters are the keys of an entity that may decrypt, live or not: old mail
// must open. A user ID's revocation takes nothing from its key.
func decrypters(e *openpgp.Entity, cfg *packet.Config) []openpgp.Key {
	c := *e
	c.Identities = map[string]*openpgp.Identity{}
	for name, id := range e.Identities {
		i := *id
		i.Revocations = nil
		c.Identities[name] = &i
	}
	var keys []openpgp.Key
	for _, k := range c.DecryptionKeys(0, time.Time{}, cfg) {
		if k.PrivateKey != nil && !k.PrivateKey.Encrypted && !k.PrivateKey.Dummy() {
			keys = append(keys, k)
		}
	}
	return keys
}

// announced is a signature as it stands before the text: as a one-pass packet,
// or, as old programs do, itself.
type announced struct {
	ops *packet.OnePassSignature
	sig *packet.Signature
}

// toLiteral reads up to the literal data.
func toLiteral(packets *packet.CheckReader, limit int64, watch *watched) (*packet.LiteralData, []announced, error) {
	var said []announced
	layers, last := 0, false
	for {
		p, err := packets.Next()
		if err != nil {
			return nil, nil, err
		}
		switch p := p.(type) {
		case *packet.Compressed:
			if layers++; layers > maxCompression {
				return nil, nil, errGrammar
			}
			err = packets.Push(newInnerGate(&inflated{r: p.Body, left: limit, watch: watch}))
		case *packet.OnePassSignature:
			if last { // a signature over signatures
				return nil, nil, errGrammar
			}
			said, last = append(said, announced{ops: p}), p.IsLast
		case *packet.Signature:
			said = append(said, announced{sig: p})
		case *packet.LiteralData:
			return p, said, nil
		case packet.Padding, *packet.Padding, *packet.Marker:
		default:
			return nil, nil, errGrammar
		}
		if err != nil {
			return nil, nil, err
		}
		if len(said) > maxSignatures {
			return nil, nil, errGrammar
		}
	}
}

// inflated ends with ErrTooLarge where a compressed packet holds more than its bound.
type inflated struct {
	r     io.Reader
	left  int64
	watch *watched
}

func (i *inflated) Read(p []byte) (int, error) {
	if i.left <= 0 {
		return 0, message.ErrTooLarge
	}
	if err := i.watch.check(); err != nil {
		return 0, err
	}
	n, err := i.r.Read(p[:min(int64(len(p)), i.left)])
	i.left -= int64(n)
	return n, err
}

// copyText reads the text to its end, to the spool and the hashes.
func copyText(spool *message.Spool, r io.Reader, s *sums, watch *watched, chunk int) error {
	buf := make([]byte, chunk)
	for {
		n, err := r.Read(buf)
		s.write(buf[:n])
		if _, werr := spool.Write(buf[:n]); werr != nil {
			watch.spoolErr = werr
			return werr
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading a decrypted text: %w", err)
		}
		if err := watch.check(); err != nil {
			return err
		}
	}
}

// trailing reads what follows the text: signatures, and nothing else.
func trailing(packets *packet.CheckReader) ([]*packet.Signature, error) {
	var after []*packet.Signature
	for {
		p, err := packets.Next()
		if err == io.EOF {
			return after, nil
		}
		if err != nil {
			return nil, err
		}
		switch p := p.(type) {
		case *packet.Signature:
			after = append(after, p)
		case packet.Padding, *packet.Padding, *packet.Marker:
		default:
			return nil, errGrammar
		}
		if len(after) > maxSignatures {
			return nil, errGrammar
		}
	}
}
