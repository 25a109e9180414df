// Package wire reads and writes SMTP as bytes: command lines, paths and
// parameters, the dots of DATA, replies. It knows what is well formed and
// nothing of what it means.
//
// It is strict where leniency has let messages be smuggled past servers
// (CVE-2023-51764 and its kind): lines end with CRLF and nothing else, in
// commands and in messages (RFC 5321, Section 2.3.8), and only CRLF.CRLF ends a
// message.
//
// Everything here takes time linear in its input and memory bounded by its
// limits. Nothing may be used concurrently.
package wire

import "errors"

// ErrSyntax means that a command is malformed: 501, or 500 where not even its
// name can be read.
var ErrSyntax = errors.New("malformed command")

// ErrParameter means a parameter that no extension of ours has: 555.
var ErrParameter = errors.New("unknown parameter")

// ErrLong means that a line is longer than allowed. It was skipped.
var ErrLong = errors.New("line too long")

// ErrBareLineEnd means a CR or LF that is not part of a CRLF. Nobody knows what
// its sender took for the end of a line: what follows must not be executed.
var ErrBareLineEnd = errors.New("bare CR or LF")

// Limits on lines, in bytes with their CRLF.
const (
	// MaxLine is that of commands. RFC 5321, Section 4.5.3.1.4 has 512; SIZE,
	// 8BITMIME, SMTPUTF8, AUTH and DSN allow about 1,200 together (RFC 3461,
	// Sections 4.1 and 4.2; RFC 4954, Section 3).
	MaxLine = 2048
	// MaxAuthLine is that of AUTH and what answers its challenges (RFC 4954,
	// Section 4.3).
	MaxAuthLine = 12288
)
