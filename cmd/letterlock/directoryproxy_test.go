package main_test

import (
	"net"
	"sync/atomic"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

// blindfold is a name server that fails, and counts who asks it; by it a
// searcher finds nothing by itself.
func blindfold(t *testing.T) *atomic.Int64 {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.9:53")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	asked := new(atomic.Int64)
	go func() {
		for b := make([]byte, 512); ; {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			asked.Add(1)
			if n > 3 {
				b[2], b[3] = b[2]|0x80, 2 // SERVFAIL
				c.WriteTo(b[:n], from)
			}
		}
	}()
	return asked
}

// blind is a searcher behind a proxy, and blindfolded.
func (p *portal) blind(name, proxy, more string) *searcher {
	p.t.Helper()
	s := newSearcher(p.t, p.world, name, "proxy = \""+proxy+"\"\n"+more)
	s.in = []string{"unshare", "-m", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, p.file("blindfold", "nameserver 127.0.0.9\n")}
	return s
}

const dantedConf = `logoutput: stderr
internal: 127.0.0.1 port = 1081
external: lo
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: root
client pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }
socks pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }
`

// Look-ups go through SOCKS5 proxies, and the names with them. These proxies don't
// tell a name that does not exist from a host that is down.
func TestFindsByProxy(t *testing.T) {
	peer.Require(t, "unbound", "unshare", "microsocks", "danted")
	peer.OnIsland(t, func(i *peer.Island) {
		p := newPortal(t, i)
		asked := blindfold(t)
		i.Start("microsocks", "127.0.0.1:1080", "microsocks", "-i", "127.0.0.1", "-p", "1080", "-u", "ann", "-P", "s3cret:/")
		i.Start("danted", "127.0.0.1:1081", "danted", "-f", i.File("danted.conf", dantedConf))
		for name, proxy := range map[string]string{"microsocks": "socks5://ann:s3cret%3A%2F@127.0.0.1:1080", "danted": "socks5://127.0.0.1:1081"} {
			s := p.blind(name, proxy, "")
			s.finds("joe@example.org", "found", "wkd-advanced", "", p.joe)
			s.finds("nobody@example.org", "absent", "wkd-advanced", "answered 404", nil)
			s.finds("nobody@example.net", "unavailable", "wkd-direct", "answered 404", nil)
			s.finds("ann@example.net", "found", "wkd-direct", "", p.ann)
			s.finds("joe@nowhere.example", "unavailable", "wkd-direct", "the proxy could not connect", nil)
			for _, source := range []string{"vks", "hkp"} {
				s := p.blind(name+source, proxy, "sources = [\""+source+"\"]\nvks = [\"https://keys.example.org\"]\nhkp = [\"hkps://keys.example.org\"]\n")
				s.finds("ann@example.net", "found", source, "", nil)
				s.finds("nobody@example.net", "no-directory", source, "", nil)
			}
		}
		for name, proxy := range map[string]string{"wrong": "socks5://ann:guess@127.0.0.1:1080", "nameless": "socks5://127.0.0.1:1080", "down": "socks5://127.0.0.1:1082"} {
			p.blind(name, proxy, "").finds("joe@example.org", "unavailable", "wkd-direct", "the proxy could not connect", nil)
		}
		if n := asked.Load(); n != 0 {
			t.Errorf("%d names went to a name server and not to the proxy", n)
		}
		p.blind("itself", "", "").finds("joe@example.org", "unavailable", "wkd-advanced", "could not be resolved", nil)
		if asked.Load() == 0 {
			t.Error("without a proxy nobody is asked: the blindfold proves nothing")
		}
	}, portalAddress+"/32")
}
