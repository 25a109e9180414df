package wire

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Range is a range of a sequence set; 0 is "*". First may be after Last.
type Range struct{ First, Last uint32 }

// Set is a sequence set (RFC 3501, Section 9).
type Set []Range

// ParseSet reads a set of numbers or UIDs. "$" (RFC 5182) is none.
func ParseSet(b []byte) (Set, error) {
	var set Set
	for _, piece := range strings.Split(string(b), ",") {
		first, last, isRange := strings.Cut(piece, ":")
		a, err := number(first)
		if err != nil {
			return nil, err
		}
		z := a
		if isRange {
			if z, err = number(last); err != nil {
				return nil, err
			}
		}
		set = append(set, Range{a, z})
	}
	return set, nil
}

func number(s string) (uint32, error) {
	if s == "*" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 || s[0] == '0' || s[0] == '+' {
		return 0, fmt.Errorf("%w: %q is no number", ErrSyntax, s)
	}
	return uint32(n), nil
}

// Resolve gives the ranges in order, with "*" standing for last and First never
// after Last. An empty mailbox (last 0) makes every set with "*" empty there.
func (s Set) Resolve(last uint32) []Range {
	out := make([]Range, 0, len(s))
	for _, r := range s {
		if r.First == 0 {
			r.First = last
		}
		if r.Last == 0 {
			r.Last = last
		}
		if r.First == 0 || r.Last == 0 {
			continue
		}
		if r.First > r.Last {
			r.First, r.Last = r.Last, r.First
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Range) int {
		if a.First < b.First {
			return -1
		}
		if a.First > b.First {
			return 1
		}
		return 0
	})
	return out
}

// HasStar tells whether the set speaks of "*".
func (s Set) HasStar() bool {
	for _, r := range s {
		if r.First == 0 || r.Last == 0 {
			return true
		}
	}
	return false
}

// MakeSet makes the shortest set of sorted numbers.
func MakeSet(sorted []uint32) Set {
	var set Set
	for _, n := range sorted {
		if k := len(set); k > 0 && set[k-1].Last+1 == n {
			set[k-1].Last = n
			continue
		}
		set = append(set, Range{n, n})
	}
	return set
}

// String writes the set as IMAP does.
func (s Set) String() string {
	var b []byte
	put := func(n uint32) {
		if n == 0 {
			b = append(b, '*')
			return
		}
		b = strconv.AppendUint(b, uint64(n), 10)
	}
	for i, r := range s {
		if i > 0 {
			b = append(b, ',')
		}
		put(r.First)
		if r.Last != r.First {
			b = append(b, ':')
			put(r.Last)
		}
	}
	return string(b)
}
