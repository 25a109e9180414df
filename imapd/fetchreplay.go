package imapd

import (
	"bytes"
	"io"
	"slices"
	"strconv"

	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/internal/message"
)

// stream writes what was gathered of a message that is shown as it arrived, and
// the rest as it comes.
func (j *fetchJob) stream(f *wire.FetchReader, g *gathering) error {
	w := &responseWriter{s: j.s, box: j.box, jobs: []*fetchJob{j}, seq: g.seq, uid: g.uid, class: g.class}
	if g.hasHeader && j.classes[g.uid] != "" {
		masks := g.root.Masks()
		w.masks = &masks
	}
	defer w.release()
	if err := j.replay(w, g); err != nil {
		return err
	}
	if g.begun != nil {
		if err := w.resume(f, g.begun); err != nil {
			return err
		}
	}
	for {
		item, err := f.Next()
		if j.s.noMore(err) {
			return w.end()
		}
		if err != nil {
			return err
		}
		if j.isClassItem(g, item.Name) {
			continue
		}
		if err := w.item(f, item); err != nil {
			return err
		}
	}
}

// isClassItem tells whether an item came for us only, or came twice.
func (j *fetchJob) isClassItem(g *gathering, name []byte) bool {
	if g.begun != nil && wire.EqualFold(name, string(g.begun.name)) {
		return true
	}
	return j.by != byNothing && (wire.EqualFold(name, "BODY[HEADER]") && g.hasHeader ||
		wire.EqualFold(name, "BODY[TEXT]<0>") && g.hasPrefix || j.isBeginning(name)) && (j.find(name) == nil || slices.ContainsFunc(g.contents,
		func(c content) bool { return wire.EqualFold(c.name, string(name)) }))
}

// replay writes what was gathered.
func (j *fetchJob) replay(w *responseWriter, g *gathering) error {
	if uid := strconv.AppendUint(nil, uint64(g.uid), 10); g.sawUID && j.wantUID {
		if err := w.text([]byte("UID"), uid); err != nil {
			return err
		}
	} else if g.sawUID {
		w.held = uid
	}
	for _, d := range g.dynamic {
		if wire.EqualFold(d.name, "FLAGS") {
			w.holdFlags(d.value)
			continue
		}
		if err := w.text(d.name, d.value); err != nil {
			return err
		}
	}
	for _, c := range g.contents {
		if err := w.gathered(c); err != nil {
			return err
		}
	}
	return nil
}

// gathered writes an item that came before the class was known.
func (w *responseWriter) gathered(c content) error {
	asked := w.find(c.name)
	if asked == nil {
		return nil
	}
	w.said = true
	if c.bytes != nil {
		_, err := w.begin(c.name, int64(len(c.bytes))).w.Write(c.bytes)
		return err
	}
	if c.spool == nil && !showsHeader(*asked) {
		return w.text(c.name, c.value)
	}
	var src io.Reader
	size := int64(0)
	if c.spool != nil {
		size = c.spool.Size()
		src = message.Reader(c.spool)
	} else {
		b := (wire.Item{Value: c.value}).String()
		if b == nil {
			return w.text(c.name, c.value)
		}
		size = int64(len(b))
		src = bytes.NewReader(b)
	}
	return w.fromReader(c.name, src, size, *asked)
}

// fromReader writes a content item whose bytes we hold, masked.
func (w *responseWriter) fromReader(name []byte, src io.Reader, size int64, asked wire.FetchItem) error {
	if !showsHeader(asked) {
		_, err := io.Copy(w.begin(name, size).w, src)
		return err
	}
	if asked.Section != nil && pickedHeader(asked.Section) {
		b, err := io.ReadAll(io.LimitReader(src, maxHeader))
		if err != nil {
			return err
		}
		w.maskPicked(b, asked)
		if w.pieces(name) != nil {
			return w.cutPicked(name, b, false)
		}
		_, err = w.begin(name, int64(len(b))).w.Write(b)
		return err
	}
	if w.pieces(name) != nil {
		return w.cutHeaded(name, size, func(out io.Writer) error {
			_, err := io.Copy(out, src)
			return err
		})
	}
	if inText(asked) {
		return w.inText(name, size, asked, func(out io.Writer) error {
			_, err := io.Copy(out, src)
			return err
		})
	}
	return w.throughMask(w.begin(name, size).w, asked, func(out io.Writer) error {
		_, err := io.Copy(out, src)
		return err
	})
}
