package form

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"mime/quotedprintable"
	"strings"
)

// multipart writes a multipart/mixed of parts that are text of 7 bits already.
type multipart struct {
	out      *bufio.Writer
	boundary string
}

func newMultipart(w io.Writer) *multipart {
	return &multipart{out: bufio.NewWriterSize(w, 64<<10), boundary: "=-" + rand.Text()}
}

// begin writes the header; outer ends in CRLF.
func (m *multipart) begin(outer []byte) {
	m.out.Write(outer)
	fmt.Fprintf(m.out, "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"%s\"\r\n\r\n", m.boundary)
}

// part begins an attachment. Its lines end in CRLF and have at most 998 bytes
// (RFC 5322, Section 2.1.1).
func (m *multipart) part(mediaType, name, description string) {
	fmt.Fprintf(m.out, "\r\n--%s\r\nContent-Type: %s;\r\n name=\"%s\"\r\nContent-Description: %s\r\n"+
		"Content-Disposition: attachment; filename=\"%[3]s\"\r\nContent-Transfer-Encoding: 7bit\r\n\r\n", m.boundary, mediaType, name, description)
}

// text writes the text that everyone sees; its lines end in LF.
func (m *multipart) text(s string) {
	ascii := !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
	charset, encoding := "us-ascii", "7bit"
	if !ascii {
		charset, encoding = "utf-8", "quoted-printable"
	}
	fmt.Fprintf(m.out, "--%s\r\nContent-Type: text/plain; charset=%s\r\nContent-Transfer-Encoding: %s\r\n\r\n", m.boundary, charset, encoding)
	s = strings.ReplaceAll(s, "\n", "\r\n")
	if ascii {
		m.out.WriteString(s)
		return
	}
	q := quotedprintable.NewWriter(m.out)
	io.WriteString(q, s)
	q.Close()
}

// end writes the last delimiter and tells the first error of all.
func (m *multipart) end() error {
	fmt.Fprintf(m.out, "\r\n--%s--\r\n", m.boundary)
	return m.out.Flush()
}
