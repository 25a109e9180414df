package smtpd

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/mishap"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/policy"
)

// Bounds on RCPTs that are settled together: how many, and how many of their
// certificates are looked up at one time; and how many times MaxRecipients may be
// named in one transaction, those who were refused included.
const (
	maxNominees = 100
	maxFinding  = 8
	maxNamed    = 4
)

// nominee is a RCPT that waits for its reply. Those that a client sends in one go
// (RFC 2920) wait for each other, so that their certificates are looked up at one
// time and the upstream is asked in one flight. Their replies keep their order.
type nominee struct {
	recipient
	reply   error // nil as long as nothing is decided
	taken   bool  // with reply, which is a 250 then
	finding keydir.Finding
	err     error // of looking for the certificate
	// considered: recipient.named is set.
	considered bool
}

// nominate has a RCPT wait, and settles all that wait unless the client's next
// line is there already and is one more.
func (s *session) nominate(args string) {
	r, reply := s.recipient(args)
	again := func(o nominee) bool { return o.reply == nil && o.address.Equal(r.address) }
	if reply == nil && slices.ContainsFunc(s.nominees, again) {
		s.elect() // whoever is named twice is asked once
		r, reply = s.recipient(args)
	}
	s.nominees = append(s.nominees, nominee{recipient: r, reply: reply})
	next := s.conn.in.Peek()
	if len(next) < 5 || !bytes.EqualFold(next[:5], []byte("RCPT ")) || len(s.nominees) >= maxNominees ||
		s.env != nil && len(s.env.rcpts)+len(s.nominees) >= s.server.c.MaxRecipients {
		s.elect()
	}
}

// elect settles the RCPTs that wait, and answers them.
func (s *session) elect() {
	ns := s.nominees
	s.nominees = nil
	s.find(ns)
	var asked []*nominee
	for i := range ns {
		n := &ns[i]
		if n.reply == nil {
			n.reply = s.consider(n)
		}
		if n.reply == nil {
			asked = append(asked, n)
		}
	}
	s.probe(asked)
	for _, n := range ns {
		s.asked(&n)
		if n.taken {
			s.env.rcpts = append(s.env.rcpts, n.recipient)
		}
	}
	for _, n := range ns {
		if !s.over {
			s.say(n.reply)
		}
	}
}

// find looks up the certificates of those about whom nothing is decided.
func (s *session) find(ns []nominee) {
	if len(ns) == 1 {
		s.findFor(&ns[0])
		return
	}
	next := make(chan *nominee)
	var all sync.WaitGroup
	for range min(maxFinding, len(ns)) {
		all.Go(func() {
			for n := range next {
				s.findFor(n)
			}
		})
	}
	for i := range ns {
		next <- &ns[i]
	}
	close(next)
	all.Wait()
}

// findFor may run concurrently with itself. A panic is this recipient's error.
func (s *session) findFor(n *nominee) {
	if n.reply != nil {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			n.err = errors.New(mishap.Text(p))
		}
	}()
	n.finding, n.err = s.finding(n.address)
}

// finding asks for the recipient's certificate.
func (s *session) finding(a address.Address) (keydir.Finding, error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.server.c.Timeouts.Find)
	defer cancel()
	return s.account.Find.Find(ctx, a)
}

// consider asks the rules about a recipient; nil leaves him to the upstream.
func (s *session) consider(n *nominee) error {
	if n.err != nil {
		// His copy may yet be sealed, in another transaction: he counts as deferred.
		s.name(n, policy.Decision{Recipient: n.address, Action: policy.Defer})
		return s.fault("looking for a certificate", n.err)
	}
	d := s.account.Rules().Recipient(s.sender(), n.finding)
	s.name(n, d)
	if err := s.denied(d); err != nil {
		return err
	}
	if d.Action == policy.Hold { // it isn't sent now
		n.take()
	}
	return n.reply
}

// name notes what is decided about a recipient.
func (s *session) name(n *nominee, d policy.Decision) {
	at := slices.IndexFunc(s.env.named, func(o policy.Decision) bool { return o.Recipient == n.address })
	if at < 0 {
		at = len(s.env.named)
		s.env.named = append(s.env.named, d)
	}
	s.env.named[at], n.named, n.considered = d, at, true // a second try counts
}

func (n *nominee) take() { n.reply, n.taken = accepted(), true }

// accepted is the reply about a recipient who gets the message.
func accepted() error { return answer(250, "2.1.5", "ok") }
