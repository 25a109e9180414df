package wire

import (
	"bytes"
	"fmt"
	"strconv"
)

// Kind is what a Token is.
type Kind string

const (
	Atom    Kind = "atom"    // also numbers, flags, sets and FETCH items with their section
	Quoted  Kind = "quoted"  // RFC 3501, Section 9: quoted
	Literal Kind = "literal" // synchronising or not
	List    Kind = "list"    // parenthesised
)

// Token is one argument of a command.
type Token struct {
	Kind  Kind
	Raw   []byte  // as it came: quotes, "{n+}CRLF" and parentheses included
	Value []byte  // what an Atom, Quoted or Literal says; nil for a List
	List  []Token // the elements of a List
}

// Is tells whether t is the atom s, ignoring case.
func (t Token) Is(s string) bool { return t.Kind == Atom && EqualFold(t.Value, s) }

// IsString tells whether t can stand where an astring is asked for.
func (t Token) IsString() bool { return t.Kind != List }

// Text is the Value as a string.
func (t Token) Text() string { return string(t.Value) }

// AtomToken makes an atom of s, which must be one.
func AtomToken(s string) Token { return Token{Kind: Atom, Raw: []byte(s), Value: []byte(s)} }

// StringToken makes a token that says s: an atom never, quoted where it can be,
// a literal otherwise.
func StringToken(s string) Token {
	v := []byte(s)
	if len(v) <= 1000 && quotable(v) {
		q := append([]byte{'"'}, bytes.ReplaceAll(bytes.ReplaceAll(v, []byte(`\`), []byte(`\\`)), []byte(`"`), []byte(`\"`))...)
		return Token{Kind: Quoted, Raw: append(q, '"'), Value: v}
	}
	return Token{Kind: Literal, Raw: append([]byte(fmt.Sprintf("{%d}\r\n", len(v))), v...), Value: v}
}

func quotable(v []byte) bool {
	for _, c := range v {
		if c < ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// ListToken makes a list of elements.
func ListToken(elements ...Token) Token {
	raw := []byte{'('}
	for i, e := range elements {
		if i > 0 {
			raw = append(raw, ' ')
		}
		raw = append(raw, e.Raw...)
	}
	return Token{Kind: List, Raw: append(raw, ')'), List: elements}
}

// scanner cuts the bytes of one command into tokens.
type scanner struct {
	b        []byte
	p        int
	depth    int
	sections bool // brackets in atoms hold a FETCH section
	literals []span
}

// span is where a literal's announcement begins, its bytes begin and end.
type span struct{ at, from, to int }

var errToken = fmt.Errorf("%w: bad argument", ErrSyntax)

// tokens reads arguments up to the end, or to the parenthesis that closes.
func (s *scanner) tokens(nested int) ([]Token, error) {
	if nested > s.depth {
		return nil, fmt.Errorf("%w: nested too deep", ErrTooBig)
	}
	var out []Token
	for {
		if s.p >= len(s.b) {
			if nested > 0 {
				return nil, errToken
			}
			return out, nil
		}
		if s.b[s.p] == ')' && nested > 0 {
			return out, nil
		}
		if len(out) > 0 {
			// "((a)(b))" and "(a)(b)" are sent by some; a space is else required.
			if s.b[s.p] == ' ' {
				s.p++
				if s.p >= len(s.b) || s.b[s.p] == ' ' {
					return nil, errToken
				}
				if s.b[s.p] == ')' {
					return nil, errToken
				}
			} else if !(s.b[s.p] == '(' && out[len(out)-1].Kind == List) {
				return nil, errToken
			}
		}
		t, err := s.token(nested)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
}

func (s *scanner) token(nested int) (Token, error) {
	start := s.p
	switch s.b[s.p] {
	case '(':
		s.p++
		list, err := s.tokens(nested + 1)
		if err != nil {
			return Token{}, err
		}
		s.p++ // the parenthesis that tokens stopped at
		return Token{Kind: List, Raw: s.b[start:s.p], List: list}, nil
	case '"':
		v, err := s.quoted()
		return Token{Kind: Quoted, Raw: s.b[start:s.p], Value: v}, err
	case '{':
		l, ok := s.literal()
		if !ok {
			return Token{}, errToken
		}
		s.p = l.to
		return Token{Kind: Literal, Raw: s.b[start:s.p], Value: s.b[l.from:l.to]}, nil
	}
	return s.atom()
}

// literal finds the literal announced at p.
func (s *scanner) literal() (span, bool) {
	for _, l := range s.literals {
		if l.at == s.p {
			return l, true
		}
	}
	return span{}, false
}

func (s *scanner) quoted() ([]byte, error) {
	var v []byte
	for s.p++; s.p < len(s.b); s.p++ {
		switch c := s.b[s.p]; c {
		case '"':
			s.p++
			if v == nil {
				v = []byte{}
			}
			return v, nil
		case '\\':
			s.p++
			if s.p >= len(s.b) || (s.b[s.p] != '"' && s.b[s.p] != '\\') {
				return nil, errToken
			}
			v = append(v, s.b[s.p])
		case '\r', '\n', 0:
			return nil, errToken
		default:
			v = append(v, c)
		}
	}
	return nil, errToken
}

func (s *scanner) atom() (Token, error) {
	start := s.p
	for s.p < len(s.b) {
		c := s.b[s.p]
		if c == '[' && s.sections {
			if err := s.section(); err != nil {
				return Token{}, err
			}
			continue
		}
		if c == ' ' || c == '(' || c == ')' {
			break
		}
		if c <= ' ' || c == 0x7f || c == '"' || c == '{' {
			return Token{}, errToken
		}
		s.p++
	}
	if s.p == start {
		return Token{}, errToken
	}
	return Token{Kind: Atom, Raw: s.b[start:s.p], Value: s.b[start:s.p]}, nil
}

// section passes over a bracket and what it holds: spaces, lists and strings.
func (s *scanner) section() error {
	for s.p++; s.p < len(s.b); {
		switch c := s.b[s.p]; {
		case c == ']':
			s.p++
			return nil
		case c == '"':
			if _, err := s.quoted(); err != nil {
				return err
			}
		case c == '{':
			l, ok := s.literal()
			if !ok {
				return errToken
			}
			s.p = l.to
		case c < ' ' || c == '[':
			return errToken
		default:
			s.p++
		}
	}
	return errToken
}

// announcement reads a literal's announcement at the end of a line without its
// CRLF: "{n}", "{n+}" or "~{n}" before them. ok is false if there is none; big
// is true if the number is none we can count to.
func announcement(line []byte) (at int, size int64, sync, binary, ok, big bool) {
	n := len(line)
	if n < 3 || line[n-1] != '}' {
		return
	}
	end := n - 1
	sync = true
	if line[end-1] == '+' {
		sync = false
		end--
	}
	at = end
	for at > 0 && '0' <= line[at-1] && line[at-1] <= '9' {
		at--
	}
	if at == end || at == 0 || line[at-1] != '{' {
		return 0, 0, false, false, false, false
	}
	size, err := strconv.ParseInt(string(line[at:end]), 10, 64)
	at--
	binary = at > 0 && line[at-1] == '~'
	return at, size, sync, binary, true, err != nil
}
