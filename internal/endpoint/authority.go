package endpoint

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/store"
)

// Schema is the tables of this package.
var Schema = store.Schema{Name: "endpoint", Steps: []string{
	`CREATE TABLE endpoint_authority (
		name TEXT PRIMARY KEY,     -- "ca" or "localhost"
		certificate BLOB NOT NULL, -- DER
		key BLOB NOT NULL          -- PKCS #8
	)`,
}}

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	// leafLife is below the 825 days that Apple's clients accept at most.
	leafLife  = 800 * 24 * time.Hour
	leafRenew = 60 * 24 * time.Hour
)

// Authority is the certification authority of this installation, with the
// certificate for localhost that it issued. A client that trusts it trusts
// nothing beyond this machine: the authority is constrained to localhost,
// 127.0.0.1 and ::1 (RFC 5280, Section 4.2.1.10).
type Authority struct {
	ca   *x509.Certificate
	leaf tls.Certificate
}

// OpenAuthority reads the authority from the store, making it at first use and
// renewing the localhost certificate when it nears its end.
func OpenAuthority(ctx context.Context, s store.Store, now time.Time) (*Authority, error) {
	var a *Authority
	err := s.Update(ctx, func(tx store.Tx) error {
		var err error
		a, err = openAuthority(tx, now)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening the local certification authority: %w", err)
	}
	return a, nil
}

func openAuthority(tx store.Tx, now time.Time) (*Authority, error) {
	ca, caKey, err := load(tx, "ca")
	if errors.Is(err, store.ErrNoRow) || err == nil && now.After(ca.NotAfter.Add(-leafLife)) {
		ca, caKey, err = makeCA(tx, now)
	}
	if err != nil {
		return nil, err
	}
	leaf, key, err := load(tx, "localhost")
	if errors.Is(err, store.ErrNoRow) || err == nil && (now.After(leaf.NotAfter.Add(-leafRenew)) || leaf.CheckSignatureFrom(ca) != nil ||
		now.Before(leaf.NotBefore) && !now.Before(ca.NotBefore)) { // a clock that was ahead made it; one that is behind makes nothing anew
		leaf, key, err = makeLeaf(tx, ca, caKey, now)
	}
	if err != nil {
		return nil, err
	}
	return &Authority{ca: ca, leaf: tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}}, nil
}

// Begins is from when on mail programs take what the authority vouches for.
func (a *Authority) Begins() time.Time {
	if a.ca.NotBefore.After(a.leaf.Leaf.NotBefore) {
		return a.ca.NotBefore
	}
	return a.leaf.Leaf.NotBefore
}

func load(tx store.Tx, name string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	var der, pkcs8 []byte
	if err := tx.Row(`SELECT certificate, key FROM endpoint_authority WHERE name = ?`, []any{name}, &der, &pkcs8); err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	k, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return nil, nil, err
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("stored key of %s is no ECDSA key", name)
	}
	return cert, key, nil
}

func makeCA(tx store.Tx, now time.Time) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	return issue(tx, "ca", &x509.Certificate{
		Subject:                     pkix.Name{CommonName: "Letterlock on this computer", Organization: []string{"Letterlock local authority"}},
		NotBefore:                   now.Add(-time.Hour),
		NotAfter:                    now.Add(authorityLife),
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLenZero:              true,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{"localhost"},
		PermittedIPRanges: []*net.IPNet{
			{IP: net.IPv4(127, 0, 0, 1).To4(), Mask: net.CIDRMask(32, 32)},
			{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
		},
	}, nil, nil)
}

func makeLeaf(tx store.Tx, ca *x509.Certificate, caKey *ecdsa.PrivateKey, now time.Time) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	return issue(tx, "localhost", &x509.Certificate{
		Subject:               pkix.Name{CommonName: "localhost"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(leafLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}, ca, caKey)
}

// issue makes a key and a certificate by the template, signed by parent or by
// itself, and stores both under name.
func issue(tx store.Tx, name string, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	// RFC 5280, Section 4.1.2.2: a positive number of at most 20 octets.
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, nil, err
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	_, err = tx.Exec(`INSERT INTO endpoint_authority (name, certificate, key) VALUES (?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET certificate = excluded.certificate, key = excluded.key`, name, der, pkcs8)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

// TLSConfig is for our listeners.
func (a *Authority) TLSConfig() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{a.leaf}, MinVersion: tls.VersionTLS12}
}

// PEM is the authority's certificate, for clients to trust.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.ca.Raw})
}

// Pool trusts the authority and nothing else.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.ca)
	return p
}

// Constraints are the names that the authority may vouch for, in words.
func (a *Authority) Constraints() string {
	names := append([]string(nil), a.ca.PermittedDNSDomains...)
	for _, r := range a.ca.PermittedIPRanges {
		names = append(names, r.String())
	}
	return strings.Join(names, " ")
}
