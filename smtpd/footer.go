package smtpd

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strings"

	"letterlock.org/letterlock/internal/message"
)

// withFooter is a clear copy with a text after it: at the end of a message that
// is nothing but plain text, and as a part of its own after any other. What is
// signed, encrypted or a report stays as it is, every byte. src is the copy, its
// root's header included; it is parsed here, since other fields may stand before
// those of the submission.
func withFooter(src message.Source, footer string) (message.Source, error) {
	if footer == "" {
		return src, nil
	}
	root, err := message.Parse(src, message.Limits{})
	if err != nil {
		return nil, err
	}
	lines := footerLines(footer)
	switch {
	case !mayGrow(root):
		return src, nil
	case isPlain(root, lines):
		inline, err := armored(root, src)
		if err != nil || inline {
			return src, err
		}
		gap := "\r\n"
		if !endsLine(src) {
			gap = "\r\n\r\n"
		}
		return message.Concat(src, message.Bytes([]byte(gap+lines))), nil
	}
	return wrapped(root, src, lines), nil
}

// footerLines is the text in lines that end as mail's do.
func footerLines(s string) string {
	return strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\r\n") + "\r\n"
}

// mayGrow tells whether adding a part leaves every signature in the message true
// and its meaning what it was.
func mayGrow(root *message.Part) bool {
	for p := range root.All() {
		switch {
		case p.Is("multipart/signed"), p.Is("multipart/encrypted"), p.Is("multipart/report"),
			p.Is("application/pkcs7-mime"), p.Is("application/x-pkcs7-mime"), p.Is("application/pgp-encrypted"):
			return false
		}
	}
	return !root.Header.Has("DKIM-Signature") && (root.Type != "multipart" || len(root.Children) > 0) && root.Type != "message"
}

// isPlain tells whether the footer may be appended to the text itself.
func isPlain(root *message.Part, footer string) bool {
	encoding := strings.ToLower(strings.TrimSpace(root.Header.Get("Content-Transfer-Encoding")))
	charset := strings.ToLower(root.Params["charset"])
	ascii := asciiOnly(footer)
	switch {
	case !root.Is("text/plain"), root.Header.Has("Content-Disposition"):
		return false
	case encoding == "8bit" && (charset == "utf-8" || ascii):
		return !slices.Contains([]string{"utf-7", "utf-16", "utf-32"}, charset)
	}
	return ascii && (encoding == "" || encoding == "7bit") && slices.Contains([]string{"", "us-ascii", "utf-8", "iso-8859-1", "iso-8859-15", "windows-1252"}, charset)
}

// armored tells whether a text has something of OpenPGP in it, to which nothing
// must be added.
func armored(root *message.Part, src message.Source) (bool, error) {
	r := message.Reader(message.Section(src, root.Body, root.End-root.Body))
	pooled := buffers.Get().(*[]byte)
	defer buffers.Put(pooled)
	buf, kept := *pooled, 0
	mark := []byte("-----BEGIN PGP ")
	for {
		n, err := r.Read(buf[kept:])
		if bytes.Contains(buf[:kept+n], mark) {
			return true, nil
		}
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			return false, err
		}
		tail := min(kept+n, len(mark)-1)
		copy(buf, buf[kept+n-tail:kept+n])
		kept = tail
	}
}

func endsLine(src message.Source) bool {
	var end [2]byte
	n := src.Size()
	if n < 2 {
		return false
	}
	_, err := src.ReadAt(end[:], n-2)
	return (err == nil || err == io.EOF) && string(end[:]) == "\r\n"
}

// wrapped puts the message and the footer side by side (RFC 2046, Section 5.1.3):
// the fields that describe the body go with it.
func wrapped(root *message.Part, src message.Source, footer string) message.Source {
	var outer, inner bytes.Buffer
	for _, f := range root.Header.Fields {
		switch n := strings.ToLower(f.Name); {
		case strings.HasPrefix(n, "content-"):
			inner.Write(f.Raw)
		case n != "mime-version":
			outer.Write(f.Raw)
		}
	}
	boundary, eight := "footer-"+rand.Text(), ""
	switch encoding := strings.ToLower(strings.TrimSpace(root.Header.Get("Content-Transfer-Encoding"))); encoding {
	case "8bit", "binary": // what a part has, the whole must say (RFC 2045, Section 6.4)
		eight = "Content-Transfer-Encoding: " + encoding + "\r\n"
	}
	fmt.Fprintf(&outer, "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"%[1]s\"\r\n%[2]s\r\n--%[1]s\r\n", boundary, eight)
	outer.Write(inner.Bytes())
	outer.WriteString("\r\n")
	var last bytes.Buffer
	fmt.Fprintf(&last, "\r\n--%s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Disposition: inline\r\n", boundary)
	if asciiOnly(footer) {
		last.WriteString("\r\n" + footer)
	} else {
		last.WriteString("Content-Transfer-Encoding: base64\r\n\r\n" + base64Text(footer))
	}
	fmt.Fprintf(&last, "\r\n--%s--\r\n", boundary)
	return message.Concat(message.Bytes(outer.Bytes()), message.Section(src, root.Body, src.Size()-root.Body), message.Bytes(last.Bytes()))
}

func base64Text(s string) string {
	var b strings.Builder
	for line := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString([]byte(s))), 76) {
		b.Write(line)
		b.WriteString("\r\n")
	}
	return b.String()
}
