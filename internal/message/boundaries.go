package message

import "bytes"

// boundaries are those of the open multiparts. A line is looked up by its
// prefixes of the lengths that occur, so that its cost doesn't depend on how
// many are open.
type boundaries struct {
	levels  map[string][]int // stack levels with that boundary, outermost first
	lengths []int            // how many open boundaries have that length; nil before the first
	open    int
	longest int
}

func newBoundaries(longest int) *boundaries {
	return &boundaries{longest: longest}
}

func (b *boundaries) add(boundary string, level int) {
	if b.lengths == nil {
		b.levels, b.lengths = map[string][]int{}, make([]int, b.longest+1)
	}
	b.levels[boundary] = append(b.levels[boundary], level)
	b.lengths[len(boundary)]++
	b.open++
}

// remove takes away the innermost with that boundary.
func (b *boundaries) remove(boundary string) {
	l := b.levels[boundary]
	if l = l[:len(l)-1]; len(l) == 0 {
		delete(b.levels, boundary)
	} else {
		b.levels[boundary] = l
	}
	b.lengths[len(boundary)]--
	b.open--
}

// match tells whether line is a delimiter, of which stack level, and whether it
// closes that multipart.
func (b *boundaries) match(line []byte) (level int, closing, ok bool) {
	if b.open == 0 || len(line) < 2 || line[0] != '-' || line[1] != '-' {
		return 0, false, false
	}
	s := line[2:]
	s = bytes.TrimSuffix(s, []byte("\n"))
	s = bytes.TrimSuffix(s, []byte("\r"))
	for n := min(len(s), len(b.lengths)-1); n > 0; n-- {
		if b.lengths[n] == 0 {
			continue
		}
		levels := b.levels[string(s[:n])]
		if len(levels) == 0 {
			continue
		}
		level = levels[len(levels)-1]
		closing = bytes.HasPrefix(s[n:], []byte("--"))
		// "--foo--" ends "foo" or continues "foo--": the inner one counts.
		if n == len(s) && n > 2 && bytes.HasSuffix(s, []byte("--")) {
			if l := b.levels[string(s[:n-2])]; len(l) > 0 && l[len(l)-1] > level {
				return l[len(l)-1], true, true
			}
		}
		return level, closing, true
	}
	return 0, false, false
}
