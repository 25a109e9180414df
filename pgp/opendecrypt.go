package pgp

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"letterlock.org/letterlock/internal/message"
)

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
	reasonCipher    = "this message is encrypted with an old cipher that Letterlock doesn't have, such as Blowfish or IDEA; GnuPG may open it"
	reasonPassword  = "this message is encrypted with a password, which Letterlock does not ask for"
	reasonDamaged   = "this message was damaged or changed on its way"
	reasonNoMDC     = "this message is encrypted without protection against change, as old programs did; it stays closed"
	reasonNotSealed = "this message claims to be encrypted, but is not"
	reasonMany      = "this message names too many recipients"
	reasonTooLarge  = "this message is too large to be opened here"
	reasonTooLong   = "opening this message takes too long"
	reasonShape     = "this message claims to be encrypted, but is not built as RFC 3156 says"
	reasonReplayed  = "this ciphertext came before in another message; somebody may have sent it again under a new name"
	reasonParts     = "this message claims to be encrypted, but has too many parts or levels"
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
		return nil, watch.explain(&guard{gate: gate{err: errNotArmor}}, err)
	}
	g := newGuard(armor, c.src.Size())
	spool := message.NewSpool(o)
	signatures, err := unseal(g, watch, keys, spool, o.Limit)
	if err != nil {
		spool.Close()
		return nil, watch.explain(g, err)
	}
	return &plaintext{text: spool, packet: g.digest(), signatures: signatures, charset: armor.Headers["Charset"]}, nil
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
	case errors.Is(err, message.ErrTooLarge):
		return refuse(reasonTooLarge)
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
	case errors.Is(err, errNoCipher):
		return refuse(reasonCipher)
	case errors.Is(err, errNoKey) && g.keys == 0 && g.secrets > 0:
		return refuse(reasonPassword)
	case errors.Is(err, errNoKey):
		return refuse(reasonNoKey)
	}
	return refuse(reasonDamaged)
}
