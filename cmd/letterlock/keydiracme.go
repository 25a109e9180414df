package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"letterlock.org/letterlock/internal/acmestore"
	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/store"
)

// acme is what keeps the directory's certificate valid by ACME (RFC 8555), with
// the challenge that the https listener itself answers (RFC 8737). Nothing else
// listens.
type acme struct {
	config *certmagic.Config
	cache  *certmagic.Cache
	names  []string
	log    *slog.Logger
}

// newACME prepares it; manage begins.
func newACME(c *config.Keydir, st store.Store, log *slog.Logger, port int) *acme {
	a := &acme{names: c.ACME.Names, log: log}
	quiet := zap.NewNop() // it logs by its own library; what matters comes by events
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return a.config, nil }, Logger: quiet,
	})
	a.config = certmagic.New(a.cache, certmagic.Config{Storage: acmestore.New(st), Logger: quiet,
		OnEvent: func(_ context.Context, event string, data map[string]any) error {
			switch event {
			case "cert_obtained":
				log.Info("keydir: certificate obtained", "name", data["identifier"], "renewal", data["renewal"])
			case "cert_failed":
				log.Error("keydir: no certificate could be obtained; it is tried again", "name", data["identifier"], "error", data["error"])
			}
			return nil
		}})
	a.config.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(a.config, certmagic.ACMEIssuer{
		CA: c.ACME.Directory, Email: c.ACME.Email, Agreed: true, DisableHTTPChallenge: true, AltTLSALPNPort: port,
		TrustedRoots: c.ACME.Roots, Logger: quiet,
	})}
	return a
}

// listener speaks TLS with the managed certificate.
func (a *acme) listener(l net.Listener) net.Listener {
	t := a.config.TLSConfig()
	t.MinVersion = tls.VersionTLS12
	t.NextProtos = []string{"http/1.1", "acme-tls/1"}
	return tls.NewListener(l, t)
}

// manage takes the certificates that are there at once, and obtains and renews
// in the background, until ctx ends.
func (a *acme) manage(ctx context.Context) error {
	for _, name := range a.names {
		if _, err := a.config.CacheManagedCertificate(ctx, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			a.log.Warn("keydir: a stored certificate can't be read; another is obtained", "name", name, "error", err)
		}
	}
	if err := a.config.ManageAsync(ctx, a.names); err != nil {
		return fmt.Errorf("keydir: managing the certificate: %w", err)
	}
	return nil
}

func (a *acme) stop() { a.cache.Stop() }
