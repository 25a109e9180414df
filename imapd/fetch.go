package imapd

import (
	"slices"
	"strings"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/wire"
)

// fetch is FETCH and UID FETCH. There are three ways:
//
//   - items that say nothing of content pass as they are;
//   - content of messages that are all known to be shown as they arrived is
//     forwarded too, and streams through;
//   - else the command is a barrier (fetchJob): messages that were never seen
//     are classified by items added to the client's own FETCH, and encrypted
//     ones are answered from their rendering.
func (s *session) fetch(c *wire.Command) error {
	uid := c.Name == "UID FETCH"
	if len(c.Args) < 2 || len(c.Args) > 3 || c.Args[0].Kind != wire.Atom || len(c.Args) == 3 && c.Args[2].Kind != wire.List {
		s.reject(c, "FETCH takes a set and items")
		return nil
	}
	items, err := wire.ParseFetchItems(c.Args[1])
	content := false
	for _, i := range items {
		content = content || i.Content()
		if !i.Known() {
			s.reject(c, "FETCH item unknown or not offered")
			return nil
		}
	}
	if err != nil || len(c.Args) == 3 && !knownModifiers(c.Args[2].List) {
		s.reject(c, "FETCH items or modifiers not understood")
		return nil
	}
	// A sequence number means another message once an EXPUNGE comes.
	if !uid && (content || s.selected().view.differs()) && s.relay.inFlight() && !s.relay.onlyQuiet() {
		if err := s.relay.barrier(); err != nil {
			return err
		}
	}
	// What we ask on our own by UID may bring one too, so that it is asked before.
	if err := s.changedSince(c); err != nil {
		return err
	}
	if content && s.selected().lib.Load() != nil {
		if ok, err := s.know(s.selected()); err != nil {
			return err
		} else if !ok {
			s.local(c.Tag, "NO [UNAVAILABLE] the upstream server doesn't tell its UIDs")
			return nil
		}
	}
	set, ok := s.set(c, uid)
	if !ok {
		return nil
	}
	j := &fetchJob{s: s, box: s.selected(), items: items, uid: uid, set: set}
	if len(c.Args) == 3 {
		j.modifiers = &c.Args[2]
	}
	j.wantUID = uid || slices.ContainsFunc(items, func(i wire.FetchItem) bool { return i.Name == "UID" })
	if !content {
		p := &pending{quiet: !uid}
		return s.relay.forward(c.Tag, j.verbatim(c), p)
	}
	return s.fetchContent(c, j)
}

// knownModifiers: RFC 7162, Sections 3.1.4 and 3.2.6.
func knownModifiers(list []wire.Token) bool {
	for i := 0; i < len(list); i++ {
		switch {
		case list[i].Is("CHANGEDSINCE") && i+1 < len(list):
			i++
		case !list[i].Is("VANISHED"):
			return false
		}
	}
	return true
}

// fetchContent chooses between the two ways for content. The UIDs of all messages
// are known.
func (s *session) fetchContent(c *wire.Command, j *fetchJob) error {
	if lib := j.box.lib.Load(); lib != nil {
		parsed, _ := wire.ParseSet(j.set)
		uids := j.box.view.resolve(parsed, j.uid)
		if slices.ContainsFunc(j.items, nearHeader) {
			j.reads = uids
			if s.relay.readsAny(uids) { // what these are shown is to be compared with
				if err := s.relay.barrier(); err != nil {
					return err
				}
			}
		}
		j.headerEnd, j.shown = j.furthestHeader(lib, uids)
		j.fresh = lib.Unclassified(uids)
		j.encrypted = lib.Encrypted(uids)
		j.all = len(uids)
		if first := j.first(lib); len(first) > 0 {
			j.lib = lib
			if err := j.classifyFirst(first); err != nil {
				return err
			}
			j.fresh, j.encrypted = lib.Unclassified(uids), lib.Encrypted(uids)
			j.headerEnd, j.shown = j.furthestHeader(lib, uids)
			j.names, j.cuts = nil, nil
		}
		if len(j.fresh)+len(j.encrypted) > 0 {
			return j.run(c, lib)
		}
	}
	if slices.ContainsFunc(j.items, j.cutByUs) { // alone, so that no other answer has its name
		if err := s.relay.barrier(); err != nil {
			return err
		}
		p := &pending{quiet: !j.uid, job: j}
		if err := s.relay.forward(c.Tag, j.verbatim(c), p); err != nil {
			return err
		}
		return s.relay.barrier()
	}
	return s.relay.forward(c.Tag, j.verbatim(c), &pending{quiet: !j.uid, job: j})
}

// verbatim is the client's command, with its set translated and partial header
// sections asked for whole.
func (j *fetchJob) verbatim(c *wire.Command) *wire.Out {
	o := (&wire.Out{}).String(c.Name + " ").Text(j.set).String(" ")
	if slices.ContainsFunc(j.items, j.cutByUs) {
		o.String("(" + strings.Join(j.requestsFor(j.items), " ") + ")")
	} else {
		o.Token(c.Args[1])
	}
	if j.modifiers != nil {
		o.String(" ").Token(*j.modifiers)
	}
	return o
}

// onlyQuiet tells whether no command under way may bring an EXPUNGE.
func (r *relay) onlyQuiet() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !slices.ContainsFunc(r.queue, func(p *pending) bool { return p.upTag != "" && !p.quiet })
}

// run carries out a FETCH that is a barrier.
func (j *fetchJob) run(c *wire.Command, lib *index.Mailbox) error {
	s := j.s
	if err := s.relay.barrier(); err != nil {
		return err
	}
	j.lib, j.hideUID = lib, !j.wantUID
	j.slots = make(chan struct{}, maxWorkers)
	s.relay.opening.Store(j)
	defer s.relay.opening.Store(nil)
	defer j.workers.Wait()
	status, line, err := s.relay.run(j.request(c), j.pending(j.response))
	if err != nil {
		return err
	}
	j.persist(true)
	if status != "BAD" { // a NO may be about one message of many
		if err := j.fetchShort(); err != nil {
			return err
		}
		j.persist(true)
		if err := j.fetchLater(); err != nil {
			return err
		}
		j.workers.Wait()
		if err := j.fetchAsIs(); err != nil {
			return err
		}
	}
	j.workers.Wait()
	switch {
	case status == "OK" && (j.unavailable || j.modifiers == nil && j.unclassified()):
		line = []byte("NO [UNAVAILABLE] some messages cannot be opened now")
	case status == "OK" && len(j.later) > 0:
		line = []byte("NO [EXPUNGEISSUED] some of the messages are gone")
	}
	s.finish(c.Tag, !j.uid, line)
	return nil
}

// maxWorkers bounds the messages of one FETCH that are opened at a time.
const maxWorkers = 4

// pending is a command of this job with its own way to take FETCH responses.
func (j *fetchJob) pending(take func(seq uint32) error) *pending {
	return &pending{quiet: !j.uid, untagged: func(h wire.Head) (bool, error) {
		if h.Name != "FETCH" || !h.HasNum {
			return false, nil
		}
		return true, take(h.Number)
	}}
}

// request is what goes upstream for the client's FETCH.
func (j *fetchJob) request(c *wire.Command) *wire.Out {
	items := j.withUID()
	if len(j.fresh) > 0 {
		j.chooseClassBy()
		j.choosePicks()
		items = append(items, j.classItems()...)
	}
	if len(j.encrypted) == j.all {
		items = append(items, j.encryptedOnly()...)
	} else {
		items = append(items, j.requests()...)
	}
	o := (&wire.Out{}).String(c.Name + " ").Text(j.set).String(" (" + strings.Join(items, " ") + ")")
	if j.modifiers != nil {
		o.String(" ").Token(*j.modifiers)
	}
	return o
}

// ambiguous tells whether two items are answered under one name.
func (j *fetchJob) ambiguous() bool {
	for i, a := range j.items {
		for _, b := range j.items[:i] {
			if a.Response() == b.Response() && (a.Request() != b.Request() || a.Section != nil) {
				return true
			}
		}
	}
	return false
}

// withUID is UID, where the client doesn't ask for it.
func (j *fetchJob) withUID() []string {
	if slices.ContainsFunc(j.items, func(i wire.FetchItem) bool { return i.Name == "UID" }) {
		return nil
	}
	return []string{"UID"}
}

// encryptedOnly are the items asked for where all messages are encrypted: what
// the upstream alone knows, one byte where \Seen has to be set, and the message
// where there is nothing yet to answer from.
func (j *fetchJob) encryptedOnly() []string {
	var items []string
	sets := false
	for _, i := range j.items {
		if r := i.Request(); !i.Content() && !slices.Contains(items, r) {
			items = append(items, r)
		}
		sets = sets || i.Sets()
	}
	missing := 0
	for _, uid := range j.encrypted {
		if !j.answerable(uid) {
			missing++
		}
	}
	switch {
	case missing == len(j.encrypted) && sets:
		items = append(items, "BODY[]")
	case missing == len(j.encrypted):
		items = append(items, "BODY.PEEK[]")
	case sets:
		items = append(items, "BODY[]<0.1>")
	}
	if len(items)+len(j.withUID()) == 0 {
		items = append(items, "UID")
	}
	return items
}

// finish answers a command that was a barrier.
func (s *session) finish(tag string, quiet bool, line []byte) {
	s.out.Lock()
	defer s.out.Unlock()
	s.relay.answered(s.relay.begun.Load())
	if !quiet {
		s.announceGone(s.out)
	}
	_, _ = s.out.w.WriteString(tag + " ")
	_, _ = s.out.w.Write(s.status(line))
	_, _ = s.out.w.WriteString("\r\n")
}
