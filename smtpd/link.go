package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/smtpd/wire"
)

// errUpstream means that the upstream broke the protocol or the connection.
var errUpstream = errors.New("connection to the mail server failed")

// errNoTLS means that the upstream does not offer the TLS that it must have.
var errNoTLS = fmt.Errorf("no STARTTLS is offered: %w", errUpstream)

// errHandshake means that TLS with the upstream failed.
var errHandshake = fmt.Errorf("TLS with the mail server: %w", errUpstream)

// errMute means that the upstream takes connections and doesn't greet.
var errMute = errors.New("it takes connections and says nothing; where TLS is from the beginning, as at port 465, upstream in the configuration is submissions://")

// reply is one SMTP reply of the upstream, cleaned: it may be shown and logged.
type reply struct {
	Code   int
	Status string // RFC 3463, such as "5.1.1"; never empty
	Text   string // printable, at most 300 bytes
}

func (r reply) ok() bool        { return r.Code/100 == 2 }
func (r reply) temporary() bool { return r.Code/100 == 4 }
func (r reply) Error() string   { return fmt.Sprintf("%d %s %s", r.Code, r.Status, r.Text) }

// atRcpt is a reply to RCPT, after others were accepted. RFC 5321, Section 4.5.3.1.10:
// 552 was for too many of them once, and those belong into another transaction. A
// mailbox that is full is another matter.
func (r reply) atRcpt(accepted int) reply {
	if r.Code == 552 && accepted > 0 && (r.Status == "5.0.0" || r.Status == "5.5.3") {
		r.Code, r.Status = 452, "4.5.3"
	}
	return r
}

// Limits on replies: RFC 5321, Section 4.5.3.1.5 has 512 bytes a line.
const (
	maxReplyLine  = 4 << 10
	maxReplyLines = 128
)

// link is the SMTP lines of one connection to an upstream: no meaning, but
// every read and write has a deadline. Not for concurrent use.
type link struct {
	conn  net.Conn
	r     *bufio.Reader
	out   *[]byte       // what waits to be sent; nil where nothing does
	err   error         // of sending, the first
	block time.Duration // for one write to pass
	// until ends whatever is waited for, with the deadline of conn in the past; nil
	// for a connection that is ready.
	until context.Context
}

func newLink(c net.Conn, block time.Duration) *link {
	return &link{conn: c, r: bufio.NewReaderSize(c, maxReplyLine), block: block}
}

// outs are what links gather before they send: whole TLS records (RFC 8446,
// Section 5.1), few calls of the system.
var outs = sync.Pool{New: func() any { b := make([]byte, 0, 64<<10); return &b }}

// add has p wait to be sent; p is not kept.
func (w *link) add(p []byte) error {
	for w.err == nil {
		if w.out == nil {
			w.out = outs.Get().(*[]byte)
		}
		b := *w.out
		n := min(len(p), cap(b)-len(b))
		*w.out = append(b, p[:n]...)
		if p = p[n:]; len(p) == 0 {
			break
		}
		w.flush()
	}
	return w.err
}

// flush sends what waits.
func (w *link) flush() error {
	if w.out == nil {
		return w.err
	}
	if w.err == nil {
		if w.err = w.conn.SetWriteDeadline(time.Now().Add(w.block)); w.err == nil {
			_, w.err = w.conn.Write(*w.out)
		}
	}
	*w.out = (*w.out)[:0]
	outs.Put(w.out)
	w.out = nil
	return w.err
}

// command has one line wait. Lines have no CR and LF: what they are made of was
// checked, and this checks it again, since a second command would hide in it.
func (w *link) command(line string) error {
	if strings.ContainsAny(line, "\r\n\x00") {
		return fmt.Errorf("line end inside a command: %w", errUpstream)
	}
	w.add([]byte(line))
	return w.add([]byte("\r\n"))
}

// reply reads one reply, waiting at most d for the whole of it.
func (w *link) reply(d time.Duration) (reply, error) {
	_, r, err := w.lines(d)
	return r, err
}

// lines is reply, and gives the texts of its lines too.
func (w *link) lines(d time.Duration) ([]string, reply, error) {
	if err := w.conn.SetReadDeadline(time.Now().Add(d)); err != nil {
		return nil, reply{}, err
	}
	if w.until != nil && w.until.Err() != nil { // before: its deadline is gone
		return nil, reply{}, fmt.Errorf("%w: %w", errUpstream, os.ErrDeadlineExceeded)
	}
	var texts []string
	for len(texts) < maxReplyLines {
		line, err := w.r.ReadSlice('\n')
		if err != nil {
			return nil, reply{}, fmt.Errorf("%w: %w", errUpstream, err)
		}
		code, text, more, ok := parseReplyLine(line)
		if !ok {
			return nil, reply{}, fmt.Errorf("malformed reply: %w", errUpstream)
		}
		texts = append(texts, text)
		if !more {
			return texts, makeReply(code, texts), nil
		}
	}
	return nil, reply{}, fmt.Errorf("reply too long: %w", errUpstream)
}

// parseReplyLine cuts a line of a reply: RFC 5321, Section 4.2.
func parseReplyLine(line []byte) (code int, text string, more, ok bool) {
	line = bytes.TrimRight(line, "\r\n")
	if len(line) < 3 {
		return 0, "", false, false
	}
	code, err := strconv.Atoi(string(line[:3]))
	if err != nil || code < 200 || code > 599 {
		return 0, "", false, false
	}
	if len(line) == 3 {
		return code, "", false, true
	}
	if line[3] != ' ' && line[3] != '-' {
		return 0, "", false, false
	}
	return code, string(line[4:]), line[3] == '-', true
}

// makeReply joins lines, taking the enhanced status code out (RFC 2034).
func makeReply(code int, lines []string) reply {
	r := reply{Code: code, Status: string('0'+rune(code/100)) + ".0.0"}
	texts := make([]string, 0, len(lines))
	for _, l := range lines {
		if first, rest, _ := strings.Cut(l, " "); isStatus(first, code/100) {
			r.Status, l = first, rest
		}
		texts = append(texts, strings.TrimSpace(l))
	}
	r.Text = clean(strings.Join(texts, " "), 300)
	return r
}

func isStatus(s string, class int) bool {
	if len(s) < 2 || s[1] != '.' { // no class has two digits
		return false
	}
	parts := strings.Split(s, ".")
	if len(parts) != 3 || parts[0] != strconv.Itoa(class) {
		return false
	}
	for _, p := range parts {
		if n, err := strconv.Atoi(p); err != nil || n < 0 || len(p) > 3 {
			return false
		}
	}
	return true
}

// clean makes remote text safe for replies, logs and reports: printable ASCII.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), limit)]
}

// body writes a message with dots doubled (RFC 5321, Section 4.5.2), ending in
// CRLF, without the final dot.
func (w *link) body(src message.Source) error {
	r := message.Reader(src)
	pooled := buffers.Get().(*[]byte)
	defer buffers.Put(pooled)
	var dots wire.Stuffer
	for {
		n, err := r.Read(*pooled)
		if werr := dots.Next((*pooled)[:n], w.add); werr != nil {
			return fmt.Errorf("%w: %w", errUpstream, werr)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("reading the message: %w", err)
		}
	}
	if err := w.add([]byte(dots.End())); err != nil {
		return fmt.Errorf("%w: %w", errUpstream, err)
	}
	return nil
}

// quiet tells whether the upstream has said nothing out of turn: a 421 or the
// end of the connection before the final dot is a sure failure.
func (w *link) quiet() bool {
	if w.r.Buffered() > 0 {
		return false
	}
	if peek(w.conn) == silent {
		return true
	}
	// TLS has records of its own, such as new session tickets: let it read.
	w.conn.SetReadDeadline(time.Now().Add(2 * time.Millisecond))
	_, err := w.r.Peek(1)
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// waiting is what a socket has for its reader.
type waiting int

const (
	silent   waiting = iota // nothing, and it is open
	speaking                // bytes, its end, or nobody knows
)
