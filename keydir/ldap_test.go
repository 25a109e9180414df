package keydir_test

import (
	"bytes"
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// organisation is an LDAP server that answers every search with its entries.
type organisation struct {
	addr     string
	cert     *tls.Certificate // for StartTLS; nil refuses it
	password string           // asked for before a search; "" lets anybody
	entries  []map[string]string
	code     int64                                 // result of the search
	raw      func(c net.Conn, op *ber.Packet) bool // answers otherwise, where it says so

	mu       sync.Mutex // guards what follows
	filters  []string
	searched []string // "tls" or "clear"
}

func (o *organisation) listen(t *testing.T, over *tls.Config) *organisation {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	o.addr = l.Addr().String()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if over != nil {
				c = tls.Server(c, over)
			}
			go o.serve(c)
		}
	}()
	return o
}

func (o *organisation) serve(c net.Conn) {
	defer func() { c.Close() }()
	welcome := o.password == ""
	for {
		m, err := ber.ReadPacket(c)
		if err != nil || len(m.Children) < 2 {
			return
		}
		op := m.Children[1]
		if o.raw != nil && o.raw(c, op) {
			return
		}
		reply := func(tag ber.Tag, code int64) {
			r := ber.Encode(ber.ClassApplication, ber.TypeConstructed, tag, nil, "")
			r.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, code, ""))
			r.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "", ""))
			r.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "", ""))
			o.send(c, m, r)
		}
		switch op.Tag {
		case ldap.ApplicationBindRequest:
			welcome = op.Children[2].Data.String() == o.password
			reply(ldap.ApplicationBindResponse, map[bool]int64{true: 0, false: 49}[welcome])
		case ldap.ApplicationExtendedRequest:
			if o.cert == nil {
				reply(ldap.ApplicationExtendedResponse, 2)
				continue
			}
			reply(ldap.ApplicationExtendedResponse, 0)
			c = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*o.cert}})
		case ldap.ApplicationSearchRequest:
			filter, _ := ldap.DecompileFilter(op.Children[6])
			_, over := c.(*tls.Conn)
			o.mu.Lock()
			o.filters, o.searched = append(o.filters, filter), append(o.searched, map[bool]string{true: "tls", false: "clear"}[over])
			o.mu.Unlock()
			if !welcome {
				reply(ldap.ApplicationSearchResultDone, 50)
				continue
			}
			for _, e := range o.entries {
				o.send(c, m, entry(e))
			}
			reply(ldap.ApplicationSearchResultDone, o.code)
		default:
			return
		}
	}
}

func (o *organisation) send(c net.Conn, to, op *ber.Packet) {
	m := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "")
	m.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, to.Children[0].Value, ""))
	m.AppendChild(op)
	c.Write(m.Bytes())
}

func entry(attributes map[string]string) *ber.Packet {
	e := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationSearchResultEntry, nil, "")
	e.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "pgpCertID=1,dc=example", ""))
	list := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "")
	for name, v := range attributes {
		a := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "")
		a.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, name, ""))
		set := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "")
		set.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, v, ""))
		a.AppendChild(set)
		list.AppendChild(a)
	}
	e.AppendChild(list)
	return e
}

func (o *organisation) told() (filters, searched []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.filters, o.searched
}

// organisations has the world ask it for example.org, besides other sources.
func (o *organisation) of(scheme string, sources ...string) func(*keydir.Config) {
	return func(c *keydir.Config) {
		c.Sources = append(sources, "ldap")
		c.LDAP = []keydir.LDAP{{URL: scheme + "://" + o.addr, Base: "ou=keys,dc=example,dc=org", Domains: []string{"Example.org"}, Only: true}}
		c.Network.Timeout = time.Minute
	}
}

func TestLDAP(t *testing.T) {
	k, other := key(t, bob), key(t, bob)
	armored := k.Certificate().Armored()
	keyOf := func(k *pgp.Key) map[string]string { return map[string]string{"pgpKey": k.Certificate().Armored()} }
	tests := []struct {
		name string
		o    *organisation
		want keydir.Outcome
		says string
	}{
		{"an entry with an armored certificate", &organisation{entries: []map[string]string{{"pgpKey": armored}}}, keydir.Found, ""},
		{"a binary one, its attribute spelled otherwise", &organisation{entries: []map[string]string{{"PGPKEY": string(k.Certificate().Bytes())}}}, keydir.Found, ""},
		{"beside others' and what can't be read", &organisation{entries: []map[string]string{{"pgpKey": "?"}, keyOf(key(t, carol)), keyOf(k)}}, keydir.Found, ""},
		{"beside one that is disabled", &organisation{entries: []map[string]string{{"pgpKey": other.Certificate().Armored(), "pgpDisabled": "1"}, keyOf(k)}}, keydir.Found, ""},
		{"no entry", &organisation{}, keydir.Absent, "no certificate"},
		{"an entry without certificate", &organisation{entries: []map[string]string{{"mail": bob.String()}}}, keydir.Absent, "no certificate"},
		{"a base that isn't there", &organisation{code: 32}, keydir.Unavailable, "base"},
		{"busy", &organisation{code: 51}, keydir.Unavailable, "could not be asked"},
		{"too many entries", &organisation{entries: slicesOf(9, keyOf(key(t, carol)))}, keydir.Unavailable, "too many"},
		{"more than its limit allows", &organisation{code: 4}, keydir.Unavailable, "too many"},
		{"too many certificates", &organisation{entries: []map[string]string{{"pgpKey": string(many(t, 3))}, {"pgpKey": string(many(t, 3))}}}, keydir.Unavailable, "6 certificates"},
		{"a secret key", &organisation{entries: []map[string]string{{"pgpKey": string(k.Marshal())}}}, keydir.Unavailable, "secret key"},
		{"certificates of others only", &organisation{entries: []map[string]string{keyOf(key(t, carol))}}, keydir.Unavailable, "other addresses"},
		{"login required", &organisation{password: "hunter2"}, keydir.Unavailable, "could not be asked"},
		{"more than may be read", &organisation{raw: func(c net.Conn, _ *ber.Packet) bool {
			c.Write(append([]byte{0x30, 0x84, 0x7f, 0, 0, 0, 4, 0x84, 0x7e, 0, 0, 0}, bytes.Repeat([]byte("x"), 1<<20)...))
			return true
		}}, keydir.Unavailable, "could not be asked"},
		{"a nest of brackets", &organisation{raw: func(c net.Conn, _ *ber.Packet) bool {
			c.Write(bytes.Repeat([]byte{0x30, 0x80}, 200<<10))
			return true
		}}, keydir.Unavailable, "could not be asked"},
		{"a hang-up", &organisation{raw: func(net.Conn, *ber.Packet) bool { return true }}, keydir.Unavailable, "could not be asked"},
		{"silence", &organisation{raw: func(c net.Conn, _ *ber.Packet) bool { c.Read(make([]byte, 1)); return true }}, keydir.Unavailable, "in time"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.o.listen(t, nil)
			w := newWorld(t, tt.o.of("ldap"), func(c *keydir.Config) {
				if tt.name == "silence" {
					c.Network.Timeout = time.Second
				}
			})
			f := w.find(bob)
			if f.Outcome != tt.want || !strings.Contains(f.Detail, tt.says) {
				t.Errorf("%q (%s), want %q (%s)", f.Outcome, f.Detail, tt.want, tt.says)
			}
			if f.Outcome == keydir.Found && (f.Identity != pgp.Organisation || f.Source != "ldap" || f.Certificates[0].Fingerprint() != k.Fingerprint()) {
				t.Errorf("%+v", f)
			}
		})
	}
}

func slicesOf(n int, e map[string]string) (out []map[string]string) {
	for range n {
		out = append(out, e)
	}
	return out
}

// What an address may contain says nothing to a filter but itself.
func TestLDAPFilterEscapes(t *testing.T) {
	o := (&organisation{}).listen(t, nil)
	w := newWorld(t, o.of("ldap"))
	w.find(address.Address{Local: `*)(uid=*`, Domain: "example.org"})
	w.find(address.Address{Local: `o\'neil(x)`, Domain: "example.org"})
	filters, _ := o.told()
	for i, want := range []string{`(gpgMailbox="\2a\29\28uid=\2a"@example.org)`, `(gpgMailbox="o\5c\5c'neil\28x\29"@example.org)`} {
		if len(filters) <= i || !strings.Contains(filters[i], want) || strings.Count(filters[i], "(") != 5 {
			t.Errorf("filters %q, want one with %s", filters, want)
		}
	}
}

// Passwords and questions go over verified TLS, or not at all.
func TestLDAPOverTLS(t *testing.T) {
	k := key(t, bob)
	for _, tt := range []struct {
		name, scheme, host string
		start              bool // the server knows StartTLS
		login              string
		want               keydir.Outcome
		says               string
	}{
		{"implicit", "ldaps", "ldap.example.org", false, "hunter2", keydir.Found, ""},
		{"StartTLS", "ldap", "ldap.example.org", true, "hunter2", keydir.Found, ""},
		{"implicit, another's certificate", "ldaps", "else.example.org", false, "hunter2", keydir.Unavailable, "TLS certificate"},
		{"StartTLS, another's certificate", "ldap", "else.example.org", true, "hunter2", keydir.Unavailable, "TLS certificate"},
		{"no StartTLS", "ldap", "ldap.example.org", false, "hunter2", keydir.Unavailable, "TLS certificate"},
		{"a wrong password", "ldaps", "ldap.example.org", false, "guess", keydir.Unavailable, "refuses the login"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := &organisation{entries: []map[string]string{{"pgpKey": k.Certificate().Armored()}}, password: "hunter2"}
			proxy, err := net.Listen("tcp", "127.0.0.1:0") // leads the name to the server
			if err != nil {
				t.Fatal(err)
			}
			defer proxy.Close()
			w := newWorld(t, o.of(tt.scheme), func(c *keydir.Config) {
				c.LDAP[0].URL, c.Proxy = tt.scheme+"://ldap.example.org", "socks5://"+proxy.Addr().String()
				c.LDAP[0].BindDN, c.LDAP[0].Password = "cn=reader", tt.login
			})
			cert := w.ca.issue(tt.host, start)
			var over *tls.Config
			switch {
			case tt.start:
				o.cert = &cert
			case tt.scheme == "ldaps":
				over = &tls.Config{Certificates: []tls.Certificate{cert}}
			}
			o.listen(t, over)
			w.lead("ldap.example.org", o.addr)
			go socks(proxy, w)
			f := w.find(bob)
			if f.Outcome != tt.want || !strings.Contains(f.Detail, tt.says) {
				t.Errorf("%q (%s), want %q (%s)", f.Outcome, f.Detail, tt.want, tt.says)
			}
			if _, searched := o.told(); len(searched) > 0 && searched[0] != "tls" {
				t.Error("searched in clear")
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if strings.Contains(w.logged.String(), "hunter2") {
				t.Error("the password is logged")
			}
		})
	}
}

// Whose directory it is decides what its word is.
func TestLDAPWord(t *testing.T) {
	k, other := key(t, bob), key(t, bob)
	o := (&organisation{entries: []map[string]string{{"pgpKey": k.Certificate().Armored()}}}).listen(t, nil)

	w := newWorld(t, o.of("ldap", "wkd"))
	w.directory().set(200, other)
	w.finds("the organisation's word goes before the domain's", bob, keydir.Found, "", pgp.Organisation, k)

	w = newWorld(t, o.of("ldap"), func(c *keydir.Config) { c.LDAP[0].Domains = []string{"else.example"} })
	w.finds("of another organisation's addresses it isn't asked", bob, keydir.NoDirectory, "", pgp.Unknown)

	w = newWorld(t, o.of("ldap", "wkd"), func(c *keydir.Config) { c.LDAP[0].Domains, c.LDAP[0].Only = nil, false })
	w.web(advanced, advanced, status(404))
	w.finds("or asked as a third party", bob, keydir.Found, "", pgp.FirstSeen, k)

	before, _ := o.told()
	w.pass(2 * day)
	w.finds("which isn't told again whom we write to", bob, keydir.Found, "", pgp.FirstSeen, k)
	if after, _ := o.told(); len(after) != len(before) {
		t.Error("asked again")
	}
}

func TestLDAPConfig(t *testing.T) {
	w := newWorld(t)
	for name, l := range map[string]keydir.LDAP{
		"no scheme":           {URL: "ldap.example.org", Base: "dc=x"},
		"HTTP":                {URL: "https://ldap.example.org", Base: "dc=x"},
		"a password":          {URL: "ldaps://u:hunter2@ldap.example.org", Base: "dc=x"},
		"no base":             {URL: "ldaps://ldap.example.org"},
		"nobody's":            {URL: "ldaps://ldap.example.org", Base: "dc=x", Only: true},
		"a CA that isn't":     {URL: "ldaps://ldap.example.org", Base: "dc=x", CA: []byte("x")},
		"a domain that isn't": {URL: "ldaps://ldap.example.org", Base: "dc=x", Domains: []string{"a b"}},
	} {
		if err := w.Replace(keydir.Discovery{Sources: []string{"ldap"}, LDAP: []keydir.LDAP{l}}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
