package address

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// compared is a local part as it is compared. It stays a local part, and folded again
// it is the same.
func compared(s string) string {
	upper := false
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return foldUTF8(s)
		}
		upper = upper || 'A' <= s[i] && s[i] <= 'Z'
	}
	if !upper {
		return s
	}
	return strings.Map(lowerASCII, s)
}

// foldUTF8 folds what has letters beyond ASCII. None of them becomes one of ASCII:
// the Kelvin sign is no k, whose mailbox may be another person's.
func foldUTF8(s string) string {
	const ofASCII = "\u037e\u1fef\u212a" // what composing turns into ASCII
	form := norm.NFC.String
	if strings.ContainsAny(s, ofASCII) {
		form = strings.Clone
	}
	folded := strings.Map(lower, form(s))
	for range 3 { // what is in lower case now may compose with another
		next := strings.Map(lower, form(folded))
		if next == folded && checkLocal(folded) == nil {
			return folded
		}
		folded = next
	}
	return strings.Map(lowerASCII, s) // it has grown too long
}

func lower(r rune) rune {
	if r < utf8.RuneSelf {
		return lowerASCII(r)
	}
	if l := unicode.ToLower(r); l >= utf8.RuneSelf {
		return l
	}
	return r
}

func lowerASCII(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}
