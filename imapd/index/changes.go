package index

import (
	"context"
	"fmt"
	"slices"

	"letterlock.org/letterlock/internal/store"
)

// watcher gathers what changed until its session looks.
type watcher struct {
	uids map[uint32]bool
}

// set puts an entry into memory, which was stored under a MODSEQ, and tells the
// watchers if keywords changed. It is false, and does nothing, if a client was
// told of a higher MODSEQ while the entry was stored: what changes must be filed
// under it; or if somebody began to watch, and may be told of one.
func (m *Mailbox) set(uid uint32, e entry, stored uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed := m.entries[uid].state&kwAll != e.state&kwAll
	if changed && (e.modseq < m.newest() || len(m.watchers) > 0 && stored != unseen) {
		return false
	}
	m.entries[uid] = e
	if stored == unseen && e.modseq != unseen {
		m.unfiled[uid] = true
	} else {
		delete(m.unfiled, uid)
	}
	if changed {
		m.tell(uid)
	}
	return true
}

// tell tells the watchers that keywords changed. The caller holds m.mu.
func (m *Mailbox) tell(uid uint32) {
	for wake, w := range m.watchers {
		w.uids[uid] = true
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

// change stores an entry by write, which may run more than once, and sets it.
// While somebody has not been told of it, it is stored as unseen: a crash may come
// first, and clients know of higher MODSEQs by then.
func (m *Mailbox) change(ctx context.Context, uid uint32, e entry, write func(store.Tx, entry) error) error {
	for {
		m.mu.RLock()
		old := m.entries[uid]
		e.modseq = old.modseq
		// Flags may have been told of a message while it was unclassified.
		if old.state&kwAll != e.state&kwAll {
			e.modseq = m.newest()
		}
		stored := e
		if e.modseq != 0 && (m.unfiled[uid] || len(m.watchers) > 0) {
			stored.modseq = unseen
		}
		m.mu.RUnlock()
		if err := m.lib.c.Store.Update(ctx, func(tx store.Tx) error { return write(tx, stored) }); err != nil {
			return err
		}
		if m.set(uid, e, stored.modseq) {
			return nil
		}
	}
}

// Watch is a session's view of keywords that change after it was told others:
// wake gets a value when there are some, Take gives them. Stop ends it.
type Watch struct {
	Wake <-chan struct{}
	m    *Mailbox
	wake chan struct{}
}

// Watch begins watching.
func (m *Mailbox) Watch() *Watch {
	wake := make(chan struct{}, 1)
	m.mu.Lock()
	m.watchers[wake] = &watcher{uids: map[uint32]bool{}}
	m.mu.Unlock()
	return &Watch{Wake: wake, m: m, wake: wake}
}

// Take gives the UIDs whose keywords changed since the last Take, ascending.
func (w *Watch) Take() []uint32 {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	mine := w.m.watchers[w.wake]
	if mine == nil || len(mine.uids) == 0 {
		return nil
	}
	uids := make([]uint32, 0, len(mine.uids))
	for uid := range mine.uids {
		uids = append(uids, uid)
	}
	clear(mine.uids)
	slices.Sort(uids)
	return uids
}

// Stop ends watching. What was not taken counts as changed now: the client may
// know of a MODSEQ that came after it.
func (w *Watch) Stop() {
	m := w.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if mine := m.watchers[w.wake]; mine != nil {
		for uid := range mine.uids {
			if e, known := m.entries[uid]; known && e.modseq != 0 {
				e.modseq = m.newest()
				m.entries[uid] = e
				m.unfiled[uid] = true // and stored as unseen, since w was watching
			}
		}
	}
	delete(m.watchers, w.wake)
}

// File stores the MODSEQs that are only in memory, unless somebody is watching,
// who may not have been told. What isn't filed is told again after a restart.
func (m *Mailbox) File(ctx context.Context) error {
	modseqs := map[uint32]uint64{}
	m.mu.RLock()
	for uid := range m.unfiled {
		if n := m.entries[uid].modseq; n != unseen && len(m.watchers) == 0 {
			modseqs[uid] = n
		}
	}
	m.mu.RUnlock()
	if len(modseqs) == 0 {
		return nil
	}
	err := m.lib.c.Store.Update(ctx, func(tx store.Tx) error {
		for uid, n := range modseqs {
			if m.watched() {
				return nil // after all
			}
			if _, err := tx.Exec(`UPDATE index_message SET modseq = ? WHERE mailbox = ? AND uid = ?`, int64(n), m.id, int64(uid)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("storing MODSEQs: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for uid, n := range modseqs {
		if len(m.watchers) == 0 && m.entries[uid].modseq == n {
			delete(m.unfiled, uid)
		}
	}
	return nil
}

func (m *Mailbox) watched() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.watchers) > 0
}

// unseen is the MODSEQ of what changed when the upstream's highest was not
// known: more than any, until it is.
const unseen = 1 << 62

// newest is the MODSEQ that what changes now is filed under. The caller holds
// m.mu.
func (m *Mailbox) newest() uint64 {
	if m.modseq == 0 {
		return unseen
	}
	return m.modseq
}

// SawModSeq tells the mailbox of a HIGHESTMODSEQ or MODSEQ that the upstream
// gave, before a client is told of it (RFC 7162, Section 3.1), and before it is
// told keywords that it may take for those of that moment. Keywords that change
// are filed under the highest, so that a client which asks for changes since any
// it was ever told gets them.
func (m *Mailbox) SawModSeq(modseq uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if modseq == 0 || modseq <= m.modseq || modseq >= unseen {
		return
	}
	if m.modseq == 0 {
		for uid, e := range m.entries {
			if e.modseq == unseen {
				e.modseq = modseq
				m.entries[uid] = e
				m.unfiled[uid] = true
			}
		}
	}
	m.modseq = modseq
}

// SawModSeq tells every mailbox of that name that is in memory what
// Mailbox.SawModSeq is told; others learn it when they are selected.
func (l *Library) SawModSeq(name string, modseq uint64) {
	for _, m := range l.open() {
		if m.key.name == canonical(name) {
			m.SawModSeq(modseq)
		}
	}
}

// ChangedSince is the UIDs whose keywords changed when the upstream's highest
// was modseq or more, ascending: what CHANGEDSINCE and QRESYNC must tell beside
// the upstream's own answer. It may name some that the client knows already.
func (m *Mailbox) ChangedSince(modseq uint64) []uint32 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var uids []uint32
	for uid, e := range m.entries {
		if e.modseq != 0 && e.modseq >= modseq {
			uids = append(uids, uid)
		}
	}
	slices.Sort(uids)
	return uids
}
