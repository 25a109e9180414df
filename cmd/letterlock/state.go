package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"letterlock.org/letterlock/audit"
	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/internal/acmestore"
	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/endpoint"
	"letterlock.org/letterlock/internal/login"
	"letterlock.org/letterlock/internal/metrics"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/internal/wholefile"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/keydir/server"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/pgp/keyring"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// state is everything that is open: the store, and what works on it. Commands
// get it from serve, or open it for themselves.
type state struct {
	log      *slog.Logger
	level    *slog.LevelVar
	now      func() time.Time
	store    store.Store
	keys     *keyring.Ring
	resolver *keydir.Resolver
	login    *login.Checker
	tls      *endpoint.Authority
	queue    *queue.Queue
	keydir   *server.Directory
	bridges  *bridges
	gateways *gateways
	book     *audit.Book
	audit    audit.Log // book, or one that keeps nothing where audit is off
	meter    *metrics.Registry
	node     string // what this process is called among those that share a store

	remembering remembering // what was opened here

	// standing: some certificate's changed since keywords were brought up to date.
	standing atomic.Bool

	cfg atomic.Pointer[config.Config]
	// restart names the settings of which the file says something else than what
	// runs, since the last reload.
	restart   atomic.Pointer[[]string]
	reloading sync.Mutex // held by a reload: a person and SIGHUP may both ask for one
	close     []func() error

	// What follows is set by serve before commands can come in.
	served bool
	ready  []readyLine
	ports  map[listening]int
	gate   *gate                         // nil without [relay]
	retell chan struct{}                 // what holds has changed; see keepTold
	faults func() map[string]smtpd.Fault // of submission servers; nil without
	gone   func() map[string]error       // those servers that could not be reached; nil without
	mended func(account string)          // that one of those is gone
	reload func() error
}

// listening is a listener of an account, as configured.
type listening struct {
	account string // address key
	at      endpoint.Address
}

// schemas are the tables of every package that keeps any; a shared store has none
// of imapd/index, since it has no bridges.
var (
	sharedSchemas = []store.Schema{keyring.Schema, keydir.Schema, login.Schema, endpoint.Schema, queue.Schema, server.Schema, inboundSchema, smtpd.PasswordSchema, audit.Schema, publishSchema, acmestore.Schema, nodeSchema}
	schemas       = append([]store.Schema{index.Schema}, sharedSchemas...)
)

const (
	storeName = config.StoreName
	caName    = "ca.pem"
)

// openState locks the state directory of a configuration, which is tried again so
// often, and opens what is in it. Nothing is made or changed before the key is
// known.
func openState(ctx context.Context, cfg *config.Config, again int, log *slog.Logger, level *slog.LevelVar, now func() time.Time) (*state, error) {
	file := filepath.Join(cfg.StateDir, storeName)
	_, err := os.Stat(file)
	exists := err == nil
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("looking for the store: %w (run the command as the user that runs serve)", err)
	}
	if errors.Is(err, syscall.ENOTDIR) {
		return nil, fmt.Errorf("%w: state_dir: %s is no folder", errConfig, cfg.StateDir)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("looking for the store: %w", err)
	}
	if !exists {
		// The key comes first: a mistake in unlock leaves no trace. Only a
		// passphrase needs the folder, for its salt.
		if err := cfg.CheckKey(); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
			return nil, fmt.Errorf("making state_dir: %w", err)
		}
	}
	given := adoptIn(cfg.StateDir)
	unlock, err := lock(ctx, cfg.StateDir, again)
	if err != nil {
		return nil, err
	}
	s, err := openLocked(ctx, cfg, file, exists, log, now)
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	s.level = level
	if err := publishCA(filepath.Join(cfg.StateDir, caName), s.tls.PEM()); err != nil {
		return nil, errors.Join(fmt.Errorf("writing the local CA certificate: %w", err), s.Close(), unlock())
	}
	_ = given.give()
	s.close = append([]func() error{unlock, given.give}, s.close...)
	return s, nil
}

// publishCA makes sure that the file which mail programs read has the local
// authority's certificate. A link that somebody put there is not followed.
func publishCA(file string, pem []byte) error {
	st, err := os.Lstat(file)
	if err == nil && st.Mode().IsRegular() {
		if b, err := os.ReadFile(file); err == nil && bytes.Equal(b, pem) {
			return nil
		}
	}
	if err == nil && !st.Mode().IsRegular() {
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return wholefile.Replace(file, pem, 0o600)
}

func openLocked(ctx context.Context, cfg *config.Config, file string, exists bool, log *slog.Logger, now func() time.Time) (*state, error) {
	key, err := cfg.Key(exists)
	if err != nil {
		return nil, err
	}
	st, where, err := openStore(ctx, cfg, file, key)
	if err != nil && cfg.Store.Shared() {
		err = fmt.Errorf("opening %s: %w", where, err)
	}
	if errors.Is(err, store.ErrKey) {
		return nil, fmt.Errorf("%w (it was made with another key; look at unlock in %s)", err, cfg.File)
	}
	if errors.Is(err, store.ErrDamaged) {
		return nil, fmt.Errorf("%w (put back a copy of state_dir that was made while nothing ran; move this one away, it may have what the copy lacks)", err)
	}
	if err != nil {
		return nil, err
	}
	s, err := newState(ctx, cfg, st, log, now)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return s, nil
}

// connectTime bounds reaching a shared store and bringing its tables up to date.
const connectTime = time.Minute

// openStore opens the store of a configuration and tells where that is, without
// the password that the URL of a shared one may have.
func openStore(ctx context.Context, cfg *config.Config, file string, key [32]byte) (store.Store, string, error) {
	if !cfg.Store.Shared() {
		st, err := store.Open(file, key, schemas...)
		return st, file, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	st, err := store.OpenPostgres(ctx, cfg.Store.DSN, key, sharedSchemas...)
	return st, cfg.Store.Where(), err
}

// newState puts together what works on an open store, which it closes at its end.
func newState(ctx context.Context, cfg *config.Config, st store.Store, log *slog.Logger, now func() time.Time) (*state, error) {
	s := &state{log: log, now: now, store: st, keys: keyring.NewAt(st, now), meter: metrics.New(version()), node: nodeName(), close: []func() error{st.Close}}
	s.cfg.Store(cfg)
	discovery, err := discoveryOf(cfg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	if s.resolver, err = keydir.New(keydir.Config{
		Store: st, Discovery: discovery,
		Own: s.ownCertificates, Learned: s.learned, Now: now, Logger: log,
	}); err != nil {
		return nil, err
	}
	s.close = append(s.close, s.resolver.Close)
	if s.tls, err = endpoint.OpenAuthority(ctx, st, now()); err != nil {
		return nil, err
	}
	if err = s.newBook(cfg.Audit); err != nil {
		return nil, err
	}
	s.close = append(s.close, s.book.Close)
	qc := queue.Config{Store: st, Logger: log, Now: now, Audit: s.audit, Meter: s.meter, Lease: cfg.Store.Lease}
	if !cfg.Store.Shared() {
		qc.Free = freeNow(cfg.StateDir, now)
	}
	if s.queue, err = queue.New(qc); err != nil {
		return nil, err
	}
	s.close = append(s.close, s.queue.Close)
	s.login = login.New(login.Config{Store: st, Accounts: logins(cfg), Now: now})
	s.keydir = server.NewDirectory(st)
	s.keydir.Now = now
	s.keydir.Approved = s.approved
	if cfg.Keydir != nil {
		s.keydir.Submission = cfg.Keydir.Sender
	}
	s.gateways = newGateways(s)
	s.close = append(s.close, s.gateways.close)
	s.bridges = newBridges(s)
	s.close = append(s.close, s.bridges.close)
	return s, nil
}

// Close closes everything, last opened first.
func (s *state) Close() error {
	var err error
	for i := len(s.close) - 1; i >= 0; i-- {
		err = errors.Join(err, s.close[i]())
	}
	return err
}

// ownCertificates are those of our own keys.
func (s *state) ownCertificates() (own []*pgp.Certificate) {
	entries, err := s.keys.List(context.Background())
	if err != nil {
		s.log.Error("listing own keys", "error", err)
	}
	for _, e := range entries {
		own = append(own, e.Certificate)
	}
	return own
}

// A short command that has the state directory is waited for, so often and so
// long each time.
const (
	lockAgain = 50
	lockPause = 100 * time.Millisecond
)

// lock takes the state directory.
func lock(ctx context.Context, dir string, again int) (unlock func() error, err error) {
	for ; ; again-- {
		held, err := store.Lock(dir)
		if err == nil {
			return held.Close, nil
		}
		if !errors.Is(err, store.ErrInUse) {
			return nil, err
		}
		if again <= 0 {
			return nil, fmt.Errorf("%w (stop it, or give this one a state_dir of its own)", err)
		}
		if err := pause(ctx, lockPause); err != nil {
			return nil, err
		}
	}
}

// pause waits, or returns the error of a ctx that ends before.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// runWithState runs a command inside serve where it runs, else here.
func runWithState(ctx context.Context, e *env, c *cli, args []string, command stateCommand) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	// Only warnings: what a command has to say, it prints.
	level := new(slog.LevelVar)
	level.Set(slog.LevelWarn)
	log := slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: level}))
	for again := lockAgain; ; again-- {
		if err := runInServe(ctx, e, cfg.StateDir, args); !errors.Is(err, errNoServer) {
			return err
		}
		s, err := openState(ctx, cfg, 0, log, level, e.now)
		if err == nil {
			return errors.Join(command.runState(ctx, e, s), s.Close())
		}
		if !errors.Is(err, store.ErrInUse) || again == 0 {
			return err
		}
		// A short command, or a serve that is yet to open its socket.
		if err := pause(ctx, lockPause); err != nil {
			return err
		}
	}
}

// nodeName tells this process from others on the same store, and from earlier
// ones of the same host.
func nodeName() string {
	host, _ := os.Hostname()
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}

// freeNow is freeBytes, asked at most once a second.
func freeNow(dir string, now func() time.Time) func() (int64, error) {
	var mu sync.Mutex // guards what follows
	var at time.Time
	var free int64
	var err error
	return func() (int64, error) {
		mu.Lock()
		defer mu.Unlock()
		if t := now(); t.Sub(at).Abs() > time.Second {
			free, err = freeBytes(dir)
			at = t
		}
		return free, err
	}
}

// freeBytes is how much the disk of a folder still takes.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("looking how full the disk is: %w", err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
