package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/internal/wholefile"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

type caCmd struct {
	Init     caInit     `cmd:"" help:"Make the key with which an organisation certifies those of its people. Not on the directory's machine."`
	Certify  caCertify  `cmd:"" help:"Certify somebody's certificate, having compared its fingerprint with them."`
	Withdraw caWithdraw `cmd:"" help:"Take back what was certified: somebody left, or the key is no longer theirs."`
	Publish  caPublish  `cmd:"" help:"Have the directory here publish the authority's certificate."`
}

// caInit makes an authority. Its key lies in a file of its own, outside of every
// state directory: whoever takes the directory over must not find it there.
type caInit struct {
	Domain         string `arg:"" help:"The organisation's domain."`
	Key            string `required:"" placeholder:"FILE" help:"Where the new secret key goes, locked with a passphrase. Best on a machine that is seldom on a network."`
	PassphraseFile string `placeholder:"FILE" help:"The passphrase; asked for otherwise."`
	Force          bool   `help:"Though this machine runs the domain's directory."`
}

func (c *caInit) runLocal(_ context.Context, e *env, root *cli) error {
	a, err := address.Parse("x@" + c.Domain)
	if err != nil {
		return fmt.Errorf("%w: %q is no domain; write for example: letterlock ca init example.org --key ca.key", errUsage, c.Domain)
	}
	a = keydir.AuthorityAddress(a.Domain)
	if err := c.elsewhere(root, a.Domain); err != nil {
		return err
	}
	pass, err := e.newSecret(c.PassphraseFile, "passphrase to lock the authority's key with")
	if err != nil {
		return err
	}
	if pass == "" {
		return errors.New("the key of an authority is kept only with a passphrase")
	}
	k, err := pgp.GenerateKey(a, pgp.DefaultProfile, e.now())
	if err != nil {
		return err
	}
	secret, err := k.ExportArmored([]byte(pass))
	if err != nil {
		return err
	}
	public := strings.TrimSuffix(e.path(c.Key), ".key") + ".cert"
	if err := errors.Join(wholefile.Create(e.path(c.Key), []byte(secret), 0o600), wholefile.Create(public, []byte(k.Certificate().Armored()), 0o644)); err != nil {
		return fmt.Errorf("writing the authority's key: %w", err)
	}
	e.printf("The authority of %s:\n", a.Domain)
	describeCertificate(k.Certificate(), e.now()).print(e)
	e.printf("Secret key: %s (keep a copy in another place; never on the directory's machine)\n", e.path(c.Key))
	e.printf("Certificate: %s\n", public)
	e.printf("On the directory's machine: letterlock ca publish %s\n", public)
	e.printf("Whoever relies on it writes into the configuration, having compared the fingerprint:\n\n")
	e.printf("    [discovery]\n    authorities = { %q = %q }\n", a.Domain, string(k.Fingerprint()))
	return nil
}

// elsewhere is an error where the directory of the domain is configured here.
func (c *caInit) elsewhere(root *cli, domain string) error {
	cfg, err := root.load()
	if errors.Is(err, config.ErrNoFile) || c.Force {
		return nil
	}
	if err != nil {
		return err
	}
	if k := cfg.Keydir; k != nil && slices.ContainsFunc(k.Domains, func(d string) bool { return strings.EqualFold(d, domain) }) {
		return fmt.Errorf("this machine runs the directory of %s ([keydir]), where its authority's key must not be: who takes over the one would have both. Do it on another (or, if you must: --force)", domain)
	}
	return nil
}

type caCertify struct {
	What           string         `arg:"" placeholder:"FILE|ADDRESS" help:"Their certificate, or their address, to have it looked up. - is standard input."`
	Fingerprint    fingerprintArg `arg:"" optional:"" help:"What you compared with its owner; required where it is looked up."`
	Key            string         `required:"" placeholder:"FILE" help:"The authority's key."`
	PassphraseFile string         `placeholder:"FILE" help:"What unlocks it; asked for otherwise."`
	Days           int            `default:"365" help:"For how long (${default})."`
	Binary         bool           `help:"Binary instead of armored."`
}

func (c *caCertify) runLocal(ctx context.Context, e *env, root *cli) error {
	if c.Days < 1 {
		return fmt.Errorf("%w: --days must be at least 1", errUsage)
	}
	cert, err := c.certificate(ctx, e, root)
	if err != nil {
		return err
	}
	if c.Fingerprint != "" && cert.Fingerprint() != pgp.Fingerprint(c.Fingerprint) {
		return fmt.Errorf("the certificate is %s, and not the one that you compared", cert.Fingerprint())
	}
	ca, domain, err := authorityKey(e, c.Key, c.PassphraseFile)
	if err != nil {
		return err
	}
	if err := cert.CheckEncrypt(e.now()); err != nil {
		return fmt.Errorf("%s can't be used: %w", cert.Fingerprint(), err)
	}
	s := pgp.Certification{Expires: e.now().Add(time.Duration(c.Days) * 24 * time.Hour)}
	some := false
	for _, a := range addressesOf(cert) {
		if a.Domain != domain || a.Equal(keydir.AuthorityAddress(domain)) {
			continue
		}
		if cert, err = pgp.Certify(ca, cert, a, s, e.now()); err != nil {
			return fmt.Errorf("%s: %w", a, err)
		}
		some = true
		fmt.Fprintf(e.stderr, "Certified for %s until %s: %s\n", a, day(s.Expires, "-"), cert.Fingerprint())
	}
	if !some {
		return fmt.Errorf("%s names no address of %s", cert.Fingerprint(), domain)
	}
	fmt.Fprintf(e.stderr, "Its owner takes it over with: letterlock cert import FILE; the directory publishes it with: letterlock keydir add ADDRESS FILE\n")
	return writeCertificate(e, cert, c.Binary)
}

// authorityKey is an authority's key and its domain.
func authorityKey(e *env, file, passphraseFile string) (*pgp.Key, string, error) {
	b, err := e.files.Read(file)
	if err != nil {
		return nil, "", err
	}
	keys, err := pgp.ParseKeys(b, func(*pgp.Certificate) ([]byte, error) {
		p, err := e.secret(passphraseFile, "passphrase of the authority's key")
		return []byte(p), err
	})
	if err != nil || len(keys) != 1 {
		return nil, "", fmt.Errorf("reading the authority's key in %s: %w", file, errors.Join(err, ifNot(len(keys) == 1, "one key belongs there")))
	}
	domain := authorityDomain(keys[0].Certificate())
	if domain == "" {
		return nil, "", fmt.Errorf("%s is no authority's key: its user ID must be openpgp-ca@DOMAIN", file)
	}
	return keys[0], domain, nil
}

func ifNot(ok bool, text string) error {
	if ok {
		return nil
	}
	return errors.New(text)
}

// authorityDomain is the domain whose authority a certificate is; "" if none.
func authorityDomain(c *pgp.Certificate) string {
	for _, a := range addressesOf(c) {
		if a.Equal(keydir.AuthorityAddress(a.Domain)) {
			return a.Domain
		}
	}
	return ""
}

// certificate is what is to be certified.
func (c *caCertify) certificate(ctx context.Context, e *env, root *cli) (*pgp.Certificate, error) {
	a, err := address.Parse(c.What)
	if _, statErr := os.Stat(e.path(c.What)); err != nil || statErr == nil {
		certs, err := readCertificates(e, c.What)
		if err == nil && len(certs) != 1 {
			err = fmt.Errorf("%s has %d certificates; one is certified at a time", c.What, len(certs))
		}
		if err != nil {
			return nil, err
		}
		return certs[0], nil
	}
	if c.Fingerprint == "" {
		return nil, fmt.Errorf("%w: what a directory gives for %s is certified only if you compared it: letterlock ca certify %s FINGERPRINT", errUsage, a, a)
	}
	return lookUpOnce(ctx, e, root, a)
}

// lookUpOnce finds a certificate without keeping anything.
func lookUpOnce(ctx context.Context, e *env, root *cli, a address.Address) (*pgp.Certificate, error) {
	st, err := store.OpenMemory(keydir.Schema)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	kc := keydir.Config{Store: st, Now: e.now}
	cfg, err := root.load()
	switch {
	case errors.Is(err, config.ErrNoFile):
	case err != nil:
		return nil, err
	default:
		if kc.Discovery, err = discoveryOf(cfg); err != nil {
			return nil, err
		}
	}
	r, err := keydir.New(kc)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	f, err := r.Find(ctx, a)
	if err != nil {
		return nil, err
	}
	if len(f.Certificates) != 1 {
		return nil, fmt.Errorf("looking for the certificate of %s: %s %s", a, f.Outcome, f.Detail)
	}
	return f.Certificates[0], nil
}

type caPublish struct {
	File string `arg:"" help:"The authority's certificate, without its secret key."`
}

func (c *caPublish) runState(ctx context.Context, e *env, s *state) error {
	certs, err := readCertificates(e, c.File)
	if errors.Is(err, pgp.ErrSecretKey) {
		return fmt.Errorf("%s has the authority's secret key, which must not be on the directory's machine: remove it from here, and bring the certificate", c.File)
	}
	if err != nil {
		return err
	}
	domain := authorityDomain(certs[0])
	if len(certs) != 1 || domain == "" {
		return fmt.Errorf("%s is not one authority's certificate, with the user ID openpgp-ca@DOMAIN", c.File)
	}
	if err := s.publish(ctx, e, keydir.AuthorityAddress(domain), certs[0]); err != nil {
		return err
	}
	if s.cfg.Load().Discovery.Authorities[domain] == "" {
		e.printf("For what it certified to be published too, the configuration here must name it:\n\n    [discovery]\n    authorities = { %q = %q }\n", domain, string(certs[0].Fingerprint()))
	}
	return nil
}

// approved are the certificates whose certifications are published with an
// address: its organisation's authority, and its own former keys.
func (s *state) approved(a address.Address) []*pgp.Certificate {
	ctx := context.Background()
	out, err := s.resolver.Authorities(ctx, a.Domain)
	if err != nil {
		s.log.Error("the authority of a domain can't be read", "error", err)
	}
	for _, c := range s.ownCertificates() {
		if c.Has(a) {
			out = append(out, c)
		}
	}
	return out
}

// takeCertified adds what the authority certified of an own key to that; ok is
// false where the certificate is nobody's here, or no authority that is known here
// certified it.
func (s *state) takeCertified(ctx context.Context, e *env, c *pgp.Certificate) (ok bool, err error) {
	for _, a := range addressesOf(c) {
		entries, errKeys := s.keys.Decrypter(ctx, a)
		if errKeys != nil || !slices.ContainsFunc(entries.Certificates(), func(o *pgp.Certificate) bool { return o.Fingerprint() == c.Fingerprint() }) {
			continue
		}
		all, err := s.resolver.Authorities(ctx, a.Domain)
		if err != nil {
			return ok, err
		}
		by := slices.DeleteFunc(all, func(ca *pgp.Certificate) bool {
			_, does := c.CertifiedBy(ca, a, e.now())
			return !does
		})
		if len(by) == 0 {
			continue
		}
		ok = true
		own, err := s.keys.Certified(ctx, a, c, by...)
		if err != nil {
			return ok, err
		}
		e.printf("Your key of %s is now certified by the authority of %s.\n", a, a.Domain)
		switch err := s.publishSuccessor(ctx, addressArg{a}, own, own); {
		case errors.Is(err, store.ErrNoRow):
			e.printf("Publish it again where it was published: letterlock key publish %s\n", a)
		case err != nil:
			return ok, fmt.Errorf("our own directory does not have it yet: %w", err)
		}
	}
	return ok, nil
}
