package imapd

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// classBy says by which items of a FETCH the classes of messages are found.
// Whatever they are, the class is told by the same bytes: the whole root header
// and, where that says so, the text's beginning.
type classBy int

const (
	byNothing   classBy = iota
	byHeader            // BODY[HEADER] and BODY[TEXT]<0>
	byBeginning         // BODY[]<0>, which is one file to open where two items are two
	byMessage           // BODY[] or RFC822, which the client asks for anyway
)

// sampleAbove is how many unclassified messages are worth a command of its own
// that looks at a few of them, to know how much to ask for of the others.
const sampleAbove = 200

// first is those of the unclassified messages to look at before the others, if
// any: all where most messages have their class, a sample of many.
func (j *fetchJob) first(lib *index.Mailbox) []uint32 {
	switch {
	case len(j.fresh) == 0:
		return nil
	case j.ambiguous() || slices.ContainsFunc(j.items, func(i wire.FetchItem) bool { return j.cutByUs(i) || far(i) }):
		// Alone, so that no item of ours has the name of two of the client's, and
		// that it is known how far the header goes.
		return j.fresh
	case j.asksMessage() || j.find([]byte("BODY[HEADER]")) != nil:
		return nil
	case j.all-len(j.fresh) > sampleAbove+len(j.fresh):
		return j.fresh
	case len(j.fresh) < sampleAbove:
		return nil
	}
	if _, known := lib.Beginning(); known {
		return nil
	}
	const n = 24
	some := make([]uint32, n)
	for i := range some {
		some[i] = j.fresh[i*len(j.fresh)/n]
	}
	return some
}

// chooseClassBy chooses the items that cost the upstream least.
func (j *fetchJob) chooseClassBy() {
	switch {
	case j.find([]byte("BODY[HEADER]")) != nil || slices.ContainsFunc(j.items, j.cutByUs):
		j.by = byHeader
		return
	case j.asksMessage():
		j.by = byMessage
		return
	}
	n, _ := j.lib.Beginning()
	j.by, j.beginning = byBeginning, int64(n)
	if i := j.find([]byte("BODY[]<0>")); i != nil && i.Partial.Count >= max(j.beginning, 1<<10) {
		j.beginning = i.Partial.Count
	}
	if j.beginning == 0 {
		j.by = byHeader
	}
}

func (j *fetchJob) asksMessage() bool {
	return j.find([]byte("BODY[]")) != nil || j.find([]byte("RFC822")) != nil
}

// classItems are what a message's class is found by, as far as the client does
// not ask for it.
func (j *fetchJob) classItems() []string {
	var items []string
	switch {
	case j.by == byBeginning && j.find([]byte("BODY[]<0>")) == nil:
		items = append(items, "BODY.PEEK[]<0."+strconv.FormatInt(j.beginning, 10)+">")
	case j.by == byHeader:
		if j.find([]byte("BODY[HEADER]")) == nil {
			items = append(items, index.ClassItems)
		}
		if j.find([]byte("BODY[TEXT]<0>")) == nil {
			items = append(items, index.PrefixItem)
		}
	}
	return items
}

// requests are the client's items; a beginning that is shorter than what the
// class is found by is asked for longer, and cut by us.
func (j *fetchJob) requests() []string {
	items := slices.DeleteFunc(slices.Clone(j.items), func(i wire.FetchItem) bool { return len(j.picks) > 0 && pickable(i) })
	for i, item := range items {
		least := int64(0)
		switch name := item.Response(); {
		case j.by == byHeader && name == "BODY[TEXT]<0>":
			least = index.PrefixBytes
		case j.by == byBeginning && name == "BODY[]<0>":
			least = j.beginning
		}
		if least > 0 && item.Partial.Count < least {
			items[i].Partial = &wire.Partial{Offset: 0, Count: least}
		}
	}
	return j.requestsFor(items)
}

// cutTo is how much of an item's size bytes the client asked for.
func (j *fetchJob) cutTo(size int64, asked wire.FetchItem) int64 {
	if j.by != byNothing && asked.Partial != nil {
		return min(size, asked.Partial.Count)
	}
	return size
}

// isBeginning tells whether an item is the one that holds the message's first
// bytes.
func (j *fetchJob) isBeginning(name []byte) bool {
	switch j.by {
	case byBeginning:
		return wire.EqualFold(name, "BODY[]<0>")
	case byMessage:
		return wire.EqualFold(name, "BODY[]") || wire.EqualFold(name, "RFC822")
	}
	return false
}

// begun is an item of which the first bytes were read to find the class.
type begun struct {
	name []byte
	head []byte // of fetchJob.header
	size int64  // in all
}

// gatherBeginning finds the class by the first bytes of an item, and keeps these
// where the client asked for it.
func (j *fetchJob) gatherBeginning(f *wire.FetchReader, g *gathering, item wire.Item) error {
	b := begun{name: bytes.Clone(item.Name), size: item.Size}
	j.header = j.header[:0]
	if !item.Literal {
		text := item.String()
		if text == nil { // no message has no bytes
			g.short = true
			return nil
		}
		j.header = append(j.header, text...)
		b.size = int64(len(text))
	}
	complete := j.by == byMessage || b.size < j.beginning
	for step := int64(4 << 10); ; step *= 2 {
		if err := f.CopyN((*appender)(&j.header), step); err != nil {
			return err
		}
		ended := int64(len(j.header)) >= b.size
		// Of what is longer than any header the beginning counts.
		root, text, ok := index.ReadBeginning(j.header, complete && ended || len(j.header) > maxHeader)
		if ok {
			g.root, g.hasHeader, g.prefix, g.hasPrefix = root, true, text, true
		}
		if ok || ended {
			break
		}
	}
	b.head = j.header
	if !g.hasHeader {
		g.short = true
		return nil
	}
	j.decide(g)
	j.pick(g)
	asked := j.find(b.name)
	switch {
	case g.class == pgp.Encrypted:
		return j.keepBegun(f, g, b)
	case asked == nil:
		return nil
	case g.class != pgp.Unclassified:
		g.begun = &b // the rest streams through
		return nil
	}
	c := content{name: b.name} // the server has not told the UID yet
	size := j.cutTo(b.size, *asked)
	var err error
	if c.spool, err = j.s.spool(f, b.head[:min(int64(len(b.head)), size)], size); err != nil || c.spool == nil {
		return err
	}
	g.contents = append(g.contents, c)
	return nil
}

// gatherClassItem finds the class by the root header or by the text's beginning,
// and keeps the item where the client asked for it. Of what is longer than any
// header the beginning counts, as it does for whoever opens the message.
func (j *fetchJob) gatherClassItem(f *wire.FetchReader, g *gathering, item wire.Item, isHeader bool) error {
	b := begun{name: bytes.Clone(item.Name), size: item.Size}
	into := &j.header
	if !isHeader {
		into = &j.prefix
	}
	*into = (*into)[:0]
	if !item.Literal {
		*into = append(*into, item.String()...)
		b.size = int64(len(*into))
	}
	if err := f.CopyN((*appender)(into), maxHeader); err != nil {
		return err
	}
	b.head = *into
	if isHeader {
		g.root, g.hasHeader = index.ReadRoot(b.head), true
	} else {
		// A client may have asked for a longer piece under the same name.
		g.prefix, g.hasPrefix = b.head[:min(len(b.head), index.PrefixBytes)], true
	}
	if asked := j.find(b.name); asked != nil {
		c := content{name: b.name}
		if size := j.cutTo(b.size, *asked); size <= int64(len(b.head)) {
			c.value = literalValue(b.head[:size])
		} else {
			var err error
			if c.spool, err = j.s.spool(f, b.head, size); err != nil {
				return err
			}
			if c.spool == nil {
				j.failed(&g.kept, errors.New("no room"))
				return nil
			}
		}
		g.contents = append(g.contents, c)
	}
	j.decide(g)
	j.pick(g)
	return nil
}

// keepBegun keeps a whole message that was begun to be read, to be opened.
func (j *fetchJob) keepBegun(f *wire.FetchReader, g *gathering, b begun) (err error) {
	if j.by == byMessage && g.raw == nil {
		g.raw, err = j.s.spool(f, b.head, b.size)
	}
	return err
}

// resume passes on an item of which the first bytes were read.
func (w *responseWriter) resume(f *wire.FetchReader, b *begun) error {
	asked := w.find(b.name)
	if asked == nil {
		return nil
	}
	w.said = true
	size := w.jobs[0].cutTo(b.size, *asked)
	head := b.head[:min(int64(len(b.head)), size)]
	return w.throughMask(w.begin(b.name, size).w, *asked, func(out io.Writer) error {
		if _, err := out.Write(head); err != nil {
			return err
		}
		return f.CopyN(out, size-int64(len(head)))
	})
}

// tooShort notes a message of which too little came to answer. What the client
// asked for comes again with the answer; the rest it is told now.
func (j *fetchJob) tooShort(g *gathering) error {
	if j.short == nil {
		j.short = map[uint32]bool{}
	}
	j.short[g.uid] = true
	g.dynamic = slices.DeleteFunc(g.dynamic, func(d dynamicItem) bool { return j.find(d.name) != nil })
	return j.dynamicOnly(g)
}

// fetchShort asks again, as the client did, for the messages of which too little
// came, with their headers whole.
func (j *fetchJob) fetchShort() error {
	var uids []uint32
	for uid := range j.short {
		if c := j.class(uid); c == pgp.Unclassified || isShown(c) && j.short[uid] {
			uids = append(uids, uid)
		}
	}
	uids = append(uids, j.unpicked()...)
	if len(uids) == 0 {
		return nil
	}
	slices.Sort(uids)
	uids = slices.Compact(uids)
	j.by, j.picks = byHeader, nil
	for _, i := range j.items {
		if nearHeader(i) { // more than was seen of it, to know whether it ends within an imitation
			j.shown = max(j.shown, i.Partial.Offset+i.Partial.Count+int64(len(ours)))
			j.names, j.cuts = nil, nil
		}
	}
	items := slices.Concat(j.withUID(), j.classItems(), j.requests())
	return j.again(uids, "("+strings.Join(items, " ")+")", j.response)
}

// spool reads what is left of a literal of size bytes, of which head was read. A
// message that is too long for a spool is read to its end, and nil.
func (s *session) spool(f *wire.FetchReader, head []byte, size int64) (*message.Spool, error) {
	sp := message.NewSpool(s.account.Spool)
	w := &spoolWriter{w: sp}
	_, _ = w.Write(head)
	if err := f.CopyN(w, size-int64(len(head))); err != nil {
		_ = sp.Close()
		return nil, err
	}
	if w.err != nil {
		_ = sp.Close()
		s.log.Warn("message could not be spooled", "size", size, "reason", reason(w.err))
		return nil, nil
	}
	return sp, nil
}
