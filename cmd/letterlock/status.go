package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/pgp/keyring"
	"letterlock.org/letterlock/smtpd/queue"
)

type statusCmd struct {
	JSON bool `name:"json" help:"For scripts."`
}

// statusJSON is how everything stands.
type statusJSON struct {
	Serving   bool                `json:"serving"`
	StateDir  string              `json:"state_dir"`
	Listeners []readyLine         `json:"listeners"`
	Accounts  []accountStatus     `json:"accounts"`
	Queue     map[queue.State]int `json:"queue"`
	Faults    []faultStatus       `json:"upstream_faults"` // that last
	Audit     *auditStatus        `json:"audit"`           // null: it is off
	Contacts  int                 `json:"contacts"`
	Notices   []noticeJSON        `json:"certificates"` // what there is to tell of them
	Alarms    []alarmJSON         `json:"alarms"`
	Problems  []string            `json:"problems"`
}

type accountStatus struct {
	Address     string           `json:"address"`
	Key         string           `json:"key"`
	KeyExpires  *time.Time       `json:"key_expires"`
	Ready       bool             `json:"ready"`     // the upstream's password is known
	Mailboxes   []mailboxStatus  `json:"mailboxes"` // while serve runs
	Unopened    []unopenedStatus `json:"unopened"`  // as they arrived, or not shown
	description string
}

// faultStatus is what is wrong with the submission server of an account, or of
// the relay.
type faultStatus struct {
	Account string    `json:"account"`
	Kind    string    `json:"kind"`
	Since   time.Time `json:"since"`
	Text    string    `json:"text"`
}

// auditStatus is how the audit's records keep up.
type auditStatus struct {
	Required bool    `json:"required"`
	Pending  int     `json:"pending"`
	Lag      float64 `json:"lag_seconds"`
	Lost     int64   `json:"lost"`
}

type mailboxStatus struct {
	Name  string `json:"name"`
	Total int    `json:"messages"`
	Done  int    `json:"indexed"`
}

type unopenedStatus struct {
	Mailbox string `json:"mailbox"`
	Reason  string `json:"reason"`
	Count   int    `json:"count"`
}

// keyWarning is how long before its end a key is complained about.
const keyWarning = 60 * 24 * time.Hour

func (c *statusCmd) runState(ctx context.Context, e *env, s *state) error {
	j, err := s.status(ctx, e.now())
	if err != nil {
		return err
	}
	if c.JSON {
		return e.json(j)
	}
	if j.Serving {
		e.printf("serve runs, on %s\n", j.StateDir)
	} else {
		e.printf("serve does not run; %s was opened to look\n", j.StateDir)
	}
	for _, l := range j.Listeners {
		e.printf("  %s %s %s %s\n", l.Role, l.Protocol, l.Address, l.Listen)
	}
	for _, a := range j.Accounts {
		e.printf("%s\n  key %s\n", a.Address, a.description)
		for _, m := range a.Mailboxes {
			e.printf("  %s: %d of %d messages indexed\n", m.Name, m.Done, m.Total)
		}
		for _, u := range a.Unopened {
			e.printf("  %s: %d messages not opened: %s\n", u.Mailbox, u.Count, u.Reason)
		}
	}
	contacts := "contacts"
	if j.Contacts == 1 {
		contacts = "contact"
	}
	e.printf("%d %s with a certificate; queue: ", j.Contacts, contacts)
	if len(j.Queue) == 0 {
		e.printf("empty")
	}
	for _, st := range slices.Sorted(maps.Keys(j.Queue)) {
		e.printf("%d %s ", j.Queue[st], st)
	}
	e.printf("\n")
	if a := j.Audit; a != nil {
		e.printf("audit: on, %d records not on disk yet\n", a.Pending)
	}
	for _, p := range j.Problems {
		e.printf("! %s\n", p)
	}
	return nil
}

func (s *state) status(ctx context.Context, now time.Time) (*statusJSON, error) {
	cfg := s.cfg.Load()
	j := &statusJSON{Serving: s.served, StateDir: cfg.StateDir, Listeners: s.ready, Accounts: []accountStatus{}, Queue: map[queue.State]int{}, Problems: []string{}}
	if j.Listeners == nil {
		j.Listeners = []readyLine{}
	}
	for i := range cfg.Bridges {
		a, err := s.accountStatus(ctx, j, &cfg.Bridges[i], now)
		if err != nil {
			return nil, err
		}
		j.Accounts = append(j.Accounts, a)
	}
	s.operations(j)
	counts, err := s.queue.Counts(ctx)
	if err != nil {
		return nil, err
	}
	for st, c := range counts {
		j.Queue[st] = int(c.Entries)
	}
	if n := j.Queue[queue.Unknown]; n > 0 {
		j.problem("the answer of the mail server was lost for %d messages, so they may or may not have been sent (see: letterlock queue list)", n)
	}
	if free, err := freeBytes(cfg.StateDir); err == nil && free < queue.DefaultMinFree && !cfg.Store.Shared() {
		j.problem("%d MB are left on the disk of state_dir (%s); mail that would have to wait here isn't taken below %d MB", free>>20, cfg.StateDir, queue.DefaultMinFree>>20)
	}
	if begins := s.tls.Begins(); now.Before(begins) && len(cfg.Bridges) > 0 {
		j.problem("by this machine's clock (%s UTC) mail programs can't trust %s, which is valid from %s on; is the clock right?", now.UTC().Format(time.DateTime), caName, begins.UTC().Format(time.DateOnly))
	}
	for _, what := range exposed(cfg, s.served) {
		j.problem("%s", what)
	}
	if cfg.Rules.DryRun() {
		j.problem("%s", dryRunWarning)
	}
	if r := s.restart.Load(); r != nil && len(*r) > 0 {
		j.problem("the configuration file has other values than what runs, and they take a restart: %s", strings.Join(*r, ", "))
	}
	if err := s.rulesStatus(ctx, j); err != nil {
		return nil, err
	}
	peers, err := s.resolver.List(ctx)
	if err != nil {
		j.problem("stored certificates: %v", err)
	}
	j.Contacts = len(peers)
	for _, p := range peers {
		if p.Problem != "" {
			j.problem("%s: certificates in %s (see: letterlock cert show %s)", p.Address, p.Problem, p.Address)
		}
	}
	if err := s.certificatesStatus(ctx, j); err != nil {
		return nil, err
	}
	return j, nil
}

// operations adds what is wrong with mail servers, and how the audit keeps up.
func (s *state) operations(j *statusJSON) {
	j.Faults = []faultStatus{}
	if s.gone != nil {
		all := s.gone()
		for _, name := range slices.Sorted(maps.Keys(all)) {
			j.problem("the mail server %s could not be reached when it was last asked: %v", name, all[name])
		}
	}
	if s.faults != nil {
		all := s.faults()
		for _, account := range slices.Sorted(maps.Keys(all)) {
			f := all[account]
			j.Faults = append(j.Faults, faultStatus{account, string(f.Kind), f.Since.UTC(), f.Text})
			j.problem("sending for %s, since %s: %s", account, f.Since.UTC().Format(time.DateTime), f.Text)
		}
	}
	c := s.cfg.Load().Audit
	if !c.On {
		return
	}
	st := s.book.Status()
	j.Audit = &auditStatus{c.Required, st.Pending, st.Lag.Seconds(), st.Lost}
	if st.Failing {
		j.problem("the store doesn't take audit records; %d wait", st.Pending)
	}
	if st.Lost > 0 {
		j.problem("%d audit records are lost", st.Lost)
	}
}

func (j *statusJSON) problem(format string, args ...any) {
	j.Problems = append(j.Problems, fmt.Sprintf(format, args...))
}

func (s *state) accountStatus(ctx context.Context, j *statusJSON, b *config.Bridge, now time.Time) (a accountStatus, err error) {
	a = accountStatus{Address: b.Account.String(), description: "none", Mailboxes: []mailboxStatus{}, Unopened: []unopenedStatus{}}
	cert, err := s.keys.Certificate(ctx, b.Account)
	switch {
	case errors.Is(err, keyring.ErrNoKey):
		j.problem("%s has no key (run: letterlock account add %s)", b.Account, b.Account)
	case err != nil:
		return a, err
	default:
		d := describeCertificate(cert, now)
		a.Key, a.KeyExpires = string(cert.Fingerprint()), d.Expires
		a.description = fmt.Sprintf("%s, expires %s", a.Key, d.expiry())
		if d.Expires != nil && d.Expires.Before(now.Add(keyWarning)) {
			j.problem("the key of %s expires on %s (run: letterlock key extend %s)", b.Account, d.expiry(), b.Account)
		}
	}
	if a.Ready, err = s.login.HasUpstreamPassword(ctx, loginOf(s.cfg.Load(), b)); err != nil {
		return a, err
	}
	if err := s.mailboxes(ctx, j, &a, b); err != nil {
		return a, err
	}
	if !a.Ready {
		j.problem("no password of %s at its mail server is known (run: letterlock account password %s)", b.Account, b.Account)
	}
	return a, nil
}

// mailboxes adds how far the index is, and what could not be opened.
func (s *state) mailboxes(ctx context.Context, j *statusJSON, a *accountStatus, b *config.Bridge) error {
	if b.IMAP == nil {
		return nil
	}
	if x := s.bridges.indexers[b.Account.Key()]; x != nil {
		st := x.Status()
		for _, m := range st.Mailboxes {
			a.Mailboxes = append(a.Mailboxes, mailboxStatus{m.Name, m.Total, m.Done})
		}
		if st.Problem != "" {
			j.problem("indexing the mail of %s waits: %s", b.Account, st.Problem)
		}
	}
	library, err := s.bridges.library(b)
	if err != nil {
		return err
	}
	unopened, err := library.Unopened(ctx)
	for _, u := range unopened {
		a.Unopened = append(a.Unopened, unopenedStatus{u.Mailbox, u.Reason, u.Count})
	}
	return err
}
