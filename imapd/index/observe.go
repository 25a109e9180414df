package index

import (
	"context"
	"net/mail"
	"slices"
	"sync"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// observed is what a root header shows of its sender's certificate: nothing
// without an Autocrypt field, or unless From is one address.
func observed(h message.Header) []keydir.Observation {
	fields := h.All("Autocrypt")
	from := h.All("From")
	if len(fields) == 0 || len(from) != 1 {
		return nil
	}
	list, err := address.ParseList(from[0].Value())
	if err != nil || len(list) != 1 {
		return nil
	}
	seen := keydir.Observation{From: list[0].Address, Results: results(h)}
	for _, f := range fields {
		seen.Autocrypt = append(seen.Autocrypt, f.Value())
	}
	if sizeOf(seen) > maxObserved {
		return nil
	}
	if date, err := mail.ParseDate(h.Get("Date")); err == nil {
		seen.Date = date
	}
	return []keydir.Observation{seen}
}

// maxObserved bounds what is kept of one message, in bytes: certificates that fit an
// Autocrypt field (Autocrypt 1.1, Section 2.1) are far smaller.
const maxObserved = 128 << 10

// sizeOf is how many bytes an observation keeps in memory, about.
func sizeOf(o keydir.Observation) int {
	n := 200
	for _, s := range slices.Concat(o.Autocrypt, o.Results) {
		n += len(s)
	}
	return n
}

// maxResults bounds what is kept of a message's Authentication-Results, in bytes.
const maxResults = 16 << 10

// results are the values of the topmost Authentication-Results fields.
func results(h message.Header) (out []string) {
	left := maxResults
	for _, f := range h.All("Authentication-Results") {
		v := f.Value()
		if left -= len(v); left < 0 {
			break
		}
		out = append(out, v)
	}
	return out
}

// maxHeader bounds the root header that is looked at.
const maxHeader = 1 << 20

// observeOuter tells what the header outside of encryption shows, and gives what
// mail servers said of the message there.
func (l *Library) observeOuter(ctx context.Context, src message.Source) ([]string, error) {
	if l.c.Observe == nil {
		return nil, nil
	}
	head := make([]byte, min(src.Size(), maxHeader))
	if n, err := src.ReadAt(head, 0); int64(n) < int64(len(head)) {
		return nil, err
	}
	h, err := message.ReadHeader(message.Bytes(head), maxHeader)
	if err != nil {
		return nil, nil // no header that anyone reads
	}
	for _, seen := range observed(h) {
		l.c.Observe(ctx, seen)
	}
	return results(h), nil
}

// recipients are the addresses of To and Cc.
func recipients(header []byte) (out []address.Address) {
	h := message.ParseHeader(header)
	for _, name := range []string{"To", "Cc"} {
		for _, f := range h.All(name) {
			list, err := address.ParseList(f.Value())
			if err != nil {
				continue
			}
			for _, one := range list {
				out = append(out, one.Address)
			}
		}
	}
	return out
}

// observeOpened tells what opening a message for the first time showed.
func (l *Library) observeOpened(ctx context.Context, o *judged) {
	seen := keydir.Observation{From: o.row.From, Autocrypt: o.opened.Autocrypt, Date: o.row.Sent, Results: o.results, Gossip: o.opened.Gossip}
	if len(seen.Gossip) > 0 {
		seen.Recipients = recipients(o.row.Header)
	}
	if o.row.Verdict.Signature.Good() {
		seen.Signer, seen.NotForUs = o.row.Verdict.Signer, o.row.Verdict.Warns(pgp.WarnNotForUs)
	}
	if own := *l.names.Load(); len(own) > 0 {
		seen.Account = own[0]
	}
	if l.c.Observe == nil || seen.From.IsZero() || len(seen.Autocrypt)+len(seen.Gossip) == 0 && seen.Signer == "" {
		return
	}
	l.c.Observe(ctx, seen)
}

// observations are told one after the other while clients are answered.
type observations struct {
	mu      sync.Mutex
	waiting []keydir.Observation // guarded by mu
	bytes   int                  // guarded by mu: of waiting
	busy    bool                 // guarded by mu
	done    sync.WaitGroup
}

// maxObservations bounds the bytes that wait; more is not told. What plain mail
// shows is shown again by the next message.
const maxObservations = 32 << 20

// observeLater tells what plain messages show, without waiting for it.
func (l *Library) observeLater(seen []keydir.Observation) {
	if l.c.Observe == nil || len(seen) == 0 {
		return
	}
	o := &l.plain
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, one := range seen {
		if n := sizeOf(one); o.bytes+n <= maxObservations {
			o.waiting, o.bytes = append(o.waiting, one), o.bytes+n
		}
	}
	if o.busy {
		return
	}
	o.busy = true
	o.done.Go(func() {
		for {
			o.mu.Lock()
			batch := o.waiting
			o.waiting, o.bytes = nil, 0
			o.busy = len(batch) > 0
			o.mu.Unlock()
			if len(batch) == 0 {
				return
			}
			for _, seen := range batch {
				l.c.Observe(context.Background(), seen)
			}
		}
	})
}

func (o *observations) wait() { o.done.Wait() }
