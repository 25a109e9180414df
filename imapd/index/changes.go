package index

import "slices"

// watcher gathers what changed until its session looks.
type watcher struct {
	uids map[uint32]bool
}

// set puts an entry into memory and tells the watchers if keywords changed.
func (m *Mailbox) set(uid uint32, e entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed := m.entries[uid].state&kwAll != e.state&kwAll
	m.entries[uid] = e
	if !changed {
		return
	}
	for wake, w := range m.watchers {
		w.uids[uid] = true
		select {
		case wake <- struct{}{}:
		default:
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

// Stop ends watching.
func (w *Watch) Stop() {
	w.m.mu.Lock()
	delete(w.m.watchers, w.wake)
	w.m.mu.Unlock()
}

// SawModSeq tells the mailbox of a HIGHESTMODSEQ or MODSEQ that the upstream
// gave, before a client is told of it (RFC 7162, Section 3.1). Keywords that
// change are filed under the highest, so that a client which asks for changes
// since any it was ever told gets them.
func (m *Mailbox) SawModSeq(modseq uint64) {
	m.mu.Lock()
	m.modseq = max(m.modseq, modseq)
	m.mu.Unlock()
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
