package imapd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/search"
	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// maxSearch bounds the answer to a search that is read whole.
const maxSearch = 64 << 20

// search is SEARCH and UID SEARCH. Keys that look into messages are answered by
// us for encrypted ones (see package search); the upstream does the rest.
func (s *session) search(c *wire.Command) error {
	uid := c.Name == "UID SEARCH"
	q, err := search.Parse(c.Args)
	if err != nil {
		return s.searchFailed(c, err)
	}
	box := s.selected()
	lib := box.lib.Load()
	if lib == nil && box.view.differs() {
		s.local(c.Tag, "NO [UNAVAILABLE] the mailbox changed: say NOOP first")
		return nil
	}
	if lib == nil {
		return s.forwardSearch(c.Tag, uid, c.Out())
	}
	j := &fetchJob{s: s, box: box, lib: lib} // asks by sequence numbers, so that no EXPUNGE comes
	if err := j.ready(q); err != nil {
		return s.searchFailed(c, err)
	}
	renumber := false
	if box.view.differs() { // RFC 3501, Section 7.4.1: an EXPUNGE may not be told now
		if err := s.relay.barrier(); err != nil {
			return err
		}
		renumber = !uid && box.view.differs()
		q.Renumber(box.view.upstream)
	}
	uids := box.view.all()
	scope := search.Scope{
		UIDs: uids, Encrypted: lib.Encrypted(uids), WordsUpstream: s.account.SearchUpstream,
		Keyword: lib.WithKeyword, Search: lib.Search, Match: j.match,
	}
	plan, err := search.Rewrite(s.ctx, q, scope)
	if err != nil {
		return s.searchFailed(c, err)
	}
	if renumber {
		plan.Number = box.view.client
	}
	if len(plan.Commands) == 1 && !renumber {
		o := (&wire.Out{}).String(c.Name + " ")
		o.Parts = append(o.Parts, plan.Commands[0].Parts...)
		return s.forwardSearch(c.Tag, uid, o)
	}
	return s.searchParts(c, uid, plan)
}

var errNoUIDs = errors.New("the upstream server doesn't tell its UIDs")

// searchFailed answers a search that isn't carried out.
func (s *session) searchFailed(c *wire.Command, err error) error {
	switch {
	case errors.Is(err, search.ErrSyntax), errors.Is(err, wire.ErrSyntax):
		s.reject(c, clean(err.Error()))
	case errors.Is(err, search.ErrCharset):
		s.local(c.Tag, "NO [BADCHARSET (US-ASCII UTF-8)] unknown character set")
	case errors.Is(err, search.ErrWords):
		s.local(c.Tag, "NO [CANNOT] "+clean(err.Error()))
	case errors.Is(err, search.ErrComplex):
		s.local(c.Tag, "NO [LIMIT] the search has too many keys")
	case s.ctx.Err() != nil, s.relay.over():
		return err
	default:
		s.log.Warn("search not possible", "reason", reason(err))
		s.local(c.Tag, "NO [UNAVAILABLE] the search cannot be answered now")
	}
	return nil
}

// forwardSearch sends a search whose answer is the client's.
func (s *session) forwardSearch(tag string, uid bool, o *wire.Out) error {
	return s.relay.forward(tag, o, &pending{quiet: !uid})
}

// esearchResponse passes an ESEARCH on, with the client's tag in the place of
// ours (RFC 4731, Section 3.1).
func (s *session) esearchResponse() error {
	b, err := s.up.r.Collect(maxSearch)
	if err != nil {
		return err
	}
	if line, ok := bytes.CutSuffix(b, []byte("\r\n")); !ok || !harmless(line) {
		return nil
	}
	out := b
	if p := s.relay.find(func(p *pending) bool {
		return bytes.Contains(b[:min(len(b), 300)], []byte(`"`+p.upTag+`"`)) || bytes.Contains(b[:min(len(b), 300)], []byte("(TAG "+p.upTag+")"))
	}); p != nil {
		out = retag(b, p.upTag, p.tag)
	}
	s.sawModSeqOf("ESEARCH", bytes.TrimSuffix(b, []byte("\r\n")))
	o := s.relay.hold()
	defer s.relay.release()
	_, err = o.w.Write(out)
	return err
}

// retag puts the client's tag in the place of ours in an ESEARCH.
func retag(b []byte, from, to string) []byte {
	for _, tag := range []string{`"` + from + `"`, from} {
		mine := []byte("(TAG " + tag + ")")
		if i := bytes.Index(b[:min(len(b), 300)], mine); i >= 0 {
			out := append(bytes.Clone(b[:i]), "(TAG "...)
			out = append(out, wire.StringToken(to).Raw...)
			return append(append(out, ')'), b[i+len(mine):]...)
		}
	}
	return b
}

// searchParts sends a search as several commands and makes one answer of all.
func (s *session) searchParts(c *wire.Command, uid bool, plan *search.Plan) error {
	if err := s.relay.barrier(); err != nil {
		return err
	}
	var answers [][]byte
	var line []byte
	for _, command := range plan.Commands {
		answer, lines := []byte("* SEARCH\r\n"), 0
		p := &pending{quiet: !uid, untagged: func(h wire.Head) (bool, error) {
			if h.HasNum || h.Name != "SEARCH" && h.Name != "ESEARCH" {
				return false, nil
			}
			b, err := s.up.r.Collect(maxSearch)
			s.sawModSeqOf(h.Name, bytes.TrimSuffix(b, []byte("\r\n")))
			if lines++; lines == 1 {
				answer = b
			} else { // some tell it in several lines
				answer = joinSearch(answer, b)
			}
			return true, err
		}}
		o := (&wire.Out{}).String(c.Name + " ")
		o.Parts = append(o.Parts, command.Parts...)
		status, l, err := s.relay.run(o, p)
		if err != nil {
			return err
		}
		if line = l; status != "OK" {
			s.finish(c.Tag, !uid, line)
			return nil
		}
		answers = append(answers, answer)
	}
	all, err := plan.Answer(c.Tag, uid, answers)
	if err != nil {
		return s.searchFailed(c, fmt.Errorf("upstream's answers: %w", errors.New(clean(err.Error()))))
	}
	s.relay.local(string(all))
	s.finish(c.Tag, !uid, line)
	return nil
}

// joinSearch adds the numbers of a second "* SEARCH 1 2" to those of the first, in
// its room. Of other answers there is one.
func joinSearch(a, b []byte) []byte {
	const head = "* SEARCH"
	if !wire.HasPrefixFold(a, head) || !wire.HasPrefixFold(b, head) || len(a)+len(b) > maxSearch {
		return b
	}
	return append(append(bytes.TrimRight(a, " \r\n"), ' '), bytes.TrimLeft(b[len(head):], " ")...)
}

// ready learns the UIDs of all messages and prepares for a search, again if mail
// comes meanwhile.
func (j *fetchJob) ready(q *search.Query) error {
	for range 3 {
		if ok, err := j.s.know(j.box); err != nil || !ok {
			return firstError(err, func() error { return errNoUIDs })
		}
		if q.LooksInside() {
			if err := j.prepare(q); err != nil {
				return err
			}
		}
		if n, _ := j.box.view.unknown(); n == 0 {
			break
		}
	}
	return nil
}

// prepare classifies every message and opens the encrypted ones that a search
// may find, as far as that was not done. The UIDs of all messages are known.
func (j *fetchJob) prepare(q *search.Query) error {
	uids := j.box.view.all()
	if fresh := j.lib.Unclassified(uids); len(fresh) > 0 {
		if err := j.classifyFirst(fresh); err != nil {
			return err
		}
	}
	unopened := j.lib.Unsettled(j.lib.Encrypted(q.Within(uids)))
	if len(unopened) == 0 {
		return nil
	}
	if err := j.s.relay.barrier(); err != nil {
		return err
	}
	return j.again(unopened, "(UID BODY.PEEK[])", j.openResponse)
}

// classifyFirst finds the classes of messages by a command of its own.
func (j *fetchJob) classifyFirst(fresh []uint32) error {
	if err := j.s.relay.barrier(); err != nil {
		return err
	}
	j.by = byHeader
	defer func() { j.by = byNothing }()
	if err := j.again(fresh, "(UID "+index.ClassItems+" "+index.PrefixItem+")", j.classResponse); err != nil {
		return err
	}
	j.persist(true)
	return nil
}

// classResponse takes what a message's class is found by.
func (j *fetchJob) classResponse(seq uint32) error {
	return j.each(seq, func(f *wire.FetchReader, g *gathering, item wire.Item) error {
		if g.class != pgp.Unclassified {
			return nil
		}
		return j.gatherContent(f, g, item)
	}, func(*gathering) error { return nil })
}

// openResponse takes a message to be opened for the index.
func (j *fetchJob) openResponse(seq uint32) error {
	tooLarge := false
	return j.each(seq, j.keepWhole(&tooLarge), func(g *gathering) error {
		if g.raw == nil && !tooLarge || g.uid == 0 {
			return nil
		}
		r, err := j.lib.Rendering(j.s.ctx, g.uid, func(context.Context) (message.Source, error) {
			if g.raw == nil {
				return nil, message.ErrTooLarge // that is noted, and it isn't fetched again
			}
			return struct{ message.Source }{g.raw}, nil // g closes it
		})
		if err != nil {
			j.failed(&g.kept, err)
			return j.s.ctx.Err()
		}
		r.Close()
		return nil
	})
}

// keepWhole is keepRaw that tells of a message which no spool takes.
func (j *fetchJob) keepWhole(tooLarge *bool) func(*wire.FetchReader, *gathering, wire.Item) error {
	return func(f *wire.FetchReader, g *gathering, item wire.Item) error {
		err := j.keepRaw(f, g, item)
		*tooLarge = g.raw == nil && (*tooLarge || item.Literal && wire.EqualFold(item.Name, "BODY[]") && item.Size > j.s.spoolLimit())
		return err
	}
}

// each goes through a FETCH response that the client doesn't see; FLAGS in it
// it does see, as a response of their own.
func (j *fetchJob) each(seq uint32, take func(*wire.FetchReader, *gathering, wire.Item) error, done func(*gathering) error) error {
	f, err := j.s.up.r.Fetch()
	if err != nil {
		return err
	}
	return j.through(f, seq, take, done)
}

// through is each for a response that was begun to be read.
func (j *fetchJob) through(f *wire.FetchReader, seq uint32, take func(*wire.FetchReader, *gathering, wire.Item) error, done func(*gathering) error) error {
	if seq == 0 || int(seq) > j.box.view.len() {
		return fmt.Errorf("%w: FETCH of what isn't there", wire.ErrDesync)
	}
	g := &gathering{seq: seq}
	defer g.close()
	g.uid = j.box.view.uid(seq)
	if g.uid != 0 {
		g.class = j.class(g.uid)
	}
	for {
		item, err := f.Next()
		if j.s.noMore(err) {
			break
		}
		if err == nil && (dynamic(item.Name) || wire.EqualFold(item.Name, "UID")) {
			err = j.gather(f, g, item)
		} else if err == nil {
			err = take(f, g, item)
		}
		if err != nil {
			return err
		}
	}
	if !j.merge(g.uid, g.dynamic) {
		if err := j.dynamicOnly(g); err != nil {
			return err
		}
	}
	if g.class == pgp.Unclassified {
		j.keepHalf(g)
	}
	return done(g)
}

// match opens one message to look into it. Run by the command goroutine, while
// nothing is under way.
func (j *fetchJob) match(ctx context.Context, uid uint32, t search.Term) (bool, error) {
	r, err := j.lib.Rendering(ctx, uid, func(context.Context) (message.Source, error) { return j.raw(uid) })
	if errors.Is(err, index.ErrNothing) {
		return false, nil // nothing is found in it, for now
	}
	if err != nil {
		return false, err
	}
	defer r.Close()
	if r.Class != pgp.Encrypted {
		return false, nil
	}
	return t.Match(r.Message)
}

// raw fetches a message as the upstream has it. The caller closes it.
func (j *fetchJob) raw(uid uint32) (message.Source, error) {
	if err := j.s.relay.barrier(); err != nil {
		return nil, err
	}
	var got *message.Spool
	tooLarge := false
	err := j.again([]uint32{uid}, "(UID BODY.PEEK[])", func(seq uint32) error {
		large := false
		return j.each(seq, j.keepWhole(&large), func(g *gathering) error {
			if g.uid == uid && got == nil {
				got, g.raw, tooLarge = g.raw, nil, large
			}
			return nil
		})
	})
	switch {
	case err == nil && got == nil && tooLarge:
		err = message.ErrTooLarge
	case err == nil && got == nil:
		err = index.ErrNothing // or it is gone
	}
	if err != nil {
		return nil, err
	}
	return got, nil
}

// all is every UID that is known, ascending.
func (v *view) all() []uint32 {
	v.mu.Lock()
	defer v.mu.Unlock()
	known := slices.Clone(v.uids)
	for len(known) > 0 && known[len(known)-1] == 0 {
		known = known[:len(known)-1]
	}
	return known
}
