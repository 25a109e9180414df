package search

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"letterlock.org/letterlock/imapd/wire"
)

// Limit is how much a command of a Plan gets longer than the client's unless
// Scope says otherwise: what servers accept without asking.
const Limit = 8000

// Scope is what a search is rewritten for.
type Scope struct {
	// UIDs is every UID of the mailbox that the session knows, ascending.
	UIDs []uint32
	// Encrypted is those that are answered from their rendering, ascending.
	Encrypted []uint32
	// Keyword gives those of uids that have a keyword of ours; ok is false for
	// a keyword that nobody can have.
	Keyword func(uids []uint32, keyword string) (have []uint32, ok bool)
	// Search gives those of uids that match, as far as that is stored.
	Search func(ctx context.Context, uids []uint32, t Term) (hits, unknown []uint32, err error)
	// Match opens one message that Search did not know and looks into it.
	Match func(ctx context.Context, uid uint32, t Term) (bool, error)
	// WordsUpstream allows words to go upstream for mail that is not encrypted.
	WordsUpstream bool
	// Limit is how much longer than the client's a command may be, in bytes; 0
	// means Limit. What the client said is no shorter for a part of a mailbox.
	Limit int
}

// Rewrite makes a search that the upstream answers exactly. It asks Search once
// for each key that looks into messages.
func Rewrite(ctx context.Context, q *Query, s Scope) (*Plan, error) {
	if s.Limit <= 0 {
		s.Limit = Limit
	}
	s.Limit += given(q.root)
	r := &rewriter{q: q, s: s, within: intersect(s.Encrypted, q.Within(s.UIDs))}
	if err := r.resolve(ctx, q.root); err != nil {
		return nil, err
	}
	p := &Plan{Return: q.Return}
	r.split(p, 0, len(s.UIDs), true)
	return p, nil
}

// given is how long the client's own keys are.
func given(n *node) int {
	size := (&wire.Out{}).Tokens(n.tokens).Len()
	for _, kid := range n.kids {
		size += given(kid)
	}
	return size
}

type rewriter struct {
	q      *Query
	s      Scope
	within []uint32 // the encrypted ones that can be found at all
}

// resolve finds what is ours to find.
func (r *rewriter) resolve(ctx context.Context, n *node) error {
	for _, kid := range n.kids {
		if err := r.resolve(ctx, kid); err != nil {
			return err
		}
	}
	switch n.op {
	case opKeyword:
		n.hits, _ = r.s.Keyword(r.s.UIDs, n.word)
	case opTerm:
		if err := r.allowed(n); err != nil {
			return err
		}
		hits, unknown, err := r.s.Search(ctx, r.within, n.term)
		if err != nil {
			return fmt.Errorf("searching the index: %w", err)
		}
		n.hits = slices.Clone(hits)
		for _, uid := range unknown {
			found, err := r.s.Match(ctx, uid, n.term)
			if err != nil {
				return fmt.Errorf("searching UID %d: %w", uid, err)
			}
			if found {
				n.hits = append(n.hits, uid)
			}
		}
		slices.Sort(n.hits)
	}
	return nil
}

// allowed tells whether a term's words may go upstream, or need not.
func (r *rewriter) allowed(n *node) error {
	if r.s.WordsUpstream || len(r.s.Encrypted) >= len(r.s.UIDs) || !hasWords(n.term) || isOurField(n.term) {
		return nil
	}
	return ErrWords
}

// hasWords tells whether a term says something that the upstream would not know
// anyway: message identifiers stand outside of encryption.
func hasWords(t Term) bool {
	if t.Key != "HEADER" {
		return t.NeedsText()
	}
	switch strings.ToLower(t.Field) {
	case "message-id", "in-reply-to", "references":
		return false
	}
	return true
}

// isOurField: such a field in mail that is not encrypted imitates ours, and is
// masked.
func isOurField(t Term) bool {
	return t.Key == "HEADER" && len(t.Field) >= 11 && strings.EqualFold(t.Field[:11], "letterlock-")
}

// split adds the commands for UIDs from index a to before z; several if one
// would be too long.
func (r *rewriter) split(p *Plan, a, z int, whole bool) {
	w := r.window(a, z, whole)
	c := w.command(r.q)
	if c.Len() <= r.s.Limit || z-a < 2 {
		p.Commands = append(p.Commands, c)
		return
	}
	r.split(p, a, (a+z)/2, false)
	r.split(p, (a+z)/2, z, false)
}

// window is a stretch of the mailbox that one command is about.
type window struct {
	r           *rewriter
	first, last uint32 // UIDs; first 0 means the whole mailbox
	uids        []uint32
	encrypted   []uint32
}

// window cuts the mailbox between two UIDs. The first window begins with UID 1
// and the last has no end, so that nothing lies between or beyond.
func (r *rewriter) window(a, z int, whole bool) *window {
	w := &window{r: r, uids: r.s.UIDs[a:z]}
	if !whole {
		w.first, w.last = 1, 1<<32-1
		if a > 0 {
			w.first = r.s.UIDs[a]
		}
		if z < len(r.s.UIDs) {
			w.last = r.s.UIDs[z] - 1
		}
	}
	w.encrypted = w.cut(r.s.Encrypted)
	return w
}

// cut is those of sorted uids that lie in the window.
func (w *window) cut(uids []uint32) []uint32 {
	if w.first == 0 {
		return uids
	}
	from, _ := slices.BinarySearch(uids, w.first)
	to, found := slices.BinarySearch(uids, w.last)
	if found {
		to++
	}
	return uids[from:to]
}

// command writes the arguments of SEARCH for a window.
func (w *window) command(q *Query) *wire.Out {
	out := &wire.Out{}
	switch {
	case q.returns != nil && w.first == 0:
		out.String("RETURN ").Token(*q.returns).String(" ")
	case q.returns != nil:
		out.String("RETURN (" + splitReturn(q.Return) + ") ")
	}
	if q.Charset != "" {
		out.String("CHARSET ").Token(wire.StringToken(q.Charset)).String(" ")
	}
	if w.first != 0 {
		out.String(fmt.Sprintf("UID %d:%d ", w.first, w.last))
	}
	w.keys(out, q.root.kids)
	return out
}

// splitReturn is what to ask of a part to answer the whole.
func splitReturn(options []string) string {
	only := func(o string) bool { return len(options) == 1 && options[0] == o }
	if only("MIN") || only("MAX") || only("COUNT") {
		return options[0]
	}
	return "ALL"
}

func (w *window) keys(out *wire.Out, kids []*node) {
	for i, kid := range kids {
		if i > 0 {
			out.String(" ")
		}
		w.key(out, kid)
	}
}

func (w *window) key(out *wire.Out, n *node) {
	switch n.op {
	case opAnd:
		out.String("(")
		w.keys(out, n.kids)
		out.String(")")
	case opOr:
		out.String("OR ")
		w.keys(out, n.kids)
	case opNot:
		out.String("NOT ")
		w.keys(out, n.kids)
	case opForward:
		out.Tokens(n.tokens)
	case opKeyword:
		out.String(w.set(w.cut(n.hits)))
	case opTerm:
		w.term(out, n)
	}
}

// term writes a key K as OR (NOT UID E K) UID H, or what that is where E, H or
// their complement is empty.
func (w *window) term(out *wire.Out, n *node) {
	hits := w.cut(n.hits)
	switch {
	case len(w.encrypted) == len(w.uids), isOurField(n.term):
		out.String(w.set(hits))
	case len(w.encrypted) == 0:
		out.Tokens(n.tokens)
	case len(hits) == 0:
		out.String("(" + w.not(w.encrypted) + " ").Tokens(n.tokens).String(")")
	default:
		out.String("OR (" + w.not(w.encrypted) + " ").Tokens(n.tokens).String(") " + w.set(hits))
	}
}

// set is the key that finds uids, none included.
func (w *window) set(uids []uint32) string {
	if len(uids) == 0 {
		return "NOT ALL"
	}
	return "UID " + runs(uids, w.uids).String()
}

// not is the key that finds all but uids, which are some of the window's, by
// whichever set is shorter.
func (w *window) not(uids []uint32) string {
	direct := "NOT UID " + runs(uids, w.uids).String()
	if len(uids) < len(w.uids)/2 {
		return direct
	}
	rest := runs(without(w.uids, uids), w.uids)
	if k := len(rest); k > 0 && rest[k-1].Last == w.uids[len(w.uids)-1] && (w.last == 0 || w.last == 1<<32-1) {
		rest[k-1].Last = 1<<32 - 1 // what has come since is not encrypted as far as we know
	}
	if other := "UID " + rest.String(); len(other) < len(direct) {
		return other
	}
	return direct
}
