package pgp

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/message"
)

// maxSignatures bounds the signatures of one message.
const maxSignatures = 32

// Bounds on time: a message that takes longer is not opened. Honest ones take
// some 20 ms a MiB.
const (
	openTime       = 10 * time.Second
	openTimePerMiB = time.Second
)

// refusal is why a message stays closed, in words for a person. It is never a
// passing cause.
type refusal struct{ reason string }

func (r refusal) Error() string { return r.reason }

func refuse(reason string) error { return refusal{reason} }

// Reasons that Opened gives.
const (
	reasonNoKey     = "none of your keys opens this message"
	reasonPassword  = "this message is encrypted with a password, which Letterlock does not ask for"
	reasonDamaged   = "this message was damaged or changed on its way"
	reasonNoMDC     = "this message is encrypted without protection against change, as old programs did; it stays closed"
	reasonNotSealed = "this message claims to be encrypted, but is not"
	reasonMany      = "this message names too many recipients"
	reasonTooLarge  = "this message is too large to be opened here"
	reasonTooLong   = "opening this message takes too long"
	reasonShape     = "this message claims to be encrypted, but is not built as RFC 3156 says"
	reasonReplayed  = "this ciphertext came before in another message; somebody may have sent it again under a new name"
	reasonComplex   = "the text inside has too many parts or levels"
)

// plaintext is what a ciphertext held, all of it, its integrity checked.
type plaintext struct {
	text       *message.Spool // owned; byte for byte the literal data
	packet     [32]byte       // hash of the encrypted data
	signatures []digest
	charset    string // of the armor, for inline messages
}

// digest is a signature with the hash of what it is said to be over.
type digest struct {
	sig  *packet.Signature // nil where the packet is of a version that we don't know
	hash hash.Hash         // nil where the algorithm is none that we compute
	weak bool              // the algorithm is one that nobody should believe
}

// secrets is the ring that the engine gets: our own keys, for session keys only.
// Signers are looked up by ourselves.
type secrets struct{ keys openpgp.EntityList }

func newSecrets(d Decrypter) secrets {
	var s secrets
	if d == nil {
		return s
	}
	for _, e := range d.decryptionKeys() {
		s.keys = append(s.keys, forDecryption(e))
	}
	return s
}

// forDecryption is e without what would keep the engine from opening old mail:
// revocations of its user IDs.
func forDecryption(e *openpgp.Entity) *openpgp.Entity {
	c := *e
	c.Identities = map[string]*openpgp.Identity{}
	for name, id := range e.Identities {
		i := *id
		i.Revocations = nil
		c.Identities[name] = &i
	}
	return &c
}

// KeysById implements openpgp.KeyRing; the engine does not call it.
func (s secrets) KeysById(uint64) []openpgp.Key { return nil }

// EntitiesById implements openpgp.KeyRing.
func (s secrets) EntitiesById(id uint64) []*openpgp.Entity {
	var found []*openpgp.Entity
	for _, e := range s.keys {
		match := id == 0 || e.PrimaryKey.KeyId == id && e.PrimaryKey.PubKeyAlgo.CanEncrypt()
		for _, k := range e.Subkeys {
			match = match || k.PublicKey.KeyId == id && k.PublicKey.PubKeyAlgo.CanEncrypt()
		}
		if match {
			found = append(found, e)
		}
	}
	return found
}

// ciphertext is where a message's armor lies.
type ciphertext struct {
	src      message.Source // the body that holds it
	encoding string         // its transfer encoding
}

// decrypt reads the ciphertext to its end, and gives out nothing unless all of
// it proved whole (reference openpgp.md, trap 1). A refusal is final, and so is
// errNotArmor, which says that c is not one armor block; any other error may
// pass.
func decrypt(ctx context.Context, c ciphertext, keys Decrypter, o message.SpoolOptions) (*plaintext, error) {
	allowed := openTime + time.Duration(c.src.Size()>>20)*openTimePerMiB
	watch := &watched{ctx: ctx, r: message.Reader(c.src), deadline: time.Now().Add(allowed)}
	armor, err := newArmorReader(transferDecoder(watch, c.encoding), blockMessage, c.src.Size())
	if err != nil {
		return nil, watch.explain(&guard{err: errNotArmor}, err)
	}
	g := newGuard(armor, c.src.Size())
	spool := message.NewSpool(o)
	signatures, err := unseal(g, watch, newSecrets(keys), spool, o.Limit)
	if err != nil {
		spool.Close()
		return nil, watch.explain(g, err)
	}
	return &plaintext{text: spool, packet: g.digest(), signatures: signatures, charset: armor.Headers["Charset"]}, nil
}

// unseal runs the engine over one message.
func unseal(g *guard, watch *watched, ring secrets, spool *message.Spool, limit int64) (signatures []digest, err error) {
	defer caught(&err)
	if limit <= 0 {
		limit = 128 << 20
	}
	cfg := lenientConfig(time.Now()) // times don't matter to decryption
	cfg.MaxDecompressedMessageSize = &limit
	md, err := openpgp.ReadMessage(g, ring, nil, cfg)
	if err != nil {
		return nil, err
	}
	if !md.IsEncrypted {
		return nil, errNotEncrypted
	}
	if len(md.SignatureCandidates) > maxSignatures {
		return nil, refuse(reasonDamaged)
	}
	sums := newSums(md)
	buf := make([]byte, g.chunk())
	for {
		n, err := md.UnverifiedBody.Read(buf)
		sums.write(buf[:n])
		if _, werr := spool.Write(buf[:n]); werr != nil {
			watch.spoolErr = werr
			return nil, werr
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := watch.check(); err != nil {
			return nil, err
		}
	}
	// The engine reads on to the end of the data and checks it when the text
	// ends; the guard must have seen the end of the message too.
	if _, err := g.Read(buf[:1]); err != io.EOF {
		return nil, errGrammar
	}
	if len(md.SignatureCandidates) > 0 && !md.IsVerified {
		return nil, errGrammar
	}
	return sums.digests(md), nil
}

// sums hashes a text for each of its signatures, each kind of hash once.
type sums struct {
	direct  []hash.Hash // per candidate, nil where there is none
	wrapped []hash.Hash // to write to
}

func newSums(md *openpgp.MessageDetails) *sums {
	s := &sums{}
	type kind struct {
		hash crypto.Hash
		text bool
		salt string
	}
	have := map[kind]hash.Hash{}
	for _, c := range md.SignatureCandidates {
		k := kind{c.HashAlgorithm, c.SigType == packet.SigTypeText, string(c.Salt)}
		h, ok := have[k]
		if !ok && c.HashAlgorithm.Available() && !weakHash(c.HashAlgorithm) && (k.text || c.SigType == packet.SigTypeBinary) {
			h = c.HashAlgorithm.New()
			h.Write(c.Salt)
			have[k] = h
			s.wrapped = append(s.wrapped, wrapped(h, k.text))
		}
		s.direct = append(s.direct, h)
	}
	return s
}

// wrapped makes line ends CRLF before they are hashed, for text signatures.
func wrapped(h hash.Hash, text bool) hash.Hash {
	if text {
		return openpgp.NewCanonicalTextHash(h)
	}
	return h
}

func (s *sums) write(p []byte) {
	for _, w := range s.wrapped {
		w.Write(p)
	}
}

// digests pairs hashes with signatures. A signature that differs from what was
// announced before the text has no hash, and so is never good.
func (s *sums) digests(md *openpgp.MessageDetails) []digest {
	var all []digest
	for i, c := range md.SignatureCandidates {
		d := digest{sig: c.CorrespondingSig, hash: s.direct[i], weak: weakHash(c.HashAlgorithm)}
		if sig := c.CorrespondingSig; sig != nil &&
			(sig.SigType != c.SigType || sig.Hash != c.HashAlgorithm || sig.PubKeyAlgo != c.PubKeyAlgo ||
				(sig.Version == 6) != (c.OPSVersion == 6) || string(sig.Salt()) != string(c.Salt)) {
			d.hash, d.weak = nil, false
		}
		all = append(all, d)
	}
	return all
}

// watched reads the source and remembers why it failed, and how long it took.
type watched struct {
	ctx      context.Context
	r        io.Reader
	deadline time.Time
	err      error // of the source
	spoolErr error
}

func (w *watched) Read(p []byte) (int, error) {
	if err := w.check(); err != nil {
		return 0, err
	}
	n, err := w.r.Read(p)
	if err != nil && err != io.EOF && w.err == nil {
		w.err = err
	}
	return n, err
}

func (w *watched) check() error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if time.Now().After(w.deadline) {
		w.err = refuse(reasonTooLong)
		return w.err
	}
	return nil
}

// explain tells passing causes from final ones, and of these the reason. The
// engine's own errors are one, so as not to be an oracle.
func (w *watched) explain(g *guard, err error) error {
	if ctxErr := w.ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	if w.spoolErr != nil {
		if errors.Is(w.spoolErr, message.ErrTooLarge) {
			return refuse(reasonTooLarge)
		}
		return fmt.Errorf("keeping a decrypted message: %w", w.spoolErr)
	}
	var r refusal
	switch {
	case errors.As(w.err, &r), errors.As(err, &r):
		return r
	case w.err != nil:
		return fmt.Errorf("reading a message: %w", w.err)
	case errors.Is(g.err, errNotArmor):
		return errNotArmor
	case g.err == errNoIntegrity:
		return refuse(reasonNoMDC)
	case g.err == errTooManyKeys:
		return refuse(reasonMany)
	case g.err == errNotEncrypted, errors.Is(err, errNotEncrypted):
		return refuse(reasonNotSealed)
	case errors.Is(err, pgperrors.ErrKeyIncorrect) && g.keys == 0 && g.secrets > 0:
		return refuse(reasonPassword)
	case errors.Is(err, pgperrors.ErrKeyIncorrect):
		return refuse(reasonNoKey)
	}
	return refuse(reasonDamaged)
}
