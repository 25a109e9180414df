package wire

import "strings"

// ParsePath reads what stands after "FROM:" or "TO:": a path in angle brackets
// and, in rest, the parameters after it. The mailbox is as it was written, a
// quoted local part still quoted, and empty for the null path; whether it is an
// address is not checked. A source route is left out (RFC 5321, Section
// 4.1.1.3 and Appendix C). White space before the bracket is let pass, and no
// brackets at all around a plain address: scanners and scripts leave both out.
func ParsePath(keyword, args string) (mailbox, rest string, err error) {
	if len(args) <= len(keyword) || !strings.EqualFold(args[:len(keyword)], keyword) || args[len(keyword)] != ':' {
		return "", "", ErrSyntax
	}
	s := strings.TrimLeft(args[len(keyword)+1:], " ")
	if s == "" {
		return "", "", ErrSyntax
	}
	if s[0] != '<' {
		mailbox, rest, _ = strings.Cut(s, " ")
		if strings.ContainsAny(mailbox, "<>\",:;()[]\\") {
			return "", "", ErrSyntax
		}
		return mailbox, strings.TrimLeft(rest, " "), nil
	}
	end, ok := closing(s)
	if !ok {
		return "", "", ErrSyntax
	}
	mailbox, rest = s[1:end], s[end+1:]
	if strings.HasPrefix(mailbox, "@") {
		if _, mailbox, ok = strings.Cut(mailbox, ":"); !ok || mailbox == "" {
			return "", "", ErrSyntax
		}
	}
	if rest != "" && rest[0] != ' ' {
		return "", "", ErrSyntax
	}
	return mailbox, strings.TrimLeft(rest, " "), nil
}

// closing finds the bracket that ends a path, none of those in quotes. White
// space and brackets stand only in quotes.
func closing(s string) (int, bool) {
	quoted := false
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '>':
			return i, true
		case c == '<' || c == ' ':
			return 0, false
		}
	}
	return 0, false
}
