package render

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"letterlock.org/letterlock/internal/message"
)

// mergeParams joins the pieces of continued parameters (RFC 2231, Section 3)
// and leaves what is encoded (Section 4) encoded, under its name with "*": so
// do other servers, and clients decode it. Those that are neither come first.
func mergeParams(params []message.Param) []message.Param {
	var whole []message.Param
	var pieces []paramPiece
	for _, p := range params {
		if piece, ok := parsePiece(p); ok {
			pieces = append(pieces, piece)
		} else {
			whole = append(whole, p)
		}
	}
	slices.SortStableFunc(pieces, func(a, b paramPiece) int {
		return cmp.Or(strings.Compare(a.name, b.name), cmp.Compare(a.n, b.n))
	})
	for len(pieces) > 0 {
		n := 1
		for n < len(pieces) && pieces[n].name == pieces[0].name {
			n++
		}
		whole = append(whole, join(pieces[:n])...)
		pieces = pieces[n:]
	}
	return whole
}

// paramPiece is "name*n", "name*n*" or, alone, "name*".
type paramPiece struct {
	name    string
	n       int
	encoded bool
	alone   bool
	value   string
}

func parsePiece(p message.Param) (paramPiece, bool) {
	name, mark, ok := strings.Cut(p.Name, "*")
	if ok && mark == "" {
		return paramPiece{strings.ToLower(name), 0, true, true, p.Value}, true
	}
	mark, encoded := strings.CutSuffix(mark, "*")
	n, err := strconv.ParseUint(mark, 10, 16)
	return paramPiece{strings.ToLower(name), int(n), encoded, false, p.Value}, ok && err == nil
}

// join makes one parameter of pieces that count up from 0; pieces that do not
// are given as they stand.
func join(pieces []paramPiece) []message.Param {
	encoded := false
	for i, p := range pieces {
		if p.n != i {
			return asTheyStand(pieces)
		}
		encoded = encoded || p.encoded
	}
	var b strings.Builder
	for i, p := range pieces {
		if encoded && i == 0 && !p.encoded {
			b.WriteString("''")
		}
		if encoded && !p.encoded {
			escape(&b, p.value)
		} else {
			b.WriteString(p.value)
		}
	}
	name := pieces[0].name
	if encoded {
		name += "*"
	}
	return []message.Param{{Name: name, Value: b.String()}}
}

func asTheyStand(pieces []paramPiece) []message.Param {
	var params []message.Param
	for _, p := range pieces {
		name := p.name + "*"
		if !p.alone {
			name += strconv.Itoa(p.n)
		}
		if p.encoded && !p.alone {
			name += "*"
		}
		params = append(params, message.Param{Name: name, Value: p.value})
	}
	return params
}

// escape writes s percent-encoded where RFC 2231 wants that.
func escape(b *strings.Builder, s string) {
	const hex = "0123456789ABCDEF"
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=*'%`, c) >= 0 {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
}
