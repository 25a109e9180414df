package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

type keydirCmd struct {
	Add     keydirAdd     `cmd:"" help:"Publish a certificate for an address."`
	Remove  keydirRemove  `cmd:"" help:"Publish nothing for an address any more."`
	Import  keydirImport  `cmd:"" help:"Publish every certificate in a folder."`
	Export  keydirExport  `cmd:"" help:"Write what is published as a static Web Key Directory."`
	Init    keydirInit    `cmd:"" help:"Let people publish by mail: make the key of the submission address."`
	Receive keydirReceive `cmd:"" help:"Take a mail to the submission address. For an MTA's alias or pipe."`
	Invite  keydirInvite  `cmd:"" help:"Print a word with which a bridge may publish for an address, once."`
}

type keydirAdd struct {
	Address addressArg `arg:""`
	File    string     `arg:"" help:"Armored or binary; - is standard input."`
}

func (c *keydirAdd) runState(ctx context.Context, e *env, s *state) error {
	certs, err := readCertificates(e, c.File)
	if err != nil {
		return err
	}
	if len(certs) != 1 {
		return fmt.Errorf("%s has %d certificates; one is published for an address", c.File, len(certs))
	}
	return s.publish(ctx, e, c.Address.Address, certs[0])
}

func readCertificates(e *env, file string) ([]*pgp.Certificate, error) {
	b, err := e.files.Read(file)
	if err != nil {
		return nil, err
	}
	certs, err := pgp.ParseCertificates(b)
	if err == nil && len(certs) == 0 {
		err = errors.New("there is none in it")
	}
	if err != nil {
		return nil, fmt.Errorf("reading certificates of %s: %w", file, err)
	}
	return certs, nil
}

func (s *state) publish(ctx context.Context, e *env, a address.Address, c *pgp.Certificate) error {
	if !s.ownDomain(a) {
		return fmt.Errorf("%w: %s is of no domain in [keydir] (domains = …)", errConfig, a)
	}
	if err := c.CheckEncrypt(e.now()); err != nil {
		return fmt.Errorf("nobody could encrypt to %s: %w", c.Fingerprint(), err)
	}
	if err := s.keydir.Add(ctx, a, c); err != nil {
		return fmt.Errorf("publishing for %s: %w", a, err)
	}
	e.printf("Published for %s: %s\n", a, c.Fingerprint())
	return nil
}

func (s *state) ownDomain(a address.Address) bool {
	k := s.cfg.Load().Keydir
	return k != nil && slices.ContainsFunc(k.Domains, func(d string) bool { return strings.EqualFold(d, a.Domain) })
}

type keydirRemove struct {
	Address addressArg `arg:""`
}

func (c *keydirRemove) runState(ctx context.Context, e *env, s *state) error {
	err := s.keydir.Remove(ctx, c.Address.Address)
	if errors.Is(err, store.ErrNoRow) {
		return fmt.Errorf("nothing is published for %s", c.Address)
	}
	if err != nil {
		return err
	}
	e.printf("Nothing is published for %s any more.\n", c.Address)
	return nil
}

type keydirImport struct {
	Dir string `arg:"" help:"Folder of armored or binary certificates: *.asc, *.gpg, *.pgp, *.key, or the tree of a Web Key Directory."`
}

func (c *keydirImport) runState(ctx context.Context, e *env, s *state) error {
	k := s.cfg.Load().Keydir
	if k == nil {
		return fmt.Errorf("%w: there is no [keydir] with domains to publish for", errConfig)
	}
	added, skipped, err := s.keydir.Import(ctx, e.path(c.Dir), k.Domains...)
	for _, sk := range skipped {
		fmt.Fprintf(e.stderr, "letterlock: left out: %s: %v\n", sk.Path, sk.Err)
	}
	for _, a := range added {
		e.printf("Published for %s.\n", a)
	}
	if err == nil && len(added) == 0 {
		e.printf("Nothing to publish: no *.asc, *.gpg, *.pgp or *.key file of %s, and no tree of a Web Key Directory in it, has a certificate of %s.\n", c.Dir, strings.Join(k.Domains, ", "))
	}
	return err
}

type keydirExport struct {
	Dir string `arg:"" help:"Folder to be the document root of openpgpkey.DOMAIN."`
}

func (c *keydirExport) runState(ctx context.Context, e *env, s *state) error {
	k := s.cfg.Load().Keydir
	if k == nil {
		return fmt.Errorf("%w: there is no [keydir] with domains to export", errConfig)
	}
	n, err := s.keydir.Export(ctx, e.path(c.Dir), k.Domains...)
	if err != nil {
		return err
	}
	e.printf("Wrote %d certificates to %s.\n", n, c.Dir)
	return nil
}
