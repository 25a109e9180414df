package config

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/endpoint"
)

// Relay is [relay], the organisation's gateway. The fields with a toml tag are
// as written; the others are what the checks made of them.
type Relay struct {
	Listen            Strings  `toml:"listen"`
	Smarthost         string   `toml:"smarthost"`
	SmarthostUser     string   `toml:"smarthost_user"`
	SmarthostPassword string   `toml:"smarthost_password"`
	SmarthostCA       string   `toml:"smarthost_ca"`
	Domains           []string `toml:"domains"`
	Hostname          string   `toml:"hostname"`
	Expose            bool     `toml:"expose"`
	TLSCertificate    string   `toml:"tls_certificate"`
	TLSKey            string   `toml:"tls_key"`

	// Who may hand mail to us.
	Trusted            []string          `toml:"trusted"`
	Users              map[string]string `toml:"users"`
	ClientCA           string            `toml:"client_ca"`
	ClientCertificates map[string]string `toml:"client_certificates"`
	TrustSender        bool              `toml:"trust_sender"`

	Sign      string `toml:"sign"`
	DomainKey string `toml:"domain_key"`
	DKIM      *DKIM  `toml:"dkim"`
	// PasswordNotice is how a sender without certificate is told the password of
	// a message: not at all (sealed), or in clear.
	PasswordNotice string   `toml:"password_notice"`
	Inbound        *Inbound `toml:"inbound"`

	Addresses    []endpoint.Address     `toml:"-"`
	Server       endpoint.Upstream      `toml:"-"`
	Networks     []netip.Prefix         `toml:"-"`
	Logins       []RelayClient          `toml:"-"` // SMTP AUTH users
	Fingerprints map[string]RelayClient `toml:"-"` // by hex SHA-256 of the certificate
	Signing      address.Address        `toml:"-"` // of the domain key; zero for none
}

// RelayClient is a client that has proved who it is.
type RelayClient struct {
	// Name is a login's address; zero for a certificate that may send as anybody.
	Name address.Address
	// Any: it may send as anybody, as an MTA must.
	Any bool
}

// DKIM is how mail that we changed is signed for its domain (RFC 6376).
type DKIM struct {
	Domain   string `toml:"domain"`
	Selector string `toml:"selector"`
	Key      string `toml:"key"` // file of a PEM key
}

// Inbound is the listener that decrypts for mailboxes whose keys the
// organisation holds.
type Inbound struct {
	Listen    Strings `toml:"listen"`
	Smarthost string  `toml:"smarthost"` // where opened mail goes: the MTA inside
	CA        string  `toml:"ca"`

	Addresses []endpoint.Address `toml:"-"`
	Server    endpoint.Upstream  `toml:"-"`
}

// setDefaults is called before [relay] is read.
func (r *Relay) setDefaults() {
	r.Trusted, r.Sign, r.PasswordNotice = []string{"127.0.0.0/8", "::1/128"}, "sender", "sealed"
}

// relay checks [relay]; owners are the bridges of addresses.
func (d *decoder) relay(r *Relay, owners map[string]string) {
	r.Addresses = d.relayListen("relay.listen", `"127.0.0.1:10026"`, r.Listen, r)
	r.Server = d.relayServer("relay.smarthost", "submission://mx.example.org:587", r.Smarthost, "relay.smarthost_ca", r.SmarthostCA)
	switch kind, where, _ := strings.Cut(r.SmarthostPassword, ":"); {
	case r.SmarthostPassword == "" && r.SmarthostUser != "":
		d.add("relay.smarthost_user", `needs smarthost_password = "file:/path" or "credential:NAME"`)
	case r.SmarthostPassword != "" && (kind != "file" && kind != "credential" || where == ""):
		d.add("relay.smarthost_password", `is neither "file:/path" nor "credential:NAME" (the password itself does not belong here)`)
	}
	if len(r.Domains) == 0 {
		d.add("relay.domains", `is missing; write the domains whose mail leaves here: domains = ["example.org"]`)
	}
	for i, name := range r.Domains {
		a, err := address.Parse("x@" + name)
		if err != nil {
			d.add("relay.domains", `%q is no domain; write for example "example.org"`, name)
			continue
		}
		r.Domains[i] = a.Domain
	}
	if r.Hostname != "" {
		if _, err := address.Parse("x@" + r.Hostname); err != nil {
			d.add("relay.hostname", `%q is no host name; write for example "relay.example.org"`, r.Hostname)
		}
	}
	d.relayTLS(r)
	d.relayClients(r, owners)
	d.relaySigning(r)
	d.oneOf("relay.password_notice", r.PasswordNotice, "sealed", "clear")
	if r.Inbound != nil {
		r.Inbound.Addresses = d.relayListen("relay.inbound.listen", `"127.0.0.1:10027"`, r.Inbound.Listen, r)
		r.Inbound.Server = d.relayServer("relay.inbound.smarthost", "smtp+insecure://127.0.0.1:10028", r.Inbound.Smarthost, "relay.inbound.ca", r.Inbound.CA)
	}
}

// relayListen reads listeners. What comes in there is plaintext: from another
// machine it needs TLS, and whoever wants that has to say so.
func (d *decoder) relayListen(key, example string, listen Strings, r *Relay) (out []endpoint.Address) {
	if len(listen) == 0 {
		d.add(key, `is missing; write listen = %s`, example)
	}
	for _, l := range listen {
		a, err := endpoint.ParseListen(endpoint.SMTP, l)
		switch {
		case err != nil:
			d.add(key, "%v", err)
		case !a.Loopback() && !r.Expose:
			d.add(key, "%s can be reached from other machines, and what they send is not encrypted yet; listen on 127.0.0.1, or write expose = true with tls_certificate and tls_key", a)
		case !a.Loopback() && r.TLSCertificate == "":
			d.add(key, "mail from other machines would cross the network in clear; set tls_certificate and tls_key for the name that they connect to")
		}
		out = append(out, a)
	}
	return out
}

func (d *decoder) relayServer(key, example, server, caKey, ca string) endpoint.Upstream {
	if server == "" {
		d.add(key, `is missing; write where mail goes from here, for example %s = %q`, key[strings.LastIndexByte(key, '.')+1:], example)
		return endpoint.Upstream{}
	}
	u, err := endpoint.ParseUpstream(endpoint.SMTP, server)
	if err != nil {
		d.add(key, "%v", err)
	}
	if u.Roots, err = endpoint.Roots(ca); err != nil {
		d.add(caKey, "%v", err)
	}
	return u
}

func (d *decoder) relayTLS(r *Relay) {
	if (r.TLSCertificate == "") != (r.TLSKey == "") {
		d.add("relay.tls_certificate", "tls_certificate and tls_key belong together")
	} else if r.TLSCertificate != "" {
		if _, err := tls.LoadX509KeyPair(r.TLSCertificate, r.TLSKey); err != nil {
			d.add("relay.tls_certificate", "%v", err)
		}
	}
	if r.ClientCA != "" {
		if _, err := endpoint.Roots(r.ClientCA); err != nil {
			d.add("relay.client_ca", "%v", err)
		}
	}
}

func (d *decoder) relayClients(r *Relay, owners map[string]string) {
	for _, s := range r.Trusted {
		p, err := netip.ParsePrefix(s)
		if one, aerr := netip.ParseAddr(s); err != nil && aerr == nil {
			p, err = netip.PrefixFrom(one, one.BitLen()), nil
		}
		switch {
		case err != nil:
			d.add("relay.trusted", `%q is no network; write for example "192.0.2.0/24" or "2001:db8::/64"`, s)
		case p.Bits() == mapped(p): // ::ffff:0:0/96 is every IPv4 address
			d.add("relay.trusted", "%q is everybody, and would make this an open relay; name the networks of your own mail servers", s)
		default:
			r.Networks = append(r.Networks, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mapped(p)).Masked())
		}
	}
	for _, user := range sorted(r.Users) {
		key := join("relay.users", user)
		a, err := address.Parse(user)
		if err != nil {
			d.add(key, `%q is no mail address; users are named by one, such as "mta@example.org"`, user)
		}
		if owner, taken := owners[a.Key()]; taken {
			d.add(key, "%s has %s and so a password already; name another user", a, owner)
		}
		d.oneOf(key, r.Users[user], "own", "any")
		r.Logins = append(r.Logins, RelayClient{Name: a, Any: r.Users[user] == "any"})
	}
	r.Fingerprints = map[string]RelayClient{}
	for _, f := range sorted(r.ClientCertificates) {
		key := join("relay.client_certificates", f)
		sum, err := hex.DecodeString(strings.ReplaceAll(f, ":", ""))
		if err != nil || len(sum) != sha256.Size {
			d.add(key, "%q is no SHA-256 fingerprint; openssl x509 -in FILE -noout -fingerprint -sha256 prints it", f)
		}
		c := RelayClient{Any: r.ClientCertificates[f] == "any"}
		if !c.Any {
			if c.Name, err = address.Parse(r.ClientCertificates[f]); err != nil {
				d.add(key, `%q is neither "any" (an MTA) nor the one address that the client sends as`, r.ClientCertificates[f])
			}
		}
		r.Fingerprints[hex.EncodeToString(sum)] = c
	}
	if len(r.Networks) == 0 && len(r.Logins) == 0 && len(r.Fingerprints) == 0 && r.ClientCA == "" && len(r.Trusted) == 0 {
		d.add("relay.trusted", "nobody may send here; name networks in trusted, logins in users, or certificates in client_ca or client_certificates")
	}
}

// mapped is how many bits of an IPv4 network in IPv6 notation are not its own.
func mapped(p netip.Prefix) int {
	if p.Addr().Is4In6() {
		return min(96, p.Bits())
	}
	return 0
}

func (d *decoder) relaySigning(r *Relay) {
	d.oneOf("relay.sign", r.Sign, "sender", "domain", "none")
	if r.DomainKey != "" {
		a, err := address.Parse(r.DomainKey)
		if err != nil {
			d.add("relay.domain_key", `%q is no mail address; write that of the key, such as "gateway@example.org"`, r.DomainKey)
		}
		r.Signing = a
	} else if r.Sign == "domain" {
		d.add("relay.domain_key", `is missing; write domain_key = "gateway@example.org" and make the key: letterlock key generate gateway@example.org`)
	}
	if k := r.DKIM; k != nil {
		if _, err := address.Parse("x@" + k.Domain); err != nil {
			d.add("relay.dkim.domain", `%q is no domain; write the one that signs, such as "example.org"`, k.Domain)
		}
		if _, err := address.Parse("x@" + k.Selector + ".invalid"); err != nil {
			d.add("relay.dkim.selector", `%q is no selector; write the name before ._domainkey, such as "letterlock"`, k.Selector)
		}
		if err := readable(k.Key); err != nil {
			d.add("relay.dkim.key", "%v (write the file of its private key, as PEM)", err)
		}
	}
}

func readable(file string) error {
	if file == "" {
		return errors.New("is missing")
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	return f.Close()
}

// ReadSmarthostPassword is the password at the smarthost; "" for none.
func (r *Relay) ReadSmarthostPassword() (string, error) {
	if r.SmarthostPassword == "" {
		return "", nil
	}
	p, _, err := (&Bridge{UpstreamPassword: r.SmarthostPassword}).ReadUpstreamPassword()
	if err != nil {
		return "", fmt.Errorf("smarthost_password: %w", errors.Unwrap(err))
	}
	return p, nil
}

func sorted(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
