package main_test

import (
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

// TestNodesAcrossANetworkThatFails is TestNodesUnderFire with two relays and a
// PostgreSQL on hosts of their own (network namespaces): links go down, or lose
// every packet in one direction or both, so that neither side is told and
// connections stay half open, with the locks of their transactions; for longer
// than a lease too, and while somebody is killed.
func TestNodesAcrossANetworkThatFails(t *testing.T) {
	if testing.Short() {
		t.Skip("cuts networks for some seconds")
	}
	home := peer.NewHost(t)
	f := newFire(t, peer.PostgresOn(t, home), *nodeSeed)
	url := f.db.Fresh()
	var links []*peer.Link
	for i := range 2 {
		host := peer.NewHost(t)
		link := peer.Join(home, host, i+1)
		links = append(links, link)
		for _, addr := range []string{f.sink.Addr, f.w.keydir.ready[0].Listen} {
			host.Offer(addr)
		}
		b := f.node("127.0.0.1:2525", strings.Replace(url, "127.0.0.1", link.Near, 1)+"&sslmode=verify-ca&sslrootcert="+f.db.CA)
		b.start = host.Start
		b.serve(1)
		f.addrs = append(f.addrs, host.Reach("127.0.0.1:2525").Addr)
	}
	f.deeds = append(f.deaths(), f.linkCuts(links)...)
	f.burn(*nodeBlows)
}

// linkCuts are what befalls the links of nodes to the database.
func (f *fire) linkCuts(links []*peer.Link) (deeds []deed) {
	cuts := []struct {
		name string
		cut  func(*peer.Link)
	}{
		{"the database's end of a link is down", func(l *peer.Link) { l.Down(true) }},
		{"a node's end of its link is down", func(l *peer.Link) { l.Down(false) }},
		{"a node's packets are lost", func(l *peer.Link) { l.Drop(false, true) }},
		{"the database's packets are lost", func(l *peer.Link) { l.Drop(true, false) }},
		{"all packets are lost", func(l *peer.Link) { l.Drop(true, true) }},
	}
	for _, c := range cuts {
		deeds = append(deeds,
			deed{c.name + " for a while", func(i int, pause time.Duration) {
				c.cut(links[i])
				time.Sleep(pause)
				links[i].Heal()
			}},
			deed{c.name + " beyond its lease", func(i int, pause time.Duration) {
				c.cut(links[i])
				time.Sleep(takeover + 2*pause)
				links[i].Heal()
			}})
	}
	all := cuts[len(cuts)-1]
	return append(deeds,
		deed{all.name + ", and the node is killed", func(i int, pause time.Duration) {
			all.cut(links[i])
			time.Sleep(pause)
			f.nodes[i].kill()
			time.Sleep(takeover + pause) // its locks outlive it
			links[i].Heal()
			f.restart(i)
		}},
		deed{all.name + ", and the database is killed", func(i int, pause time.Duration) {
			all.cut(links[i])
			f.db.Crash()
			f.db.Start()
			time.Sleep(pause)
			links[i].Heal()
		}})
}
