package wire

import (
	"errors"
	"fmt"
	"io"
)

// Accept asks the client for the message, where it waits to be asked.
func (m *Message) Accept() error {
	if !m.Sync || m.r.Continue == nil {
		return nil
	}
	return m.r.Continue()
}

// Read reads the message; io.EOF after its last byte.
func (m *Message) Read(p []byte) (int, error) {
	if m.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > m.left {
		p = p[:m.left]
	}
	n, err := m.r.br.Read(p)
	m.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// End reads what is left of the message and of its command. It returns
// ErrSyntax if more arguments follow, which are read and dropped with their
// literals; nothing of them is ever taken for a command.
func (m *Message) End() error {
	if m.done {
		return nil
	}
	m.done = true
	if err := m.r.drain(m.left); err != nil {
		return err
	}
	m.left = 0
	return m.r.tail()
}

// Refuse ends the command without its message. A client that waits to be asked
// sends nothing more; of all others the message is read and dropped.
func (m *Message) Refuse() error {
	if m.Sync {
		m.done = true
		return nil
	}
	if err := m.End(); err != nil && !isSyntax(err) {
		return err
	}
	return nil
}

func isSyntax(err error) bool { return errors.Is(err, ErrSyntax) }

// tail reads the rest of a command after its last expected literal.
func (r *CommandReader) tail() error {
	c := &Command{}
	first := true
	for {
		c.Rest = c.Rest[:0]
		if _, err := r.line(c); err != nil {
			return err
		}
		if first && len(c.Rest) == 0 {
			return nil
		}
		first = false
		at, size, sync, _, ok, huge := announcement(c.Rest)
		if huge {
			return fmt.Errorf("%w: literal of no size", ErrDesync)
		}
		if !ok || sync && !openQuote(c.Rest[:at]) {
			return fmt.Errorf("%w: more than one message", ErrSyntax)
		}
		if openQuote(c.Rest[:at]) {
			return fmt.Errorf("%w: quote not closed before a literal", ErrDesync)
		}
		if err := r.drain(size); err != nil {
			return err
		}
	}
}
