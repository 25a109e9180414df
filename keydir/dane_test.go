package keydir_test

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// zone is a name server, by UDP and TCP on one port of 127.0.0.1.
type zone struct {
	t  *testing.T
	mu sync.Mutex // guards everything below

	records   map[string][][]byte // OPENPGPKEY by name
	aliases   map[string]string
	signed    bool             // the zone, so that its answers are authentic
	validates bool             // the resolver
	code      dnsmessage.RCode // for what is asked of the zone; 0 answers
	fault     func(network string, reply []byte) []byte
	asked     []string // "udp name"
}

// newZone starts a name server that is set up so.
func newZone(t *testing.T, set ...func(*zone)) (z *zone, addr string) {
	t.Helper()
	z = &zone{t: t, records: map[string][][]byte{}, aliases: map[string]string{}, signed: true, validates: true}
	for _, f := range set {
		f(z)
	}
	for range 20 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err != nil {
			tcp.Close()
			continue
		}
		t.Cleanup(func() { tcp.Close(); udp.Close() })
		go z.datagrams(udp)
		go z.streams(tcp)
		return z, tcp.Addr().String()
	}
	t.Fatal("no port for both")
	return nil, ""
}

func (z *zone) set(f func()) {
	z.mu.Lock()
	defer z.mu.Unlock()
	f()
}

func (z *zone) add(name string, keys ...*pgp.Key) {
	z.set(func() {
		for _, k := range keys {
			z.records[name] = append(z.records[name], k.Certificate().Bytes())
		}
	})
}

func (z *zone) datagrams(c net.PacketConn) {
	b := make([]byte, 4096)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		if reply := z.answer("udp", b[:n]); reply != nil {
			c.WriteTo(reply, from)
		}
	}
}

func (z *zone) streams(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			var n [2]byte
			io.ReadFull(c, n[:])
			b := make([]byte, binary.BigEndian.Uint16(n[:]))
			io.ReadFull(c, b)
			if reply := z.answer("tcp", b); reply != nil {
				c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
			}
		}()
	}
}

func (z *zone) answer(network string, query []byte) []byte {
	z.mu.Lock()
	defer z.mu.Unlock()
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || !m.AuthenticData || len(m.Additionals) != 1 {
		z.t.Errorf("query %x: %v, AD %v, %d additional records", query, err, m.AuthenticData, len(m.Additionals))
		return nil
	}
	q := m.Questions[0]
	name := strings.TrimSuffix(q.Name.String(), ".")
	z.asked = append(z.asked, network+" "+name)
	reply := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true, AuthenticData: z.validates && (z.signed || name == "")}, Questions: m.Questions}
	if name != "" {
		reply.RCode = z.code
		at := name
		for range 3 {
			if to, ok := z.aliases[at]; ok {
				reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(at + "."), Type: dnsmessage.TypeCNAME, Class: dnsmessage.ClassINET},
					Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(to + ".")}})
				at = to
			}
		}
		for _, r := range z.records[at] {
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(at + "."), Class: dnsmessage.ClassINET},
				Body: &dnsmessage.UnknownResource{Type: 61, Data: r}})
		}
		if len(reply.Answers) == 0 && z.code == 0 {
			reply.RCode = dnsmessage.RCodeNameError
		}
	}
	b, err := reply.Pack()
	if err != nil {
		z.t.Error(err)
	}
	if network == "udp" && len(b) > 1232 {
		reply.Truncated, reply.Answers = true, nil
		b, _ = reply.Pack()
	}
	if z.fault != nil {
		b = z.fault(network, b)
	}
	return b
}

func (z *zone) queries() string {
	z.mu.Lock()
	defer z.mu.Unlock()
	return strings.Join(z.asked, "; ")
}

func dane(resolver string, sources ...string) func(*keydir.Config) {
	return func(c *keydir.Config) { c.Sources, c.Resolver = append(sources, "dane"), resolver }
}

// hugh's name is the example of RFC 7929, Section 3.
func TestDANEName(t *testing.T) {
	hugh := bob
	hugh.Local, hugh.Domain = "hugh", "example.com"
	if got, want := keydir.DANEName(hugh), "c93f1e400f26708f98cb19d936620da35eec8f72e57f9eec01c1afd6._openpgpkey.example.com"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestDANE(t *testing.T) {
	k, stranger := key(t, bob), key(t, carol)
	name := keydir.DANEName(bob)
	forged := func(network string, reply []byte) []byte { reply[0] ^= 1; return reply }
	tests := []struct {
		name string
		set  func(z *zone)
		want keydir.Outcome
		says string
	}{
		{"a record on a validated path", func(z *zone) { z.add(name, k) }, keydir.Found, ""},
		{"beside a stranger's", func(z *zone) { z.add(name, stranger, k) }, keydir.Found, ""},
		{"behind an alias", func(z *zone) { z.aliases[name] = "keys.example.net"; z.add("keys.example.net", k) }, keydir.Found, ""},
		{"a truncated datagram is asked for again by TCP", func(z *zone) { z.add(name, k, stranger, key(t, carol)) }, keydir.Found, ""},
		{"datagrams are lost", func(z *zone) {
			z.add(name, k)
			z.fault = func(network string, b []byte) []byte {
				if network == "udp" {
					return nil
				}
				return b
			}
		}, keydir.Found, ""},

		{"a validated denial", func(z *zone) {}, keydir.Absent, "denies"},
		{"a validated denial of that type", func(z *zone) { z.aliases[name] = "nothing.example.org" }, keydir.Absent, "denies"},

		{"the zone is not signed", func(z *zone) { z.signed = false }, keydir.NoDirectory, "is not signed"},
		{"a record that is not signed", func(z *zone) { z.signed = false; z.add(name, k) }, keydir.NoDirectory, "counts for nothing"},

		{"the resolver does not validate", func(z *zone) { z.validates = false; z.add(name, k) }, keydir.Unavailable, "does not validate"},
		{"the resolver does not validate, and denies", func(z *zone) { z.validates = false }, keydir.Unavailable, "does not validate"},
		{"validation fails", func(z *zone) { z.code = dnsmessage.RCodeServerFailure; z.add(name, k) }, keydir.Unavailable, "resolve or validate"},
		{"refused", func(z *zone) { z.code = dnsmessage.RCodeRefused }, keydir.Unavailable, "resolve or validate"},
		{"silence", func(z *zone) { z.fault = func(string, []byte) []byte { return nil } }, keydir.Unavailable, "did not answer"},
		{"answers to another question", func(z *zone) { z.add(name, k); z.fault = forged }, keydir.Unavailable, "did not answer"},
		{"answers about another name", func(z *zone) {
			z.add(name, k)
			z.fault = func(_ string, b []byte) []byte {
				b[13] ^= 2 // a letter of the question, and so of the answer that points to it
				return b
			}
		}, keydir.Unavailable, "did not answer"},
		{"garbage", func(z *zone) { z.fault = func(_ string, b []byte) []byte { return b[:len(b)/2] } }, keydir.Unavailable, "did not answer"},
		{"a record of somebody else only", func(z *zone) { z.add(name, stranger) }, keydir.Unavailable, "other addresses only"},
		{"a record that is none", func(z *zone) { z.records[name] = [][]byte{[]byte("none")} }, keydir.Unavailable, "no OpenPGP certificate"},
		{"a record at another name", func(z *zone) {
			z.add(name, k)
			z.fault = func(_ string, b []byte) []byte {
				var m dnsmessage.Message
				if m.Unpack(b) == nil && len(m.Answers) > 0 {
					m.Answers[0].Header.Name = dnsmessage.MustNewName("else.example.")
					b, _ = m.Pack()
				}
				return b
			}
		}, keydir.Absent, "denies"}, // the resolver validated that the name has none
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			z, addr := newZone(t, tt.set)
			w := newWorld(t, dane(addr), func(c *keydir.Config) { c.Network.Timeout = time.Minute })
			f := w.find(bob)
			if f.Outcome != tt.want || !strings.Contains(f.Detail, tt.says) {
				t.Errorf("%q (%s), want %q (%s); asked %s", f.Outcome, f.Detail, tt.want, tt.says, z.queries())
			}
			if f.Outcome == keydir.Found && (f.Identity != pgp.Directory || f.Source != "dane" || f.Certificates[0].Fingerprint() != k.Fingerprint()) {
				t.Errorf("%+v", f)
			}
		})
	}
}

// DANE and WKD are both the domain's word.
func TestDANEBesideWKD(t *testing.T) {
	k, other := key(t, bob), key(t, bob)
	name := keydir.DANEName(bob)
	wkds := map[string]func(w *world){
		"found":        func(w *world) { w.web(advanced, advanced, body("", k.Certificate().Bytes())) },
		"absent":       func(w *world) { w.web(advanced, advanced, status(404)) },
		"no-directory": func(w *world) { w.refuse(advanced) },
		"unavailable":  func(w *world) { w.web(advanced, advanced, status(503)) },
	}
	danes := map[string]func(z *zone){
		"found":        func(z *zone) { z.add(name, k) },
		"another":      func(z *zone) { z.add(name, other) },
		"absent":       func(z *zone) {},
		"no-directory": func(z *zone) { z.signed = false },
		"unavailable":  func(z *zone) { z.code = dnsmessage.RCodeServerFailure },
	}
	for _, tt := range []struct {
		wkd, dane string
		want      keydir.Outcome
		problem   string
	}{
		{"found", "found", keydir.Found, ""},
		{"found", "another", keydir.Found, keydir.ProblemConflict},
		{"found", "absent", keydir.Found, ""},
		{"found", "no-directory", keydir.Found, ""},
		{"found", "unavailable", keydir.Found, ""},
		{"absent", "found", keydir.Found, ""},
		{"absent", "absent", keydir.Absent, ""},
		{"absent", "no-directory", keydir.Absent, ""},
		{"absent", "unavailable", keydir.Unavailable, ""},
		{"no-directory", "found", keydir.Found, ""},
		{"no-directory", "absent", keydir.Absent, ""},
		{"no-directory", "no-directory", keydir.NoDirectory, ""},
		{"no-directory", "unavailable", keydir.Unavailable, ""},
		{"unavailable", "found", keydir.Found, ""},
		{"unavailable", "absent", keydir.Unavailable, ""},
		{"unavailable", "no-directory", keydir.Unavailable, ""},
		{"unavailable", "unavailable", keydir.Unavailable, ""},
	} {
		t.Run("wkd "+tt.wkd+", dane "+tt.dane, func(t *testing.T) {
			t.Parallel()
			_, addr := newZone(t, danes[tt.dane])
			w := newWorld(t, dane(addr, "wkd"))
			wkds[tt.wkd](w)
			f := w.find(bob)
			if f.Outcome != tt.want || f.Problem != tt.problem {
				t.Errorf("%q %q (%s), want %q %q", f.Outcome, f.Problem, f.Detail, tt.want, tt.problem)
			}
			if tt.want == keydir.Found && tt.problem == "" && f.Identity != pgp.Directory {
				t.Errorf("identity %q", f.Identity)
			}
		})
	}
}

// A zone that once had records and is not signed any more isn't one without.
func TestDANESeen(t *testing.T) {
	z, addr := newZone(t)
	z.add(keydir.DANEName(bob), key(t, bob))
	w := newWorld(t, dane(addr))
	w.find(bob)
	z.set(func() { z.signed = false })
	w.finds("another address of the domain", carol, keydir.Unavailable, "", pgp.Unknown)
}

func TestDANESpellings(t *testing.T) {
	z, addr := newZone(t)
	big := bob
	big.Local = "Bob"
	k := key(t, bob)
	z.add(keydir.DANEName(bob), k)
	w := newWorld(t, dane(addr))
	w.finds("spelled otherwise", big, keydir.Found, "", pgp.Directory, k)
	if got, want := z.queries(), "udp "+keydir.DANEName(big)+"; udp "+keydir.DANEName(bob); got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
}

// Whom to believe is never guessed.
func TestDANENeedsATrustedResolver(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{
		"nameserver 192.0.2.1\n":                       "",
		"nameserver 192.0.2.1\nnameserver 127.0.0.1\n": "",
		"# stub\nsearch x\nnameserver 127.0.0.53\n":    "127.0.0.53:53",
		"nameserver ::1\n":                             "[::1]:53",
		"":                                             "",
	} {
		file := filepath.Join(dir, "resolv.conf")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := keydir.SystemResolver(file)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
	w := newWorld(t)
	for _, d := range []keydir.Discovery{
		{Sources: []string{"dane"}, Resolver: "localhost:53"},
		{Sources: []string{"dane"}, Resolver: "127.0.0.1:53", Proxy: "socks5://127.0.0.1:9050"},
	} {
		if err := w.Replace(d); err == nil {
			t.Errorf("%+v is taken", d)
		}
	}
}

func FuzzDNS(f *testing.F) {
	q := dnsmessage.Question{Name: dnsmessage.MustNewName("x._openpgpkey.example.org."), Type: 61, Class: dnsmessage.ClassINET}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, Response: true, AuthenticData: true}, Questions: []dnsmessage.Question{q}}
	m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, Body: &dnsmessage.UnknownResource{Type: 61, Data: []byte("x")}}}
	b, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0, 7, 0x80, 0, 0, 1, 0, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		records, authentic, err := keydir.ParseDNS(b, 7, q)
		if err != nil && (len(records) > 0 || authentic) || len(records) > 64 {
			t.Errorf("%d records, authentic %v, %v", len(records), authentic, err)
		}
		if err == nil && (len(b) < 12 || b[1] != 7) {
			t.Error("taken though it answers something else")
		}
	})
}
