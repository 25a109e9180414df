package imapd

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/wire"
)

// untagged passes an untagged response on, rewritten where it has to be. Run by
// the responder.
func (s *session) untagged(h wire.Head) error {
	r, rr := s.relay, s.up.r
	box := s.selected()
	switch {
	case h.Status():
		return s.statusResponse(h)
	case h.Name == "CAPABILITY":
		if err := rr.Copy(nil); err != nil {
			return err
		}
		s.out.line("* CAPABILITY " + s.capabilities())
		return nil
	case h.Name == "ID":
		return rr.Copy(nil) // we answer that
	case h.Name == "FLAGS" && !h.HasNum:
		return s.flagsResponse()
	case h.Name == "ESEARCH":
		return s.esearchResponse()
	case box != nil && !box.answered.Load() && ofOldMailbox(h, box):
		return rr.Copy(nil)
	case h.HasNum && h.Name == "FETCH" && box != nil:
		return s.fetchResponse(h.Number, box, r.jobs())
	case h.HasNum && h.Name == "EXISTS" && box != nil:
		n := h.Number
		if err := rr.Copy(nil); err != nil {
			return err
		}
		more := int(n) > box.view.len()
		n, ok := box.view.exists(n)
		if !ok {
			return fmt.Errorf("%w: mailbox shrinks without EXPUNGE", wire.ErrDesync)
		}
		if lib := box.lib.Load(); lib != nil && more && box.open.Load() {
			s.account.Library.News(lib.Name())
		}
		s.out.line("* " + strconv.FormatUint(uint64(n), 10) + " EXISTS")
		return nil
	case h.HasNum && (h.Name == "EXPUNGE" || h.Name == "EXPUNGED") && box != nil: // the second is how GNU Mailutils says it
		return s.expunged(h.Number, box)
	case h.Name == "VANISHED" && box != nil:
		return s.vanished(box)
	case h.HasNum && h.Name == "RECENT" && box != nil:
		if err := rr.Copy(nil); err != nil {
			return err
		}
		s.out.line("* " + strconv.FormatUint(uint64(h.Number), 10) + " RECENT")
		return nil
	}
	return s.passOn(h)
}

// ofOldMailbox tells whether a response that comes before SELECT is answered is of the
// mailbox that was open before: what is not there yet can't go. A count may be of
// either; the last one is of the new mailbox.
func ofOldMailbox(h wire.Head, box *selected) bool {
	switch h.Name {
	case "EXISTS":
		box.view.reset()
	case "FETCH":
		return int(h.Number) > box.view.len()
	case "EXPUNGE", "EXPUNGED":
		return true
	}
	return false
}

// statusResponse passes an untagged OK, NO, BAD or BYE on.
func (s *session) statusResponse(h wire.Head) error {
	name := h.Name
	line, err := s.up.r.Line()
	if err != nil {
		return err
	}
	if name == "PREAUTH" {
		return fmt.Errorf("%w: PREAUTH in the middle", wire.ErrDesync)
	}
	return s.tellStatus(line)
}

// tellStatus passes the line of an untagged status on.
func (s *session) tellStatus(line []byte) error {
	if box := s.selected(); box != nil {
		if err := s.learnCode(box, line); err != nil {
			return err
		}
		if p := s.relay.find(func(p *pending) bool { return p.copyTo != "" }); p != nil {
			s.copied(box, p.copyTo, line)
		}
	}
	out := s.status(line[len("* "):])
	o := s.relay.hold()
	defer s.relay.release()
	_, _ = o.w.WriteString("* ")
	_, _ = o.w.Write(out)
	_, err := o.w.WriteString("\r\n")
	return err
}

// learnCode takes what concerns the mailbox from a response code.
func (s *session) learnCode(box *selected, line []byte) error {
	code, arg := responseCode(line)
	n, err := strconv.ParseUint(arg, 10, 64)
	if err != nil {
		return nil
	}
	switch code {
	case "UIDVALIDITY":
		if n == 0 || n > 1<<32-1 {
			return fmt.Errorf("%w: UIDVALIDITY", wire.ErrDesync)
		}
		if have := box.uidvalidity.Load(); have != 0 && uint64(have) != n {
			// Everything known of the mailbox is wrong now: begin anew.
			return fmt.Errorf("%w: UIDVALIDITY changed", wire.ErrDesync)
		}
		return s.openLibrary(box, uint32(n))
	case "HIGHESTMODSEQ":
		box.modseq.Store(n)
		if lib := box.lib.Load(); lib != nil {
			lib.SawModSeq(n)
		}
	}
	return nil
}

// responseCode reads "… [CODE argument] …".
func responseCode(line []byte) (code, arg string) {
	open := bytes.IndexByte(line, '[')
	if open < 0 || open > 140 { // after "tag OK "
		return "", ""
	}
	end := bytes.IndexByte(line[open:], ']')
	if end < 0 {
		return "", ""
	}
	code, arg, _ = strings.Cut(string(line[open+1:open+end]), " ")
	return strings.ToUpper(code), arg
}

// status makes a status response of the upstream's fit for the client: "OK
// [CODE] text", without its tag.
func (s *session) status(line []byte) []byte {
	line = printable(line)
	switch code, arg := responseCode(line); code {
	case "CAPABILITY":
		out, _ := s.capabilityLine(line)
		return out
	case "PERMANENTFLAGS":
		if bytes.Contains(bytes.ToLower(line), []byte("$letterlock")) {
			open := bytes.IndexByte(line, '[')
			end := open + bytes.IndexByte(line[open:], ']')
			masked := maskFlags([]byte(arg), nil)
			return append(append(append(bytes.Clone(line[:open]), "[PERMANENTFLAGS "...), masked...), line[end:]...)
		}
	case "REFERRAL": // would lead the client to the upstream
		open := bytes.IndexByte(line, '[')
		end := open + bytes.IndexByte(line[open:], ']')
		return append(bytes.Clone(line[:open]), bytes.TrimPrefix(line[end+1:], []byte(" "))...)
	}
	return line
}

// maxFlags bounds what is kept of a mailbox's flags.
const maxFlags = 64 << 10

// flagsResponse passes "* FLAGS (…)" on, with our keywords where the client has been
// told of them.
func (s *session) flagsResponse() error {
	b, err := s.up.r.Collect(1 << 20)
	if err != nil {
		return err
	}
	open := bytes.IndexByte(b, '(')
	if open < 0 || !harmless(bytes.TrimSuffix(b, []byte("\r\n"))) {
		return nil
	}
	o := s.relay.hold()
	defer s.relay.release()
	flags := maskFlags(bytes.TrimRight(b[open:], "\r\n"), nil)
	if box := s.selected(); box != nil {
		if box.flags = nil; len(flags) <= maxFlags {
			box.flags = bytes.Clone(flags)
		}
		if box.declared {
			flags = maskFlags(flags, index.AllKeywords())
		}
	}
	return writeFlags(o, flags)
}

func writeFlags(o *output, flags []byte) error {
	_, _ = o.w.WriteString("* FLAGS ")
	_, _ = o.w.Write(flags)
	_, err := o.w.WriteString("\r\n")
	return err
}

// declare tells the client of our keywords before it sees the first of them: what is
// not in FLAGS is no flag of the mailbox (RFC 3501, Section 7.2.6), and some programs
// pass over it. A mailbox without encrypted or signed mail has none of them. o is held.
func (b *selected) declare(o *output, uid uint32) {
	lib := b.lib.Load()
	if b.declared || b.flags == nil || uid == 0 || lib == nil || len(lib.Keywords(uid)) == 0 {
		return
	}
	b.declared = true
	_ = writeFlags(o, maskFlags(b.flags, index.AllKeywords()))
}

// maskFlags takes what looks like our keywords from a list of flags, and adds
// those that are true. What is no flag is left out with them: clients may read
// it as one.
func maskFlags(list []byte, ours []string) []byte {
	if len(list) < 2 || list[0] != '(' || list[len(list)-1] != ')' {
		list = []byte("()") // not a list: nobody knows what it says
	}
	if len(ours) == 0 && !bytes.ContainsFunc(list, func(r rune) bool { return r == '$' || control(r) }) {
		return list
	}
	out := []byte{'('}
	for _, f := range bytes.Fields(list[1 : len(list)-1]) {
		if !isFlag(f) || index.IsOurs(string(bytes.TrimLeft(f, `\`))) {
			continue
		}
		if len(out) > 1 {
			out = append(out, ' ')
		}
		out = append(out, f...)
	}
	for _, k := range ours {
		if len(out) > 1 {
			out = append(out, ' ')
		}
		out = append(out, k...)
	}
	return append(out, ')')
}

// isFlag tells whether f is spelled as a flag (RFC 3501, Section 9), or as one
// of those that servers have beside them.
func isFlag(f []byte) bool {
	return !bytes.ContainsFunc(f, func(r rune) bool {
		return control(r) || r == '(' || r == ')' || r == '{' || r == '"'
	})
}

// expunged notes that a message is gone, and tells the client if it may be told
// now.
func (s *session) expunged(seq uint32, box *selected) error {
	if err := s.up.r.Copy(nil); err != nil {
		return err
	}
	uid, ok := box.view.expunge(seq)
	if !ok {
		return fmt.Errorf("%w: EXPUNGE of what isn't there", wire.ErrDesync)
	}
	s.forget(box, []uint32{uid})
	s.tellGone(box)
	return nil
}

// vanished is VANISHED (RFC 7162, Section 3.2.10). With EARLIER it speaks of
// what the client knew before, which has no sequence numbers.
func (s *session) vanished(box *selected) error {
	b, err := s.up.r.Collect(1 << 22)
	if err != nil {
		return err
	}
	fields := strings.Fields(string(b))
	if len(fields) == 4 && strings.EqualFold(fields[2], "(EARLIER)") {
		if set, err := wire.ParseSet([]byte(fields[3])); err != nil || set.HasStar() {
			return fmt.Errorf("%w: malformed VANISHED", wire.ErrDesync)
		}
		s.out.line("* VANISHED (EARLIER) " + fields[3])
		return nil
	}
	if len(fields) != 3 {
		return fmt.Errorf("%w: malformed VANISHED", wire.ErrDesync)
	}
	set, err := wire.ParseSet([]byte(fields[2]))
	if err != nil || set.HasStar() {
		return fmt.Errorf("%w: malformed VANISHED", wire.ErrDesync)
	}
	uids := box.view.vanish(set)
	s.forget(box, uids)
	s.tellGone(box)
	return nil
}

// tellGone tells the client what is gone, unless RFC 3501, Section 7.4.1 forbids
// it now.
func (s *session) tellGone(box *selected) {
	if s.relay.find(func(p *pending) bool { return !p.quiet }) == nil {
		return
	}
	o := s.relay.hold()
	box.view.flush(o.w, s.isEnabled("QRESYNC"))
	s.relay.release()
}

// announceGone tells the client what is gone at the end of a command during
// which it may be told. The caller holds o.
func (s *session) announceGone(o *output) {
	if box := s.selected(); box != nil && box.view.differs() {
		box.view.flush(o.w, s.isEnabled("QRESYNC"))
	}
}

// expungedOnes are messages that are gone, of which the index still has rows.
type expungedOnes struct {
	of   *index.Mailbox
	uids []uint32
}

// maxExpunged is how many messages are dropped from the index at once.
const maxExpunged = 500

// forget drops what is known of expunged messages, many in one transaction: by
// the next tagged answer at the latest, or before the upstream is waited for.
// What is left undone by a crash is dropped when the mailbox is looked at next.
func (s *session) forget(box *selected, uids []uint32) {
	m := box.lib.Load()
	if m == nil {
		return
	}
	if s.expunges.of != m {
		s.forgetNow()
	}
	s.expunges.of = m
	for _, uid := range uids {
		if uid != 0 {
			s.expunges.uids = append(s.expunges.uids, uid)
		}
	}
	if len(s.expunges.uids) >= maxExpunged {
		s.forgetNow()
	}
}

// forgetNow does what forget put off. Run by the responder.
func (s *session) forgetNow() {
	e := s.expunges
	s.expunges = expungedOnes{}
	if len(e.uids) == 0 {
		return
	}
	// A session that ends at this moment has still seen them go.
	if err := e.of.Expunged(context.WithoutCancel(s.ctx), e.uids); err != nil {
		s.log.Warn("expunged messages are still in the index", "reason", reason(err))
	}
}
