package store

import "strings"

// token is a piece of a statement: a word, a literal, a parameter or a sign.
type token struct {
	text string
	// space is what stands before it: white space and comments.
	space string
}

// word is the token in upper case where it is a word, "" for others.
func (t token) word() string {
	if t.text == "" || !isLetter(t.text[0]) {
		return ""
	}
	return strings.ToUpper(t.text)
}

func isLetter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// tokens splits SQL that this program holds; it is never a peer's.
func tokens(query string) (all []token) {
	for i := 0; ; {
		start := i
		for i < len(query) {
			switch rest := query[i:]; {
			case strings.HasPrefix(rest, "--"):
				i += end(rest, "\n", 2)
			case strings.HasPrefix(rest, "/*"):
				i += end(rest, "*/", 2)
			case strings.IndexByte(" \t\r\n", rest[0]) >= 0:
				i++
			default:
				goto text
			}
		}
	text:
		t := token{space: query[start:i]}
		if i == len(query) {
			if t.space != "" {
				all = append(all, t)
			}
			return all
		}
		n := tokenLen(query[i:])
		t.text = query[i : i+n]
		all = append(all, t)
		i += n
	}
}

// end is the index behind the next mark in s, from n on.
func end(s, mark string, n int) int {
	if k := strings.Index(s[n:], mark); k >= 0 {
		return n + k + len(mark)
	}
	return len(s)
}

func tokenLen(s string) int {
	switch c := s[0]; {
	case c == '\'' || c == '"': // a doubled quote makes two tokens, side by side
		return end(s, s[:1], 1)
	case isLetter(c), isDigit(c):
		n := 1
		for n < len(s) && (isLetter(s[n]) || isDigit(s[n]) || s[n] == '.' && isDigit(c)) {
			n++
		}
		return n
	case strings.HasPrefix(s, "<>"), strings.HasPrefix(s, "<="), strings.HasPrefix(s, ">="), strings.HasPrefix(s, "!="), strings.HasPrefix(s, "||"):
		return 2
	}
	return 1
}

// split cuts at the semicolons.
func split(all []token) (statements [][]token) {
	for len(all) > 0 {
		n := 0
		for n < len(all) && all[n].text != ";" {
			n++
		}
		if n > 0 && all[0].text != "" {
			statements = append(statements, all[:n])
		}
		all = all[min(n+1, len(all)):]
	}
	return statements
}
