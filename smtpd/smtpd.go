// Package smtpd is the submission server that mail programs talk to: it asks
// the policy about each recipient, has the message encrypted and signed, and
// hands it to the account's own mail server.
//
// A [Server] serves one or several [Listener]s; a login gives an [Account],
// which carries everything that differs between people: addresses, signing key,
// certificates, rules and [Upstream].
//
// What it promises: no copy leaves unencrypted unless a policy.Decision says
// so; 250 is answered only after the upstream's own 250, or after the rest is
// synced to the queue; a message is never given to the upstream twice on our
// own account, and where the answer to a final dot was lost, that is said.
package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"time"

	"letterlock.org/letterlock/audit"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/meter"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd/queue"
)

// ErrCredentials is what a Login returns for an unknown user or a wrong
// password; any other error of it is answered as temporary.
var ErrCredentials = errors.New("unknown user or wrong password")

// Listener is a place where mail programs connect. It already listens.
type Listener struct {
	net.Listener
	// Implicit: TLS from the first byte (RFC 8314). Otherwise STARTTLS is
	// offered where Config.TLS is set, and AUTH without it on loopback only.
	Implicit bool
	// Login checks a password and returns the account, for passthrough with
	// the client's password as Upstream.Password. It does its own back-off,
	// is called concurrently, and returns ErrCredentials for a refusal.
	Login func(ctx context.Context, remote net.Addr, user, password string) (*Account, error)
	// LogsIn tells whether there is anybody who may log in at present, so that AUTH
	// is offered; nil means yes, where Login is set.
	LogsIn func() bool
	// Open gives the account of a client that need not log in, such as one of a
	// trusted network or with a client certificate; nil means that it must. It
	// is asked at MAIL where nobody has logged in, and must not block; nil means
	// that all must log in. Then Login may be nil: AUTH is not offered.
	Open func(ctx context.Context, p Peer) *Account
	// Forward tells whether a peer may say by XCLIENT and XFORWARD whom it
	// speaks for; nil means nobody may. It is asked with the connection's own
	// address in Peer.Remote.
	Forward func(p Peer) bool
	// Capabilities says what to offer before the login tells the account: what
	// all accounts of this listener can keep. It must not block; nil means the
	// zero value. See Prober.
	Capabilities func() Capabilities
}

// Config configures a Server.
type Config struct {
	Listeners []Listener
	// TLS is our own certificate, for STARTTLS and implicit TLS.
	TLS *tls.Config
	// Domain is our name in greetings; "letterlock.invalid" if empty.
	Domain string
	// Queue keeps the journal and what could not be sent at once. Required.
	// Serve runs it.
	Queue *queue.Queue
	// Account finds an account by the key of its first address, for the queue; an
	// error means that its entries wait. Nil means those that have logged in, as
	// they were then.
	Account func(ctx context.Context, key string) (*Account, error)
	// MaxSize is bytes of one message; 0 means 64 MiB.
	MaxSize int64
	// MaxRecipients of one message; 0 means 100.
	MaxRecipients int
	// MaxSessions at one time; 0 means 256.
	MaxSessions int
	Spool       message.SpoolOptions
	Logger      *slog.Logger // nil discards
	// Count is called with a class for every outcome, such as "sent",
	// "queued", "refused"; nil for none.
	Count func(class string)
	// Audit gets a record for every recipient of every message; nil for none.
	Audit audit.Log
	// Meter gets figures; nil for none.
	Meter meter.Meter
	Now   func() time.Time // nil means time.Now
	// Timeouts; zero fields mean the defaults of RFC 5321, Section 4.5.3.2.
	Timeouts Timeouts
}

// Timeouts bound every wait.
type Timeouts struct {
	Client  time.Duration // for the next command of the client, or the next 64 KiB of its message: 5 min
	Login   time.Duration // for the whole of a client's dialogue before its login: 5 min
	Connect time.Duration // dialing upstream, and TLS: 30 s
	Greet   time.Duration // upstream's greeting and all up to the login, and then each reply of that: three times Connect
	Command time.Duration // for the reply to a command upstream: 2 min
	Block   time.Duration // for one write upstream to pass: 3 min
	Final   time.Duration // for the reply to the final dot: 10 min
	Find    time.Duration // for one certificate: 20 s
}

// Account is one login. It is not changed after Login returned it and is used
// concurrently.
type Account struct {
	// Addresses are what the account may send from; the first is its primary,
	// by which the journal and the queue know it.
	Addresses []address.Address
	// Signer gives the key that signs for from; pgp.ErrLocked is temporary.
	Signer func(ctx context.Context, from address.Address) (pgp.Signer, error)
	Find   Finder
	Rules  func() *policy.Rules
	// Upstream is where its mail goes.
	Upstream Upstream
	// Opened knows which messages were shown decrypted; nil means none.
	Opened OpenedRecord
	// Own are the certificates to which copies are encrypted as well where the
	// provider files the Sent copy (sent = "provider"); empty otherwise.
	Own []*pgp.Certificate
	// Passwords says how copies under a password are made; nil means the zero
	// value. Whether any are, the rules say.
	Passwords *Passwords
	// Notify puts a delivery status notification into the sender's INBOX. If
	// nil it is submitted to the upstream, from and to the sender.
	Notify func(ctx context.Context, to address.Address, report []byte) error
	// Relay makes it that of a client of an organisation's gateway; nil for a
	// person's.
	Relay *Relay
	// Now tells what has become of the account since a session entered it: the
	// account itself, another one in its place, or nil where the client has none
	// any more. It is asked before every command, and so must be fast; nil means
	// that it never changes.
	Now func() *Account
}

// Finder finds certificates; a *keydir.Resolver is one.
type Finder interface {
	Find(ctx context.Context, a address.Address) (keydir.Finding, error)
}

// OpenedRecord remembers the Message-IDs of messages that were decrypted.
type OpenedRecord interface {
	// WasOpened tells whether the message with that ID (with angle brackets), the
	// event of that CalendarID, or a letter of that letters.ID was ever shown
	// decrypted. An error makes the submission wait.
	WasOpened(ctx context.Context, messageID string) (bool, error)
}

// ClearRecord is an OpenedRecord that takes note of what went out in clear. The
// copy that a client files of it is sealed, and answers to answers name it; that
// makes them no answers to something secret.
type ClearRecord interface {
	SentClear(ctx context.Context, messageIDs ...string) error
}

// TLSMode is how a connection upstream is protected.
type TLSMode string

const (
	ImplicitTLS TLSMode = "implicit" // RFC 8314, submissions
	STARTTLS    TLSMode = "starttls" // mandatory; stripped means failure
	Insecure    TLSMode = "insecure" // loopback only: the caller has checked it
)

// Upstream is an account's submission server.
type Upstream struct {
	// Dial connects; it may have done implicit TLS already, never STARTTLS.
	Dial func(ctx context.Context) (net.Conn, error)
	Mode TLSMode
	// TLS must have ServerName; nil only if Insecure.
	TLS *tls.Config
	// User and Password log in by PLAIN or LOGIN; no User, no login.
	User, Password string
	// Name tells upstreams apart in logs and pools, such as "host:port".
	Name string
	// Helo is our name in EHLO, for an organisation's relay; "" for an address
	// literal of loopback, which tells nothing of a person's host.
	Helo string
}

// Capabilities are what a submission server offers beyond the basics.
type Capabilities struct {
	EightBit bool  // 8BITMIME, RFC 6152
	UTF8     bool  // SMTPUTF8, RFC 6531
	DSN      bool  // RFC 3461
	Size     int64 // SIZE, RFC 1870; 0 if unknown
}

// Both is what can be promised when either may be asked to keep it.
func (c Capabilities) Both(d Capabilities) Capabilities {
	b := Capabilities{c.EightBit && d.EightBit, c.UTF8 && d.UTF8, c.DSN && d.DSN, c.Size}
	if d.Size > 0 && (b.Size == 0 || d.Size < b.Size) {
		b.Size = d.Size
	}
	return b
}
