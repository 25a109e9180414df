package imapd

import (
	"errors"
	"time"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/wire"
)

// idle is IDLE (RFC 2177). It runs alone; what the upstream says meanwhile
// passes on, EXPUNGE included. When keywords are settled, the upstream's IDLE is
// left for as long as it takes to tell the client.
func (s *session) idle(c *wire.Command) error {
	if !s.up.has("IDLE") || len(c.Args) > 0 {
		s.reject(c, "IDLE not possible")
		return nil
	}
	if err := s.tellKeywords(); err != nil {
		return err
	}
	if err := s.relay.barrier(); err != nil {
		return err
	}
	s.relay.begun.Store(0) // from here on the client waits for news
	i := &idling{s: s, box: s.selected()}
	if err := i.begin(true); err != nil {
		return err
	}
	if i.began {
		i.said = s.listen()
		if i.box != nil && i.box.watch != nil {
			i.wake = i.box.watch.Wake
		}
		for over := false; !over; {
			var err error
			if over, err = i.next(); err != nil {
				return err
			}
		}
	}
	s.finish(c.Tag, false, i.p.line)
	return nil
}

// idling is an IDLE under way. It belongs to the command goroutine.
type idling struct {
	s     *session
	box   *selected
	said  <-chan error    // the client's DONE, or what is none
	wake  <-chan struct{} // keywords are settled; nil where none are
	p     *pending        // the upstream's IDLE
	began bool            // the upstream did not refuse it
	since time.Time
	ended <-chan struct{} // p is over; nil once that is known
}

// begin begins IDLE with the upstream.
func (i *idling) begin(first bool) (err error) {
	i.p, i.began, err = i.s.idleUpstream(first)
	i.since, i.ended = time.Now(), i.p.finished
	return err
}

// next waits for what happens next; over tells that IDLE is.
func (i *idling) next() (over bool, err error) {
	select {
	case err := <-i.said:
		if err != nil {
			return true, err
		}
		return true, i.s.done(i.p)
	case <-i.ended: // by the upstream, which some do after a while
		if i.ended = nil; !i.began || time.Since(i.since) < i.s.srv.c.KeepAlive {
			return false, nil // one that ends at once is as good as none
		}
		return false, i.begin(false)
	case <-i.wake:
		return false, i.tell()
	case <-i.s.recheck:
		if i.s.gone() {
			return true, i.s.expel()
		}
		return false, nil
	case <-i.s.relay.done:
		return true, i.s.relay.failure()
	}
}

// tell leaves the upstream's IDLE to tell the client of keywords.
func (i *idling) tell() error {
	if err := i.s.done(i.p); err != nil {
		return err
	}
	if err := i.s.tellFlags(i.box, i.box.watch.Take(), false); err != nil {
		return err
	}
	if err := i.begin(false); err != nil {
		return err
	}
	if !i.began {
		return errors.New("upstream refuses to IDLE again")
	}
	return nil
}

// idleUpstream begins IDLE with the upstream. The client is asked to go on if it
// is the first time. If the upstream refused, began is false and it is over.
func (s *session) idleUpstream(first bool) (p *pending, began bool, err error) {
	started := make(chan struct{})
	p = &pending{}
	p.continued = func() error {
		o := s.relay.hold()
		defer s.relay.release()
		if first {
			_, _ = o.w.WriteString("+ idling\r\n")
		}
		s.announceGone(o)
		select {
		case <-started:
		default:
			close(started)
		}
		return nil
	}
	if err := s.relay.send((&wire.Out{}).String("IDLE"), p); err != nil {
		return p, false, err
	}
	if err := s.up.w.Flush(); err != nil {
		return p, false, err
	}
	select {
	case <-started:
		return p, true, nil
	case <-p.finished:
	case <-s.relay.done:
		return p, false, s.relay.failure()
	}
	select {
	case <-started: // and ended at once
		return p, true, nil
	default:
		return p, false, nil
	}
}

// over tells whether the command is over already.
func (p *pending) over() bool {
	select {
	case <-p.finished:
		return true
	default:
		return false
	}
}

// done ends the upstream's IDLE, unless the upstream did. If it does so in this
// moment, DONE is no command to it, and gets an answer of its own.
func (s *session) done(p *pending) error {
	if p.over() {
		return nil
	}
	s.relay.mu.Lock()
	s.relay.dones++
	s.relay.mu.Unlock()
	_, _ = s.up.w.WriteString("DONE\r\n")
	if err := s.up.w.Flush(); err != nil {
		return err
	}
	_, _, err := s.relay.await(p)
	return err
}

// listen waits for the client's DONE, while the command goroutine goes on to
// speak with the upstream.
func (s *session) listen() <-chan error {
	said := make(chan error, 1)
	s.listening.Store(true)
	go func() {
		line, err := s.in.Line()
		s.listening.Store(false)
		if err == nil && !wire.EqualFold(line, "DONE") || errors.Is(err, wire.ErrDesync) {
			// Whatever it was meant to be, it isn't carried out.
			s.byeBehind("CLIENTBUG", "expected DONE")
			err = errors.New("client said something else than DONE")
		}
		said <- err
	}()
	return said
}

// tellKeywords tells the client of keywords that were settled after it was told
// the flags: the upstream is asked for the flags, and its answer, with our
// keywords, is the untagged FETCH.
func (s *session) tellKeywords() error {
	box := s.selected()
	if box == nil || box.watch == nil {
		return nil
	}
	return s.tellFlags(box, box.watch.Take(), false)
}

// tellFlags tells the client the flags of messages.
func (s *session) tellFlags(box *selected, uids []uint32, modseq bool) error {
	uids = box.view.present(uids)
	if len(uids) == 0 {
		return nil
	}
	if err := s.relay.barrier(); err != nil {
		return err
	}
	items := "(UID FLAGS)"
	if modseq {
		items = "(UID FLAGS MODSEQ)"
	}
	for len(uids) > 0 {
		n := min(len(uids), 1000)
		o := (&wire.Out{}).String("UID FETCH " + wire.MakeSet(uids[:n]).String() + " " + items)
		if _, _, err := s.relay.run(o, &pending{quiet: true}); err != nil {
			return err
		}
		uids = uids[n:]
	}
	return nil
}

// present gives those of uids that are there.
func (v *view) present(uids []uint32) []uint32 {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []uint32
	for _, uid := range uids {
		if i := v.find(uid); i < len(v.uids) && v.uids[i] == uid {
			out = append(out, uid)
		}
	}
	return out
}

// changedSince tells a client that asks for changes since a MODSEQ of keywords
// that changed since: the upstream knows nothing of them.
func (s *session) changedSince(c *wire.Command) error {
	box := s.selected()
	lib := box.lib.Load()
	if lib == nil || len(c.Args) < 3 {
		return nil
	}
	list := c.Args[2].List
	for i := 0; i+1 < len(list); i++ {
		if list[i].Is("CHANGEDSINCE") {
			return s.tellChanged(box, lib, list[i+1])
		}
	}
	return nil
}

func (s *session) tellChanged(box *selected, lib *index.Mailbox, modseq wire.Token) error {
	n, ok := number64(modseq)
	if !ok {
		return nil
	}
	return s.tellFlags(box, lib.ChangedSince(n), true)
}
