package peer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// certificates are what a server shows, and the authority that vouches for it.
type certificates struct{ ca, cert, key string }

// makeCertificates makes a throwaway authority and a certificate for localhost,
// 127.0.0.1 and mail.example.test.
func makeCertificates(t testing.TB, dir string) certificates {
	t.Helper()
	mkdir(t, dir, 0o755, -1, -1)
	caKey, ca := issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "letterlock test CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, nil, nil)
	key, cert := issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "localhost"}, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost", "mail.example.test"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}, ca, caKey)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c := certificates{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key")}
	write(t, c.ca, encode("CERTIFICATE", ca.Raw), 0o644)
	write(t, c.cert, encode("CERTIFICATE", cert.Raw), 0o644)
	write(t, c.key, encode("PRIVATE KEY", pkcs8), 0o600)
	return c
}

// Certificate makes a throwaway certificate for localhost, 127.0.0.1 and
// mail.example.test: its files, and what trusts it.
func Certificate(t testing.TB, dir string) (cert, key string, trust *x509.CertPool) {
	t.Helper()
	c := makeCertificates(t, filepath.Join(dir, "tls"))
	return c.cert, c.key, Pool(t, c.ca)
}

func encode(kind string, b []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
}

func issue(t testing.TB, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(48*time.Hour)
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}
