package imapd

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/internal/message"
)

// Errors that Config.Login returns, wrapped or not. Every other error means that
// logging in is not possible for now, whoever asks.
var (
	// ErrRefused means an unknown user or a wrong password.
	ErrRefused = errors.New("user or password refused")
	// ErrThrottled means that nothing was compared after too many failures.
	ErrThrottled = errors.New("too many failed logins, try again later")
)

// Config configures a Server. Unset fields have safe defaults.
type Config struct {
	// Login checks what a client gave, with whatever back-off there is, and
	// names the account and the password for its upstream. Required; called
	// concurrently.
	Login func(ctx context.Context, remote net.Addr, user, password string) (account *Account, upstreamPassword string, err error)
	// Locked tells that the store is locked: clients are then turned away at
	// the greeting. nil means never.
	Locked func() bool
	// TLS is for STARTTLS; nil means that it is not offered.
	TLS *tls.Config
	// CleartextAuth allows logins without TLS from clients that are not on a
	// loopback address. It is for tests.
	CleartextAuth bool
	// Limits bound what clients may send.
	Limits wire.Limits
	// KeepAlive is how long a client that waits for an answer hears nothing;
	// 0 means 10 seconds.
	KeepAlive time.Duration
	// IdleTimeout is how long a client may say nothing; 0 means 35 minutes
	// (RFC 3501, Section 5.4, wants 30 at least).
	IdleTimeout time.Duration
	// IOTimeout is how long a single read or write in the middle of something
	// may make no progress; 0 means 5 minutes.
	IOTimeout time.Duration
	// Grace is how long a session goes on when the server shuts down, for what its client
	// has begun; 0 means 5 seconds.
	Grace time.Duration
	// MaxSessions bounds the sessions open at a time; 0 means 500.
	MaxSessions int
	// Logger gets outcomes, never content or credentials; nil means silence.
	Logger *slog.Logger
}

// AppendMode says which uploads are sealed before they go upstream.
type AppendMode string

const (
	AppendAll     AppendMode = "all"
	AppendPrivate AppendMode = "private" // Sent, Drafts, Templates; anywhere what came encrypted or is about that
	AppendNone    AppendMode = "none"
)

// Account is what a session needs of the account it is for. It may be shared
// by many sessions.
type Account struct {
	// Name is the account's key, for logs.
	Name string
	// User is who to log in as upstream. Required.
	User string
	// Dial connects to the upstream; with implicit TLS the handshake is done.
	// Required.
	Dial func(ctx context.Context) (net.Conn, error)
	// StartTLS is set where the connection begins in cleartext and must be
	// upgraded before anything else is sent.
	StartTLS *tls.Config
	// Library is what is known of the account's messages. Required.
	Library *index.Library
	// Seal writes src as it is to lie upstream (pgp.Seal). Required unless
	// Append is AppendNone.
	Seal func(ctx context.Context, w io.Writer, src message.Source) error
	// Append says which uploads are sealed; "" means AppendAll.
	Append AppendMode
	// Private are the mailboxes beside those marked \Sent and \Drafts that
	// AppendPrivate seals; nil means Sent, Drafts and Templates.
	Private []string
	// SearchUpstream allows content words of a search to go upstream, to be
	// looked for in plain mail.
	SearchUpstream bool
	// Spool bounds messages on their way.
	Spool message.SpoolOptions
	// Gone tells that the account is not served any more: its sessions end with BYE at
	// their next command, and those that wait once Server.Recheck is called. nil means
	// never. It is called concurrently, and does no I/O.
	Gone func() bool
	// Changed tells that the account is another now, such as at another upstream: its
	// sessions end in the same way, and their clients are told to come again.
	Changed func() bool
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.KeepAlive, 10*time.Second)
	def(&c.IdleTimeout, 35*time.Minute)
	def(&c.IOTimeout, 5*time.Minute)
	def(&c.Grace, 5*time.Second)
	if c.MaxSessions == 0 {
		c.MaxSessions = 500
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}
