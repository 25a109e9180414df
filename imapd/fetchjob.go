package imapd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// fetchJob is one FETCH for content. As a barrier it classifies messages and
// answers for encrypted ones.
type fetchJob struct {
	s         *session
	box       *selected
	lib       *index.Mailbox
	items     []wire.FetchItem
	names     []string           // of items, as they are answered
	cuts      [][]wire.FetchItem // for each of items, what is cut from its answer; nil if nothing is
	modifiers *wire.Token
	uid       bool // UID FETCH
	wantUID   bool
	hideUID   bool   // UID was asked for by us only
	set       []byte // in the upstream's numbers

	all              int      // messages that the set means
	fresh, encrypted []uint32 // of these, ascending
	headerEnd        int64    // of the longest header among them, as far as it is known and matters
	reads            []uint32 // that pieces near the header are asked of, ascending
	shown            int64    // how much has to be read of those that are read in pieces

	by        classBy         // set where fresh is not empty
	beginning int64           // how many bytes are asked for byBeginning
	short     map[uint32]bool // of which too little came to answer, or not in one response; true where something of content did
	halves    map[uint32]half // what came in another response of what the class is found by
	picks     []picks         // sections of header fields that are picked by us
	uids      []uint32        // that the set means, ascending; where picks
	picked    []bool          // which of uids were answered; where picks
	fields    []byte          // what was picked of one message after the other

	stored   chan struct{}      // closed when what was being stored is; nil before
	found    []index.Classified // to be stored
	header   []byte             // what the class is found by, of one message after the other
	prefix   []byte
	classes  map[uint32]pgp.Class // what was found, before it is stored
	answered map[uint32]bool      // encrypted messages that are done
	later    map[uint32]*kept     // encrypted, to be fetched for rendering
	held     int                  // bytes of dynamic items that were kept of these; of the responder

	workers     sync.WaitGroup
	slots       chan struct{} // one for each worker
	mu          sync.Mutex
	underway    map[uint32]*kept // guarded by mu: with a worker, not answered yet
	asIs        []uint32         // guarded by mu: opened and found to be shown as they arrived
	unavailable bool             // guarded by mu: something could not be opened for now
}

// Bounds of what is kept of the items that say nothing of content.
const (
	maxItems = 50        // of one response
	maxItem  = 1 << 20   // bytes of one
	maxHeld  = 256 << 20 // bytes of those of all messages that are to be opened
)

// kept is what a FETCH response brought of an encrypted message.
type kept struct {
	uid     uint32
	dynamic []dynamicItem
	raw     *message.Spool
	news    bool // dynamic has what the client didn't ask for and must be told
}

type dynamicItem struct{ name, value []byte }

// find gives the client's item that an answer is for, or nil.
func (j *fetchJob) find(name []byte) *wire.FetchItem {
	if i := j.index(name); i >= 0 {
		return &j.items[i]
	}
	return nil
}

// index is the place of the client's item that an answer is for, or -1. The
// items are looked through once for all answers.
func (j *fetchJob) index(name []byte) int {
	if j.names == nil {
		for _, item := range j.items {
			var cuts []wire.FetchItem
			if whole := j.wholeOf(item); whole != nil {
				cuts = slices.DeleteFunc(slices.Clone(j.items), func(o wire.FetchItem) bool { return !samePieces(item, o) })
				item = *whole
			}
			j.cuts, j.names = append(j.cuts, cuts), append(j.names, item.Response())
		}
	}
	for i, want := range j.names {
		if sameItem(name, want) {
			return i
		}
	}
	return j.sameFields(name)
}

// sameFields is the place of the only item of the client's that an answer can be
// for which names other fields, or in another order, or -1: that is how a server
// may spell what it was asked for.
func (j *fetchJob) sameFields(name []byte) int {
	open := bytes.IndexByte(name, '(')
	if open < 0 {
		return -1
	}
	_, tail, _ := strings.Cut(string(name[open:]), ")")
	found := -1
	for i, want := range j.names {
		o := strings.IndexByte(want, '(')
		if o != open || !wire.HasPrefixFold(name, want[:o]) || !strings.HasSuffix(want, ")"+tail) {
			continue
		}
		if found >= 0 {
			return -1
		}
		found = i
	}
	return found
}

// sameItem compares an answer's name with the one expected. Servers spell the
// fields of a section as they like, so of these the beginning counts and the
// number.
func sameItem(got []byte, want string) bool {
	if wire.EqualFold(got, want) {
		return true
	}
	open := strings.IndexByte(want, '(')
	if len(got) == 0 || open < 0 || !wire.HasPrefixFold(got, want[:open]) {
		return false
	}
	a, b := got[open:], want[open:]
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0] == '"':
			a = a[1:]
		case b[0] == '"':
			b = b[1:]
		case a[0]|0x20 != b[0]|0x20:
			return false
		default:
			a, b = a[1:], b[1:]
		}
	}
	return len(a) == len(b)
}

// gathering is a FETCH response under way, until it is known how to answer it.
type gathering struct {
	kept
	seq       uint32
	class     pgp.Class
	root      index.Root // once hasHeader
	prefix    []byte     // of j.prefix, once hasPrefix
	hasHeader bool
	hasPrefix bool
	sawUID    bool
	short     bool      // too little came
	halved    bool      // the header came in another response
	picked    bool      // the client's header fields are in contents
	begun     *begun    // an item that was not read to its end
	contents  []content // while the class isn't known
}

// content is an item that came before the class was known.
type content struct {
	name  []byte
	value []byte // text
	spool *message.Spool
	bytes []byte // of fetchJob.fields
}

func (g *gathering) close() {
	for _, c := range g.contents {
		if c.spool != nil {
			_ = c.spool.Close()
		}
	}
	if g.raw != nil {
		_ = g.raw.Close()
	}
}

// response takes a FETCH response of a barrier. Run by the responder.
func (j *fetchJob) response(seq uint32) error {
	f, err := j.s.up.r.Fetch()
	if err != nil {
		return err
	}
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
		if isShown(g.class) && !j.owesPicks(g) {
			return j.stream(f, g)
		}
		item, err := f.Next()
		if j.s.noMore(err) {
			return j.gathered(g)
		}
		if err != nil {
			return err
		}
		if err := j.gather(f, g, item); err != nil {
			return err
		}
	}
}

// class is what kind of message a UID is, as far as we know by now.
func (j *fetchJob) class(uid uint32) pgp.Class {
	if c, ok := j.classes[uid]; ok {
		return c
	}
	return j.lib.Class(uid)
}

// gather takes one item.
func (j *fetchJob) gather(f *wire.FetchReader, g *gathering, item wire.Item) error {
	switch {
	case wire.EqualFold(item.Name, "UID"):
		uid, err := readUID(item.Value)
		if err != nil {
			return err
		}
		if !j.box.view.learn(g.seq, uid) || g.uid != 0 && g.uid != uid {
			return fmt.Errorf("%w: UID changed", wire.ErrDesync)
		}
		if g.uid == 0 {
			g.uid, g.class = uid, j.class(uid)
		}
		g.sawUID = true
		j.decide(g)
		return nil
	case dynamic(item.Name):
		if len(g.dynamic) >= maxItems || j.held > maxHeld || len(item.Value) > maxItem || item.Size > maxItem {
			return fmt.Errorf("%w: FETCH of too many items", wire.ErrDesync)
		}
		name := bytes.Clone(item.Name)
		value, ok, err := dynamicValue(f, item)
		if err != nil || !ok {
			return err
		}
		value = bytes.Clone(value)
		if wire.EqualFold(name, "MODSEQ") {
			j.box.sawModSeq(value)
		}
		g.dynamic = append(g.dynamic, dynamicItem{name, value})
		return nil
	}
	if g.class == pgp.Encrypted {
		return j.keepRaw(f, g, item)
	}
	return j.gatherContent(f, g, item)
}

// keepRaw keeps the whole message, if it comes by, to be opened.
func (j *fetchJob) keepRaw(f *wire.FetchReader, g *gathering, item wire.Item) error {
	if !item.Literal || g.raw != nil || !wire.EqualFold(item.Name, "BODY[]") && !wire.EqualFold(item.Name, "RFC822") {
		return nil // dropped by the reader
	}
	var err error
	g.raw, err = j.s.spool(f, nil, item.Size)
	return err
}

// spoolWriter goes on reading when the spool is full.
type spoolWriter struct {
	w   io.Writer
	err error
}

func (w *spoolWriter) Write(p []byte) (int, error) {
	if w.err == nil {
		_, w.err = w.w.Write(p)
	}
	return len(p), nil
}

// gatherContent keeps an item until the class is known.
func (j *fetchJob) gatherContent(f *wire.FetchReader, g *gathering, item wire.Item) error {
	if j.isBeginning(item.Name) && !g.hasHeader && !g.short {
		return j.gatherBeginning(f, g, item)
	}
	isHeader := j.by == byHeader && !g.hasHeader && !g.short && wire.EqualFold(item.Name, "BODY[HEADER]")
	isPrefix := j.by == byHeader && !g.hasPrefix && wire.EqualFold(item.Name, "BODY[TEXT]<0>")
	if isHeader || isPrefix {
		return j.gatherClassItem(f, g, item, isHeader)
	}
	if j.find(item.Name) == nil {
		return nil
	}
	if len(g.contents) > len(j.items) {
		return fmt.Errorf("%w: FETCH of too many items", wire.ErrDesync)
	}
	c := content{name: bytes.Clone(item.Name), value: bytes.Clone(item.Value)}
	if item.Literal {
		sp, err := j.s.spool(f, nil, item.Size)
		if err != nil {
			return err
		}
		if sp == nil {
			j.failed(&g.kept, errors.New("no room"))
			return nil
		}
		c.spool = sp
	}
	g.contents = append(g.contents, c)
	return nil
}

func literalValue(b []byte) []byte {
	return append([]byte("{"+strconv.Itoa(len(b))+"}\r\n"), b...)
}

// decide finds the class as soon as what it needs is there.
func (j *fetchJob) decide(g *gathering) {
	if g.class != pgp.Unclassified || g.uid == 0 {
		return
	}
	j.join(g)
	if !g.hasHeader || !g.hasPrefix && g.root.NeedsPrefix() {
		return
	}
	if g.root.Masks().Header == 0 && len(g.prefix) == 0 {
		j.nothing(g)
		return
	}
	c := g.root.Classified(g.uid, g.prefix)
	g.class = c.Class
	j.found = append(j.found, c)
	if j.classes == nil {
		j.classes = map[uint32]pgp.Class{}
	}
	j.classes[g.uid] = g.class
	if len(j.found) >= 256 {
		j.persist(false)
	}
	if g.class != pgp.Encrypted {
		return
	}
	for _, c := range g.contents { // what came before may be what is to be opened
		if c.spool != nil && g.raw == nil && (wire.EqualFold(c.name, "BODY[]") || wire.EqualFold(c.name, "RFC822")) {
			g.raw = c.spool
			continue
		}
		if c.spool != nil {
			_ = c.spool.Close()
		}
	}
	g.contents = nil
}

// persist stores the classes found so far, while the next ones come in: those
// that come before the last ones are stored wait for the next call. With last it
// waits until all are stored.
func (j *fetchJob) persist(last bool) {
	if j.stored != nil {
		if !last {
			select {
			case <-j.stored:
			default:
				return
			}
		}
		<-j.stored
	}
	if len(j.found) > 0 {
		found, stored := j.found, make(chan struct{})
		j.found, j.stored = nil, stored
		go func() {
			defer close(stored)
			if err := j.lib.Remember(j.s.ctx, found); err != nil {
				// They will be asked for again: that costs time, nothing else.
				j.s.log.Warn("classes could not be stored", "reason", reason(err))
			}
		}()
	}
	if last && j.stored != nil {
		<-j.stored
	}
}

type appender []byte

func (a *appender) Write(p []byte) (int, error) {
	*a = append(*a, p...)
	return len(p), nil
}
