package pgp

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/ProtonMail/go-crypto/openpgp/s2k"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/message"
)

// What a guess at a password costs. The first is Argon2 as RFC 9106, Section 4
// recommends it where memory is short; the second is the most that iterated S2K
// can be: a million SHA-256 blocks, as much as PBKDF2 with 500,000 rounds.
const (
	argonPasses  = 3
	argonThreads = 4
	argonKiB     = 64 << 10 // the library counts KiB
	iteratedMost = 65011712 // bytes hashed, RFC 9580, Section 3.7.1.3
)

// argonSlots bounds how many 64 MiB Argon2 has at one time, whoever asks.
var argonSlots = make(chan struct{}, 2)

// PasswordCopy is a message ready to be encrypted under a password, for
// somebody who has no certificate. It reads its source anew for each Write.
type PasswordCopy struct {
	c *composed
	p Protection
}

// ForPassword splits a message as [Protect] does: what stands outside, and what
// is protected with its header inside. p.Recipients must be empty; p.Signer may
// be nil, and then the copy is not signed. The errors are Protect's.
func ForPassword(ctx context.Context, src message.Source, p Protection) (pc *PasswordCopy, err error) {
	defer caught(&err)
	if len(p.Recipients) != 0 {
		return nil, errors.New("a copy under a password has no certificates")
	}
	if p.Now.IsZero() {
		p.Now = time.Now()
	}
	// Composing asks only whether there are recipients: then it hides.
	hiding := p
	hiding.Recipients = []*Certificate{nil}
	c, err := compose(ctx, src, hiding)
	if err != nil {
		return nil, fmt.Errorf("protecting a message: %w", err)
	}
	return &PasswordCopy{c: c, p: p}, nil
}

// Outer is the header that everyone sees, without MIME-Version, Content- fields
// and the empty line. The caller must not change it.
func (pc *PasswordCopy) Outer() []byte { return pc.c.outer }

// Write writes the message as one armored OpenPGP message; inside is a whole
// message with its header, as a mail program's .eml file has it. What w has got
// is worth nothing if there is an error.
//
// The session key is there twice: under Argon2 (RFC 9580, Section 3.7.1.4), and
// for the many programs that can't do it under iterated S2K. That takes nothing
// away where the same text lies under PBKDF2 beside it, which a guesser would
// take. Both are version 4 packets before SEIPDv1, as RFC 9580, Appendix A.12
// has Argon2: version 6 packets and SEIPDv2 (Section 5.3.2) would be the newer
// form, and hardly any program installed in 2026 reads it.
func (pc *PasswordCopy) Write(ctx context.Context, w io.Writer, password []byte) (err error) {
	defer caught(&err)
	if len(password) == 0 {
		return errors.New("an empty password protects nothing")
	}
	armored := newArmor(w, blockMessage)
	defer armored.free()
	if err := pc.engine(ctx, unclosed{armored}, password); err != nil {
		return fmt.Errorf("encrypting under a password: %w", err)
	}
	return armored.Close()
}

// engine has the engine write everything below the armor.
func (pc *PasswordCopy) engine(ctx context.Context, w io.Writer, password []byte) error {
	config := engineConfig(pc.p.Now)
	config.SignatureNotations = pc.p.Gateway.notations()
	params := &openpgp.EncryptParams{
		Config: config, SessionKey: make([]byte, config.Cipher().KeySize()),
		Hints: &openpgp.FileHints{FileName: "message.eml"}, // not signed, and secret as the rest
	}
	rand.Read(params.SessionKey)
	defer clear(params.SessionKey)
	if pc.p.Signer != nil {
		if err := checkSigner(pc.p.Signer, pc.p.Now); err != nil {
			return err
		}
		params.Signers = []*openpgp.Entity{pc.p.Signer.signingEntity()}
	}
	slow := *config
	slow.S2KConfig = &s2k.Config{S2KMode: s2k.Argon2S2K, Argon2Config: &s2k.Argon2Config{
		NumberOfPasses: argonPasses, DegreeOfParallelism: argonThreads, Memory: argonKiB,
	}}
	if err := argon(ctx, w, params.SessionKey, password, &slow); err != nil {
		return err
	}
	config.S2KConfig = &s2k.Config{S2KMode: s2k.IteratedSaltedS2K, Hash: crypto.SHA256, S2KCount: iteratedMost}
	plain, err := openpgp.SymmetricallyEncryptWithParams(password, w, params)
	if err != nil {
		return err
	}
	buffered := borrowWriter(ctxWriter{ctx, plain})
	defer returnWriter(buffered)
	if err := pc.c.write(buffered); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	return plain.Close()
}

// argon writes the session key packet that costs memory to make.
func argon(ctx context.Context, w io.Writer, sessionKey, password []byte, config *packet.Config) error {
	select {
	case argonSlots <- struct{}{}:
		defer func() { <-argonSlots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return packet.SerializeSymmetricKeyEncryptedAEADReuseKey(w, sessionKey, password, false, config)
}

// unclosed keeps the engine from closing what it writes to.
type unclosed struct{ io.Writer }

// Close implements io.Closer, which the engine looks for.
func (unclosed) Close() error { return nil }
