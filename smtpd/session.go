package smtpd

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/policy"
)

// backend makes the sessions of one connection: one, and another after STARTTLS.
type backend struct {
	server   *Server
	listener Listener
	guard    *guard
	logins   int // that failed
	last     *session
}

// NewSession implements smtp.Backend.
func (b *backend) NewSession(c *smtp.Conn) (smtp.Session, error) {
	b.end()
	s := &session{backend: b, server: b.server, listener: b.listener, guard: b.guard, conn: c, ctx: b.server.ctx}
	s.log = b.server.c.Logger.With("session", c.Conn().RemoteAddr().String())
	b.last = s
	return s, nil
}

// end frees what the last session holds.
func (b *backend) end() {
	if b.last != nil {
		b.last.Logout()
	}
}

// session is one client after EHLO. go-smtp calls it from one goroutine, but
// for BDAT, where Reset may come while Data runs: mu keeps them apart.
type session struct {
	*backend
	server   *Server
	listener Listener
	guard    *guard
	conn     *smtp.Conn
	ctx      context.Context
	log      *slog.Logger

	mu      sync.Mutex
	account *Account  // nil before AUTH
	up      *client   // our upstream connection, nil without
	env     *envelope // nil outside a transaction
	ended   bool      // nothing more is accepted on this connection
}

// envelope is the transaction that the client builds.
type envelope struct {
	from    address.Address // zero for the null reverse-path
	opts    smtp.MailOptions
	started time.Time
	rcpts   []recipient       // those we answered 250
	named   []policy.Decision // of every recipient that was named, in order
	// probe are the keys of the recipients that the open transaction of
	// session.up has taken; nil if none is open.
	probe []string
}

// recipient is one envelope recipient.
type recipient struct {
	address       address.Address
	notify, orcpt string // RFC 3461
	named         int    // its decision in envelope.named
}

// Reset implements smtp.Session.
func (s *session) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reset()
}

func (s *session) reset() {
	if s.env != nil {
		s.env = nil
		s.server.working(s.guard, false)
	}
}

// Logout implements smtp.Session.
func (s *session) Logout() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reset()
	if s.up != nil {
		s.server.pool.put(s.account.Upstream, s.up)
		s.up = nil
	}
	return nil
}

// Mail implements smtp.Session: who may send as whom (RFC 6409, Section 6.1).
func (s *session) Mail(from string, opts *smtp.MailOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.account == nil && !s.trusted() {
		return permanent(530, "5.7.0", "log in first")
	}
	if s.ended {
		return answer(421, "4.3.0", "connect again, please")
	}
	if s.env != nil { // RFC 5321, Section 4.1.4
		return permanent(503, "5.5.1", "MAIL was given already; RSET first")
	}
	env := &envelope{opts: *opts, started: s.server.c.Now()}
	if from != "" {
		a, err := pathAddress(from)
		if err != nil {
			return permanent(553, "5.1.7", "that is no mail address")
		}
		if !asciiOnly(from) && !opts.UTF8 { // RFC 6531, Section 3.5
			return permanent(553, "5.6.7", "an address beyond ASCII needs SMTPUTF8")
		}
		if !s.account.anySender() && !s.account.has(a) {
			return s.notOurs(a)
		}
		env.from = a
	}
	s.env = env
	s.server.working(s.guard, true)
	return nil
}

// notOurs refuses a sender address that the account does not have.
func (s *session) notOurs(a address.Address) error {
	s.log.Info("submission", "outcome", "refused", "reason", "foreign sender address")
	s.server.c.Count("refused")
	return permanent(550, "5.7.1", fmt.Sprintf("this account may not send as %s; add it to aliases of %s in the configuration", a, s.account.Addresses[0]))
}

// Rcpt implements smtp.Session: the policy decides, then the upstream is asked.
func (s *session) Rcpt(to string, opts *smtp.RcptOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.account == nil || s.env == nil {
		return permanent(503, "5.5.1", "MAIL first")
	}
	a, err := pathAddress(to)
	if err != nil {
		return permanent(553, "5.1.3", "that is no mail address")
	}
	if !asciiOnly(to) && !s.env.opts.UTF8 {
		return permanent(553, "5.6.7", "an address beyond ASCII needs SMTPUTF8")
	}
	for _, r := range s.env.rcpts {
		if r.address == a { // it gets one copy
			return nil
		}
	}
	d, err := s.decide(a)
	if err != nil {
		return s.fault("looking for a certificate", err)
	}
	at := slices.IndexFunc(s.env.named, func(o policy.Decision) bool { return o.Recipient == a })
	if at < 0 {
		at = len(s.env.named)
		s.env.named = append(s.env.named, d)
	}
	s.env.named[at] = d // a second try counts
	if err := s.denied(d); err != nil {
		return err
	}
	r := recipient{address: a, notify: notify(opts.Notify), orcpt: orcpt(opts), named: at}
	if err := s.probe(r); err != nil {
		return err
	}
	s.env.rcpts = append(s.env.rcpts, r)
	return nil
}

// decide asks for the recipient's certificate and the rules.
func (s *session) decide(a address.Address) (policy.Decision, error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.server.c.Timeouts.Find)
	defer cancel()
	f, err := s.account.Find.Find(ctx, a)
	if err != nil {
		return policy.Decision{}, err
	}
	return s.account.Rules().Recipient(s.sender(), f), nil
}

// sender is whom the rules take as author: the null reverse-path has none.
func (s *session) sender() address.Address {
	if s.env.from.IsZero() {
		return s.account.Addresses[0]
	}
	return s.env.from
}

// denied is the reply to a decision that lets nothing go, or nil.
func (s *session) denied(d policy.Decision) error {
	switch d.Action {
	case policy.Encrypt, policy.SignOnly, policy.SendClear, policy.PassSealed:
		return nil
	case policy.Defer, policy.Hold:
		s.server.c.Count("deferred")
		s.log.Info("submission", "outcome", "deferred", "recipient", d.Recipient.String(), "reason", d.Reason)
		return temporary("4.4.3", d.Reason+". "+d.Hint)
	}
	s.server.c.Count("refused")
	s.log.Info("submission", "outcome", "refused", "recipient", d.Recipient.String(), "reason", d.Reason)
	return permanent(550, "5.7.1", d.Reason+". "+d.Hint)
}
