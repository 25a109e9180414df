package imapd

import (
	"bufio"
	"slices"
	"sort"
	"strconv"
	"sync"

	"letterlock.org/letterlock/imapd/wire"
)

// view is a selected mailbox as the upstream numbers it and as the client does.
// The two differ by the messages that the upstream has expunged and the client
// has not been told of. Both goroutines use it.
type view struct {
	mu   sync.Mutex
	uids []uint32 // by the upstream's sequence numbers; 0 is not known yet
	// gone are the client's sequence numbers of such messages, ascending, with
	// their UIDs (0 if unknown).
	gone []goneMessage
}

type goneMessage struct{ seq, uid uint32 }

// maxMessages bounds a mailbox: what the upstream announces costs memory.
const maxMessages = 20_000_000

// exists notes the upstream's count and gives the client's. ok is false for a
// count that cannot be.
func (v *view) exists(n uint32) (client uint32, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if int(n) < len(v.uids) || n > maxMessages {
		return 0, false // RFC 3501, Section 7.3.1: never shrinks without EXPUNGE
	}
	v.uids = append(v.uids, make([]uint32, int(n)-len(v.uids))...)
	return n + uint32(len(v.gone)), true
}

// expunge notes that a message is gone and gives its UID. The client is told
// later, by flush.
func (v *view) expunge(seq uint32) (uid uint32, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.expungeLocked(seq)
}

func (v *view) expungeLocked(seq uint32) (uid uint32, ok bool) {
	if seq == 0 || int(seq) > len(v.uids) {
		return 0, false
	}
	uid = v.uids[seq-1]
	c := v.toClient(seq)
	i := sort.Search(len(v.gone), func(i int) bool { return v.gone[i].seq > c })
	v.gone = slices.Insert(v.gone, i, goneMessage{c, uid})
	v.uids = slices.Delete(v.uids, int(seq)-1, int(seq))
	return uid, true
}

// vanish is expunge by UID; it is false for UIDs that aren't there.
func (v *view) vanish(uid uint32) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	i := v.find(uid)
	if i >= len(v.uids) || v.uids[i] != uid {
		return false
	}
	_, ok := v.expungeLocked(uint32(i) + 1)
	return ok
}

// vanishUnknown notes that up to n messages are gone whose UIDs were not known.
func (v *view) vanishUnknown(uid uint32) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := len(v.uids)
	if n == 0 || v.uids[n-1] != 0 {
		return false
	}
	v.expungeLocked(uint32(n))
	for i := range v.gone {
		if v.gone[i].uid == 0 {
			v.gone[i].uid = uid
		}
	}
	return true
}

// find is where uid stands or would stand. Unknown UIDs are at the end only, and
// count as greater.
func (v *view) find(uid uint32) int {
	return sort.Search(len(v.uids), func(i int) bool { return v.uids[i] == 0 || v.uids[i] >= uid })
}

// toClient gives the client's number of the upstream's.
func (v *view) toClient(seq uint32) uint32 {
	for _, g := range v.gone {
		if g.seq > seq {
			break
		}
		seq++
	}
	return seq
}

// client gives the client's number of the upstream's.
func (v *view) client(seq uint32) uint32 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.toClient(seq)
}

// differs tells whether the client has not been told of everything.
func (v *view) differs() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.gone) > 0
}

// upstream translates a set of the client's numbers to the upstream's, leaving
// out what is gone. ok is false if nothing is left.
func (v *view) upstream(set wire.Set) (wire.Set, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	last := uint32(len(v.uids) + len(v.gone))
	var out wire.Set
	for _, r := range set.Resolve(last) {
		first, end := v.fromClient(r.First, true), v.fromClient(r.Last, false)
		if first <= end {
			out = append(out, wire.Range{First: first, Last: end})
		}
	}
	return out, len(out) > 0
}

// fromClient gives the upstream's number for a client's; of a message that is
// gone that of the next one, or of the one before.
func (v *view) fromClient(seq uint32, next bool) uint32 {
	before := sort.Search(len(v.gone), func(i int) bool { return v.gone[i].seq >= seq })
	is := before < len(v.gone) && v.gone[before].seq == seq
	up := seq - uint32(before)
	if is && !next {
		up--
	}
	return up
}

// flush writes what the client has not been told, from the last to the first
// so that the numbers stay right.
func (v *view) flush(w *bufio.Writer, vanished bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if vanished && len(v.gone) > 0 {
		var uids []uint32
		for _, g := range v.gone {
			uids = append(uids, g.uid)
		}
		slices.Sort(uids)
		_, _ = w.WriteString("* VANISHED " + wire.MakeSet(slices.Compact(uids)).String() + "\r\n")
		v.gone = v.gone[:0]
		return
	}
	for i := len(v.gone) - 1; i >= 0; i-- {
		_, _ = w.WriteString("* " + strconv.FormatUint(uint64(v.gone[i].seq), 10) + " EXPUNGE\r\n")
	}
	v.gone = v.gone[:0]
}

// uid gives the UID of an upstream's number, 0 if it isn't known.
func (v *view) uid(seq uint32) uint32 {
	v.mu.Lock()
	defer v.mu.Unlock()
	if seq == 0 || int(seq) > len(v.uids) {
		return 0
	}
	return v.uids[seq-1]
}

// learn notes the UID of an upstream's number. It is false if that contradicts
// what is known: UIDs ascend and never change.
func (v *view) learn(seq, uid uint32) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if seq == 0 || int(seq) > len(v.uids) || uid == 0 {
		return false
	}
	have := v.uids[seq-1]
	if have != 0 {
		return have == uid
	}
	// Unknown ones stay at the end only: note it if it is the first of them.
	if seq == 1 || v.uids[seq-2] != 0 {
		if seq > 1 && v.uids[seq-2] >= uid {
			return false
		}
		v.uids[seq-1] = uid
	}
	return true
}

// fill takes the UIDs of the whole mailbox, if there are as many as messages.
func (v *view) fill(uids []uint32) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(uids) != len(v.uids) {
		return false
	}
	copy(v.uids, uids)
	return true
}

// fillTail takes the UIDs of the messages that are not known yet.
func (v *view) fillTail(uids []uint32) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	known := sort.Search(len(v.uids), func(i int) bool { return v.uids[i] == 0 })
	if len(uids) != len(v.uids)-known || known > 0 && len(uids) > 0 && uids[0] <= v.uids[known-1] {
		return false
	}
	copy(v.uids[known:], uids)
	return true
}

// unknown gives the number of messages whose UID isn't known, and the last UID
// that is.
func (v *view) unknown() (n int, last uint32) {
	v.mu.Lock()
	defer v.mu.Unlock()
	known := sort.Search(len(v.uids), func(i int) bool { return v.uids[i] == 0 })
	if known > 0 {
		last = v.uids[known-1]
	}
	return len(v.uids) - known, last
}

// len is the upstream's number of messages.
func (v *view) len() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.uids)
}

// resolve gives the UIDs that a set means, ascending: of UIDs, or of the
// upstream's sequence numbers.
func (v *view) resolve(set wire.Set, uid bool) []uint32 {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.uids) == 0 {
		return nil
	}
	last := uint32(len(v.uids))
	if uid {
		last = v.uids[len(v.uids)-1]
	}
	var out []uint32
	next := 0 // ranges are sorted by First: what was taken isn't taken twice
	for _, r := range set.Resolve(last) {
		from, to := int(r.First)-1, int(min(r.Last, uint32(len(v.uids))))
		if uid {
			from, to = v.find(r.First), v.findAfter(r.Last)
		}
		for i := max(from, next); i < to; i++ {
			out = append(out, v.uids[i])
		}
		next = max(next, to)
	}
	return out
}

func (v *view) findAfter(uid uint32) int {
	return sort.Search(len(v.uids), func(i int) bool { return v.uids[i] == 0 || v.uids[i] > uid })
}
