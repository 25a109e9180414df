package imapd

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strconv"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/pgp"
)

// maxHeader bounds a header that is read whole.
const maxHeader = 4 << 20

// fetchResponse passes a FETCH response on as it comes. Without a job, or where
// the message isn't known to be one that is shown as it arrived, its content
// items are dropped: nobody asked for them, or they are of a message that the
// client has not been told of. Run by the responder.
//
// Servers may answer pipelined commands in another order, so a response counts
// as one to any of the jobs under way.
func (s *session) fetchResponse(seq uint32, box *selected, jobs []*fetchJob) error {
	f, err := s.up.r.Fetch()
	if err != nil {
		return err
	}
	if j := s.relay.opening.Load(); j != nil && len(jobs) == 0 {
		// Its answers may not be written yet: news go into them.
		return j.through(f, seq, func(*wire.FetchReader, *gathering, wire.Item) error { return nil }, func(*gathering) error { return nil })
	}
	w := &responseWriter{s: s, box: box, jobs: jobs, seq: seq, uid: box.view.uid(seq)}
	defer w.release()
	if seq == 0 || int(seq) > box.view.len() {
		return fmt.Errorf("%w: FETCH of what isn't there", wire.ErrDesync)
	}
	for {
		item, err := f.Next()
		if s.noMore(err) {
			return w.end()
		}
		if err != nil {
			return err
		}
		if err := w.item(f, item); err != nil {
			return err
		}
	}
}

// responseWriter writes one FETCH response of a message that is shown as it
// arrived.
type responseWriter struct {
	s     *session
	box   *selected
	jobs  []*fetchJob
	seq   uint32  // the upstream's
	uid   uint32  // 0 until known
	o     *output // held since the first item
	first bool    // held, but no item is written yet
	class pgp.Class
	// held is a UID that we asked for. Only the answer to the client's FETCH is
	// given without it, not what the upstream tells beside (RFC 7162, Section 3.2.3).
	held  []byte
	said  bool         // something of content was written
	told  []byte       // FLAGS as the upstream has them, not written yet
	masks *index.Masks // nil: ask the library
}

// next begins an item.
func (w *responseWriter) next() *output {
	if w.o == nil {
		w.o = w.s.relay.hold()
		_, _ = w.o.w.WriteString("* ")
		w.o.w.Write(strconv.AppendUint(w.o.w.AvailableBuffer(), uint64(w.box.view.client(w.seq)), 10))
		_, _ = w.o.w.WriteString(" FETCH (")
	} else if !w.first {
		_ = w.o.w.WriteByte(' ')
	}
	w.first = false
	return w.o
}

// end finishes the response; one without items is none.
func (w *responseWriter) end() error {
	if w.told != nil {
		if err := w.text([]byte("FLAGS"), w.flags(w.told)); err != nil {
			return err
		}
	}
	if w.o == nil {
		return nil
	}
	if w.held != nil && !w.said {
		_ = w.text([]byte("UID"), w.held)
	}
	_, err := w.o.w.WriteString(")\r\n")
	return err
}

func (w *responseWriter) release() {
	if w.o != nil {
		w.s.relay.release()
		w.o = nil
	}
}

// text writes an item whose value is text.
func (w *responseWriter) text(name, value []byte) error {
	o := w.next()
	_, _ = o.w.Write(name)
	_ = o.w.WriteByte(' ')
	_, err := o.w.Write(value)
	return err
}

// item passes one item on.
func (w *responseWriter) item(f *wire.FetchReader, item wire.Item) error {
	name := item.Name
	switch {
	case wire.EqualFold(name, "UID"):
		if err := w.learn(item.Value); err != nil {
			return err
		}
		if slices.ContainsFunc(w.jobs, func(j *fetchJob) bool { return j.hideUID }) {
			w.held = bytes.Clone(item.Value)
			return nil
		}
		return w.text(name, item.Value)
	case wire.EqualFold(name, "FLAGS"):
		w.holdFlags(item.Value)
		return nil
	case dynamic(name):
		name = bytes.Clone(name)
		value, ok, err := dynamicValue(f, item)
		if err != nil || !ok {
			return err
		}
		if wire.EqualFold(name, "MODSEQ") {
			w.box.sawModSeq(value)
		}
		return w.text(name, value)
	}
	if len(w.jobs) == 0 || !w.shown() {
		return nil // the reader drops it
	}
	if w.class == pgp.Signed {
		w.verify()
	}
	return w.content(f, item)
}

// dynamicValue is the value of an item that says nothing of content. One that a
// client could read otherwise than we do is left out: ok is false.
func dynamicValue(f *wire.FetchReader, item wire.Item) (value []byte, ok bool, err error) {
	value = item.Value
	if item.Literal {
		b, _, err := valueOf(f, item)
		if err != nil {
			return nil, false, err
		}
		value = literalValue(b)
	}
	return value, harmless(value), nil
}

// learn takes the UID that the upstream gives, which must be the one it gave
// before: everything that is known of a message hangs on it.
func (w *responseWriter) learn(value []byte) error {
	uid, err := readUID(value)
	if err != nil {
		return err
	}
	if !w.box.view.learn(w.seq, uid) || w.uid != 0 && w.uid != uid {
		return fmt.Errorf("%w: UID changed", wire.ErrDesync)
	}
	w.uid = uid
	return nil
}

func readUID(value []byte) (uint32, error) {
	n, err := strconv.ParseUint(string(value), 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%w: malformed UID", wire.ErrDesync)
	}
	return uint32(n), nil
}

// flags gives FLAGS as the client sees them.
func (w *responseWriter) flags(value []byte) []byte {
	if w.s.account.Library == nil {
		return value
	}
	lib := w.box.lib.Load()
	if lib == nil {
		return maskFlags(value, nil)
	}
	var ours []string
	if w.uid != 0 {
		ours = lib.Keywords(w.uid)
	}
	return maskFlags(value, ours)
}

// holdFlags keeps FLAGS until the end of the response: a MODSEQ beside them must
// have been seen before it is looked which keywords there are.
func (w *responseWriter) holdFlags(value []byte) {
	w.s.relay.flags = append(w.s.relay.flags[:0], value...)
	w.told = w.s.relay.flags
}

// shown tells whether the message is one that is shown as it arrived.
func (w *responseWriter) shown() bool {
	if w.s.account.Library == nil {
		return true
	}
	if w.box.lib.Load() == nil {
		return false
	}
	if w.class == pgp.Unclassified && w.uid != 0 {
		w.class = w.box.class(w.uid)
	}
	return isShown(w.class)
}

// isShown tells whether messages of a class are shown as they arrived.
func isShown(c pgp.Class) bool { return c == pgp.Plain || c == pgp.Signed || c == pgp.Opaque }

// verify has the signature of a message looked at that is being read, if that
// was not done yet: it passes through us as it is, and its keywords come later.
func (w *responseWriter) verify() {
	if lib := w.box.lib.Load(); lib != nil && len(lib.Unsettled([]uint32{w.uid})) > 0 {
		w.s.account.Library.News(lib.Name())
	}
}

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

func firstError(err error, f func() error) error {
	if err != nil {
		return err
	}
	return f()
}

// valueOf reads an item's string whole.
func valueOf(f *wire.FetchReader, item wire.Item) (b []byte, null bool, err error) {
	if !item.Literal {
		b := bytes.Clone(item.String())
		return b, b == nil, nil
	}
	if item.Size > maxHeader {
		return nil, false, fmt.Errorf("%w: header of %d bytes", wire.ErrDesync, item.Size)
	}
	var buf bytes.Buffer
	buf.Grow(int(min(item.Size, 64<<10)))
	err = f.Copy(&buf)
	return buf.Bytes(), false, err
}

// dynamic tells whether an item says nothing of content.
func dynamic(name []byte) bool {
	for _, n := range []string{"INTERNALDATE", "X-GM-MSGID", "X-GM-THRID", "X-GM-LABELS", "MODSEQ", "FLAGS", "UID"} {
		if wire.EqualFold(name, n) {
			return true
		}
	}
	return false
}
