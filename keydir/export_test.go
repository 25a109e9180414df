package keydir

import (
	"context"

	"golang.org/x/net/dns/dnsmessage"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// What tests outside the package see of its inside.

var CheckControl = checkControl

func ParseAutocrypt(value string) (address.Address, *pgp.Certificate, error) {
	h, err := parseAutocrypt(value)
	return h.addr, h.cert, err
}

func ParseAnswer(body []byte, a address.Address) (Outcome, []*pgp.Certificate) {
	ans := fetched{body: body}.answer(a)
	return ans.outcome, ans.certs
}

// SlowReader reads the cache's state, lets write happen, and tells whether what
// it then puts in is kept.
func SlowReader(write func(forget func())) (kept bool) {
	c := newCache(2)
	_, state := c.peer("bob")
	write(func() { c.forget("bob") })
	c.put(&cached{key: "bob", peer: newPeer(address.Address{})}, state)
	p, _ := c.peer("bob")
	return p != nil
}

// CacheSize is how many of n peers a cache for two keeps.
func CacheSize(n int) int {
	c := newCache(2)
	for i := range n {
		c.put(&cached{key: string(rune('a' + i)), peer: newPeer(address.Address{})}, 0)
	}
	return len(c.entries)
}

func SystemResolver(file string) (string, error) {
	s, err := newNameServer("", file)
	if err != nil {
		return "", err
	}
	return s.addr.String(), nil
}

func ParseDNS(b []byte, id uint16, q dnsmessage.Question) (records [][]byte, authentic bool, err error) {
	r, err := parseDNS(b, id, q)
	return r.records, r.authentic, err
}

// SuspectGossip is what gossip about an address does for alarms.
func (r *Resolver) SuspectGossip(ctx context.Context, a address.Address, c *pgp.Certificate, o Observation) error {
	return r.suspectGossip(ctx, a, c, o)
}

// Vouched tells whether our own mail server, whose name is authserv, vouches for a
// message.
func Vouched(authserv string, from address.Address, results ...string) bool {
	return Observation{From: from, Authserv: authserv, Results: results}.vouched()
}

// KeepUnused bounds the rows that received mail makes, looked at after each.
func (r *Resolver) KeepUnused(n int) { r.maxUnused, r.pruneEvery = n, 1 }

// Settle waits for what is asked in the background.
func (r *Resolver) Settle() { r.wait.Wait() }

// Panics has every source panic over its answer from now on, or what comes of the
// answers.
func (r *Resolver) Panics(sources bool) {
	if !sources {
		r.flights.slots = make(chan struct{})
		close(r.flights.slots) // taking one panics
		return
	}
	d := r.asked()
	for i := range d.sources {
		d.sources[i] = panicking{d.sources[i]}
	}
}

type panicking struct{ source }

func (panicking) lookup(context.Context, question) (answer, []Attempt) { panic("hostile bytes") }
