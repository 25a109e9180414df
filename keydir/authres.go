package keydir

import (
	"strings"

	"letterlock.org/letterlock/internal/address"
)

// Limits of what is read of Authentication-Results.
const (
	maxResults      = 16
	maxResultsField = 8 << 10
)

// vouched tells whether what stands in a message's header outside of a signature
// may be believed at first sight: our own mail server says that it comes from
// whom it says. Where its name isn't configured every message may be.
func (o Observation) vouched() bool {
	if o.Authserv == "" {
		return true
	}
	for _, field := range o.Results[:min(len(o.Results), maxResults)] {
		name, results, ok := parseResults(field)
		if !ok || !strings.EqualFold(name, o.Authserv) {
			continue
		}
		// Ours is the topmost of that name: below may stand what the sender wrote
		// and the server failed to take out (RFC 8601, Section 5).
		for _, r := range results {
			if r.aligned(o.From) {
				return true
			}
		}
		return false
	}
	return false
}

// authResult is one method's result: "dkim=pass header.d=example.org".
type authResult struct {
	method, value string
	properties    map[string]string // lower-case names; the last of each
}

// aligned tells whether it shows that the From address's domain sent the message:
// DMARC passed for it, or DKIM by the domain or one above it. SPF isn't enough: it
// is about the envelope.
func (r authResult) aligned(from address.Address) bool {
	if r.value != "pass" {
		return false
	}
	domain := func(s string) string {
		d, err := address.Domain(strings.TrimPrefix(s, "@"))
		if err != nil {
			return ""
		}
		return d
	}
	switch r.method {
	case "dmarc":
		return domain(r.properties["header.from"]) == from.Domain
	case "dkim":
		d := domain(r.properties["header.d"])
		if d == "" { // RFC 8601, Section 2.7.1: it may be told by header.i alone
			_, after, _ := strings.Cut(r.properties["header.i"], "@")
			d = domain(after)
		}
		return d == from.Domain || strings.Contains(d, ".") && strings.HasSuffix(from.Domain, "."+d)
	}
	return false
}

// parseResults reads the value of an Authentication-Results field (RFC 8601,
// Section 2.2). Comments and quoted texts may hold what a sender wrote: a
// semicolon or a pair in them is none. ok is false for what can't be read.
func parseResults(field string) (name string, results []authResult, ok bool) {
	if len(field) > maxResultsField {
		return "", nil, false
	}
	groups, ok := splitResults(field)
	if !ok || len(groups[0]) == 0 || len(groups[0]) > 2 || len(groups[0]) == 2 && groups[0][1].text != "1" {
		return "", nil, false
	}
	for _, g := range groups[1:] {
		if len(g) < 3 || g[1].text != "=" || g[1].quoted {
			continue // "none", or nothing
		}
		method, _, _ := strings.Cut(strings.ToLower(g[0].text), "/") // its version
		r := authResult{method: method, value: strings.ToLower(g[2].text), properties: map[string]string{}}
		for i := 3; i+2 < len(g); i += 3 {
			if g[i+1].text != "=" || g[i+1].quoted || g[i].quoted {
				r.value = "" // out of step
				break
			}
			r.properties[strings.ToLower(g[i].text)] = g[i+2].text
		}
		if (len(g)-3)%3 != 0 {
			r.value = ""
		}
		results = append(results, r)
	}
	return groups[0][0].text, results, true
}

// resultToken is a word, a quoted text, or a single "=".
type resultToken struct {
	text   string
	quoted bool
}

// splitResults cuts a field into tokens, grouped by its semicolons, without
// comments.
func splitResults(s string) (groups [][]resultToken, ok bool) {
	groups = [][]resultToken{nil}
	add := func(t resultToken) { groups[len(groups)-1] = append(groups[len(groups)-1], t) }
	var word []byte // as it stands there, UTF-8 too (RFC 8601, Section 2.2)
	flush := func() {
		if len(word) > 0 {
			add(resultToken{string(word), false})
			word = nil
		}
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case ' ', '\t', '\r', '\n':
			flush()
		case ';':
			flush()
			groups = append(groups, nil)
		case '=':
			// "header.b=abc=" has no second pair in it: what follows the first is
			// the value.
			last := groups[len(groups)-1]
			if len(word) == 0 && len(last) > 0 && last[len(last)-1].text == "=" {
				return nil, false
			}
			if len(last) > 0 && last[len(last)-1].text == "=" {
				word = append(word, '=')
				continue
			}
			flush()
			add(resultToken{"=", false})
		case '(':
			if i = skipComment(s, i); i < 0 {
				return nil, false
			}
			flush()
		case '"':
			if len(word) > 0 {
				return nil, false
			}
			end, text := quotedText(s, i)
			if end < 0 {
				return nil, false
			}
			i = end
			// "a b"@example.org is one value.
			for i+1 < len(s) && !strings.ContainsRune(" \t\r\n;=(\"", rune(s[i+1])) {
				i++
				text += s[i : i+1]
			}
			add(resultToken{text, true})
		default:
			word = append(word, c)
		}
	}
	flush()
	return groups, true
}

// skipComment is where the comment ends that begins at i; -1 if nowhere.
func skipComment(s string, i int) int {
	for depth := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// quotedText is the text of the quoted string that begins at i, and where it
// ends; -1 if nowhere.
func quotedText(s string, i int) (end int, text string) {
	var b strings.Builder
	for i++; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if i++; i < len(s) {
				b.WriteByte(s[i])
			}
		case '"':
			return i, b.String()
		default:
			b.WriteByte(s[i])
		}
	}
	return -1, ""
}
