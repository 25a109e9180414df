package keydir_test

import (
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// zones are signed as a domain's owner signs them, and served by NSD.
type zones struct {
	t      *testing.T
	dir    string
	conf   strings.Builder // NSD's
	root   strings.Builder // what the root delegates
	anchor string          // the root's key
}

const (
	zoneHead    = "%[1]s 60 IN SOA ns.root. nobody.root. 1 60 60 60 60\n%[1]s 60 IN NS ns.root.\n"
	nameServers = "127.0.0.2"
)

// key makes one that signs a zone, and gives its name and its DS record.
func (z *zones) key(origin string) (key, ds string) {
	z.t.Helper()
	cmd := exec.Command("ldns-keygen", "-a", "ECDSAP256SHA256", "-k", origin)
	cmd.Dir = z.dir
	out, err := cmd.Output()
	if err != nil {
		z.t.Fatalf("ldns-keygen: %v", err)
	}
	key = strings.TrimSpace(string(out))
	b, err := os.ReadFile(filepath.Join(z.dir, key+".ds"))
	if err != nil {
		z.t.Fatal(err)
	}
	return key, string(b)
}

// add serves a zone. It is signed with key, as sign says further, unless key is
// empty, and then changed by damage unless that is nil.
func (z *zones) add(origin, records, key string, damage func(string) string, sign ...string) {
	z.t.Helper()
	file := filepath.Join(z.dir, "zone-"+strings.Trim(origin, "."))
	z.write(file, fmt.Sprintf(zoneHead, origin)+records)
	if key != "" {
		cmd := exec.Command("ldns-signzone", append(sign, "-o", origin, "-f", file+".signed", file, key)...)
		cmd.Dir = z.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			z.t.Fatalf("ldns-signzone %s: %v\n%s", origin, err, out)
		}
		file += ".signed"
	}
	if damage != nil {
		b, err := os.ReadFile(file)
		if err != nil {
			z.t.Fatal(err)
		}
		after := damage(string(b))
		if after == string(b) {
			z.t.Fatalf("%s is not damaged:\n%s", origin, b)
		}
		z.write(file, after)
	}
	fmt.Fprintf(&z.conf, "zone:\nname: %q\nzonefile: %q\n", origin, file)
}

func (z *zones) write(file, text string) {
	z.t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		z.t.Fatal(err)
	}
}

// child adds a zone beneath the root, which vouches for its key.
func (z *zones) child(origin, records string, damage func(string) string, sign ...string) {
	z.t.Helper()
	key, ds := z.key(origin)
	fmt.Fprintf(&z.root, "%s 60 IN NS ns.root.\n%s", origin, ds)
	z.add(origin, records, key, damage, sign...)
}

// serve starts NSD, once every zone is there.
func (z *zones) serve(i *peer.Island) {
	z.t.Helper()
	key, ds := z.key(".")
	z.anchor = filepath.Join(z.dir, "anchor")
	z.write(z.anchor, ds)
	z.add(".", "ns.root. 60 IN A "+nameServers+"\n"+z.root.String(), key, nil)
	z.write(filepath.Join(z.dir, "hints"), ". 60 IN NS ns.root.\nns.root. 60 IN A "+nameServers+"\n")
	conf := filepath.Join(z.dir, "nsd.conf")
	z.write(conf, fmt.Sprintf("server:\nip-address: %s\nusername: \"\"\nzonesdir: %[2]q\ndatabase: \"\"\npidfile: \"\"\nxfrdfile: %[2]q\nzonelistfile: %[3]q\nserver-count: 1\nremote-control:\ncontrol-enable: no\n%s",
		nameServers, z.dir, filepath.Join(z.dir, "zonelist"), z.conf.String()))
	i.Start("nsd", nameServers+":53", "nsd", "-d", "-c", conf)
}

// record is an OPENPGPKEY record for each key.
func record(a address.Address, keys ...*pgp.Key) string {
	var b strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&b, "%s. 60 IN TYPE61 \\# %d %x\n", keydir.DANEName(a), len(k.Certificate().Bytes()), k.Certificate().Bytes())
	}
	return b.String()
}

// instead has a zone say what is another key's, under the same signatures.
func instead(was, is *pgp.Key) func(string) string {
	text := func(k *pgp.Key) string { return base64.StdEncoding.EncodeToString(k.Certificate().Bytes()) }
	return func(zone string) string { return strings.Replace(zone, text(was), text(is), 1) }
}

// DNS as it is: a signed root and what it delegates, a resolver that validates,
// and others.
func TestDANEByUnbound(t *testing.T) {
	peer.Require(t, "unbound", "nsd", "ldns-keygen", "ldns-signzone")
	peer.OnIsland(t, func(i *peer.Island) {
		z := &zones{t: t, dir: i.Dir}
		at := func(domain string) address.Address { return address.Address{Local: "bob", Domain: domain} }
		carolAt := func(domain string) address.Address { return address.Address{Local: "carol", Domain: domain} }
		keys := map[string]*pgp.Key{}
		of := func(a address.Address) *pgp.Key {
			k := key(t, a)
			keys[a.Domain] = k
			return k
		}
		z.child("signed.example.", record(at("signed.example"), of(at("signed.example"))), nil)
		z.child("nsec3.example.", record(at("nsec3.example"), of(at("nsec3.example"))), nil, "-n", "-t", "0")
		z.child("optout.example.", record(at("optout.example"), of(at("optout.example"))), nil, "-n", "-p", "-t", "0")
		many := of(at("many.example"))
		z.child("many.example.", record(at("many.example"), many, key(t, at("many.example")), key(t, at("many.example"))), nil)
		alias := key(t, at("alias.example"))
		z.child("alias.example.", keydir.DANEName(at("alias.example"))+". 60 IN CNAME there.keys.example.\n", nil)
		z.child("keys.example.", strings.Replace(record(at("alias.example"), alias), keydir.DANEName(at("alias.example")), "there.keys.example", 1), nil)
		z.child("leaves.example.", keydir.DANEName(at("leaves.example"))+". 60 IN CNAME there.plain.example.\n", nil)
		plain := of(at("plain.example"))
		fmt.Fprint(&z.root, "plain.example. 60 IN NS ns.root.\n") // and no DS
		z.add("plain.example.", record(at("plain.example"), plain)+strings.Replace(record(at("leaves.example"), key(t, at("leaves.example"))), keydir.DANEName(at("leaves.example")), "there.plain.example", 1), "", nil)
		z.child("forged.example.", record(at("forged.example"), of(at("forged.example"))), instead(keys["forged.example"], key(t, at("forged.example"))))
		z.child("expired.example.", record(at("expired.example"), of(at("expired.example"))), nil, "-i", "20200101", "-e", "20200201")
		_, strange := z.key("rekeyed.example.")
		other, _ := z.key("rekeyed.example.")
		fmt.Fprintf(&z.root, "rekeyed.example. 60 IN NS ns.root.\n%s", strange)
		z.add("rekeyed.example.", record(at("rekeyed.example"), of(at("rekeyed.example"))), other, nil)
		_, stripped := z.key("stripped.example.")
		fmt.Fprintf(&z.root, "stripped.example. 60 IN NS ns.root.\n%s", stripped)
		z.add("stripped.example.", record(at("stripped.example"), of(at("stripped.example"))), "", nil)
		z.serve(i)

		validates := fmt.Sprintf("root-hints: %q\ntrust-anchor-file: %q\n", filepath.Join(i.Dir, "hints"), z.anchor)
		i.Unbound("127.0.0.1", validates, "")
		i.Unbound("127.0.0.3", fmt.Sprintf("module-config: \"iterator\"\nroot-hints: %q\n", filepath.Join(i.Dir, "hints")), "")
		i.Unbound("203.0.113.53", validates+"do-udp: no\ntcp-upstream: yes\n", "")
		asked := forger(t, "203.0.113.53:53", at("plain.example"), plain)

		resolver := func(addr string) *world {
			t.Helper()
			return newWorld(t, dane(addr), func(c *keydir.Config) { c.Network = keydir.Network{Timeout: time.Minute} })
		}
		for _, tt := range []struct {
			name string
			a    address.Address
			want keydir.Outcome
			says string
			key  *pgp.Key
		}{
			{"signed", at("signed.example"), keydir.Found, "", keys["signed.example"]},
			{"signed, with hashed denial", at("nsec3.example"), keydir.Found, "", keys["nsec3.example"]},
			{"signed, in a zone that leaves room for unsigned ones", at("optout.example"), keydir.Found, "", keys["optout.example"]},
			{"denied where an unsigned zone could be (RFC 5155, Section 6)", carolAt("optout.example"), keydir.NoDirectory, "has no OPENPGPKEY record is not signed", nil},
			{"too long for a datagram", at("many.example"), keydir.Found, "", nil},
			{"an alias into another signed zone", at("alias.example"), keydir.Found, "", alias},
			{"denied by NSEC", carolAt("signed.example"), keydir.Absent, "denies", nil},
			{"denied by NSEC3", carolAt("nsec3.example"), keydir.Absent, "denies", nil},
			{"a domain that the root denies", at("nowhere.example"), keydir.Absent, "denies", nil},
			{"an unsigned zone's record", at("plain.example"), keydir.NoDirectory, "counts for nothing", nil},
			{"an unsigned zone's denial", carolAt("plain.example"), keydir.NoDirectory, "is not signed", nil},
			{"an alias into an unsigned zone", at("leaves.example"), keydir.NoDirectory, "counts for nothing", nil},
			{"a record changed after it was signed", at("forged.example"), keydir.Unavailable, "resolve or validate", nil},
			{"signatures that ran out", at("expired.example"), keydir.Unavailable, "resolve or validate", nil},
			{"a denial in a zone whose signatures ran out", carolAt("expired.example"), keydir.Unavailable, "resolve or validate", nil},
			{"signed with a key that the parent doesn't vouch for", at("rekeyed.example"), keydir.Unavailable, "resolve or validate", nil},
			{"signatures taken out on the way", at("stripped.example"), keydir.Unavailable, "resolve or validate", nil},
			{"signatures taken out, and denied", carolAt("stripped.example"), keydir.Unavailable, "resolve or validate", nil},
		} {
			t.Run(tt.name, func(t *testing.T) {
				for _, addr := range []string{"127.0.0.1:53", "203.0.113.53:53"} {
					f := resolver(addr).find(tt.a)
					if f.Outcome != tt.want || !strings.Contains(f.Detail, tt.says) {
						t.Errorf("by %s: %q (%s), want %q (%s)", addr, f.Outcome, f.Detail, tt.want, tt.says)
					}
					if tt.key != nil && (len(f.Certificates) != 1 || f.Certificates[0].Fingerprint() != tt.key.Fingerprint() || f.Identity != pgp.Directory || f.Source != "dane") {
						t.Errorf("by %s: %+v", addr, f)
					}
				}
				if f := resolver("127.0.0.3:53").find(tt.a); f.Outcome != keydir.Unavailable || !strings.Contains(f.Detail, "does not validate") {
					t.Errorf("by a resolver that does not validate: %q (%s)", f.Outcome, f.Detail)
				}
			})
		}
		if n := asked.Load(); n != 0 {
			t.Errorf("%d datagrams went where anybody could answer them", n)
		}

		// Where no resolver is named, the system's, if nobody stands between.
		i.ResolvConf("nameserver 127.0.0.1\n")
		if f := resolver("").find(at("signed.example")); f.Outcome != keydir.Found {
			t.Errorf("by the system's: %q (%s)", f.Outcome, f.Detail)
		}
		i.ResolvConf("nameserver 203.0.113.53\n")
		if err := newWorld(t).Replace(keydir.Discovery{Sources: []string{"dane"}}); err == nil || !strings.Contains(err.Error(), "discovery.resolver") {
			t.Errorf("the system's resolver is elsewhere, and believed: %v", err)
		}
	}, "203.0.113.53/32")
}

// forger answers datagrams with a record, and says that it validated it. It counts
// them.
func forger(t *testing.T, at string, a address.Address, k *pgp.Key) *atomic.Int64 {
	t.Helper()
	c, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	n := new(atomic.Int64)
	go func() {
		b := make([]byte, 4096)
		for {
			size, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			n.Add(1)
			var m dnsmessage.Message
			if m.Unpack(b[:size]) != nil {
				continue
			}
			m.Response, m.AuthenticData, m.Additionals = true, true, nil
			m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60},
				Body: &dnsmessage.UnknownResource{Type: 61, Data: k.Certificate().Bytes()}}}
			if out, err := m.Pack(); err == nil {
				c.WriteTo(out, from)
			}
		}
	}()
	return n
}
