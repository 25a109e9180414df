package imapd

import (
	"bytes"
	"crypto/sha256"
	"io"
	"strconv"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/pgp"
)

// imitations are where the root header imitates our fields.
func (w *responseWriter) imitations() index.Masks {
	if w.masks == nil {
		w.masks = &index.Masks{}
		if lib := w.box.lib.Load(); lib != nil {
			*w.masks, _ = lib.Masks(w.uid)
		}
	}
	return *w.masks
}

// content passes an item of content on, with imitations of our fields masked.
func (w *responseWriter) content(f *wire.FetchReader, item wire.Item) error {
	asked := w.find(item.Name)
	w.said = w.said || asked != nil
	switch {
	case asked == nil:
		return nil // not asked for
	case w.pieces(item.Name) != nil:
		return w.cut(f, item, *asked)
	case showsHeader(*asked) && w.s.account.Library != nil:
		return w.masked(f, item, *asked)
	case item.Literal:
		size := w.jobs[0].cutTo(item.Size, *asked)
		return f.CopyN(w.begin(item.Name, size).w, size)
	}
	return w.text(item.Name, item.Value)
}

// find gives the client's item that an answer is for, or nil.
func (w *responseWriter) find(name []byte) *wire.FetchItem {
	for _, j := range w.jobs {
		if i := j.find(name); i != nil {
			return i
		}
	}
	return nil
}

// begin writes an item's name and announces its literal.
func (w *responseWriter) begin(name []byte, size int64) *output {
	o := w.next()
	_, _ = o.w.Write(name)
	_, _ = o.w.WriteString(" {")
	_, _ = o.w.Write(strconv.AppendInt(o.w.AvailableBuffer(), size, 10))
	_, _ = o.w.WriteString("}\r\n")
	return o
}

// showsHeader tells whether the item's bytes can be of the root header.
func showsHeader(i wire.FetchItem) bool {
	switch i.Name {
	case "RFC822", "RFC822.HEADER":
		return true
	}
	if i.Section == nil {
		return false
	}
	return len(i.Section.Part) == 0 && i.Section.Kind != "TEXT" || pickedHeader(i.Section)
}

// masked passes an item that shows the root header, or a part of it. What
// imitates our fields is masked where it was found when the message was
// classified, and where it comes by: the upstream may give another header now.
func (w *responseWriter) masked(f *wire.FetchReader, item wire.Item, asked wire.FetchItem) error {
	mime := asked.Section != nil && asked.Section.Kind == "MIME"
	if mime && item.Size <= maxHeader || !item.Literal {
		name := bytes.Clone(item.Name)
		b, null, err := valueOf(f, item)
		if err != nil || null {
			return firstError(err, func() error { return w.text(name, []byte("NIL")) })
		}
		return w.fromReader(name, bytes.NewReader(b), int64(len(b)), asked)
	}
	size := w.jobs[0].cutTo(item.Size, asked)
	if inText(asked) {
		return w.inText(item.Name, size, asked, func(out io.Writer) error { return f.CopyN(out, size) })
	}
	return w.throughMask(w.begin(item.Name, size).w, asked, func(out io.Writer) error { return f.CopyN(out, size) })
}

// throughMask passes on what from writes: an item that shows the root header, or
// of which a piece does, from its section's beginning.
func (w *responseWriter) throughMask(out io.Writer, asked wire.FetchItem, from func(io.Writer) error) error {
	picked := asked.Section != nil && pickedHeader(asked.Section)
	m := newHeaderMask(out, w.imitations().Ranges, picked)
	defer m.release()
	if !picked && asked.Partial != nil {
		m.print = w.box.headers.printing(w.piecesOf(asked))
	}
	var err error
	if w.class == pgp.Signed && isWhole(asked) {
		err = w.compared(m, from)
	} else {
		err = from(m)
	}
	if err == nil {
		err = m.flush()
	}
	if err != nil || m.print == nil {
		return err
	}
	shown, err := m.print.finish(m.over)
	if err == nil {
		w.box.headers.saw(w.piecesOf(asked), shown)
	}
	return err
}

// isWhole tells whether an item is the message to its end.
func isWhole(i wire.FetchItem) bool {
	return i.Name == "RFC822" || i.Section != nil && i.Partial == nil && len(i.Section.Part) == 0 && i.Section.Kind == ""
}

// compared passes on a signed message. If it is another one than that whose signature
// was looked at, nothing is said of its signature any more until that is looked at.
func (w *responseWriter) compared(out io.Writer, from func(io.Writer) error) error {
	lib := w.box.lib.Load()
	if lib == nil || !lib.Settled(w.uid) {
		return from(out)
	}
	sum := sha256.New()
	if err := from(io.MultiWriter(sum, out)); err != nil {
		return err
	}
	changed, err := lib.Compare(w.s.ctx, w.uid, [32]byte(sum.Sum(nil)))
	if err != nil {
		w.s.log.Warn("a signed message could not be compared", "uid", w.uid, "reason", reason(err))
	}
	if changed {
		w.s.log.Warn("the upstream gives another message under a UID than it gave", "uid", w.uid)
		w.s.account.Library.News(lib.Name())
	}
	return nil
}

// inText tells whether an item is a piece that begins where no header is any more,
// as far as was seen: cutByUs says so.
func inText(asked wire.FetchItem) bool {
	return asked.Partial != nil && asked.Partial.Offset > 0 && !pickedHeader(asked.Section)
}

// inText passes a piece on that begins in the text.
func (w *responseWriter) inText(name []byte, size int64, asked wire.FetchItem, from func(io.Writer) error) error {
	w.box.headers.passed(w.piecesOf(asked), asked.Partial.Offset)
	return from(w.begin(name, size).w)
}

// maskPicked masks a section that was read whole.
func (w *responseWriter) maskPicked(b []byte, asked wire.FetchItem) {
	m := w.imitations()
	if asked.Section == nil || asked.Section.Kind != "MIME" {
		render.Mask(b, 0, render.Imitations(b))
		return
	}
	if int64(len(b)) == m.Header { // part 1 of a message that has one part
		render.Mask(b, 0, render.Imitations(b))
	}
}

// cut gives the pieces that the client asked for of a section.
func (w *responseWriter) cut(f *wire.FetchReader, item wire.Item, asked wire.FetchItem) error {
	name := bytes.Clone(item.Name)
	if item.Literal && (!pickedHeader(asked.Section) || item.Size > maxHeader) {
		return w.cutHeaded(name, item.Size, f.Copy)
	}
	b, null, err := valueOf(f, item)
	if err != nil {
		return err
	}
	return w.cutHeld(name, b, null, asked)
}

// cutHeld is cut of a section that is held whole, or that there isn't.
func (w *responseWriter) cutHeld(name, b []byte, null bool, asked wire.FetchItem) error {
	if null || pickedHeader(asked.Section) {
		w.maskPicked(b, asked)
		return w.cutPicked(name, b, null)
	}
	return w.cutHeaded(name, int64(len(b)), func(out io.Writer) error {
		_, err := out.Write(b)
		return err
	})
}
