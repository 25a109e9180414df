// Package wire reads and writes IMAP as bytes: commands as tokens, responses
// as they stream by. It knows the shape of the protocol (RFC 3501, Section 9;
// RFC 7888 for literals) and nothing of what a command means.
//
// A [CommandReader] reads what a client sends: a [Command] is a tag, a name and
// a list of [Token]s, each with the bytes it came as, so that what is not
// understood can be passed on exactly. A [ResponseReader] reads what a server
// sends: a [Head] tells which response it is before anything is consumed, then
// the caller passes it on, collects it, or goes through the items of a FETCH.
//
// What wire promises of hostile bytes: no announced size is ever allocated,
// each literal is consumed or the connection is to be closed, and lines, nesting
// and collected bytes are bounded by [Limits].
package wire

import "errors"

// ErrSyntax means a malformed command whose end is known: the reader stands
// before the next command, and the connection may go on.
var ErrSyntax = errors.New("malformed command")

// ErrTooBig means that a command exceeded a limit; it was read to its end.
var ErrTooBig = errors.New("command too large")

// ErrLiteral8 means a command with a binary literal (RFC 3516); it was read to
// its end.
var ErrLiteral8 = errors.New("binary literals are not supported")

// ErrDesync means that the end of a command or response cannot be known. The
// connection must be closed, since what follows could be taken for commands.
var ErrDesync = errors.New("protocol out of step")

// ErrItem means a FETCH response with an item that cannot be read, whose end is
// known all the same: the items before it stand, and the reader is before the next
// response.
var ErrItem = errors.New("malformed item")

// Limits bound what is read. Zero fields mean the defaults.
type Limits struct {
	Line     int   // bytes of one command without its literals; 64 KiB
	Literal  int   // bytes of one collected literal; 64 KiB
	Command  int   // bytes of one command with its collected literals; 256 KiB
	Drain    int64 // bytes of a refused literal that are read and dropped; 256 MiB
	Depth    int   // nesting of parentheses in a command; 50
	Response int   // bytes of one response line, or of one collected item; 1 MiB
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&l.Line, 64<<10)
	set(&l.Literal, 64<<10)
	set(&l.Command, 256<<10)
	set(&l.Depth, 50)
	set(&l.Response, 1<<20)
	if l.Drain == 0 {
		l.Drain = 256 << 20
	}
	return l
}

// upper gives b in ASCII upper case.
func upper(b []byte) string {
	u := make([]byte, len(b))
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		u[i] = c
	}
	return string(u)
}

// EqualFold tells whether b is s, ignoring ASCII case only.
func EqualFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range b {
		if lower(b[i]) != lower(s[i]) {
			return false
		}
	}
	return true
}

// HasPrefixFold tells whether b begins with s, ignoring ASCII case only.
func HasPrefixFold(b []byte, s string) bool {
	return len(b) >= len(s) && EqualFold(b[:len(s)], s)
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
