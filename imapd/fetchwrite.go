package imapd

import (
	"io"
	"slices"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

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
	defer func() {
		if !w.ended { // by a panic, too
			o.breakOff()
			j.s.cut()
		}
	}()
	j.box.declare(o, k.uid)
	_, _ = o.w.WriteString("* " + itoa(int64(number)) + " FETCH (")
	w.first = true
	if err := j.writeItems(w, k, row, m); err != nil {
		j.s.log.Warn("rendering could not be read", "uid", k.uid, "reason", reason(err))
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
