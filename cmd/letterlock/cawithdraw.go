package main

import (
	"context"
	"fmt"

	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// caWithdraw takes back a certification. What says so is a signature of the
// authority, which the directory publishes with the certificate: readers who have
// an older copy learn it with their next look-up.
type caWithdraw struct {
	File           string `arg:"" placeholder:"FILE" help:"Their certificate. - is standard input."`
	Key            string `required:"" placeholder:"FILE" help:"The authority's key."`
	PassphraseFile string `placeholder:"FILE" help:"What unlocks it; asked for otherwise."`
	Binary         bool   `help:"Binary instead of armored."`
}

func (c *caWithdraw) runLocal(_ context.Context, e *env, _ *cli) error {
	certs, err := readCertificates(e, c.File)
	if err == nil && len(certs) != 1 {
		err = fmt.Errorf("%s has %d certificates; one is withdrawn at a time", c.File, len(certs))
	}
	if err != nil {
		return err
	}
	ca, domain, err := authorityKey(e, c.Key, c.PassphraseFile)
	if err != nil {
		return err
	}
	cert, some := certs[0], false
	for _, a := range addressesOf(cert) {
		if a.Domain != domain || a.Equal(keydir.AuthorityAddress(domain)) {
			continue
		}
		if cert, err = pgp.Withdraw(ca, cert, a, e.now()); err != nil {
			return fmt.Errorf("%s: %w", a, err)
		}
		some = true
		fmt.Fprintf(e.stderr, "No longer certified for %s: %s\n", a, cert.Fingerprint())
	}
	if !some {
		return fmt.Errorf("%s names no address of %s", cert.Fingerprint(), domain)
	}
	fmt.Fprintf(e.stderr, "On the directory's machine: letterlock keydir add ADDRESS FILE (with what is written here: it tells readers; keydir remove would not)\n")
	return writeCertificate(e, cert, c.Binary)
}
