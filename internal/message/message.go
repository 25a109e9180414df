// Package message reads mail as it lies there: raw bytes, cut into parts by
// byte ranges, never rewritten. It also has the bounded spool that messages
// pass through.
//
// A [Source] is the bytes of a message, wherever they are; [Bytes], [Section]
// and [Concat] compose Sources without copying, [Spool] holds one that is still
// arriving. [Parse] gives the structure of a Source as byte ranges, in one pass
// of linear time; [ParseHeader] cuts a header into its fields, every byte kept.
//
// Nothing here decodes a body, and nothing trusts what it reads: malformed MIME
// has a structure too, the one that IMAP servers give it.
package message

import "errors"

// ErrTooLarge means that a message is longer than its spool may grow.
var ErrTooLarge = errors.New("message too large")

// ErrLimit means that a message exceeds a limit on depth, parts, boundary or
// header size; the message is passed on unread.
var ErrLimit = errors.New("message exceeds a structural limit")

// ErrClosed means that a spool was used after Close.
var ErrClosed = errors.New("spool is closed")
