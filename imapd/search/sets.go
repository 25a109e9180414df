package search

import (
	"slices"

	"letterlock.org/letterlock/imapd/wire"
)

// runs is the shortest set that has, of all, only uids: it passes over numbers
// that no message has.
func runs(uids, all []uint32) wire.Set {
	var set wire.Set
	at := 0
	for _, uid := range uids {
		i, _ := slices.BinarySearch(all[at:], uid)
		if i += at; len(set) > 0 && i == at {
			set[len(set)-1].Last = uid
		} else {
			set = append(set, wire.Range{First: uid, Last: uid})
		}
		at = i + 1
	}
	return set
}

// intersect is what two sorted lists have in common.
func intersect(a, b []uint32) []uint32 {
	var both []uint32
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0] < b[0]:
			a = a[1:]
		case a[0] > b[0]:
			b = b[1:]
		default:
			both = append(both, a[0])
			a, b = a[1:], b[1:]
		}
	}
	return both
}

// without is what sorted a has and sorted b has not.
func without(a, b []uint32) []uint32 {
	var rest []uint32
	for _, uid := range a {
		for len(b) > 0 && b[0] < uid {
			b = b[1:]
		}
		if len(b) == 0 || b[0] != uid {
			rest = append(rest, uid)
		}
	}
	return rest
}
