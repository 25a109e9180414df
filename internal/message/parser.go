package message

import "bytes"

// maxHeld is how much of a line a Parser waits for before it takes it in pieces.
const maxHeld = 64 << 10

// Parser reads the structure of a message while it comes. Its answer is that of
// [Parse]. Not for concurrent use.
type Parser struct {
	p    *parser
	root *Part
	line []byte // the beginning of a line whose end has not come
	err  error  // the first
}

// NewParser begins a message.
func NewParser(l Limits) *Parser {
	p := &Parser{p: newParser(l)}
	p.root, p.err = p.p.open(nil, false)
	return p
}

// Write takes the next bytes, which are not kept. It fails never: what follows an
// error, which End gives, has no effect.
func (p *Parser) Write(b []byte) (int, error) {
	n := len(b)
	if len(p.line) > 0 {
		end := bytes.IndexByte(b, '\n') + 1
		if end == 0 {
			end = n
		}
		p.line, b = append(p.line, b[:end]...), b[end:]
		if p.line[len(p.line)-1] != '\n' && len(p.line) < maxHeld {
			return n, nil
		}
		p.take(p.line)
		p.line = p.line[:0]
	}
	whole := b[:bytes.LastIndexByte(b, '\n')+1]
	if p.p.leaves() {
		whole = b
	}
	p.take(whole)
	if rest := b[len(whole):]; len(rest) >= maxHeld {
		p.take(rest)
	} else {
		p.line = append(p.line, rest...)
	}
	return n, nil
}

func (p *Parser) take(b []byte) {
	if p.err == nil {
		p.err = p.p.whole(b)
	}
}

// End is the root of the message, or the error of Parse.
func (p *Parser) End() (*Part, error) {
	p.take(p.line)
	if p.err == nil {
		p.err = p.p.finish()
	}
	p.line = nil
	if p.err != nil {
		return nil, p.err
	}
	return p.root, nil
}
