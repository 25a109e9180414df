package render

import "bytes"

// Range is Len bytes from Off on.
type Range struct{ Off, Len int64 }

// ours is the prefix of the header fields that only we may write.
var ours = []byte("letterlock-")

// Imitations finds in a root header the names that imitate ours. Each range is
// the bytes to overwrite, relative to the header's first byte.
//
// A name counts wherever some reader may see a line begin: after CR, LF or
// another control character, in any case, whatever follows its prefix (space
// before the colon, folding). A continuation line is no beginning.
func Imitations(header []byte) []Range {
	var found []Range
	begins := true
	for at, c := range header {
		if begins {
			if n := imitation(header[at:]); n > 0 {
				found = append(found, Range{int64(at), int64(n)})
			}
		}
		begins = breaksLine(c)
	}
	return found
}

// breaksLine tells whether a reader may take c for the end of a line: every C0
// control but TAB.
func breaksLine(c byte) bool {
	return c < ' ' && c != '\t'
}

// imitation is the number of bytes at the beginning of line to overwrite.
func imitation(line []byte) int {
	if len(line) >= len(ours) && bytes.EqualFold(line[:len(ours)], ours) {
		return len(ours) - 1
	}
	return 0
}

// Mask overwrites in b, which begins at offset at of the message, what the
// ranges cover. The result has the same length, so that sizes, offsets and
// structure stay true.
func Mask(b []byte, at int64, ranges []Range) {
	for _, r := range ranges {
		from, to := max(r.Off-at, 0), min(r.Off+r.Len-at, int64(len(b)))
		for i := from; i < to; i++ {
			b[i] = 'X'
		}
	}
}
