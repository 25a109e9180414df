package form

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Password opens one mail or, if agreed, all mail to somebody. It shows itself
// as "***" wherever it is printed or logged; only Reveal tells it.
type Password struct {
	text string
	made bool
}

// alphabet has no letters that are taken for digits or for each other: 32 signs,
// 5 bits each. Reading, o is 0 and i and l are 1.
const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

const (
	signs      = 20 // of which the last two check the others
	groupSigns = 5
)

// NewPassword makes a password of 90 random bits, in four groups of five letters
// and digits; the last two signs are a checksum, so that a typing mistake is
// told at once.
func NewPassword() Password {
	random := make([]byte, signs-2)
	rand.Read(random)
	b := make([]byte, 0, signs)
	for _, r := range random {
		b = append(b, alphabet[r%32]) // 256 is a multiple of 32
	}
	b = append(b, checkSigns(string(b))...)
	return Password{text: grouped(string(b)), made: true}
}

func grouped(s string) string {
	var groups []string
	for ; len(s) > groupSigns; s = s[groupSigns:] {
		groups = append(groups, s[:groupSigns])
	}
	return strings.Join(append(groups, s), "-")
}

// checkSigns are the first 10 bits of SHA-256; page.js has the same.
func checkSigns(s string) string {
	sum := sha256.Sum256([]byte("letterlock password " + s))
	return string([]byte{alphabet[sum[0]>>3], alphabet[sum[0]&7<<2|sum[1]>>6]})
}

// ErrWeak means that an agreed password is too easy to guess.
var ErrWeak = errors.New("password too weak")

const (
	minAgreed = 12  // characters
	maxAgreed = 200 // bytes
)

// Agreed is a password that sender and recipient have agreed upon. Space around
// it doesn't count, and characters that look alike in Unicode are made alike
// (NFC), as they come differently from different keyboards.
func Agreed(s string) (Password, error) {
	s = norm.NFC.String(strings.TrimFunc(s, aroundIt))
	distinct := map[rune]bool{}
	for _, r := range s {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return Password{}, fmt.Errorf("%w: it has control characters", ErrWeak)
		}
		distinct[r] = true
	}
	switch {
	case utf8.RuneCountInString(s) < minAgreed || len(distinct) < minAgreed/2:
		return Password{}, fmt.Errorf("%w: it needs at least %d characters, not all alike", ErrWeak, minAgreed)
	case len(s) > maxAgreed:
		return Password{}, fmt.Errorf("%w: it may have at most %d bytes", ErrWeak, maxAgreed)
	}
	return Password{text: s}, nil
}

// aroundIt is what page.js takes off what is typed, too: U+FEFF, with which some
// editors begin a file, is white space to a browser.
func aroundIt(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' }

// IsZero tells whether there is no password.
func (p Password) IsZero() bool { return p.text == "" }

// Made tells whether NewPassword made it.
func (p Password) Made() bool { return p.made }

// Reveal is the password as it is to be typed.
func (p Password) Reveal() string { return p.text }

// String, GoString, LogValue and MarshalText don't tell it.
func (p Password) String() string               { return "***" }
func (p Password) GoString() string             { return "***" }
func (p Password) LogValue() slog.Value         { return slog.StringValue("***") }
func (p Password) MarshalText() ([]byte, error) { return []byte("***"), nil }
