package pgp

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"letterlock.org/letterlock/internal/message"
)

// maxCharsetGuess bounds what is looked at to tell a text's charset.
const maxCharsetGuess = 64 << 10

// charsetOf is the charset of a decrypted text that has no header of its own: the
// one that the armor names, else the one that the mail does. Neither is signed, and
// the mail's is often only that of the program which carried the armor: it counts
// for nothing where it is ASCII, as all armor is, where it would make other letters
// of ASCII, and, of those with one byte to a letter, where the text is UTF-8 (RFC
// 9580, Section 5.9, has it so). What is said by nobody and is no UTF-8 is of the
// time before it.
func charsetOf(text message.Source, armor, mail string) (string, error) {
	if usableCharset(armor) {
		return armor, nil
	}
	if !usableCharset(mail) {
		mail = ""
	}
	head := make([]byte, min(maxCharsetGuess, text.Size()))
	if n, err := text.ReadAt(head, 0); n < len(head) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return "", fmt.Errorf("reading a decrypted text: %w", err)
	}
	ascii, utf := whatLetters(head, int64(len(head)) < text.Size())
	switch {
	case mail == "" && utf:
		return "utf-8", nil
	case mail == "":
		return "windows-1252", nil
	case utf && !ascii && oneByte(mail):
		return "utf-8", nil
	}
	return mail, nil
}

// whatLetters tells whether b is ASCII, and whether it is UTF-8, of which ASCII is
// a part; the last letter may be cut off.
func whatLetters(b []byte, cut bool) (ascii, utf bool) {
	for i := len(b) - 1; cut && i >= max(0, len(b)-utf8.UTFMax); i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				b = b[:i]
			}
			break
		}
	}
	return !slices.ContainsFunc(b, func(c byte) bool { return c >= utf8.RuneSelf }), utf8.Valid(b)
}

// usableCharset tells of a name that may stand in a Content-Type and is of a charset
// in which the letters of ASCII, and more, stand for themselves.
func usableCharset(s string) bool {
	return s != "" && len(s) <= 40 && !strings.EqualFold(s, "us-ascii") && !strings.EqualFold(s, "ascii") && keepsASCII(s) &&
		!strings.ContainsFunc(s, func(r rune) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:+", r)
		})
}

// oneByte tells of a charset whose letters are one byte each.
func oneByte(charset string) bool {
	charset = strings.ToLower(charset)
	return slices.ContainsFunc([]string{"iso-8859-", "iso8859-", "latin", "windows-125", "cp125", "cp85", "cp86", "ibm85", "ibm86", "koi8-", "mac"},
		func(prefix string) bool { return strings.HasPrefix(charset, prefix) })
}
