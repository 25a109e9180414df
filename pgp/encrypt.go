package pgp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// errPackets means that the engine wrote other session key packets than asked.
var errPackets = errors.New("the engine did not encrypt to every recipient")

// encryption is one OpenPGP message to be made: signed, then encrypted (RFC
// 3156, Section 6.2).
type encryption struct {
	signer     Signer
	recipients []*Certificate
	now        time.Time
	notations  []*packet.Notation
	unsigned   bool // nobody signs; signer is nil
	// storage is set where the writer is the reader: then keys that have expired
	// still sign and are encrypted to.
	storage bool
}

// write writes the message, armored; content writes what is inside. What w has
// got is worth nothing if there is an error.
func (e encryption) write(ctx context.Context, w io.Writer, content func(io.Writer) error) error {
	to, keys, err := e.keys()
	if err != nil {
		return err
	}
	signers, err := e.signingEntities()
	if err != nil {
		return err
	}
	config := engineConfig(e.now)
	config.SignatureNotations = e.notations
	armored := newArmor(w, blockMessage)
	defer armored.free()
	out := &ahead{w: armored}
	defer out.Close()
	gate := &keyGate{armor: armored, out: out, recipients: to}
	if err := e.engine(ctx, gate, keys, signers, config, content); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return armored.Close()
}

// engine has the engine choose and write everything below the armor.
func (e encryption) engine(ctx context.Context, gate *keyGate, keys []openpgp.Key, signers []*openpgp.Entity, config *packet.Config, content func(io.Writer) error) error {
	var to []*openpgp.Entity
	for _, k := range keys {
		to = append(to, k.Entity)
	}
	plain, err := openpgp.EncryptWithParams(gate, to, nil, &openpgp.EncryptParams{
		KeyWriter: &gate.keys,
		Signers:   signers,
		Config:    config,
	})
	if err != nil {
		return fmt.Errorf("encrypting: %w", err)
	}
	engine := &ahead{w: ctxWriter{ctx, plain}}
	defer engine.Close()
	buffered := borrowWriter(engine)
	defer returnWriter(buffered)
	if err := content(buffered); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	if err := engine.Close(); err != nil {
		return err
	}
	if err := plain.Close(); err != nil {
		return fmt.Errorf("encrypting: %w", err)
	}
	return nil
}

func (e encryption) signingEntities() ([]*openpgp.Entity, error) {
	if e.unsigned && e.signer == nil {
		return nil, nil
	}
	err := checkSigner(e.signer, e.now)
	switch {
	case e.storage && errors.Is(err, ErrExpired):
		return []*openpgp.Entity{timeless(e.signer.signingEntity(), e.now)}, nil
	case err != nil:
		return nil, err
	}
	return []*openpgp.Entity{e.signer.signingEntity()}, nil
}

// checkSigner tells plainly why a key can't sign.
func checkSigner(s Signer, now time.Time) error {
	if s == nil {
		return fmt.Errorf("signing: %w", ErrNoSecret)
	}
	if k, ok := s.(*Key); ok {
		if err := k.CheckSign(now); err != nil {
			return fmt.Errorf("signing with %s: %w", k.Fingerprint(), err)
		}
	}
	return nil
}

// keys gives the recipients, each once, and what to encrypt to. One that can't
// be encrypted to is an error: nobody is left out silently.
func (e encryption) keys() (to []*Certificate, keys []openpgp.Key, err error) {
	seen := make(map[Fingerprint]bool, len(e.recipients))
	for _, c := range e.recipients {
		if c == nil {
			return nil, nil, fmt.Errorf("encrypting to a recipient without certificate: %w", ErrUnusable)
		}
		if seen[c.Fingerprint()] {
			continue
		}
		seen[c.Fingerprint()] = true
		find := c.encryptionKey
		if e.storage {
			find = c.storageKey
		}
		key, err := find(e.now)
		if err != nil {
			return nil, nil, fmt.Errorf("encrypting to %s: %w", c.Fingerprint(), err)
		}
		to, keys = append(to, c), append(keys, key)
	}
	if len(to) == 0 {
		return nil, nil, fmt.Errorf("encrypting to nobody: %w", ErrUnusable)
	}
	return to, keys, nil
}

// keyGate holds the session key packets back until the first byte of data, and
// lets them pass only if there is exactly one for each recipient.
type keyGate struct {
	armor      *armorWriter
	out        io.Writer // to armor
	keys       bytes.Buffer
	recipients []*Certificate
	open       bool
}

func (g *keyGate) Write(p []byte) (int, error) {
	if !g.open {
		if err := g.check(); err != nil {
			return 0, err
		}
		// RFC 9580, Section 5.1.2: a version 6 packet goes with SEIPDv2 only.
		g.armor.plain = pkeskVersion(g.keys.Bytes()) == 6
		if _, err := g.out.Write(g.keys.Bytes()); err != nil {
			return 0, err
		}
		g.open = true
	}
	return g.out.Write(p)
}

// Close implements io.Closer, which the engine looks for.
func (g *keyGate) Close() error { return nil }

func (g *keyGate) check() error {
	packets, err := cutPackets(g.keys.Bytes())
	if err != nil || len(packets) != len(g.recipients) {
		return errPackets
	}
	for i, p := range packets {
		id, ok := pkeskRecipient(p.body)
		if p.tag != tagPKESK || !ok || !slices.Contains(g.recipients[i].KeyIDs(), id) {
			return errPackets
		}
	}
	return nil
}

// pkeskVersion is that of the first session key packet.
func pkeskVersion(b []byte) byte {
	packets, err := cutPackets(b)
	if err != nil || len(packets) == 0 || len(packets[0].body) == 0 {
		return 0
	}
	return packets[0].body[0]
}

// pkeskRecipient reads whom a session key packet is for, as a key ID: 0 for
// nobody named (RFC 9580, Section 5.1). false means that it can't be read.
func pkeskRecipient(body []byte) (uint64, bool) {
	switch {
	case len(body) >= 9 && body[0] == 3:
		return binary.BigEndian.Uint64(body[1:9]), true
	case len(body) >= 2 && body[0] == 6 && body[1] == 0:
		return 0, true
	case len(body) >= 23 && body[0] == 6 && body[1] == 21 && body[2] == 4:
		return binary.BigEndian.Uint64(body[15:23]), true
	case len(body) >= 35 && body[0] == 6 && body[1] == 33 && body[2] == 6:
		return binary.BigEndian.Uint64(body[3:11]), true
	}
	return 0, false
}

// ctxWriter stops when its context does.
type ctxWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c ctxWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}
