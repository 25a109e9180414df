package wire

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// Command is one command line: "MAIL" and "FROM:<a@b.example> SIZE=1".
type Command struct {
	Verb string // upper case
	Args string // without white space around it
}

// verbs are those that are parsed without an allocation.
var verbs = func() map[string]string {
	m := map[string]string{}
	for _, v := range []string{"EHLO", "HELO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "QUIT", "AUTH", "STARTTLS", "VRFY", "EXPN", "HELP", "XCLIENT", "XFORWARD"} {
		m[v] = v
	}
	return m
}()

// maxVerb is longer than any command's name.
const maxVerb = 16

// ParseCommand reads a line without its CRLF (RFC 5321, Section 4.1.1). Control
// characters and what is no UTF-8 (RFC 6531, Section 3.1) are ErrSyntax.
func ParseCommand(line []byte) (Command, error) {
	word, args, _ := bytes.Cut(line, []byte(" "))
	if len(word) == 0 || len(word) > maxVerb {
		return Command{}, ErrSyntax
	}
	var upper [maxVerb]byte
	for i, c := range word {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c < 'A' || c > 'Z' {
			return Command{}, ErrSyntax
		}
		upper[i] = c
	}
	if !printable(args) {
		return Command{}, ErrSyntax
	}
	verb, ok := verbs[string(upper[:len(word)])]
	if !ok {
		verb = string(upper[:len(word)])
	}
	return Command{verb, strings.Trim(string(args), " ")}, nil
}

// printable tells whether b is UTF-8 without control characters.
func printable[T ~[]byte | ~string](b T) bool {
	high := false
	for i := 0; i < len(b); i++ {
		if c := b[i]; c < ' ' || c == 0x7f {
			return false
		} else if c >= 0x80 {
			high = true
		}
	}
	return !high || utf8.ValidString(string(b))
}
