// Package login decides who may use an account's listeners, and knows the
// password with which we log in to its upstream.
//
// A [Checker] is asked by both servers with what a client sent. In mode [Local]
// that is a password of our own making; in mode [Passthrough] it is the
// upstream's, compared with a verifier of ours. An upstream's OK never opens a
// session by itself: whoever controls the upstream, or the way to it, would
// otherwise choose who reads decrypted mail.
//
// Passwords are never logged and never part of an error.
package login

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
)

// Errors that the servers translate into their replies.
var (
	// ErrRefused means an unknown user or a wrong password; nobody is told which.
	ErrRefused = errors.New("user or password refused")
	// ErrThrottled means too many failures of late; nothing was compared.
	ErrThrottled = errors.New("too many failed logins, try again later")
	// ErrNotReady means that the login may be right but the account lacks a
	// password that only its owner can give.
	ErrNotReady = errors.New("account is not ready")
)

// Mode is what a client's password is compared with.
type Mode string

const (
	// Local is a password of 128 bits, made by us.
	Local Mode = "local"
	// Passthrough is the upstream's password, known to us by a verifier, and
	// forwarded.
	Passthrough Mode = "passthrough"
)

// Account is one account that clients may log in to.
type Account struct {
	Address address.Address
	// Aliases may be given as user name too.
	Aliases []address.Address
	// Mode is Local or Passthrough; required.
	Mode Mode
	// UpstreamPassword reads the upstream's password from outside the store; nil
	// means that the store has it. Not asked in Passthrough mode.
	UpstreamPassword func(context.Context) (string, error)
}

// Config configures a Checker.
type Config struct {
	// Store keeps passwords and verifiers; required, opened with Schema.
	Store    store.Store
	Accounts []Account
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Checker checks logins. It may be used concurrently.
type Checker struct {
	store store.Store
	fails *backoff
	hash  chan struct{} // one argon2id at a time bounds the memory

	mu        sync.Mutex // guards what follows
	accounts  []Account
	forwarded map[string]fitting // what passthrough accounts logged in with, by address key
	renewed   map[string]int     // how often they were given another verifier, by address key
}

// fitting is a password and the verifier that it fitted. They are kept and
// replaced together: one beside the other's would open with a password that is
// no longer right.
type fitting struct {
	password string
	verifier []byte
}

// New makes a Checker.
func New(c Config) *Checker {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Checker{
		store: c.Store, accounts: c.Accounts, fails: newBackoff(c.Now),
		hash: make(chan struct{}, 1), forwarded: map[string]fitting{}, renewed: map[string]int{},
	}
}

// Replace puts other accounts in place, after a reload. What is remembered of
// failures stays.
func (c *Checker) Replace(accounts []Account) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accounts = accounts
}

// find is the account that a user name means.
func (c *Checker) find(user string) (Account, bool) {
	a, err := address.Parse(user)
	if err != nil {
		return Account{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, acc := range c.accounts {
		if acc.Address.Equal(a) {
			return acc, true
		}
	}
	for _, acc := range c.accounts {
		for _, alias := range acc.Aliases {
			if alias.Equal(a) {
				return acc, true
			}
		}
	}
	return Account{}, false
}

// Check says whose account user and password open, and with which password to
// log in upstream. The errors are ErrRefused, ErrThrottled, ErrNotReady, and
// faults of the store. remote is where the client is; failures count against it.
func (c *Checker) Check(ctx context.Context, remote net.Addr, user, password string) (account address.Address, upstreamPassword string, err error) {
	a, known := c.find(user)
	key := failKey{host: hostOf(remote)}
	if known {
		key.account = a.Address.Key()
	}
	// Nobody guesses 128 bits. So a right local password opens even while
	// others fail from the same address, which on loopback is every program
	// of every user.
	if a.Mode != Local {
		// In turn: a thousand guesses at once count like a thousand in a row.
		done, err := c.fails.turn(ctx, key)
		if err != nil {
			return address.Address{}, "", err
		}
		defer done()
		if c.fails.blocked(key) {
			return address.Address{}, "", ErrThrottled
		}
	}
	ok, err := c.compare(ctx, a, known, password)
	if err != nil {
		return address.Address{}, "", err
	}
	if !ok {
		if c.fails.add(key) {
			return address.Address{}, "", ErrThrottled
		}
		return address.Address{}, "", ErrRefused
	}
	c.fails.clear(key)
	if a.Mode == Passthrough {
		return a.Address, password, nil
	}
	upstreamPassword, err = c.upstream(ctx, a)
	if err != nil {
		return address.Address{}, "", err
	}
	return a.Address, upstreamPassword, nil
}

func (c *Checker) compare(ctx context.Context, a Account, known bool, password string) (bool, error) {
	switch {
	case !known:
		equal(password, "an unknown user costs the same comparison")
		return false, nil
	case a.Mode == Local:
		want, err := c.LocalPassword(ctx, a.Address)
		return err == nil && equal(password, want), err
	case a.Mode == Passthrough:
		return c.verify(ctx, a.Address, password)
	}
	return false, fmt.Errorf("account %s: unknown login mode %q", a.Address, a.Mode)
}

// UpstreamPassword is what we log in with for an account without its client:
// for the indexer and the queue. A Passthrough account has one only after its
// client logged in to this process, and until it is given another verifier.
func (c *Checker) UpstreamPassword(ctx context.Context, account address.Address) (string, error) {
	a, ok := c.find(account.String())
	if !ok {
		return "", fmt.Errorf("%w: no account %s", ErrNotReady, account)
	}
	return c.upstream(ctx, a)
}

func (c *Checker) upstream(ctx context.Context, a Account) (string, error) {
	if a.Mode == Passthrough {
		c.mu.Lock()
		defer c.mu.Unlock()
		if f, ok := c.forwarded[a.Address.Key()]; ok {
			return f.password, nil
		}
		return "", fmt.Errorf("%w: the mail program of %s has not logged in yet", ErrNotReady, a.Address)
	}
	if a.UpstreamPassword != nil {
		p, err := a.UpstreamPassword(ctx)
		if err != nil {
			return "", fmt.Errorf("%w: upstream password of %s: %w", ErrNotReady, a.Address, err)
		}
		return p, nil
	}
	return c.storedUpstream(ctx, a.Address)
}
