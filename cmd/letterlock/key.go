package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/pgp/keyring"
)

type keyCmd struct {
	Generate keyGenerate `cmd:"" help:"Make a key for an address."`
	Import   keyImport   `cmd:"" help:"Take over a key, armored or binary."`
	Export   keyExport   `cmd:"" help:"Print the certificate of an address, or with --secret its key."`
	Publish  keyPublish  `cmd:"" help:"Have the domain's key directory publish the certificate of an address."`
	Extend   keyExtend   `cmd:"" help:"Make the key of an address valid for two more years. serve does it by itself for keys that letterlock made."`
	Revoke   keyRevoke   `cmd:"" help:"Say for ever that a key is not to be used any more."`
	List     keyList     `cmd:"" help:"All own keys."`
	Show     keyShow     `cmd:"" help:"The keys of an address."`
}

type keyGenerate struct {
	Address addressArg  `arg:""`
	Profile pgp.Profile `default:"default" help:"Algorithms: default (version 4, EdDSA and Cv25519)."`
	Replace bool        `help:"Make another key though there is one. The old one names it its successor, so that correspondents follow, and goes on decrypting."`
}

func (c *keyGenerate) runState(ctx context.Context, e *env, s *state) error {
	a := c.Address.Address
	old, err := s.keys.Certificate(ctx, a)
	if err == nil && c.Replace {
		return c.replace(ctx, e, s, old)
	}
	cert, err := s.keys.GenerateFirst(ctx, a, c.Profile)
	if errors.Is(err, keyring.ErrHasKey) {
		if old, err = s.keys.Certificate(ctx, a); err == nil {
			err = fmt.Errorf("%s has a key already: %s (to make another that takes its place: --replace)", a, old.Fingerprint())
		}
	}
	if err != nil {
		return err
	}
	e.printf("New key for %s:\n", a)
	describeCertificate(cert, e.now()).print(e)
	if cfg := s.cfg.Load(); cfg.Relay == nil && cfg.Keydir == nil {
		_, alias := s.aliasOf(a)
		if _, err := s.find(a); err != nil && !alias {
			e.printf("No account of %s has this address, so nothing uses the key yet (letterlock setup %s makes one).\n", cfg.File, a)
		}
	}
	return nil
}

type keyImport struct {
	File           string      `arg:"" help:"Armored or binary; - is standard input."`
	PassphraseFile string      `placeholder:"FILE" help:"What unlocks the key; asked for if it is needed."`
	Address        *addressArg `help:"Import for this address, instead of the configured ones that the key names."`
}

func (c *keyImport) runState(ctx context.Context, e *env, s *state) error {
	b, err := e.files.Read(c.File)
	if err != nil {
		return err
	}
	keys, err := pgp.ParseKeys(b, func(cert *pgp.Certificate) ([]byte, error) {
		p, err := e.secret(c.PassphraseFile, "passphrase of "+string(cert.Fingerprint()))
		return []byte(p), err
	})
	if err != nil {
		err = fmt.Errorf("reading %s: %w", c.File, err)
	}
	// What can be had is imported, and the rest told at the end.
	return errors.Join(c.keep(ctx, e, s, keys), err)
}

func (c *keyImport) keep(ctx context.Context, e *env, s *state, keys []*pgp.Key) error {
	for _, k := range keys {
		to, err := c.targets(s, k.Certificate())
		if err != nil {
			return err
		}
		for _, a := range to {
			if err := s.keys.Import(ctx, a, []*pgp.Key{k}); err != nil {
				return err
			}
			if x := s.bridges.indexers[a.Key()]; x != nil {
				x.Wake() // what was closed may open now
			}
			active, err := s.keys.Certificate(ctx, a)
			use := "signs and decrypts"
			if err != nil || active.Fingerprint() != k.Fingerprint() {
				use = "decrypts"
			}
			e.printf("Imported for %s, where it %s:\n", a, use)
			cert, err := s.ownCertificate(ctx, a, k.Fingerprint()) // which may know more than the copy
			if err != nil {
				return err
			}
			describeCertificate(cert, e.now()).print(e)
		}
	}
	return nil
}

// targets are the addresses that a key is for.
func (c *keyImport) targets(s *state, cert *pgp.Certificate) (out []address.Address, err error) {
	if c.Address != nil {
		return []address.Address{c.Address.Address}, nil
	}
	for i := range s.cfg.Load().Bridges {
		for _, a := range addresses(&s.cfg.Load().Bridges[i]) {
			if cert.Has(a) {
				out = append(out, a)
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the key %s names no address of this configuration (say which one it is for: --address)", cert.Fingerprint())
	}
	return out, nil
}

type keyExport struct {
	Address        addressArg     `arg:""`
	Fingerprint    fingerprintArg `arg:"" optional:"" help:"Of another key than that in use: one that was revoked or replaced."`
	Secret         bool           `help:"The secret key, locked with a passphrase."`
	Binary         bool           `help:"Binary instead of armored."`
	PassphraseFile string         `placeholder:"FILE" help:"The passphrase to lock it with; asked for otherwise."`
}

func (c *keyExport) runState(ctx context.Context, e *env, s *state) error {
	if !c.Secret {
		cert, err := s.ownCertificate(ctx, c.Address.Address, pgp.Fingerprint(c.Fingerprint))
		if err != nil {
			return err
		}
		return writeCertificate(e, cert, c.Binary)
	}
	pass, err := e.newSecret(c.PassphraseFile, "passphrase to lock the key with")
	if err != nil {
		return err
	}
	if pass == "" {
		return errors.New("a secret key leaves only with a passphrase")
	}
	var out []byte
	if c.Binary {
		out, err = s.keys.Export(ctx, c.Address.Address, pgp.Fingerprint(c.Fingerprint), []byte(pass))
	} else {
		var armored string
		armored, err = s.keys.ExportArmored(ctx, c.Address.Address, pgp.Fingerprint(c.Fingerprint), []byte(pass))
		out = []byte(armored)
	}
	if err != nil {
		return noSuchKey(c.Address.Address, err)
	}
	_, err = e.stdout.Write(out)
	return err
}

// ownCertificate is that of an own key of an address: of the one that signs where no
// fingerprint is given.
func (s *state) ownCertificate(ctx context.Context, a address.Address, f pgp.Fingerprint) (*pgp.Certificate, error) {
	if f == "" {
		cert, err := s.keys.Certificate(ctx, a)
		return cert, noSuchKey(a, err)
	}
	all, err := s.keys.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range all {
		if k.Address == a.Key() && k.Certificate.Fingerprint() == f {
			return k.Certificate, nil
		}
	}
	return nil, noSuchKey(a, fmt.Errorf("%s of %s: %w", f, a, keyring.ErrNoKey))
}

// noSuchKey says what to do where an address lacks a key.
func noSuchKey(a address.Address, err error) error {
	if errors.Is(err, keyring.ErrNoKey) {
		return fmt.Errorf("%w (see: letterlock key list; make one with: letterlock key generate %s)", err, a)
	}
	return err
}

func writeCertificate(e *env, c *pgp.Certificate, binary bool) error {
	out := []byte(c.Armored())
	if binary {
		out = c.Bytes()
	}
	_, err := e.stdout.Write(out)
	return err
}

// keyJSON is what scripts get of an own key.
type keyJSON struct {
	Address string    `json:"address"`
	Active  bool      `json:"active"`
	Offline bool      `json:"offline"`
	Added   time.Time `json:"added"`
	certificateJSON
}

func describeKey(k keyring.Entry, now time.Time) keyJSON {
	return keyJSON{k.Address, k.Active, k.Offline, k.Added.UTC(), describeCertificate(k.Certificate, now)}
}

type keyList struct {
	JSON bool `name:"json" help:"For scripts."`
}

func (c *keyList) runState(ctx context.Context, e *env, s *state) error {
	entries, err := s.keys.List(ctx)
	if err != nil {
		return err
	}
	out := []keyJSON{}
	for _, k := range entries {
		out = append(out, describeKey(k, e.now()))
	}
	if c.JSON {
		return e.json(out)
	}
	for _, k := range out {
		use := "decrypts old mail"
		if k.Active {
			use = "in use"
		}
		if k.Usable != "yes" {
			use += ", " + k.Usable
		}
		e.printf("%s  %s  expires %s  %s\n", k.Fingerprint, k.Address, k.expiry(), use)
	}
	if len(out) == 0 {
		e.printf("No keys yet (make one with: letterlock key generate ADDRESS).\n")
	}
	return nil
}

type keyShow struct {
	Address addressArg `arg:""`
	JSON    bool       `name:"json" help:"For scripts."`
}

func (c *keyShow) runState(ctx context.Context, e *env, s *state) error {
	entries, err := s.keys.List(ctx)
	if err != nil {
		return err
	}
	out := []keyJSON{}
	for _, k := range entries {
		if k.Address == c.Address.Key() {
			out = append(out, describeKey(k, e.now()))
		}
	}
	if len(out) == 0 {
		return fmt.Errorf("%s: %w (make one with: letterlock key generate %s)", c.Address, keyring.ErrNoKey, c.Address)
	}
	if c.JSON {
		return e.json(out)
	}
	for _, k := range out {
		use := "opens old mail only"
		if k.Active {
			use = "in use"
		}
		e.printf("%s, %s\n", k.Address, use)
		k.print(e)
	}
	return nil
}
