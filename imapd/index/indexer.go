package index

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"letterlock.org/letterlock/pgp"
)

// IndexerConfig configures an Indexer.
type IndexerConfig struct {
	// Library is what is filled. Required.
	Library *Library
	// Dial connects to the upstream, with TLS where it is implicit; StartTLS
	// is set up by Client if needed. Required.
	Dial func(ctx context.Context) (net.Conn, error)
	// Client makes the IMAP client of a connection; nil means imapclient.New.
	// It is where STARTTLS happens.
	Client func(conn net.Conn) (*imapclient.Client, error)
	// Login authenticates. Required.
	Login func(ctx context.Context, c *imapclient.Client) error
	// Busy tells that clients are being served: indexing then waits, though
	// never more than a minute for one message. nil means whenever one has asked
	// the library for a message within the last two seconds.
	Busy func() bool
	// Interval is how often all mailboxes are looked at; 0 means 5 minutes.
	Interval time.Duration
	// Logger gets counts and errors, never content; nil means silence.
	Logger *slog.Logger
	// After waits, for tests; nil means time.After.
	After func(time.Duration) <-chan time.Time
}

// Indexer keeps a Library filled, over a connection of its own on which it only
// EXAMINEs and PEEKs: newest messages first, every mailbox, what was left
// undone before. What it fetches never depends on whether something could be
// decrypted: each message that looks encrypted or signed is fetched once.
type Indexer struct {
	c     IndexerConfig
	wake  chan struct{}
	heard chan struct{} // there is news

	mu     sync.Mutex
	status Status                   // guarded by mu
	conn   net.Conn                 // guarded by mu; nil while it has none
	gave   bool                     // guarded by mu: its connection was taken from it
	news   map[string]bool          // guarded by mu: mailboxes in which a session saw something new
	seen   map[string]snapshot      // only used by Run
	failed map[int64]map[uint32]int // only used by Run: openings that failed, by mailbox and UID
}

// Status says how far the indexer is.
type Status struct {
	// Running is true while it is connected.
	Running   bool
	Mailboxes []MailboxStatus
	// Finished is when everything was last looked at; zero if never.
	Finished time.Time
	// Problem is why it waits, for a person; "" if it does not.
	Problem string
}

// MailboxStatus counts the messages of one mailbox.
type MailboxStatus struct {
	Name  string
	Total int
	Done  int // classified, and opened if they have to be
}

// snapshot tells whether a mailbox changed since it was done.
type snapshot struct{ uidvalidity, uidnext, messages uint32 }

// maxFailures is how often a message is tried until the next start. Only faults
// of our own count: a message that cannot be opened is settled.
const maxFailures = 3

// NewIndexer makes an Indexer; Run does the work.
func NewIndexer(c IndexerConfig) (*Indexer, error) {
	if c.Library == nil || c.Dial == nil || c.Login == nil {
		return nil, errors.New("indexer: Library, Dial and Login are required")
	}
	if c.Client == nil {
		c.Client = func(conn net.Conn) (*imapclient.Client, error) { return imapclient.New(conn, nil), nil }
	}
	if c.Busy == nil {
		c.Busy = c.Library.busy
	}
	if c.Interval <= 0 {
		c.Interval = 5 * time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.After == nil {
		c.After = time.After
	}
	return &Indexer{
		c: c, wake: make(chan struct{}, 1), heard: make(chan struct{}, 1), news: map[string]bool{},
		seen: map[string]snapshot{}, failed: map[int64]map[uint32]int{},
	}, nil
}

// Wake makes a waiting indexer look at everything at once: keys were unlocked,
// say.
func (x *Indexer) Wake() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// newsGap is the least time between two looks at what sessions saw.
const newsGap = 20 * time.Second

// tell notes that a session saw something new in a mailbox, to be looked at soon.
func (x *Indexer) tell(mailbox string) {
	x.mu.Lock()
	x.news[mailbox] = true
	x.mu.Unlock()
	select {
	case x.heard <- struct{}{}:
	default:
	}
}

// told takes the mailboxes that there is news of. Only run by Run.
func (x *Indexer) told() map[string]bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	news := x.news
	x.news = map[string]bool{}
	for name := range x.seen { // news may be of what was there already
		if news[canonical(name)] {
			delete(x.seen, name)
		}
	}
	return news
}

// Status says how far the indexer is.
func (x *Indexer) Status() Status {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.status
	s.Mailboxes = append([]MailboxStatus(nil), s.Mailboxes...)
	return s
}

func (x *Indexer) update(f func(*Status)) {
	x.mu.Lock()
	f(&x.status)
	x.mu.Unlock()
}

// Run indexes until ctx ends, and returns its error. It waits longer after each
// failure, up to a quarter of an hour. Only one Run may be under way.
func (x *Indexer) Run(ctx context.Context) error {
	const least, most = 10 * time.Second, 15 * time.Minute
	pause := least
	x.c.Library.indexer.Store(x)
	defer x.c.Library.indexer.CompareAndSwap(x, nil)
	for {
		err := x.safely(ctx, nil)
		x.update(func(s *Status) { s.Running = false })
		if ctx.Err() != nil {
			return ctx.Err()
		}
		wait := x.c.Interval
		if x.hold(nil) && err != nil {
			x.c.Logger.Info("indexing gave its connection to a mail program and comes back", "after", wait)
			err = errYielded
		} else if err != nil {
			x.c.Logger.Warn("indexing stopped and will be tried again", "error", err, "after", pause)
			wait, pause = pause, min(2*pause, most)
		} else {
			pause = least
		}
		x.update(func(s *Status) { s.Problem = problem(err) })
		if err := x.rest(ctx, wait, err == nil); err != nil {
			return err
		}
	}
}

// rest waits until everything is to be looked at again. Where all is well, it
// looks at what sessions tell of meanwhile. The error is that of ctx.
func (x *Indexer) rest(ctx context.Context, wait time.Duration, well bool) error {
	over := x.c.After(wait)
	heard := x.heard
	if !well {
		heard = nil
	}
	var gap <-chan time.Time // runs since the last news
	for {
		open := heard
		if gap != nil {
			open = nil
		}
		select {
		case <-over:
			return nil
		case <-x.wake:
			return nil
		case <-gap:
			gap = nil
		case <-open:
			err := x.safely(ctx, x.told())
			x.update(func(s *Status) { s.Running = false })
			if ctx.Err() == nil && (x.hold(nil) || err != nil) {
				x.c.Logger.Info("indexing of what is new was cut short", "error", err)
				heard = nil
			}
			gap = x.c.After(newsGap)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var errYielded = errors.New("a mail program needs its connection; the upstream server allows no more")

// hold notes the connection that yield may close, or that there is none, and
// tells whether it did close one since.
func (x *Indexer) hold(conn net.Conn) (gave bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.conn, gave, x.gave = conn, x.gave, false
	return gave
}

// yield closes the connection to the upstream, if there is one.
func (x *Indexer) yield() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.conn == nil {
		return false
	}
	_ = x.conn.Close()
	x.conn, x.gave = nil, true
	return true
}

// problem says what is wrong for a person.
func problem(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, pgp.ErrLocked):
		return "the secret keys are locked"
	}
	return err.Error()
}

// pass connects, looks at every mailbox, or only at those of that name, and logs
// out.
func (x *Indexer) pass(ctx context.Context, only map[string]bool) error {
	conn, err := x.c.Dial(ctx)
	if err != nil {
		return fmt.Errorf("connecting to the upstream: %w", err)
	}
	conn = &progress{Conn: conn}
	// imapclient knows no ctx: ending the connection ends whatever waits for it.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	x.hold(conn)
	defer stop()
	defer conn.Close()
	client, err := x.c.Client(conn)
	if err != nil {
		return fmt.Errorf("greeting the upstream: %w", err)
	}
	defer client.Close()
	if err := x.c.Login(ctx, client); err != nil {
		return fmt.Errorf("logging in to the upstream: %w", err)
	}
	if client.Caps().Has(imap.CapID) { // some servers open no mailbox for those who don't say who they are
		var refused *imap.Error
		if _, err := client.ID(&imap.IDData{Name: "Letterlock", Vendor: "Letterlock"}).Wait(); err != nil && !errors.As(err, &refused) {
			return fmt.Errorf("greeting the upstream: %w", err)
		}
	}
	x.update(func(s *Status) { s.Running, s.Problem = true, "" })
	boxes, err := listBoxes(client)
	if err != nil {
		return err
	}
	x.update(func(s *Status) { s.Mailboxes = statuses(boxes, s.Mailboxes) })
	live := map[string]uint32{}
	for _, box := range boxes {
		if only != nil && !only[canonical(box.name)] {
			continue
		}
		s := &scan{x: x, client: client, box: box}
		uidvalidity, err := s.mailbox(ctx)
		if err != nil {
			return fmt.Errorf("indexing a mailbox: %w", err)
		}
		live[canonical(box.name)] = uidvalidity
	}
	if only != nil {
		return client.Logout().Wait()
	}
	if len(boxes) < maxBoxes { // else some are not listed
		if err := x.c.Library.Sweep(ctx, live); err != nil {
			return fmt.Errorf("dropping mailboxes that are gone: %w", err)
		}
	}
	x.update(func(s *Status) { s.Finished = x.c.Library.c.Now() })
	return client.Logout().Wait()
}

// statuses makes a line for each mailbox, keeping the counts of known ones.
func statuses(boxes []box, old []MailboxStatus) []MailboxStatus {
	var all []MailboxStatus
	for _, b := range boxes {
		s := MailboxStatus{Name: b.display}
		for _, o := range old {
			if o.Name == s.Name {
				s = o
			}
		}
		all = append(all, s)
	}
	return all
}

// giveWay waits while clients are being served, up to a minute.
func (x *Indexer) giveWay(ctx context.Context) error {
	for i := 0; i < 240 && x.c.Busy(); i++ {
		select {
		case <-x.c.After(250 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return ctx.Err()
}

// progress is a connection on which something must happen now and then:
// imapclient itself would wait for ever between two responses.
type progress struct{ net.Conn }

const stalled = 5 * time.Minute

func (p *progress) Read(b []byte) (int, error) {
	p.Conn.SetReadDeadline(time.Now().Add(stalled))
	return p.Conn.Read(b)
}

func (p *progress) Write(b []byte) (int, error) {
	p.Conn.SetWriteDeadline(time.Now().Add(stalled))
	return p.Conn.Write(b)
}

// SetDeadline and its like do nothing: imapclient's are absolute, and would end
// a large literal on a slow line.
func (p *progress) SetDeadline(time.Time) error      { return nil }
func (p *progress) SetReadDeadline(time.Time) error  { return nil }
func (p *progress) SetWriteDeadline(time.Time) error { return nil }
