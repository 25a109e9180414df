package imapd

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"

	"letterlock.org/letterlock/imapd/index"
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
	ended bool    // nothing is missing of what was written
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
		w.box.declare(w.o, w.uid)
		_, _ = w.o.w.WriteString("* ")
		w.o.w.Write(strconv.AppendUint(w.o.w.AvailableBuffer(), uint64(w.number()), 10))
		_, _ = w.o.w.WriteString(" FETCH (")
	} else if !w.first {
		_ = w.o.w.WriteByte(' ')
	}
	w.first = false
	return w.o
}

// number is the client's number of the message.
func (w *responseWriter) number() uint32 {
	if w.uid == 0 {
		return w.box.view.client(w.seq)
	}
	return w.box.view.clientWith(w.seq, w.uid)
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
	w.ended = err == nil
	return err
}

// release ends the hold on the output.
func (w *responseWriter) release() {
	if w.o == nil {
		return
	}
	if !w.ended {
		w.o.breakOff()
	}
	w.s.relay.release()
	w.o = nil
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
