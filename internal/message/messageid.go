package message

import (
	"strings"
	"unicode"
)

// MessageIDs takes the IDs out of the value of a Message-ID, In-Reply-To,
// References or similar field, each as "<id>", in lower case and without white
// space, in order and without repetitions. It is for asking whether two fields
// may name the same message, never for writing one.
//
// Mail programs read malformed fields each in their own way, so that this gives
// every ID that one of them may find (RFC 5322, Section 3.6.4, and what is not
// in it): what stands between angle brackets, comments and phrases beside it
// ignored; where there are none, every word and the whole. Two fields that one
// program made of the same ID thus have one in common.
func MessageIDs(value string) []string {
	var ids []string
	seen := map[string]bool{}
	add := func(s string) {
		s = strings.ToLower(strings.Join(strings.FieldsFunc(s, notOfID), ""))
		if s != "" && !seen[s] {
			seen[s] = true
			ids = append(ids, "<"+s+">")
		}
	}
	bracketed := false
	for rest := value; ; {
		_, after, ok := strings.Cut(rest, "<")
		if !ok {
			break
		}
		id, more, ok := strings.Cut(after, ">")
		if !ok {
			add(after) // cut off
			break
		}
		bracketed = true
		add(id[strings.LastIndexByte(id, '<')+1:]) // the other was of a comment
		rest = more
	}
	if !bracketed {
		words := strings.Fields(value)
		for _, w := range words {
			add(w)
		}
		if len(words) > 1 && len(words) < 10 {
			add(value)
		}
	}
	return ids
}

// notOfID tells of what an ID is compared without.
func notOfID(r rune) bool { return r == '<' || r == '>' || unicode.IsSpace(r) }
