package wire

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Command is one command of a client.
type Command struct {
	Tag  string
	Name string  // upper case; "UID FETCH", "UID STORE" … for the UID commands
	Args []Token // what follows the name
	Rest []byte  // everything after the tag and its space, as it came, without the last CRLF
	// Message is the literal that was left unread because the reader's Stream
	// hook asked for it; nil for all other commands.
	Message *Message

	literals []span // in Rest
	head     int    // where the arguments begin in Rest
}

// Message is a literal that is read as it comes: that of an APPEND.
type Message struct {
	Size int64
	Sync bool // the client waits for a continuation request
	r    *CommandReader
	left int64
	done bool
}

// CommandReader reads the commands of one client. It is used by one goroutine.
type CommandReader struct {
	// Continue is called before a synchronising literal is read: it sends the
	// continuation request and flushes.
	Continue func() error
	// Stream tells whether a literal that follows these arguments is to be left
	// to the caller, as Command.Message. It may be nil.
	Stream func(name string, args []Token) bool

	br *bufio.Reader
	l  Limits
}

// NewCommandReader reads commands from r.
func NewCommandReader(r io.Reader, l Limits) *CommandReader {
	return &CommandReader{br: bufio.NewReaderSize(r, 64<<10), l: l.withDefaults()}
}

// Limits changes the limits for the commands that follow.
func (r *CommandReader) Limits(l Limits) { r.l = l.withDefaults() }

// Buffered is the number of bytes that were read ahead.
func (r *CommandReader) Buffered() int { return r.br.Buffered() }

// Peek gives the next n bytes without consuming them.
func (r *CommandReader) Peek(n int) ([]byte, error) { return r.br.Peek(n) }

// Next reads one command. With ErrSyntax, ErrTooBig and ErrLiteral8 the command
// returned has what is known of its Tag, and the reader stands before the next
// one. All other errors end the connection.
func (r *CommandReader) Next() (*Command, error) {
	c := &Command{}
	var refused error
	for {
		from := len(c.Rest)
		over, err := r.line(c)
		if err != nil {
			return c, err
		}
		if over && refused == nil {
			refused = fmt.Errorf("%w: line longer than %d bytes", ErrTooBig, r.l.Line)
		}
		seg := c.Rest[from:]
		at, size, sync, binary, ok, huge := announcement(seg)
		if !ok {
			return r.finish(c, refused)
		}
		if huge {
			return c, fmt.Errorf("%w: literal of no size", ErrDesync)
		}
		if openQuote(seg[:at]) {
			// Nobody can say whether bytes follow; RFC 3501 has no such line.
			return r.giveUp(c, sync)
		}
		if refused == nil {
			refused = r.refusal(c, size, binary)
		}
		if refused == nil && r.streams(c, from+at) {
			c.Rest = c.Rest[:from+at]
			c.Message = &Message{Size: size, Sync: sync, r: r, left: size}
			return c, nil
		}
		if refused == nil && (size > int64(r.l.Literal) || int64(len(c.Rest))+size > int64(r.l.Command)) {
			refused = fmt.Errorf("%w: literal of %d bytes", ErrTooBig, size)
		}
		if refused != nil {
			r.tag(c)
			if sync {
				return c, refused
			}
			if err := r.drain(size); err != nil {
				return c, err
			}
			c.Rest = c.Rest[:from]
			continue
		}
		if err := r.collect(c, from+at, size, sync); err != nil {
			return c, err
		}
	}
}

// streams tells whether the literal announced at a place is left to the caller: what
// stands before it decides.
func (r *CommandReader) streams(c *Command, at int) bool {
	return r.Stream != nil && r.parse(c, at, true) == nil && r.Stream(c.Name, c.Args)
}

// collect reads the literal announced at a place into c.Rest.
func (r *CommandReader) collect(c *Command, at int, size int64, sync bool) error {
	if sync && r.Continue != nil {
		if err := r.Continue(); err != nil {
			return err
		}
	}
	c.Rest = append(c.Rest, "\r\n"...)
	from := len(c.Rest)
	c.Rest = append(c.Rest, make([]byte, size)...)
	if _, err := io.ReadFull(r.br, c.Rest[from:]); err != nil {
		return err
	}
	c.literals = append(c.literals, span{at, from, len(c.Rest)})
	return nil
}

// refusal tells why a literal cannot be taken, whatever the command.
func (r *CommandReader) refusal(c *Command, size int64, binary bool) error {
	if binary {
		return ErrLiteral8
	}
	if len(c.literals) >= 1000 {
		return fmt.Errorf("%w: too many literals", ErrTooBig)
	}
	return nil
}

// giveUp ends a command whose end is in doubt.
func (r *CommandReader) giveUp(c *Command, sync bool) (*Command, error) {
	r.tag(c)
	if sync { // the client sends nothing before our answer
		return c, fmt.Errorf("%w: quote not closed", ErrSyntax)
	}
	return c, fmt.Errorf("%w: quote not closed before a literal", ErrDesync)
}

func (r *CommandReader) finish(c *Command, refused error) (*Command, error) {
	if refused != nil {
		r.tag(c)
		return c, refused
	}
	return c, r.parse(c, len(c.Rest), false)
}

// line appends one line, without its CRLF, to c.Rest. The first line keeps the
// tag in front until parse takes it off. over tells that the line was too long
// and that c.Rest has its beginning and end only.
func (r *CommandReader) line(c *Command) (over bool, err error) {
	from, read := len(c.Rest), int64(0)
	room := r.l.Line - r.text(c)
	for {
		b, err := r.br.ReadSlice('\n')
		read += int64(len(b))
		if read > r.l.Drain {
			return true, fmt.Errorf("%w: line without end", ErrDesync)
		}
		c.Rest = append(c.Rest, b...)
		if n := len(c.Rest) - from; n > room+2 && n > 256 {
			over = true // keep the tag and the last bytes: they tell of a literal
			copy(c.Rest[from+128:], c.Rest[len(c.Rest)-128:])
			c.Rest = c.Rest[:from+256]
		}
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return over, err
		}
	}
	if !bytes.HasSuffix(c.Rest[from:], []byte("\r\n")) {
		return over, fmt.Errorf("%w: line ends with a bare LF", ErrDesync)
	}
	c.Rest = c.Rest[:len(c.Rest)-2]
	return over, nil
}

// text counts the bytes of c that are not in literals.
func (r *CommandReader) text(c *Command) int {
	n := len(c.Rest)
	for _, l := range c.literals {
		n -= l.to - l.from
	}
	return n
}

// drain reads the bytes of a refused literal.
func (r *CommandReader) drain(n int64) error {
	if n > r.l.Drain {
		return fmt.Errorf("%w: refused literal of %d bytes", ErrDesync, n)
	}
	_, err := io.CopyN(io.Discard, r.br, n)
	return err
}

// tag sets c.Tag from what came, if it can be one.
func (r *CommandReader) tag(c *Command) int {
	if c.Tag != "" { // known since before a refused literal, or a partial parse
		if bytes.HasPrefix(c.Rest, []byte(c.Tag)) {
			return len(c.Tag)
		}
		return 0
	}
	i := bytes.IndexByte(c.Rest, ' ')
	if i < 0 {
		i = len(c.Rest)
	}
	if i == 0 || i > 128 {
		return 0
	}
	for _, b := range c.Rest[:i] {
		if b <= ' ' || b >= 0x7f || bytes.IndexByte([]byte(`(){%*"\+`), b) >= 0 {
			return 0
		}
	}
	c.Tag = string(c.Rest[:i])
	return i
}

// parse cuts c.Rest[:end] into tag, name and arguments. With partial the
// command goes on after end, so that c.Rest keeps its tag.
func (r *CommandReader) parse(c *Command, end int, partial bool) error {
	i := r.tag(c)
	if i == 0 || i >= end {
		return fmt.Errorf("%w: no tag or no command", ErrSyntax)
	}
	if bytes.IndexByte(c.Rest[:end], 0) >= 0 {
		return fmt.Errorf("%w: NUL", ErrSyntax)
	}
	word := func(p int) int {
		for p < end && c.Rest[p] != ' ' {
			p++
		}
		return p
	}
	from := i + 1
	p := word(from)
	c.Name = upper(c.Rest[from:p])
	if c.Name == "UID" && p < end {
		q := word(p + 1)
		c.Name += " " + upper(c.Rest[p+1:q])
		p = q
	}
	// A space at the end stands before a literal, or is a habit of some clients.
	body := bytes.TrimSuffix(c.Rest[:end], []byte(" "))
	s := &scanner{b: body, p: p, depth: r.l.Depth, literals: c.literals,
		sections: c.Name == "FETCH" || c.Name == "UID FETCH"}
	c.Args = nil
	if p < len(body) {
		s.p++
		if s.p >= len(body) || body[s.p] == ' ' || body[s.p] == ')' {
			return fmt.Errorf("%w: bad space", ErrSyntax)
		}
		args, err := s.tokens(0)
		if err != nil {
			return err
		}
		c.Args = args
	}
	if !partial {
		c.cut(from, p)
	} else if c.Name == "APPEND" {
		c.head = p
	}
	return nil
}

// cut takes the tag off c.Rest.
func (c *Command) cut(from, head int) {
	c.Rest = c.Rest[from:]
	c.head = head - from
	for i := range c.literals {
		c.literals[i].at -= from
		c.literals[i].from -= from
		c.literals[i].to -= from
	}
}

// openQuote tells whether b ends within a quoted string.
func openQuote(b []byte) bool {
	in := false
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == '"':
			in = !in
		case in && b[i] == '\\':
			i++
		}
	}
	return in
}

// Out gives the command for sending it on as it came, without its tag.
func (c *Command) Out() *Out {
	o := &Out{}
	p := 0
	for _, l := range c.literals {
		o.Text(c.Rest[p:l.at])
		o.Literal(c.Rest[l.from:l.to])
		p = l.to
	}
	o.Text(c.Rest[p:])
	return o
}

// Line reads one line that is no command, without its CRLF: the answer to a
// challenge, or the end of IDLE.
func (r *CommandReader) Line() ([]byte, error) {
	c := &Command{}
	over, err := r.line(c)
	if err == nil && over {
		err = fmt.Errorf("%w: line too long", ErrDesync)
	}
	return c.Rest, err
}
