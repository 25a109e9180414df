package smtpd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd/wire"
)

// session is one client. Only its own goroutine uses it.
type session struct {
	server   *Server
	listener Listener
	conn     *conn
	caps     Capabilities // what is offered
	ctx      context.Context
	log      *slog.Logger

	peer     Peer
	greeted  bool // HELO or EHLO was said
	extended bool // EHLO
	over     bool // nothing more is read
	bad      int  // commands; see maxBad
	logins   int  // that failed
	clients  int  // that XCLIENT told of since a message was taken; see maxClients

	account *Account  // nil before AUTH
	up      *client   // our upstream connection, nil without
	env     *envelope // nil outside a transaction
	came    func()    // ends queue.Expect; nil before the first message

	nominees []nominee // the RCPTs that wait for their replies
}

func newSession(srv *Server, l Listener, k *conn, log *slog.Logger) *session {
	s := &session{server: srv, listener: l, conn: k, ctx: srv.ctx, log: log}
	s.peer = Peer{Remote: k.raw.RemoteAddr(), TLS: k.secured()}
	if l.Capabilities != nil {
		s.caps = l.Capabilities()
	}
	return s
}

// envelope is the transaction that the client builds.
type envelope struct {
	from    address.Address // zero for the null reverse-path
	opts    wire.MailParams
	started time.Time
	rcpts   []recipient       // those we answered 250
	named   []policy.Decision // of every recipient that was named, in order
	fates   []fate            // of the first of named, for the audit log
	// never are those of whom the upstream has said for good that it takes nothing for
	// them: by this message they get nothing.
	never map[address.Address]bool
	// shut is the reply to every further RCPT after no connection could be had: each
	// would wait as long, and an upstream that refuses the login counts how often that
	// is tried.
	shut error
	// probe are the keys of the recipients that the open transaction of
	// session.up has taken; nil if none is open.
	probe []string
	// chunks are what BDAT has brought so far; nil before the first.
	chunks *intake
	checks wire.LineCheck // of chunks
	// messageID is the message's, once it was read; "" for none.
	messageID string
}

// recipient is one envelope recipient.
type recipient struct {
	address       address.Address
	notify, orcpt string // RFC 3461
	named         int    // its decision in envelope.named
}

// keys are the address.Keys of the recipients.
func (e *envelope) keys() []string {
	keys := make([]string, len(e.rcpts))
	for i, r := range e.rcpts {
		keys[i] = r.address.Key()
	}
	return keys
}

// reset ends the transaction, if there is one.
func (s *session) reset() {
	if s.env == nil {
		return
	}
	if s.env.chunks != nil {
		s.env.chunks.close()
	}
	s.tellFates()
	s.env, s.peer.Forwarded = nil, Forwarded{}
	s.server.working(s.conn, false)
}

// logout ends the transaction and gives the upstream connection back.
func (s *session) logout() {
	s.reset()
	if s.up != nil {
		s.server.pool.put(s.account.Upstream, s.up)
		s.up = nil
	}
}

// mailCommand is MAIL.
func (s *session) mailCommand(args string) error {
	if !s.greeted {
		return permanent(503, "5.5.1", "EHLO first")
	}
	path, rest, err := wire.ParsePath("FROM", args)
	if err != nil {
		return permanent(501, "5.5.2", "use MAIL FROM:<address>")
	}
	opts, err := wire.ParseMailParams(rest)
	switch {
	case errors.Is(err, wire.ErrParameter), rest != "" && !s.extended, opts.UTF8 && !s.caps.UTF8,
		!s.caps.DSN && opts.Return+opts.EnvelopeID != "", !s.caps.EightBit && opts.Body != "":
		return permanent(555, "5.5.4", "a parameter of an extension that is not offered")
	case err != nil:
		return permanent(501, "5.5.4", "malformed parameter")
	}
	return s.mail(path, opts)
}

// mail begins a transaction: who may send as whom (RFC 6409, Section 6.1).
func (s *session) mail(from string, opts wire.MailParams) error {
	if s.account == nil && !s.trusted() {
		return permanent(530, "5.7.0", "log in first")
	}
	if s.env != nil { // RFC 5321, Section 4.1.4
		return permanent(503, "5.5.1", "MAIL was given already; RSET first")
	}
	if opts.Size > s.maxSize() { // RFC 1870, Section 6.1
		return permanent(552, "5.3.4", "the message is too large")
	}
	env := &envelope{opts: opts, started: s.server.c.Now()}
	if from != "" {
		a, err := address.Parse(from)
		if err != nil {
			return permanent(553, "5.1.7", "that is no mail address")
		}
		if !a.IsASCII() && !opts.UTF8 { // RFC 6531, Section 3.5; a domain goes as A-labels
			return permanent(553, "5.6.7", "an address beyond ASCII needs SMTPUTF8")
		}
		if !s.account.maySendAs(a) {
			return s.notOurs(a)
		}
		env.from = a
	}
	s.env = env
	s.server.working(s.conn, true)
	return answer(250, "2.1.0", "ok")
}

// notOurs refuses a sender address that the account does not have.
func (s *session) notOurs(a address.Address) error {
	s.log.Info("submission", "outcome", "refused", "reason", "foreign sender address")
	s.server.c.Count("refused")
	if s.account.Relay != nil {
		return permanent(550, "5.7.1", fmt.Sprintf("this client may send as %s only, and not as %s; users and client_certificates of [relay] say who may", s.account.Addresses[0], a))
	}
	return permanent(550, "5.7.1", fmt.Sprintf("this account may not send as %s; add it to aliases of %s in the configuration", a, s.account.Addresses[0]))
}

// recipient reads the arguments of RCPT. The reply is nil where the recipient is
// to be decided about.
func (s *session) recipient(args string) (r recipient, reply error) {
	if s.env == nil || s.env.chunks != nil {
		return r, permanent(503, "5.5.1", "MAIL first")
	}
	path, rest, err := wire.ParsePath("TO", args)
	if err != nil || path == "" {
		return r, permanent(501, "5.5.2", "use RCPT TO:<address>")
	}
	opts, err := wire.ParseRcptParams(rest)
	switch {
	case errors.Is(err, wire.ErrParameter), rest != "" && !s.caps.DSN:
		return r, permanent(555, "5.5.4", "a parameter of an extension that is not offered")
	case err != nil, !asciiOnly(opts.ORCPT) && !s.env.opts.UTF8:
		return r, permanent(501, "5.5.4", "malformed parameter")
	}
	if most := s.server.c.MaxRecipients; len(s.env.rcpts) >= most || len(s.env.named) >= maxNamed*most { // RFC 5321, Section 4.5.3.1.10
		return r, answer(452, "4.5.3", "too many recipients; the others need another message")
	}
	r.notify, r.orcpt = opts.Notify, opts.ORCPT
	if r.address, err = address.Parse(path); err != nil {
		return r, permanent(553, "5.1.3", "that is no mail address")
	}
	if !r.address.IsASCII() && !s.env.opts.UTF8 {
		return r, permanent(553, "5.6.7", "an address beyond ASCII needs SMTPUTF8")
	}
	if slices.ContainsFunc(s.env.rcpts, func(o recipient) bool { return o.address.Equal(r.address) }) {
		return r, accepted() // it gets one copy, however it is spelled
	}
	return r, nil
}

// decide asks for the recipient's certificate and the rules.
func (s *session) decide(a address.Address) (policy.Decision, error) {
	f, err := s.finding(a)
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
	if d.Action == policy.PassUnchanged && s.account.Relay == nil {
		// Rules may be read again while somebody is logged in.
		return temporary("4.3.0", "a dry run is for relays, and nobody's own mail goes out in clear by one; end it, or log in again")
	}
	if d.Action.Accepted() {
		return nil
	}
	if d.Action == policy.Defer {
		s.server.c.Count("deferred")
		s.log.Info("submission", "outcome", "deferred", "recipient", d.Recipient.String(), "reason", d.Reason)
		return temporary("4.4.3", d.Reason+". "+d.Hint)
	}
	s.server.c.Count("refused")
	s.log.Info("submission", "outcome", "refused", "recipient", d.Recipient.String(), "reason", d.Reason)
	return permanent(550, "5.7.1", d.Reason+". "+d.Hint)
}
