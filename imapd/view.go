package imapd

import (
	"bufio"
	"cmp"
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
	went int // how many went in all
	// adrift is set while there are such of which only the UID is known, so that their
	// number hangs on the UIDs of those that are not known yet.
	adrift bool
}

type goneMessage struct{ seq, uid uint32 }

// maxMessages bounds a mailbox: what the upstream announces costs memory.
const maxMessages = 4_000_000

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

// reset forgets what was counted.
func (v *view) reset() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.uids, v.gone = nil, nil
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
	c := v.toClient(seq, uid)
	i := sort.Search(len(v.gone), func(i int) bool { return v.gone[i].seq > c })
	v.gone = slices.Insert(v.gone, i, goneMessage{c, uid})
	v.uids = slices.Delete(v.uids, int(seq)-1, int(seq))
	v.went++
	return uid, true
}

// vanish notes that the messages of a set of UIDs are gone and gives the UIDs of
// those that were there, ascending. Where UIDs beyond the last known one vanish,
// as many of the messages are gone whose UIDs are not known. The cost follows
// the mailbox, not the set.
func (v *view) vanish(set wire.Set) (uids []uint32) {
	v.mu.Lock()
	defer v.mu.Unlock()
	known := sort.Search(len(v.uids), func(i int) bool { return v.uids[i] == 0 })
	last := uint32(0)
	if known > 0 {
		last = v.uids[known-1]
	}
	var at []int // in v.uids
	var fresh []uint32
	for _, r := range set.Resolve(0) {
		for i := max(v.find(r.First), next(at)); i < known && v.uids[i] <= r.Last; i++ {
			at, uids = append(at, i), append(uids, v.uids[i])
		}
		for uid := max(r.First, last+1, next(fresh)); uid <= r.Last && uid != 0 && len(fresh) < len(v.uids)-known; uid++ {
			fresh = append(fresh, uid)
		}
	}
	for i := range fresh {
		at = append(at, len(v.uids)-len(fresh)+i)
	}
	v.remove(at, append(uids, fresh...))
	v.adrift = v.adrift || len(fresh) > 0
	return append(uids, fresh...)
}

// place gives the gone messages their numbers by their UIDs, after UIDs were learned
// of messages that stand among them.
func (v *view) place() {
	if !v.adrift || slices.ContainsFunc(v.gone, func(g goneMessage) bool { return g.uid == 0 }) {
		return
	}
	slices.SortFunc(v.gone, func(a, b goneMessage) int { return cmp.Compare(a.uid, b.uid) })
	for i := range v.gone {
		v.gone[i].seq = uint32(v.find(v.gone[i].uid) + 1 + i)
	}
	v.adrift = len(v.uids) > 0 && v.uids[len(v.uids)-1] == 0
}

// next is what follows the last of ascending numbers.
func next[N int | uint32](ns []N) N {
	if len(ns) == 0 {
		return 0
	}
	return ns[len(ns)-1] + 1
}

// remove takes out the messages at some places, ascending, and notes them as
// gone with their UIDs.
func (v *view) remove(at []int, uids []uint32) {
	was := v.gone
	v.gone = make([]goneMessage, 0, len(was)+len(at))
	rest, from, told := v.uids[:0], 0, 0
	for k, i := range at {
		rest = append(rest, v.uids[from:i]...)
		from = i + 1
		c := uint32(i+1) + uint32(told)
		for ; told < len(was) && was[told].seq <= c; told++ {
			v.gone = append(v.gone, was[told])
			c++
		}
		v.gone = append(v.gone, goneMessage{c, uids[k]})
	}
	v.uids = append(rest, v.uids[from:]...)
	v.gone = append(v.gone, was[told:]...)
	v.went += len(at)
}

// departed is how many messages went since the mailbox was selected: what is said of all
// is of those that are there as long as it stays the same.
func (v *view) departed() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.went
}

// find is where uid stands or would stand. Unknown UIDs are at the end only, and
// count as greater.
func (v *view) find(uid uint32) int {
	return sort.Search(len(v.uids), func(i int) bool { return v.uids[i] == 0 || v.uids[i] >= uid })
}

// toClient gives the client's number of the upstream's: as many more as there are
// gone messages before it. The UID tells which those are, where some are adrift.
func (v *view) toClient(seq, uid uint32) uint32 {
	if v.adrift && uid != 0 {
		for _, g := range v.gone {
			if g.uid < uid {
				seq++
			}
		}
		return seq
	}
	before := sort.Search(len(v.gone), func(i int) bool { return v.gone[i].seq-uint32(i) > seq })
	return seq + uint32(before)
}

// client gives the client's number of the upstream's.
func (v *view) client(seq uint32) uint32 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.toClient(seq, v.known(seq))
}

// clientWith is client of a message whose UID the upstream tells beside.
func (v *view) clientWith(seq, uid uint32) uint32 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.toClient(seq, uid)
}

// known is the UID of an upstream's number, 0 if it isn't known.
func (v *view) known(seq uint32) uint32 {
	if seq == 0 || int(seq) > len(v.uids) {
		return 0
	}
	return v.uids[seq-1]
}

// drifts tells whether the client's numbers hang on UIDs that are not known.
func (v *view) drifts() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.place()
	return v.adrift
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
// so that the numbers stay right. With vanished it is by UID (RFC 7162, Section
// 3.2.10), unless the upstream itself told of a message by number before its UID.
func (v *view) flush(w *bufio.Writer, vanished bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	unknown := slices.ContainsFunc(v.gone, func(g goneMessage) bool { return g.uid == 0 })
	if vanished && len(v.gone) > 0 && !unknown {
		var uids []uint32
		for _, g := range v.gone {
			uids = append(uids, g.uid)
		}
		slices.Sort(uids)
		_, _ = w.WriteString("* VANISHED " + wire.MakeSet(slices.Compact(uids)).String() + "\r\n")
		v.gone, v.adrift = v.gone[:0], false
		return
	}
	for i := len(v.gone) - 1; i >= 0; i-- {
		_, _ = w.WriteString("* " + strconv.FormatUint(uint64(v.gone[i].seq), 10) + " EXPUNGE\r\n")
	}
	v.gone, v.adrift = v.gone[:0], false
}

// uid gives the UID of an upstream's number, 0 if it isn't known.
func (v *view) uid(seq uint32) uint32 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.known(seq)
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
		v.place()
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
	v.place()
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
	v.place()
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

// clientOf gives the client's number of a UID.
func (v *view) clientOf(uid uint32) (uint32, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	i := v.find(uid)
	if i >= len(v.uids) || v.uids[i] != uid {
		return 0, false
	}
	return v.toClient(uint32(i)+1, uid), true
}

// numbers gives the upstream's sequence numbers of UIDs, ascending.
func (v *view) numbers(uids []uint32) []uint32 {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []uint32
	for _, uid := range uids {
		if i := v.find(uid); i < len(v.uids) && v.uids[i] == uid {
			out = append(out, uint32(i)+1)
		}
	}
	return out
}
