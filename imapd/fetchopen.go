package imapd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/render"
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
	j.mu.Lock()
	j.later[g.uid] = &kept{uid: g.uid, dynamic: g.dynamic}
	j.mu.Unlock()
	return nil
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
// It is false if none is.
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

// fetchLater fetches the encrypted messages that could not be answered for.
func (j *fetchJob) fetchLater() error {
	return j.again(func() []uint32 {
		uids := make([]uint32, 0, len(j.later))
		for uid := range j.later {
			uids = append(uids, uid)
		}
		slices.Sort(uids)
		return uids
	}(), "(UID BODY.PEEK[])", j.laterResponse)
}

// fetchAsIs fetches, as the client asked for it, what turned out not to be
// opened.
func (j *fetchJob) fetchAsIs() error {
	slices.Sort(j.asIs)
	items := append(j.withUID(), j.requestsFor(j.items)...)
	return j.again(slices.Compact(j.asIs), "("+strings.Join(items, " ")+")",
		func(seq uint32) error { return j.s.fetchResponse(seq, j.box, []*fetchJob{j}) })
}

// again fetches items of some messages, by the same kind of command as the
// client's, so that EXPUNGE responses come only if the client may have them.
func (j *fetchJob) again(uids []uint32, items string, take func(seq uint32) error) error {
	for chunk := range slices.Chunk(uids, 500) {
		name, numbers := "UID FETCH ", chunk
		if !j.uid {
			name = "FETCH "
			if numbers = j.box.view.numbers(chunk); len(numbers) == 0 {
				continue
			}
		}
		o := (&wire.Out{}).String(name + wire.MakeSet(numbers).String() + " " + items)
		if _, _, err := j.s.relay.run(o, j.pending(take)); err != nil {
			return err
		}
	}
	return nil
}

// laterResponse takes a message that is to be opened.
func (j *fetchJob) laterResponse(seq uint32) error {
	f, err := j.s.up.r.Fetch()
	if err != nil {
		return err
	}
	uid := j.box.view.uid(seq)
	k := &kept{}
	defer func() {
		if k.raw != nil {
			_ = k.raw.Close()
		}
	}()
	var dynamic []dynamicItem
	tooLarge, lost, none := false, false, false
	for {
		item, err := f.Next()
		if j.s.noMore(err) {
			break
		}
		if err != nil {
			return err
		}
		switch {
		case wire.EqualFold(item.Name, "UID"):
			n, err := readUID(item.Value)
			if err != nil || uid != 0 && n != uid {
				return fmt.Errorf("%w: UID changed", wire.ErrDesync)
			}
			uid = n
		case wire.EqualFold(item.Name, "FLAGS"), wire.EqualFold(item.Name, "MODSEQ"):
			if len(dynamic) >= maxItems {
				return fmt.Errorf("%w: FETCH of too many items", wire.ErrDesync)
			}
			if wire.EqualFold(item.Name, "MODSEQ") {
				j.box.sawModSeq(item.Value)
			}
			dynamic = append(dynamic, dynamicItem{bytes.Clone(item.Name), bytes.Clone(item.Value)})
		case wire.EqualFold(item.Name, "BODY[]") && k.raw == nil && item.Literal:
			if k.raw, err = j.s.spool(f, nil, item.Size); err != nil {
				return err
			}
			tooLarge = k.raw == nil && item.Size > j.s.spoolLimit()
			lost = k.raw == nil
		case wire.EqualFold(item.Name, "BODY[]") && !item.Literal:
			none = true
		}
	}
	was := j.later[uid]
	switch {
	case len(dynamic) > 0 && j.merge(uid, dynamic):
	case len(dynamic) > 0:
		return j.dynamicOnly(&gathering{seq: seq, sawUID: true, kept: kept{uid: uid, dynamic: dynamic}})
	}
	if was == nil || k.raw == nil && !tooLarge {
		if was != nil && none {
			j.setAnswered(uid)
			j.write(was, nil, nil)
		}
		if was != nil && lost {
			j.setAnswered(uid)
			j.failed(was, errors.New("upstream gives no message"))
		}
		return nil
	}
	j.setAnswered(uid)
	j.work(&kept{uid: uid, dynamic: was.dynamic, news: was.news, raw: k.raw})
	k.raw = nil
	return nil
}

// clientOf gives the client's number of a UID.
func (v *view) clientOf(uid uint32) (uint32, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	i := v.find(uid)
	if i >= len(v.uids) || v.uids[i] != uid {
		return 0, false
	}
	return v.toClient(uint32(i) + 1), true
}

// numbers gives the upstream's sequence numbers of UIDs, ascending.
func (v *view) numbers(uids []uint32) []uint32 {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []uint32
	for _, uid := range uids {
		if i := v.find(uid); i < len(v.uids) && v.uids[i] == uid {
			out = append(out, uint32(i)+1)
		}
	}
	return out
}

// write writes the FETCH response of an encrypted message: what the upstream
// said of its place in the mailbox, and all that is content from the rendering
// (m), or from the row alone (m is nil).
func (j *fetchJob) write(k *kept, row *index.Row, m *render.Message) {
	o := j.s.out
	o.Lock()
	defer o.Unlock()
	// The number under which the client has it now, not when it was fetched.
	number, ok := j.box.view.clientOf(k.uid)
	if !ok {
		return // expunged meanwhile
	}
	if row != nil && !j.box.headers.rendered(k.uid, row.Raw) {
		j.swapped(k.uid)
		return
	}
	w := &responseWriter{s: j.s, box: j.box, jobs: []*fetchJob{j}, uid: k.uid, class: pgp.Encrypted, o: o}
	_, _ = o.w.WriteString("* " + itoa(int64(number)) + " FETCH (")
	w.first = true
	if err := j.writeItems(w, k, row, m); err != nil {
		// The response is cut in the middle: nothing may follow it.
		j.s.log.Warn("rendering could not be read", "uid", k.uid, "reason", reason(err))
		j.s.cut()
	}
}

func (j *fetchJob) writeItems(w *responseWriter, k *kept, row *index.Row, m *render.Message) error {
	if j.wantUID || row == nil { // RFC 7162, Section 3.2.3: what nobody asked for has its UID
		if err := w.text([]byte("UID"), []byte(itoa(int64(k.uid)))); err != nil {
			return err
		}
	}
	for _, d := range j.take(k) {
		value := d.value
		if wire.EqualFold(d.name, "FLAGS") {
			value = w.flags(value)
		}
		if err := w.text(d.name, value); err != nil {
			return err
		}
	}
	for i, item := range j.items {
		if row == nil || !item.Content() || item.Section == nil && slices.ContainsFunc(j.items[:i], func(o wire.FetchItem) bool { return o.Request() == item.Request() }) {
			continue
		}
		if err := w.rendered(item, row, m); err != nil {
			return err
		}
	}
	return w.end()
}

// rendered writes one item of content from the rendering.
func (w *responseWriter) rendered(item wire.FetchItem, row *index.Row, m *render.Message) error {
	name := []byte(item.Response())
	section := item.Section
	switch item.Name {
	case "RFC822.SIZE":
		return w.text(name, []byte(itoa(row.Size)))
	case "ENVELOPE":
		return w.text(name, row.Envelope)
	case "BODYSTRUCTURE":
		return w.text(name, row.BodyStructure)
	case "BODY":
		if section == nil {
			return w.text(name, row.Body)
		}
	case "RFC822":
		section = &wire.Section{}
	case "RFC822.HEADER":
		section = &wire.Section{Kind: "HEADER"}
	case "RFC822.TEXT":
		section = &wire.Section{Kind: "TEXT"}
	}
	var src message.Source
	switch {
	case m != nil:
		var ok bool
		if src, ok = m.Section(*section); !ok {
			// NIL would be as true (nstring), but some clients take its three
			// letters for the content; Dovecot says it like this too.
			src = message.Bytes(nil)
		}
	case section.Kind == "HEADER":
		src = message.Bytes(row.Header)
	default:
		src = message.Bytes(render.HeaderFields(message.ParseHeader(row.Header), section.Fields, section.Kind == "HEADER.FIELDS.NOT"))
	}
	if item.Partial != nil {
		src = render.Partial(src, item.Partial.Offset, item.Partial.Count)
	}
	_, err := io.Copy(w.begin(name, src.Size()).w, message.Reader(src))
	return err
}
