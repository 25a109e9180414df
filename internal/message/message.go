// Package message reads mail as it lies there: raw bytes, cut into parts by
// byte ranges, never rewritten. It also has the bounded spool that messages
// pass through.
package message

import (
	"errors"
	"io"
)

// ErrTooLarge means that a message is longer than its spool may grow.
var ErrTooLarge = errors.New("message too large")

// ErrLimit means that a message exceeds a limit on depth, parts, boundary or
// header size; the message is passed on unread.
var ErrLimit = errors.New("message exceeds a structural limit")

// Source is the bytes of one message. It must allow concurrent ReadAt.
type Source interface {
	io.ReaderAt
	Size() int64
}

// Bytes makes a Source of b, which the caller must not change afterwards.
func Bytes(b []byte) Source { panic("not built yet") }

// Section is bytes off to off+n of src, clipped to src.
func Section(src Source, off, n int64) Source { panic("not built yet") }

// Reader reads src from its beginning.
func Reader(src Source) io.Reader { return io.NewSectionReader(src, 0, src.Size()) }

// SpoolOptions bound a Spool.
type SpoolOptions struct {
	Dir    string // where its file goes; "" means os.TempDir
	Memory int64  // bytes kept in memory; 0 means 1 MiB
	Limit  int64  // bytes in all, then ErrTooLarge; 0 means 128 MiB
}

// Spool holds one message while it passes: in memory up to a bound, then in an
// unlinked temporary file, encrypted with a key that exists only in memory. It
// is written once, sequentially, then read at random. It implements Source.
type Spool struct{ todo int }

// NewSpool makes an empty spool. It opens no file before it needs one.
func NewSpool(o SpoolOptions) *Spool { panic("not built yet") }

// Write appends to the spool.
func (s *Spool) Write(p []byte) (int, error) { panic("not built yet") }

// ReadAt implements io.ReaderAt; it may be called concurrently, also with Write
// for what has been written.
func (s *Spool) ReadAt(p []byte, off int64) (int, error) { panic("not built yet") }

// Size is the number of bytes written.
func (s *Spool) Size() int64 { panic("not built yet") }

// Close frees memory, key and file. Reads fail afterwards. It may be called twice.
func (s *Spool) Close() error { panic("not built yet") }

// Limits bound what Parse accepts. Zero fields mean the defaults.
type Limits struct {
	Depth    int   // nesting, 30
	Parts    int   // in all, 1000
	Boundary int   // bytes, 70 (RFC 2046, Section 5.1.1)
	Header   int64 // bytes of one part's header, 1 MiB
	Fields   int   // fields of one header, 2000
}

// Field is one header field, raw.
type Field struct {
	Name  string // as spelled, without trailing space
	Raw   []byte // whole field with folding and line ends
	Start int64  // offset of Raw in the header
}

// Value is the unfolded value without surrounding white space, not decoded.
func (f Field) Value() string { panic("not built yet") }

// Text is Value with RFC 2047 words decoded and CR, LF, NUL, C0 and
// bidirectional controls removed: safe to show.
func (f Field) Text() string { panic("not built yet") }

// Header is the header of a message or part, in order and raw.
type Header struct {
	Raw    []byte // with the empty line that ends it, where there is one
	Fields []Field
}

// ParseHeader cuts raw into fields; malformed lines are kept as fields with an
// empty Name. Line ends may be CRLF or LF.
func ParseHeader(raw []byte) Header { panic("not built yet") }

// Get is the Value of the first field of that name, case-insensitively, or "".
func (h Header) Get(name string) string { panic("not built yet") }

// All returns the fields of that name, case-insensitively.
func (h Header) All(name string) []Field { panic("not built yet") }

// Part is one part of a message's structure; offsets count from the beginning
// of the Source that was parsed.
type Part struct {
	Section  []int // IMAP part number (RFC 3501, Section 6.4.5); empty at the root
	Start    int64 // first byte of the part's header
	Body     int64 // first byte of its body
	End      int64 // after its last byte; the CRLF before a delimiter belongs to the delimiter
	Lines    int64 // number of lines of the body
	Header   Header
	Type     string            // "text", "multipart", … lower case; "text" where unset or malformed
	Subtype  string            // lower case
	Params   map[string]string // of Content-Type, names lower case, RFC 2231 decoded
	Children []*Part           // of multipart
	Embedded *Part             // of message/rfc822 and message/global: the root of the message inside
}

// Parse reads the structure of src in one pass with memory bounded by its
// headers. Malformed MIME gives the structure that IMAP servers give it
// (text/plain, or a leaf of the declared type); only limits and read errors are
// errors.
func Parse(src Source, l Limits) (*Part, error) { panic("not built yet") }
