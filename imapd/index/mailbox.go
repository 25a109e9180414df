package index

import (
	"context"
	"slices"
	"sync"

	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/pgp"
)

// The keywords that are ours alone.
const (
	KeywordEncrypted = "$LetterlockEncrypted" // was encrypted when it arrived
	KeywordSigned    = "$LetterlockSigned"    // any valid signature over all that is shown
	KeywordVerified  = "$LetterlockVerified"  // and its key is organisation or confirmed
	KeywordWarning   = "$LetterlockWarning"   // read letterlock status before trusting it
)

// state is what we know of a UID beside its class.
type state uint8

const (
	settled     state = 1 << iota // opened, or never to be opened: class and keywords are final
	hasText                       // its text is stored, whole
	kwEncrypted                   // the keywords
	kwSigned
	kwVerified
	kwWarning
)

const kwAll = kwEncrypted | kwSigned | kwVerified | kwWarning

// keywordNames has the keywords of each bit, in the order we tell them.
var keywordNames = []struct {
	bit  state
	name string
}{{kwEncrypted, KeywordEncrypted}, {kwSigned, KeywordSigned}, {kwVerified, KeywordVerified}, {kwWarning, KeywordWarning}}

// keywordLists has the list of every combination, so that Keywords allocates nothing.
var keywordLists = func() (lists [int(kwAll) + 1][]string) {
	for s := range lists {
		for _, k := range keywordNames {
			if state(s)&k.bit != 0 {
				lists[s] = append(lists[s], k.name)
			}
		}
	}
	return lists
}()

// AllKeywords are all that are ours; the caller must not change the slice.
func AllKeywords() []string { return keywordLists[kwAll] }

// entry is what memory keeps of a UID.
type entry struct {
	class  pgp.Class
	state  state
	modseq uint64 // the upstream's highest when the keywords last changed; 0 if they never did after classification
}

// MaxRanges bounds what is kept of one header: a sender can write very many fields
// that imitate ours. There may be more where there are so many.
const MaxRanges = 1000

// Masks says what to overwrite in the root header of a message that is shown
// as it arrived.
type Masks struct {
	Ranges []render.Range // at most MaxRanges
	Header int64          // length of the root header, with the empty line
}

// longHeader is how long a header must be for its length to be kept.
const longHeader = 64 << 10

// kept tells whether they say something that has to be kept.
func (m Masks) kept() bool { return len(m.Ranges) > 0 || m.Header >= longHeader }

// Mailbox is the index of one UIDVALIDITY of a mailbox. It is safe for
// concurrent use; methods without a ctx do no I/O.
type Mailbox struct {
	lib *Library
	key mailboxKey
	id  int64 // in index_mailbox

	mu       sync.RWMutex
	entries  map[uint32]entry             // guarded by mu
	masks    map[uint32]Masks             // guarded by mu; only those that are kept
	again    map[uint32]bool              // guarded by mu; signed ones that another transform settled
	modseq   uint64                       // guarded by mu; highest that any session saw
	watchers map[chan<- struct{}]*watcher // guarded by mu
	unfiled  map[uint32]bool              // guarded by mu; stored as unseen, with another modseq in entries
	flights  flights
}

// Name is the mailbox's name as the upstream spells it.
func (m *Mailbox) Name() string { return m.key.name }

// UIDValidity is the upstream's.
func (m *Mailbox) UIDValidity() uint32 { return m.key.uidvalidity }

// Close gives the mailbox back. Call it once for each Library.Mailbox.
func (m *Mailbox) Close() {
	m.lib.mu.Lock()
	s := m.lib.mailboxes[m.key]
	m.lib.mu.Unlock()
	if s != nil && s.mailbox == m {
		m.lib.leave(m.key, s)
	}
}

// Class is the class of a UID, Unclassified if it is not known yet. Encrypted
// means that it is to be answered from its Rendering, which may find that it
// cannot be opened; the class is Opaque from then on (or Plain, where it only
// looked encrypted).
func (m *Mailbox) Class(uid uint32) pgp.Class {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.entries[uid].class
}

// Settled tells whether class and keywords of a UID are final: a plain message
// that was classified, or one that was opened.
func (m *Mailbox) Settled(uid uint32) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.entries[uid].state&settled != 0
}

// Unclassified is those of uids whose class is not known, in their order.
func (m *Mailbox) Unclassified(uids []uint32) []uint32 {
	return m.which(uids, func(e entry) bool { return e.class == pgp.Unclassified })
}

// Encrypted is those of uids that are answered from their rendering.
func (m *Mailbox) Encrypted(uids []uint32) []uint32 {
	return m.which(uids, func(e entry) bool { return e.class == pgp.Encrypted })
}

// Unsettled is those of uids that are classified, and must be opened before
// their class and keywords are final; or again, where a signature was looked at by
// another transform: until then their keywords stay.
func (m *Mailbox) Unsettled(uids []uint32) []uint32 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var some []uint32
	for _, uid := range uids {
		if e := m.entries[uid]; e.class != pgp.Unclassified && (e.state&settled == 0 || m.again[uid]) {
			some = append(some, uid)
		}
	}
	return some
}

func (m *Mailbox) which(uids []uint32, is func(entry) bool) []uint32 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var some []uint32
	for _, uid := range uids {
		if is(m.entries[uid]) {
			some = append(some, uid)
		}
	}
	return some
}

// Keywords are ours for a UID; the caller must not change the slice.
func (m *Mailbox) Keywords(uid uint32) []string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return keywordLists[m.entries[uid].state&kwAll]
}

// WithKeyword is those of uids that have a keyword of ours, whatever its case.
// ok is false for a keyword that is not ours.
func (m *Mailbox) WithKeyword(uids []uint32, keyword string) (some []uint32, ok bool) {
	bit := keywordBit(keyword)
	if bit == 0 {
		return nil, false
	}
	return m.which(uids, func(e entry) bool { return e.state&bit != 0 }), true
}

// Masks is what to overwrite in the root header of a UID that is not
// Encrypted, and how long the header is if it is long. ok is false where there is
// nothing.
func (m *Mailbox) Masks(uid uint32) (masks Masks, ok bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	masks, ok = m.masks[uid]
	return masks, ok
}

// Known is every classified UID, ascending.
func (m *Mailbox) Known() []uint32 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	uids := make([]uint32, 0, len(m.entries))
	for uid := range m.entries {
		uids = append(uids, uid)
	}
	slices.Sort(uids)
	return uids
}

// Forget drops everything known of uids, so that they are classified and opened
// again. Frozen verdicts stay.
func (m *Mailbox) Forget(ctx context.Context, uids []uint32) error { return m.remove(ctx, uids) }

// Expunged drops the rows of uids that are gone upstream. What outlives
// messages (WasOpened, replay records, frozen verdicts) stays.
func (m *Mailbox) Expunged(ctx context.Context, uids []uint32) error { return m.remove(ctx, uids) }
