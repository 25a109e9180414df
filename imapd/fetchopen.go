package imapd

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/mishap"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// rowOnly tells whether all that the client asks for is in the index's row.
func (j *fetchJob) rowOnly() bool {
	return !slices.ContainsFunc(j.items, func(i wire.FetchItem) bool {
		switch i.Name {
		case "RFC822", "RFC822.TEXT":
			return true
		}
		return i.Section != nil && (len(i.Section.Part) > 0 || i.Section.Kind == "" || i.Section.Kind == "TEXT")
	})
}

// answerable tells whether an encrypted message can be answered for without
// the upstream, as far as that can be told without I/O.
func (j *fetchJob) answerable(uid uint32) bool {
	if r, ok := j.lib.Cached(uid); ok {
		r.Close()
		return true
	}
	return j.rowOnly() && j.lib.Settled(uid) // then it has a row
}

// gathered answers for an encrypted message if that is possible now, and keeps
// it for later if not. Responses that nobody asked for tell of no content.
func (j *fetchJob) gathered(g *gathering) error {
	if g.short && g.class == pgp.Unclassified && j.asked(g.uid) || j.owesPicks(g) {
		return j.tooShort(g)
	}
	if g.class == pgp.Unclassified && j.asked(g.uid) {
		return j.split(g)
	}
	if g.class != pgp.Encrypted || !j.asked(g.uid) || j.answered[g.uid] || j.later[g.uid] != nil && g.raw == nil {
		if j.merge(g.uid, g.dynamic) {
			return nil
		}
		return j.dynamicOnly(g)
	}
	if was := j.later[g.uid]; was != nil {
		g.dynamic = merged(was.dynamic, g.dynamic)
	}
	if j.fromIndex(&g.kept) {
		j.setAnswered(g.uid)
		return nil
	}
	if g.raw != nil {
		j.setAnswered(g.uid)
		k := g.kept
		g.raw = nil // the worker's now
		j.work(&k)
		return nil
	}
	if j.later == nil {
		j.later = map[uint32]*kept{}
	}
	j.hold(g.dynamic)
	j.mu.Lock()
	j.later[g.uid] = &kept{uid: g.uid, dynamic: g.dynamic}
	j.mu.Unlock()
	return nil
}

// hold counts what is kept.
func (j *fetchJob) hold(items []dynamicItem) {
	for _, d := range items {
		j.held += len(d.value)
	}
}

func (j *fetchJob) setAnswered(uid uint32) {
	if j.answered == nil {
		j.answered = map[uint32]bool{}
	}
	j.answered[uid] = true
	j.mu.Lock()
	delete(j.later, uid)
	j.mu.Unlock()
}

// merge puts what the upstream tells of a message into the answer that is still
// to be written, so that the client is never told older flags after newer ones.
// It is false if none is. Run by the responder.
func (j *fetchJob) merge(uid uint32, news []dynamicItem) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	k := j.underway[uid]
	if k == nil {
		k = j.later[uid]
	}
	if k == nil {
		return false
	}
	j.hold(news)
	k.dynamic = merged(k.dynamic, news)
	k.news = k.news || len(news) > 0
	return true
}

// merged puts newer values in the place of older ones.
func merged(items, news []dynamicItem) []dynamicItem {
	for _, n := range news {
		i := slices.IndexFunc(items, func(d dynamicItem) bool { return wire.EqualFold(d.name, string(n.name)) })
		if i >= 0 {
			items[i] = n
		} else {
			items = append(items, n)
		}
	}
	return items
}

// asked tells whether the client asked for a message that is not known to be
// shown as it arrived.
func (j *fetchJob) asked(uid uint32) bool {
	_, fresh := slices.BinarySearch(j.fresh, uid)
	_, encrypted := slices.BinarySearch(j.encrypted, uid)
	return fresh || encrypted
}

// dynamicOnly passes on what a response says of a message's place.
func (j *fetchJob) dynamicOnly(g *gathering) error {
	if len(g.dynamic) == 0 {
		return nil
	}
	w := &responseWriter{s: j.s, box: j.box, jobs: []*fetchJob{j}, seq: g.seq, uid: g.uid}
	defer w.release()
	g.contents = nil
	if err := j.replay(w, g); err != nil {
		return err
	}
	return w.end()
}

// unclassified tells whether a message is still there of which the upstream told
// something, and not enough to answer for it. Of what it told nothing of at all, it
// would have told the client nothing either.
func (j *fetchJob) unclassified() bool {
	return slices.ContainsFunc(j.box.view.present(j.fresh), func(uid uint32) bool {
		return j.short[uid] && j.class(uid) == pgp.Unclassified
	})
}

// work answers for an encrypted message, beside the responder: opening takes a
// while, and what several have found is stored in one go.
func (j *fetchJob) work(k *kept) {
	j.mu.Lock()
	if j.underway == nil {
		j.underway = map[uint32]*kept{}
	}
	j.underway[k.uid] = k
	j.mu.Unlock()
	j.slots <- struct{}{}
	j.workers.Add(1)
	j.s.relay.working.Add(1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				j.failed(k, fmt.Errorf("fault of ours: %s", mishap.Text(p)))
				j.s.log.Error("opening a message panicked", "stack", string(debug.Stack()))
			}
			if k.raw != nil {
				_ = k.raw.Close()
			}
			j.leftOver(k)
			j.s.relay.working.Add(-1)
			j.workers.Done()
			<-j.slots
		}()
		j.answer(k)
	}()
}

// take ends the time in which news are put into k's answer.
func (j *fetchJob) take(k *kept) []dynamicItem {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.underway, k.uid)
	return k.dynamic
}

// leftOver tells the client news of a message whose answer was not written.
func (j *fetchJob) leftOver(k *kept) {
	j.mu.Lock()
	news := k.news && j.underway[k.uid] != nil
	j.mu.Unlock()
	if news {
		j.write(k, nil, nil)
	}
	j.take(k)
}

// fromIndex writes the FETCH response of an encrypted message from its row or
// from a rendering that is kept. It is false if there is none.
func (j *fetchJob) fromIndex(k *kept) bool {
	if r, ok := j.lib.Cached(k.uid); ok {
		defer r.Close()
		j.write(k, r.Row, r.Message)
		return true
	}
	if !j.rowOnly() {
		return false
	}
	row, err := j.lib.Row(j.s.ctx, k.uid)
	if err != nil {
		if !errors.Is(err, store.ErrNoRow) {
			j.s.log.Warn("index row cannot be read", "uid", k.uid, "reason", reason(err))
		}
		return false
	}
	j.write(k, row, nil)
	return true
}

// answer writes the FETCH response of an encrypted message that was fetched.
// Everything is at hand before the first byte is written.
func (j *fetchJob) answer(k *kept) {
	r, err := j.lib.Rendering(j.s.ctx, k.uid, func(context.Context) (message.Source, error) {
		if k.raw == nil {
			return nil, message.ErrTooLarge
		}
		return struct{ message.Source }{k.raw}, nil // closed by work
	})
	if errors.Is(err, index.ErrNothing) {
		j.write(k, nil, nil)
		return
	}
	if err != nil {
		j.failed(k, err)
		return
	}
	defer r.Close()
	if r.Class != pgp.Encrypted {
		if j.box.headers.wasRendered(k.uid) {
			j.swapped(k.uid)
			return
		}
		j.mu.Lock()
		j.asIs = append(j.asIs, k.uid)
		j.mu.Unlock()
		return
	}
	j.write(k, r.Row, r.Message)
}

// swapped ends a session whose client would put two messages together.
func (j *fetchJob) swapped(uid uint32) {
	j.s.log.Warn("the upstream gives another message under a UID than it gave", "uid", uid)
	j.s.cut()
}

// failed notes that a message cannot be opened for now. Its ciphertext is not
// shown instead: the client would keep it for ever.
func (j *fetchJob) failed(k *kept, err error) {
	j.mu.Lock()
	j.unavailable = true
	j.mu.Unlock()
	if j.s.ctx.Err() == nil {
		j.s.log.Warn("message cannot be opened now", "uid", k.uid, "reason", reason(err))
	}
}
