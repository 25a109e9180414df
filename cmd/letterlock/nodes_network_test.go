package main_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

// TestNodesAcrossANetworkThatFails is TestNodesUnderFire with two relays and a
// PostgreSQL on hosts of their own (network namespaces): links go down, or lose
// every packet in one direction or both, so that neither side is told and
// connections stay half open, with the locks of their transactions; for longer
// than a lease too, and while somebody is killed.
func TestNodesAcrossANetworkThatFails(t *testing.T) {
	t.Parallel()
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

// TestANodeWithoutItsDatabaseHasMailWait: a node that is cut off from the database
// answers 4xx to the message, in less time than a client waits (RFC 5321, Section
// 4.5.3.2.6: ten minutes); nothing leaves, and the next message goes when the
// network is there again.
func TestANodeWithoutItsDatabaseHasMailWait(t *testing.T) {
	if testing.Short() || *nodeBlows < 10 {
		t.Skip("waits two minutes for a network that is cut; -nodeblows 10 has it run")
	}
	home, host := peer.NewHost(t), peer.NewHost(t)
	f := newFire(t, peer.PostgresOn(t, home), *nodeSeed)
	link := peer.Join(home, host, 1)
	for _, addr := range []string{f.sink.Addr, f.w.keydir.ready[0].Listen} {
		host.Offer(addr)
	}
	b := f.node("127.0.0.1:2525", strings.Replace(f.db.Fresh(), "127.0.0.1", link.Near, 1)+"&sslmode=verify-ca&sslrootcert="+f.db.CA)
	b.start = host.Start
	b.serve(1)
	at := host.Reach("127.0.0.1:2525").Addr
	send := func(id string) error {
		c, err := smtp.Dial(at)
		if err != nil {
			return err
		}
		defer c.Close()
		c.CommandTimeout, c.SubmissionTimeout = 5*time.Minute, 10*time.Minute
		return c.SendMail("ann@example.org", []string{known}, strings.NewReader(string(relayMail("ann@example.org", known, "Message-ID: <"+id+"@example.org>\n"))))
	}
	if err := send("1"); err != nil {
		t.Fatal(err)
	}
	link.Drop(true, true)
	start := time.Now()
	err := send("2")
	var r *smtp.SMTPError
	if !errors.As(err, &r) || r.Code/100 != 4 || len(f.sink.Received()) != 1 {
		t.Errorf("cut off, a message is answered with %v; %d have left", err, len(f.sink.Received()))
	}
	t.Logf("answered after %v: %v", time.Since(start), err)
	link.Heal()
	start = time.Now()
	for ; send("2") != nil; time.Sleep(200 * time.Millisecond) {
		if time.Since(start) > 2*time.Minute {
			t.Fatal("the network is there again, and mail still has to wait")
		}
	}
	t.Logf("and taken %v after the network was there again", time.Since(start))
	if n := len(f.sink.Await(t, 2)); n != 2 {
		t.Errorf("%d messages left", n)
	}
	f.w.stop()
}
