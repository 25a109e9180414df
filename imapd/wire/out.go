package wire

// Out is a command on its way to a server: text and literals in turn. How a
// literal is announced is for the sender to say (RFC 7888).
type Out struct{ Parts []Part }

// Part is text, or the bytes of a literal.
type Part struct {
	Bytes   []byte
	Literal bool
}

// Text appends text.
func (o *Out) Text(b []byte) *Out {
	if n := len(o.Parts); n > 0 && !o.Parts[n-1].Literal {
		o.Parts[n-1].Bytes = append(o.Parts[n-1].Bytes[:len(o.Parts[n-1].Bytes):len(o.Parts[n-1].Bytes)], b...)
		return o
	}
	o.Parts = append(o.Parts, Part{Bytes: b})
	return o
}

// String appends text.
func (o *Out) String(s string) *Out { return o.Text([]byte(s)) }

// Literal appends the bytes of a literal.
func (o *Out) Literal(b []byte) *Out {
	o.Parts = append(o.Parts, Part{Bytes: b, Literal: true})
	return o
}

// Token appends t as it came, with its literals as such.
func (o *Out) Token(t Token) *Out {
	switch t.Kind {
	case Literal:
		return o.Literal(t.Value)
	case List:
		o.String("(")
		o.Tokens(t.List)
		return o.String(")")
	}
	return o.Text(t.Raw)
}

// Tokens appends tokens with a space between them.
func (o *Out) Tokens(ts []Token) *Out {
	for i, t := range ts {
		if i > 0 {
			o.String(" ")
		}
		o.Token(t)
	}
	return o
}

// Len is the length of all parts.
func (o *Out) Len() int {
	n := 0
	for _, p := range o.Parts {
		n += len(p.Bytes)
	}
	return n
}
