package smtpd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/message"
)

// errUpstream means that the upstream broke the protocol or the connection.
var errUpstream = errors.New("connection to the mail server failed")

// errNoTLS means that the upstream does not offer the TLS that it must have.
var errNoTLS = fmt.Errorf("no STARTTLS is offered: %w", errUpstream)

// reply is one SMTP reply of the upstream, cleaned: it may be shown and logged.
type reply struct {
	Code   int
	Status string // RFC 3463, such as "5.1.1"; never empty
	Text   string // printable, at most 300 bytes
}

func (r reply) ok() bool        { return r.Code/100 == 2 }
func (r reply) temporary() bool { return r.Code/100 == 4 }
func (r reply) Error() string   { return fmt.Sprintf("%d %s %s", r.Code, r.Status, r.Text) }

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
	w     *bufio.Writer
	block time.Duration // for one write to pass
}

func newLink(c net.Conn, block time.Duration) *link {
	return &link{conn: c, r: bufio.NewReaderSize(c, maxReplyLine), w: bufio.NewWriterSize(timedWriter{c, block}, 32<<10), block: block}
}

// timedWriter gives each write its own deadline.
type timedWriter struct {
	conn  net.Conn
	block time.Duration
}

func (w timedWriter) Write(p []byte) (int, error) {
	if err := w.conn.SetWriteDeadline(time.Now().Add(w.block)); err != nil {
		return 0, err
	}
	return w.conn.Write(p)
}

// command buffers one line. Lines have no CR and LF: what they are made of was
// checked, and this checks it again, since a second command would hide in it.
func (w *link) command(line string) error {
	if strings.ContainsAny(line, "\r\n\x00") {
		return fmt.Errorf("line end inside a command: %w", errUpstream)
	}
	w.w.WriteString(line)
	_, err := w.w.WriteString("\r\n")
	return err
}

func (w *link) flush() error { return w.w.Flush() }

// reply reads one reply, waiting at most d for the whole of it.
func (w *link) reply(d time.Duration) (reply, error) {
	if err := w.conn.SetReadDeadline(time.Now().Add(d)); err != nil {
		return reply{}, err
	}
	_, r, err := w.lines()
	return r, err
}

// lines reads a reply and gives the texts of its lines too.
func (w *link) lines() ([]string, reply, error) {
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
	r := reply{Code: code, Status: fmt.Sprintf("%d.0.0", code/100)}
	var texts []string
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
	buf := *pooled
	last := [2]byte{'\r', '\n'} // the two bytes before buf; a body begins a line
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if werr := w.stuff(buf[:n], last[1] == '\n'); werr != nil {
				return fmt.Errorf("%w: %w", errUpstream, werr)
			}
			if n == 1 {
				last[0] = last[1]
			} else {
				last[0] = buf[n-2]
			}
			last[1] = buf[n-1]
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("reading the message: %w", err)
		}
	}
	if last != [2]byte{'\r', '\n'} {
		if _, err := w.w.WriteString("\r\n"); err != nil {
			return fmt.Errorf("%w: %w", errUpstream, err)
		}
	}
	return nil
}

// stuff writes p, doubling dots at beginnings of lines.
func (w *link) stuff(p []byte, start bool) error {
	if start && p[0] == '.' {
		if err := w.w.WriteByte('.'); err != nil {
			return err
		}
	}
	for {
		i := bytes.Index(p, []byte("\n."))
		if i < 0 {
			_, err := w.w.Write(p)
			return err
		}
		if _, err := w.w.Write(p[:i+2]); err != nil {
			return err
		}
		if err := w.w.WriteByte('.'); err != nil {
			return err
		}
		p = p[i+2:]
	}
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
