package search

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/emersion/go-message/charset"

	"letterlock.org/letterlock/imapd/wire"
)

// Errors that a client is told of.
var (
	// ErrSyntax is a search that is malformed, or has a key that we do not
	// know: BAD.
	ErrSyntax = errors.New("search not understood")
	// ErrCharset is a CHARSET that we cannot read: NO [BADCHARSET].
	ErrCharset = errors.New("unknown character set in a search")
	// ErrWords is a search for words where some messages are not encrypted
	// and words may not go upstream: NO [CANNOT]. Answering it from the
	// encrypted messages alone would be a wrong answer.
	ErrWords = errors.New("words are not sent upstream (search_upstream = false), and this mailbox has mail that is not encrypted")
	// ErrComplex is a search with more keys than we answer: NO [LIMIT].
	ErrComplex = errors.New("search has too many keys")
)

// maxTerms bounds the keys of one search that look into messages: each is one
// pass over the index.
const maxTerms = 100

// Query is a parsed search. It is changed by Rewrite and belongs to one
// command.
type Query struct {
	// Return is the options of RETURN (RFC 4731), upper case; nil without.
	Return []string
	// Charset is as the client spelled it; "" without.
	Charset string

	returns *wire.Token // the list of options as it came
	root    *node
	terms   int
}

// op is what a node of a search does.
type op string

const (
	opAnd     op = "and"     // all of kids
	opOr      op = "or"      // one of two kids
	opNot     op = "not"     // not its kid
	opForward op = "forward" // tokens as they came: the upstream's to answer
	opTerm    op = "term"    // looks into messages
	opKeyword op = "keyword" // has a keyword of ours
)

type node struct {
	op     op
	kids   []*node
	tokens []wire.Token
	term   Term
	word   string    // of opKeyword
	uids   *wire.Set // of UID
	seqs   *wire.Set // of sequence numbers
	hits   []uint32  // of opTerm and opKeyword, once they are known
}

// Parse reads the arguments of SEARCH or UID SEARCH: RETURN and CHARSET, where
// they are, and the keys.
func Parse(args []wire.Token) (*Query, error) {
	q := &Query{}
	if len(args) > 1 && args[0].Is("RETURN") && args[1].Kind == wire.List {
		q.returns, q.Return = &args[1], []string{}
		for _, t := range args[1].List {
			option := strings.ToUpper(t.Text())
			if option != "MIN" && option != "MAX" && option != "ALL" && option != "COUNT" {
				return nil, fmt.Errorf("%w: RETURN option unknown or not offered", ErrSyntax) // SAVE and PARTIAL are
			}
			q.Return = append(q.Return, option)
		}
		args = args[2:]
	}
	if len(args) > 1 && args[0].Is("CHARSET") {
		if !args[1].IsString() {
			return nil, fmt.Errorf("%w: CHARSET of what", ErrSyntax)
		}
		q.Charset = args[1].Text()
		args = args[2:]
	}
	if len(args) == 0 {
		return nil, fmt.Errorf("%w: no keys", ErrSyntax)
	}
	root, err := q.all(args)
	q.root = root
	return q, err
}

// all reads keys that must all hold.
func (q *Query) all(tokens []wire.Token) (*node, error) {
	n := &node{op: opAnd}
	for len(tokens) > 0 {
		kid, rest, err := q.key(tokens)
		if err != nil {
			return nil, err
		}
		n.kids = append(n.kids, kid)
		tokens = rest
	}
	if len(n.kids) == 0 {
		return nil, fmt.Errorf("%w: empty list of keys", ErrSyntax)
	}
	return n, nil
}

// The keys that the upstream answers, by the number of their arguments.
var forwarded = map[string]int{
	"ALL": 0, "ANSWERED": 0, "DELETED": 0, "DRAFT": 0, "FLAGGED": 0, "NEW": 0, "OLD": 0, "RECENT": 0, "SEEN": 0,
	"UNANSWERED": 0, "UNDELETED": 0, "UNDRAFT": 0, "UNFLAGGED": 0, "UNSEEN": 0,
	"BEFORE": 1, "ON": 1, "SINCE": 1, // of INTERNALDATE, which is the upstream's
	"UID": 1, "OLDER": 1, "YOUNGER": 1,
	"X-GM-MSGID": 1, "X-GM-THRID": 1, "X-GM-LABELS": 1,
}

// key reads one key with its arguments from the front of tokens.
func (q *Query) key(tokens []wire.Token) (*node, []wire.Token, error) {
	t, rest := tokens[0], tokens[1:]
	if t.Kind == wire.List {
		n, err := q.all(t.List)
		return n, rest, err
	}
	if t.Kind != wire.Atom {
		return nil, nil, fmt.Errorf("%w: a string where a key belongs", ErrSyntax)
	}
	name := strings.ToUpper(t.Text())
	if n, ok := forwarded[name]; ok {
		return forward(name, tokens, n+1)
	}
	switch name {
	case "NOT":
		return q.operator(opNot, rest, 1)
	case "OR":
		return q.operator(opOr, rest, 2)
	case "KEYWORD", "UNKEYWORD":
		return keyword(name, tokens)
	case "MODSEQ": // RFC 7162, Section 3.1.5: an entry and its type may come before
		if len(rest) > 0 && rest[0].Kind == wire.Quoted {
			return forward(name, tokens, 4)
		}
		return forward(name, tokens, 2)
	}
	if set, err := wire.ParseSet(t.Value); err == nil { // "$" is none: SEARCHRES isn't offered
		n, rest, err := forward("", tokens, 1)
		if err == nil {
			n.seqs = &set
		}
		return n, rest, err
	}
	return q.termKey(name, tokens)
}

// forward takes n tokens as they are.
func forward(name string, tokens []wire.Token, n int) (*node, []wire.Token, error) {
	if len(tokens) < n {
		return nil, nil, fmt.Errorf("%w: %s without its argument", ErrSyntax, name)
	}
	kid := &node{op: opForward, tokens: tokens[:n]}
	for _, t := range kid.tokens {
		if t.Kind == wire.List {
			return nil, nil, fmt.Errorf("%w: a list after %s", ErrSyntax, name)
		}
	}
	if name == "UID" {
		set, err := wire.ParseSet(tokens[1].Value)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: UID of no set", ErrSyntax)
		}
		kid.uids = &set
	}
	return kid, tokens[n:], nil
}

// operator reads the n keys of NOT or OR.
func (q *Query) operator(o op, tokens []wire.Token, n int) (*node, []wire.Token, error) {
	kid := &node{op: o}
	for range n {
		if len(tokens) == 0 {
			return nil, nil, fmt.Errorf("%w: %s without its key", ErrSyntax, o)
		}
		k, rest, err := q.key(tokens)
		if err != nil {
			return nil, nil, err
		}
		kid.kids = append(kid.kids, k)
		tokens = rest
	}
	return kid, tokens, nil
}

// keyword reads KEYWORD and UNKEYWORD; what begins like ours is never the
// upstream's to answer.
func keyword(name string, tokens []wire.Token) (*node, []wire.Token, error) {
	if len(tokens) < 2 || !tokens[1].IsString() {
		return nil, nil, fmt.Errorf("%w: %s without its flag", ErrSyntax, name)
	}
	const ours = "$letterlock"
	word := tokens[1].Text()
	if len(word) < len(ours) || !strings.EqualFold(word[:len(ours)], ours) {
		return forward(name, tokens, 2)
	}
	n := &node{op: opKeyword, word: word}
	if name == "UNKEYWORD" {
		n = &node{op: opNot, kids: []*node{n}}
	}
	return n, tokens[2:], nil
}

// termKey reads a key that looks into messages.
func (q *Query) termKey(name string, tokens []wire.Token) (*node, []wire.Token, error) {
	n := &node{op: opTerm, term: Term{Key: name}}
	args := 1
	if name == "HEADER" {
		args = 2
	}
	known := isWordKey(name) || strings.Contains(" LARGER SMALLER SENTBEFORE SENTON SENTSINCE ", " "+name+" ")
	if !known || len(tokens) <= args {
		return nil, nil, fmt.Errorf("%w: key %.30q", ErrSyntax, name)
	}
	n.tokens = tokens[:args+1]
	for _, t := range n.tokens {
		if !t.IsString() {
			return nil, nil, fmt.Errorf("%w: a list after %s", ErrSyntax, name)
		}
	}
	if q.terms++; q.terms > maxTerms {
		return nil, nil, ErrComplex
	}
	last := tokens[args]
	var err error
	switch name {
	case "LARGER", "SMALLER":
		n.term.Size, err = strconv.ParseInt(last.Text(), 10, 64)
	case "SENTBEFORE", "SENTON", "SENTSINCE":
		n.term.Day, err = parseDay(last.Text())
	case "BODY", "TEXT":
		n.term.Words, err = q.words(last)
	case "HEADER":
		n.term.Field = tokens[1].Text()
		n.term.Words, err = q.words(last)
	default:
		n.term.Key, n.term.Field = "HEADER", name
		n.term.Words, err = q.words(last)
	}
	if err != nil && !errors.Is(err, ErrCharset) {
		err = fmt.Errorf("%w: argument of %s", ErrSyntax, name)
	}
	return n, tokens[args+1:], err
}

// words is the folded words of a token in the search's character set.
func (q *Query) words(t wire.Token) ([]byte, error) {
	switch strings.ToUpper(q.Charset) {
	case "", "UTF-8", "US-ASCII":
		return Fold(t.Value), nil
	}
	r, err := charset.Reader(q.Charset, strings.NewReader(t.Text()))
	if err != nil {
		return nil, ErrCharset
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, ErrCharset
	}
	return Fold(b), nil
}

// Renumber changes the sequence numbers that a query names. to gives a set's
// messages other numbers; it is false for a set that has none left, which is
// then one that nothing is in.
func (q *Query) Renumber(to func(wire.Set) (wire.Set, bool)) {
	var walk func(*node)
	walk = func(n *node) {
		for _, kid := range n.kids {
			walk(kid)
		}
		if n.seqs == nil {
			return
		}
		if set, ok := to(*n.seqs); ok {
			n.tokens = []wire.Token{wire.AtomToken(set.String())}
		} else {
			n.tokens = []wire.Token{wire.AtomToken("NOT"), wire.AtomToken("ALL")}
		}
	}
	walk(q.root)
}

// LooksInside tells whether the answer hangs on the content of messages. Then
// every message must be classified, and the encrypted ones among Within opened,
// before Rewrite.
func (q *Query) LooksInside() bool { return q.terms > 0 }

// Within is those of uids, ascending, that the search can find by the UID keys
// which must hold.
func (q *Query) Within(uids []uint32) []uint32 {
	for _, kid := range q.root.kids {
		if kid.op != opForward || kid.uids == nil || len(uids) == 0 {
			continue
		}
		ranges := kid.uids.Resolve(uids[len(uids)-1])
		var some []uint32
		for _, uid := range uids {
			for _, r := range ranges {
				if r.First <= uid && uid <= r.Last {
					some = append(some, uid)
					break
				}
			}
		}
		uids = some
	}
	return uids
}
