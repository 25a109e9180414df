package pgp

import (
	"regexp"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
)

// outside is the header confidentiality policy: the value that everyone sees,
// or "" where the field is for the recipients only. It is hcp_baseline (RFC
// 9788, Section 3.2.1), which hides Subject, Comments and Keywords, and beyond
// it: every field that nobody on the way needs, since unknown ones repeat the
// subject or say more (Thread-Topic, X-…); and of those that stay, everything
// that is not of the field's own grammar, since a comment or a malformed value
// can say anything.
func (p Protection) outside(f field) string {
	n := strings.ToLower(f.name)
	value := f.unfolded()
	switch n {
	case "subject":
		if p.SubjectOutside {
			return f.value
		}
		return " [...]"
	case "from":
		if v := addressesOnly(f.value, value, true); v != "" {
			return v
		}
		return " " + p.From.String() // compose has seen to it that there is one
	case "date":
		if v := dateOnly(value); v != "" {
			return v
		}
		return dateValue(p.Now)
	case "sender", "to", "cc":
		return addressesOnly(f.value, value, true)
	case "reply-to", "disposition-notification-to":
		return addressesOnly(f.value, value, false)
	case "message-id", "in-reply-to", "references", "original-message-id":
		return idsOnly(value)
	case "autocrypt":
		if p.Autocrypt != nil { // then it is ours, or it would not be here
			return f.value
		}
	case "list-id":
		return listOnly(value)
	case "resent-from", "resent-sender", "resent-to", "resent-cc":
		return addressesOnly(f.value, value, false)
	case "resent-message-id":
		return idsOnly(value)
	case "resent-date":
		return dateOnly(value)
	}
	if words, ok := wordsOutside[n]; ok {
		first, _, _ := strings.Cut(strings.ToLower(value), " ")
		if strings.Contains(" "+words+" ", " "+first+" ") && first != "" {
			return " " + first
		}
	}
	return ""
}

// wordsOutside are fields of which only these words may stand outside: servers
// on the way sort, or don't answer, by them.
var wordsOutside = map[string]string{
	"auto-submitted": "no auto-generated auto-replied auto-notified", // RFC 3834, Section 5
	"precedence":     "bulk list junk first-class special-delivery",
	"importance":     "high normal low",
	"priority":       "urgent normal non-urgent", // RFC 2156, Section 5.3.6
	"x-priority":     "1 2 3 4 5",
}

// addressesOnly is a list of addresses, with the names if they are to stay and
// stand plainly beside them. Names in comments and of groups go.
func addressesOnly(folded, value string, names bool) string {
	list, err := address.ParseList(value)
	switch {
	case err != nil || value == "":
		return ""
	case len(list) == 0:
		return " undisclosed-recipients:;" // RFC 5322, Section 3.4: an empty group
	case names && !hasGroup(value) && !hasComment(value):
		return folded
	}
	var b strings.Builder
	for i, m := range list {
		if i > 0 {
			b.WriteString(",\r\n")
		}
		b.WriteString(" " + m.Address.String())
	}
	return b.String()
}

// hasComment looks for a parenthesis outside of quoted strings.
func hasComment(value string) bool {
	quoted := false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == '(' && !quoted:
			return true
		}
	}
	return false
}

// dateForm is what RFC 5322, Section 3.3 describes, without comments and with
// the zones of Section 4.3.
var dateForm = regexp.MustCompile(`^(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ?)?[0-3]?\d (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} ` +
	`\d\d:\d\d(?::\d\d)? (?:[+-]\d{4}|UT|UTC|GMT|[ECMP][SD]T|Z)$`)

// usualDate tells of the one form of dateForm that almost all have, sooner than
// an expression does.
func usualDate(v string) bool {
	const form = "Aaa, 00 Aaa 0000 00:00:00 +0000"
	if len(v) != len(form) {
		return false
	}
	for i := range len(v) {
		switch c := v[i]; form[i] {
		case '0':
			if c < '0' || c > '9' {
				return false
			}
		case '+':
			if c != '+' && c != '-' {
				return false
			}
		case 'A', 'a': // below
		default:
			if c != form[i] {
				return false
			}
		}
	}
	return v[5] <= '3' && oneOf("Mon Tue Wed Thu Fri Sat Sun ", v[:3]) &&
		oneOf("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec ", v[8:11])
}

// oneOf tells whether a word of three letters is in a list of such.
func oneOf(list, word string) bool {
	i := strings.Index(list, word)
	return i >= 0 && i%4 == 0
}

// dateOnly is a date and nothing but it; "" if there is none.
func dateOnly(value string) string {
	if usualDate(value) {
		return " " + value
	}
	value = strings.Join(strings.Fields(value), " ")
	if head, comment, ok := strings.Cut(value, " ("); ok && strings.Count(comment, ")") == 1 && strings.HasSuffix(comment, ")") {
		value = head // the name of the zone
	}
	if dateForm.MatchString(value) {
		return " " + value
	}
	if t := parseDate(value); !t.IsZero() {
		return " " + t.Format("Mon, 02 Jan 2006 15:04:05 -0700")
	}
	return ""
}

// idsOnly is the message identifiers of a field, folded, without the phrases
// that may stand between them (RFC 5322, Section 4.5.4).
func idsOnly(value string) string {
	var b strings.Builder
	line := 0
	for rest := value; ; {
		i := strings.IndexByte(rest, '<')
		if i < 0 {
			return b.String()
		}
		rest = rest[i:]
		end := strings.IndexByte(rest, '>')
		if end < 0 {
			return b.String()
		}
		if id := rest[:end+1]; plainID(id) {
			if line > 0 && line+len(id) > 76 {
				b.WriteString("\r\n")
				line = 0
			}
			b.WriteString(" " + id)
			line += len(id) + 1
		}
		rest = rest[end+1:]
	}
}

// listForm is the identifier of RFC 2919, Section 2.
var listForm = regexp.MustCompile(`<[A-Za-z0-9!#$%&'*+/=?^_{|}~.-]{1,200}>$`)

// listOnly is a list's identifier without its name.
func listOnly(value string) string {
	if id := listForm.FindString(value); id != "" {
		return " " + id
	}
	return ""
}

// plainID tells whether v is one message identifier, without white space.
func plainID(v string) bool {
	return len(v) >= 5 && len(v) <= 255 && v[0] == '<' && strings.IndexByte(v, '>') == len(v)-1 &&
		strings.Contains(v, "@") && !strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// parseDate reads a Date field (RFC 5322, Sections 3.3 and 4.3); zero if it is none.
func parseDate(s string) time.Time {
	if i := strings.IndexByte(s, '('); i >= 0 {
		s = s[:i]
	}
	if _, after, ok := strings.Cut(s, ","); ok {
		s = after
	}
	s = strings.Join(strings.Fields(s), " ")
	for _, layout := range []string{"2 Jan 2006 15:04:05 -0700", "2 Jan 2006 15:04 -0700", "2 Jan 2006 15:04:05 MST",
		"2 Jan 06 15:04:05 -0700", "2 Jan 06 15:04:05 MST", "Mon Jan 2 15:04:05 2006"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}
