package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// ErrChanged means that a message which was opened before cannot be opened
// now, though it is the same: the key that opened it is gone. Its row still
// says what was told to clients, so it is not shown otherwise.
var ErrChanged = errors.New("a message that was opened before cannot be opened any more")

// ErrSwapped means that the upstream gives another message under a UID than it gave
// before, and that what was shown of the first says who signed it: clients keep
// that, and would show the other one's text below. UIDs name one message for ever
// (RFC 3501, Section 2.3.1.1). What is known of the first stays.
var ErrSwapped = errors.New("the upstream server gave another message under the number of a signed one, and that is not shown; " +
	"if the server was restored from a backup, move the message to another folder there, with another mail program")

// ErrNothing means that the upstream gives not one byte of a message. Nothing is
// remembered of that: some servers do so for a while.
var ErrNothing = errors.New("the upstream server gives nothing of a message")

// Rendering is a message as a client sees it. It is shared; the caller closes
// it, and may use it from several goroutines until then.
type Rendering struct {
	// Class is Encrypted, or what opening found instead; then the message is
	// shown as it arrived, Message is nil and Reason may say why.
	Class  pgp.Class
	Row    *Row
	Reason string
	// Message answers for sections, sizes and structure.
	Message *render.Message

	held *cached
	once sync.Once
}

// Close gives the rendering back. It may be called twice.
func (r *Rendering) Close() {
	r.once.Do(func() {
		if r.held != nil {
			r.held.release()
		}
	})
}

// Rendering gives a message as a client sees it, opening it unless it is
// cached: at most once at a time for each UID. raw fetches the message as the
// upstream has it; if its Source is an io.Closer, it is closed. raw is called
// with the ctx of one of the callers that wait.
//
// When it returns without error, class, keywords, verdict and row are on disk.
// An error means that nothing is known: keys locked, store failing, ctx, or raw
// failed.
func (m *Mailbox) Rendering(ctx context.Context, uid uint32, raw func(context.Context) (message.Source, error)) (*Rendering, error) {
	m.lib.touch()
	for {
		if held := m.lib.cache.get(cacheKey{m.id, uid}); held != nil {
			return &Rendering{Class: pgp.Encrypted, Row: held.row, Message: held.message, held: held}, nil
		}
		if e := m.entry(uid); e.state&settled != 0 && e.class != pgp.Encrypted {
			return &Rendering{Class: e.class}, nil
		}
		f, lead := m.flights.join(uid)
		if lead {
			held, class, reason, err := m.open(ctx, uid, raw, true)
			m.flights.land(uid, f, err)
			if err != nil {
				return nil, err
			}
			if held == nil {
				return &Rendering{Class: class, Reason: reason}, nil
			}
			return &Rendering{Class: class, Row: held.row, Message: held.message, held: held}, nil
		}
		select {
		case <-f.done:
			// The leader's own end is not ours; everything else would come again.
			if f.err != nil && !errors.Is(f.err, context.Canceled) && !errors.Is(f.err, context.DeadlineExceeded) {
				return nil, f.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

func (m *Mailbox) entry(uid uint32) entry {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.entries[uid]
}

// index opens and stores a message as Rendering does, without keeping its
// rendering: what clients read last stays in the cache.
func (m *Mailbox) index(ctx context.Context, uid uint32, src message.Source) error {
	f, lead := m.flights.join(uid)
	if !lead {
		return nil // a client's fetch does it
	}
	_, _, _, err := m.open(ctx, uid, func(context.Context) (message.Source, error) { return borrowed{src}, nil }, false)
	m.flights.land(uid, f, err)
	return err
}

// open fetches, opens and stores one message. held is nil unless the class is
// Encrypted and keep is set; else the caller releases it.
func (m *Mailbox) open(ctx context.Context, uid uint32, raw func(context.Context) (message.Source, error), keep bool) (held *cached, class pgp.Class, reason string, err error) {
	defer func() {
		if p := recover(); p != nil {
			held, err = nil, fmt.Errorf("opening UID %d: %w", uid, m.lib.panicked(p))
		}
	}()
	slots := m.lib.opening
	if !keep {
		slots = m.lib.indexing
	}
	o, err := m.lib.fetchAndJudge(ctx, slots, raw)
	if errors.Is(err, message.ErrTooLarge) {
		o, err = tooLarge(m.lib), nil
	}
	if err != nil {
		return nil, "", "", fmt.Errorf("opening UID %d: %w", uid, err)
	}
	defer o.ticket.end()
	if err := m.settle(ctx, uid, o); err != nil {
		o.close()
		return nil, "", "", fmt.Errorf("storing what is known of UID %d: %w", uid, err)
	}
	if o.opened.Class != pgp.Encrypted || !keep {
		o.close()
		return nil, o.opened.Class, o.opened.Reason, nil
	}
	return m.lib.cache.add(cacheKey{m.id, uid}, o.row, o.message, o.opened.Rendering), pgp.Encrypted, "", nil
}

// fetchAndJudge does what costs processor time, in one of the slots; storing
// the outcome mostly waits for the disk.
func (l *Library) fetchAndJudge(ctx context.Context, slots chan struct{}, raw func(context.Context) (message.Source, error)) (*judged, error) {
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	src, err := raw(ctx)
	if err != nil {
		return nil, err
	}
	if c, ok := src.(io.Closer); ok {
		defer c.Close()
	}
	if src.Size() == 0 {
		return nil, ErrNothing
	}
	return l.judge(ctx, src)
}

// flights are the openings under way in a mailbox.
type flights struct {
	mu    sync.Mutex
	under map[uint32]*flight // guarded by mu
}

type flight struct {
	done chan struct{}
	err  error // set before done is closed
}

// join gives the flight of uid; lead means that the caller must land it.
func (f *flights) join(uid uint32) (*flight, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if under := f.under[uid]; under != nil {
		return under, false
	}
	f.under[uid] = &flight{done: make(chan struct{})}
	return f.under[uid], true
}

func (f *flights) land(uid uint32, under *flight, err error) {
	f.mu.Lock()
	delete(f.under, uid)
	f.mu.Unlock()
	under.err = err
	close(under.done)
}

// Cached gives a rendering that is kept, without any I/O upstream or in the
// store; ok is false if there is none. The caller closes it.
func (m *Mailbox) Cached(uid uint32) (r *Rendering, ok bool) {
	m.lib.touch()
	held := m.lib.cache.get(cacheKey{m.id, uid})
	if held == nil {
		return nil, false
	}
	return &Rendering{Class: pgp.Encrypted, Row: held.row, Message: held.message, held: held}, true
}

// Open is Rendering of a message that the caller has fetched already; src stays
// the caller's.
func (m *Mailbox) Open(ctx context.Context, uid uint32, src message.Source) (*Rendering, error) {
	return m.Rendering(ctx, uid, func(context.Context) (message.Source, error) { return borrowed{src}, nil })
}

// borrowed hides that a Source could be closed.
type borrowed struct{ message.Source }
