package message

import (
	"io"
	"sort"
	"strconv"
	"strings"

	"github.com/emersion/go-message/charset"
)

// DecodeParams joins and decodes parameters as RFC 2231 says; names become lower
// case, the first of a name counts. A name* that decodes goes before a plain
// one, except for boundary, where servers read the plain one.
func DecodeParams(params []Param) map[string]string {
	m := make(map[string]string, len(params))
	pieces := map[string][]piece{}
	for _, p := range params {
		name := strings.ToLower(p.Name)
		base, mark, extended := strings.Cut(name, "*")
		if !extended {
			if _, twice := m[name]; !twice {
				m[name] = p.Value
			}
			continue
		}
		if pc, ok := parsePiece(mark, p.Value); ok {
			pieces[base] = append(pieces[base], pc)
		}
	}
	for name, ps := range pieces {
		if _, plain := m[name]; plain && name == "boundary" {
			continue
		}
		if v, ok := joinPieces(ps); ok {
			m[name] = v
		}
	}
	return m
}

// piece is one section of a continued parameter (RFC 2231, Section 3).
type piece struct {
	n       int
	encoded bool
	value   string
}

func parsePiece(mark, value string) (piece, bool) {
	if mark == "" {
		return piece{0, true, value}, true
	}
	num, encoded := strings.CutSuffix(mark, "*")
	n, err := strconv.ParseUint(num, 10, 16)
	return piece{int(n), encoded, value}, err == nil
}

func joinPieces(ps []piece) (string, bool) {
	sort.SliceStable(ps, func(i, j int) bool { return ps[i].n < ps[j].n })
	var b strings.Builder
	cs := ""
	for i, next := 0, 0; i < len(ps); i++ {
		if ps[i].n < next {
			continue // repeated: the first counts
		}
		if ps[i].n > next {
			break // a gap ends the value
		}
		next++
		v := ps[i].value
		if ps[i].encoded {
			if ps[i].n == 0 {
				// RFC 2231, Section 4: charset'language'text.
				if c, rest, ok := strings.Cut(v, "'"); ok {
					if _, text, ok := strings.Cut(rest, "'"); ok {
						cs, v = c, text
					}
				}
			}
			v = unpercent(v)
		}
		b.WriteString(v)
	}
	if len(ps) == 0 || ps[0].n != 0 {
		return "", false
	}
	return toUTF8(b.String(), cs), true
}

func unpercent(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+3 <= len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b = append(b, byte(c))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

func toUTF8(s, cs string) string {
	if cs == "" {
		return s
	}
	r, err := charset.Reader(cs, strings.NewReader(s))
	if err != nil {
		return s
	}
	d, err := io.ReadAll(r)
	if err != nil {
		return s
	}
	return string(d)
}
