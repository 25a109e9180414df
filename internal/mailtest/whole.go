package mailtest

import (
	"io"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

// taking is a session that stores a message only if all of it came. imapserver takes
// the end of a connection within one for its end.
type taking struct {
	imapserver.SessionIMAP4rev2
}

// Append implements imapserver.Session.
func (s taking) Append(mailbox string, r imap.LiteralReader, o *imap.AppendOptions) (*imap.AppendData, error) {
	return s.SessionIMAP4rev2.Append(mailbox, &whole{r, r.Size()}, o)
}

// whole is a message of which left bytes are to come.
type whole struct {
	imap.LiteralReader
	left int64
}

// Read implements io.Reader.
func (w *whole) Read(b []byte) (int, error) {
	n, err := w.LiteralReader.Read(b)
	if w.left -= int64(n); err == io.EOF && w.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
