// Package render says in IMAP's words what a message is: its ENVELOPE, BODY and
// BODYSTRUCTURE (RFC 3501, Section 7.4.2), and which bytes each section of it
// is (Section 6.4.5).
//
// A [Message] is computed from the bytes alone, so that size, structure and
// sections always agree. Bodies are never copied: a section is a range of the
// [message.Source].
//
// It also finds and overwrites header fields that imitate ours.
package render
