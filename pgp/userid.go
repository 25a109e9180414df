package pgp

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"letterlock.org/letterlock/internal/address"
)

// plain tells whether a user ID is text without control characters; one with
// CR, LF or NUL is somebody's trick and counts for nothing.
func (u *userID) plain() bool {
	return utf8.ValidString(u.text) && strings.IndexFunc(u.text, unicode.IsControl) < 0
}

// names tells whether the user ID is exactly one addr-spec, or one in angle
// brackets at its end, and that it is a.
func (u *userID) names(a address.Address) bool {
	if a.IsZero() || !u.plain() {
		return false
	}
	spec := strings.TrimSpace(u.text)
	if i := strings.IndexByte(spec, '<'); i >= 0 {
		if strings.Count(spec, "<") != 1 || strings.Count(spec, ">") != 1 || !strings.HasSuffix(spec, ">") {
			return false
		}
		spec = spec[i+1 : len(spec)-1]
	}
	got, err := address.Parse(spec)
	return err == nil && got.Equal(a)
}

// bareAddress tells whether the user ID is an addr-spec and nothing else.
func (u *userID) bareAddress() bool {
	a, err := address.Parse(u.text)
	return err == nil && a.String() == u.text
}

// showable is s without control characters and what reorders text.
func showable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError, unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r):
			return -1
		}
		return r
	}, s)
}
