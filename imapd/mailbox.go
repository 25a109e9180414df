package imapd

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/pgp"
)

// selected is the mailbox that a session has open.
type selected struct {
	name     string
	view     *view
	readOnly atomic.Bool
	answered atomic.Bool // SELECT was: what comes is of this mailbox
	open     atomic.Bool // SELECT is complete: what comes is news

	// What the responder learned while it was selected; read by the command
	// goroutine after SELECT is complete.
	uidvalidity atomic.Uint32
	modseq      atomic.Uint64
	lib         atomic.Pointer[index.Mailbox] // nil without a library or UIDVALIDITY
	watch       *index.Watch
	headers     headerPrints

	// Whoever holds the output has these.
	flags    []byte // the upstream's list of flags; nil if it told none
	declared bool   // the client's has our keywords
}

func (b *selected) close() {
	if b.watch != nil {
		b.watch.Stop()
	}
	m := b.lib.Swap(nil)
	if m == nil {
		return
	}
	defer m.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = m.File(ctx) // else it is done another time
}

// class is what kind of message a UID is. Without a library all are plain.
func (b *selected) class(uid uint32) pgp.Class {
	m := b.lib.Load()
	if m == nil {
		return pgp.Plain
	}
	return m.Class(uid)
}

// selected is the mailbox that is open, or nil.
func (s *session) selected() *selected { return s.box.Load() }

// leave closes the selected mailbox on our side.
func (s *session) leave() {
	if b := s.box.Swap(nil); b != nil {
		b.close()
	}
}

// leaveMailbox is CLOSE and UNSELECT.
func (s *session) leaveMailbox(c *wire.Command) error {
	if err := s.relay.barrier(); err != nil {
		return err
	}
	p := &pending{quiet: true} // no EXPUNGE is sent for CLOSE (RFC 3501, Section 6.4.2)
	if err := s.relay.forward(c.Tag, c.Out(), p); err != nil {
		return err
	}
	if err := s.up.w.Flush(); err != nil {
		return err
	}
	status, _, err := s.relay.await(p)
	if err == nil && status == "OK" {
		s.leave()
	}
	return err
}

// selectMailbox is SELECT and EXAMINE. The UIDs of all messages are asked for in
// the same breath, which costs no round trip; the client has its answer when
// both are here.
func (s *session) selectMailbox(c *wire.Command) error {
	if len(c.Args) < 1 || len(c.Args) > 2 || !c.Args[0].IsString() || len(c.Args) == 2 && !knownSelect(c.Args[1].List) {
		s.reject(c, c.Name+" takes a mailbox, and CONDSTORE or QRESYNC")
		return nil
	}
	if err := s.relay.barrier(); err != nil {
		return err
	}
	s.leave()
	box := &selected{name: c.Args[0].Text(), view: &view{}}
	s.box.Store(box)
	status, line, err := s.sendSelect(c, box)
	if err != nil {
		return err
	}
	if status == "OK" && s.account.Library != nil && box.lib.Load() == nil {
		// Nothing can be known of its messages: they are not shown as they are.
		text := "the index of this mailbox cannot be read now"
		if box.uidvalidity.Load() == 0 {
			text = "the upstream server gives this mailbox no UIDVALIDITY"
		}
		status, line = "NO", []byte("NO [UNAVAILABLE] "+text)
	}
	if status != "OK" {
		s.leave()
	} else if err := s.chosen(box, c, line); err != nil {
		return err
	}
	s.relay.local(c.Tag + " " + string(s.status(line)) + "\r\n")
	return nil
}

// sendSelect sends SELECT or EXAMINE with the question for the UIDs, and waits for
// both.
func (s *session) sendSelect(c *wire.Command, box *selected) (status string, line []byte, err error) {
	p := &pending{quiet: true}
	p.tagged = func(line []byte) []byte { box.answered.Store(true); return line }
	if err := s.relay.send(c.Out(), p); err != nil {
		return "", nil, err
	}
	fill := s.fillCommand(box, "1:*", box.view.fill)
	found := fill.p.untagged
	fill.p.untagged = func(h wire.Head) (bool, error) {
		if p.status != "OK" && !h.Status() {
			// A SELECT that was not even understood leaves the old mailbox
			// open upstream, and this is about that one.
			return true, s.up.r.Copy(nil)
		}
		return found(h)
	}
	if err := s.relay.send(fill.out, fill.p); err != nil {
		return "", nil, err
	}
	if err := s.up.w.Flush(); err != nil {
		return "", nil, err
	}
	if status, line, err = s.relay.await(p); err != nil {
		return "", nil, err
	}
	_, _, err = s.relay.await(fill.p)
	return status, line, err
}

// chosen begins with a mailbox that is open upstream, as line says.
func (s *session) chosen(box *selected, c *wire.Command, line []byte) error {
	box.readOnly.Store(bytes.Contains(bytes.ToUpper(line[:min(len(line), 40)]), []byte("[READ-ONLY]")))
	if m := box.lib.Load(); m != nil {
		box.watch = m.Watch()
	}
	box.open.Store(true)
	return s.resynchronise(box, c)
}

// knownSelect: RFC 7162, Sections 3.1.8 and 3.2.5.
func knownSelect(list []wire.Token) bool {
	for i := 0; i < len(list); i++ {
		switch {
		case list[i].Is("QRESYNC") && i+1 < len(list) && list[i+1].Kind == wire.List:
			i++
		case !list[i].Is("CONDSTORE"):
			return false
		}
	}
	return len(list) > 0
}

// resynchronise tells a client that selects with QRESYNC (RFC 7162, Section
// 3.2.5) of keywords that changed since.
func (s *session) resynchronise(box *selected, c *wire.Command) error {
	lib := box.lib.Load()
	if lib == nil || len(c.Args) < 2 {
		return nil
	}
	list := c.Args[1].List
	for i := 0; i+1 < len(list); i++ {
		if list[i].Is("QRESYNC") && len(list[i+1].List) >= 2 {
			return s.tellChanged(box, lib, list[i+1].List[1])
		}
	}
	return nil
}

// filling is a search for UIDs.
type filling struct {
	out *wire.Out
	p   *pending
	ok  bool // valid after p
}

// fillCommand asks for the UIDs of a set and hands them to take.
func (s *session) fillCommand(box *selected, set string, take func([]uint32) bool) *filling {
	f := &filling{}
	if s.up.has("ESEARCH") {
		f.out = (&wire.Out{}).String("UID SEARCH RETURN (ALL) UID " + set)
	} else {
		f.out = (&wire.Out{}).String("UID SEARCH UID " + set)
	}
	var all []uint32
	bad, went := false, 0
	f.p = &pending{quiet: true}
	f.p.untagged = func(h wire.Head) (bool, error) {
		if h.Name != "SEARCH" && h.Name != "ESEARCH" || h.HasNum {
			return false, nil
		}
		b, err := s.up.r.Collect(12*box.view.len() + 4096)
		if err != nil {
			return true, err
		}
		if len(all) == 0 {
			went = box.view.departed()
		}
		some, err := searchResult(b, box.view.len()-len(all)) // which may come in several lines
		all, bad = append(all, some...), bad || err != nil
		return true, nil
	}
	f.p.tagged = func(line []byte) []byte {
		if f.p.status == "OK" && !bad {
			// Of those that go after they were told, others take the places.
			f.ok = ascending(all) && box.view.departed() == went && take(all)
		}
		return line
	}
	return f
}

// ascending tells whether each number is greater than the one before.
func ascending(numbers []uint32) bool {
	for i := 1; i < len(numbers); i++ {
		if numbers[i-1] >= numbers[i] {
			return false
		}
	}
	return true
}

// searchResult reads the numbers of "* SEARCH 1 2" and "* ESEARCH … ALL 1:2", of
// which there are at most limit.
func searchResult(b []byte, limit int) ([]uint32, error) {
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return nil, fmt.Errorf("%w: malformed search result", wire.ErrDesync)
	}
	fields = fields[1:]
	var set wire.Set
	if fields[0] == "SEARCH" || strings.EqualFold(fields[0], "SEARCH") {
		for _, f := range fields[1:] {
			if strings.HasPrefix(f, "(") {
				break // (MODSEQ n)
			}
			n, err := strconv.ParseUint(f, 10, 32)
			if err != nil || n == 0 {
				return nil, fmt.Errorf("%w: malformed search result", wire.ErrDesync)
			}
			set = append(set, wire.Range{First: uint32(n), Last: uint32(n)})
		}
	} else {
		for i, f := range fields {
			if strings.EqualFold(f, "ALL") && i+1 < len(fields) {
				var err error
				if set, err = wire.ParseSet([]byte(fields[i+1])); err != nil || set.HasStar() {
					return nil, fmt.Errorf("%w: malformed search result", wire.ErrDesync)
				}
			}
		}
	}
	var out []uint32
	for _, r := range set.Resolve(0) {
		if int64(r.Last)-int64(r.First) >= int64(limit-len(out)) {
			return nil, fmt.Errorf("%w: more search results than messages", wire.ErrDesync)
		}
		for n := r.First; ; n++ {
			if len(out) > 0 && out[len(out)-1] >= n {
				return nil, fmt.Errorf("%w: a search result twice", wire.ErrDesync)
			}
			out = append(out, n)
			if n == r.Last {
				break
			}
		}
	}
	return out, nil
}

// know makes sure that the UID of each message is known. It is a barrier where
// it has to ask; ok is false if the upstream doesn't tell.
func (s *session) know(box *selected) (ok bool, err error) {
	for range 3 {
		n, last := box.view.unknown()
		if n == 0 {
			return true, nil
		}
		if err := s.relay.barrier(); err != nil {
			return false, err
		}
		set, take := "1:*", box.view.fill
		if last > 0 {
			set, take = strconv.FormatUint(uint64(last)+1, 10)+":*", box.view.fillTail
		}
		f := s.fillCommand(box, set, take)
		if _, _, err := s.relay.run(f.out, f.p); err != nil {
			return false, err
		}
		if f.ok {
			return true, nil
		}
		if err := s.askEach(box); err != nil {
			return false, err
		}
	}
	n, _ := box.view.unknown()
	return n == 0, nil
}

// askEach asks for the UIDs that aren't known by FETCH: some servers find a few
// of all messages, or none.
func (s *session) askEach(box *selected) error {
	n, _ := box.view.unknown()
	if n == 0 {
		return nil
	}
	j := &fetchJob{s: s, box: box, lib: box.lib.Load()}
	nothing := func(*wire.FetchReader, *gathering, wire.Item) error { return nil }
	last := box.view.len()
	o := (&wire.Out{}).String(fmt.Sprintf("FETCH %d:%d (UID)", last-n+1, last))
	_, _, err := s.relay.run(o, j.pending(func(seq uint32) error {
		return j.each(seq, nothing, func(*gathering) error { return nil })
	}))
	return err
}

// openLibrary reads what is known of the mailbox, once its UIDVALIDITY is. Run
// by the responder.
func (s *session) openLibrary(box *selected, uidvalidity uint32) error {
	box.uidvalidity.Store(uidvalidity)
	if s.account.Library == nil || box.lib.Load() != nil {
		return nil
	}
	m, err := s.account.Library.Mailbox(context.WithoutCancel(s.ctx), box.name, uidvalidity)
	if err != nil {
		// The SELECT fails then: nothing of the mailbox may be shown.
		s.log.Error("the index of a mailbox cannot be read", "reason", reason(err))
		return nil
	}
	m.SawModSeq(box.modseq.Load()) // which may have come before
	box.lib.Store(m)
	return nil
}
