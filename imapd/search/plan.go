package search

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"letterlock.org/letterlock/imapd/wire"
)

// Plan is a search as the upstream gets it.
type Plan struct {
	// Commands are the arguments of SEARCH or UID SEARCH, to be sent one after
	// the other. If it is one, its answer is the client's (with the client's tag
	// in an ESEARCH); else Answer makes one of all.
	Commands []*wire.Out
	// Return is the client's RETURN options; nil without.
	Return []string
	// Number, if it is set, gives a sequence number that is found the client's
	// number. It keeps their order.
	Number func(uint32) uint32
}

// Answer makes the untagged response to a search that was sent as several
// commands of the untagged SEARCH or ESEARCH responses to each, whole lines, in
// the order of Commands. It ends with CRLF.
func (p *Plan) Answer(tag string, uid bool, responses [][]byte) ([]byte, error) {
	var all result
	for _, line := range responses {
		r, err := parseResult(line)
		if err != nil {
			return nil, err
		}
		if r.extended != (p.Return != nil) {
			return nil, fmt.Errorf("%w: SEARCH and ESEARCH mixed up", wire.ErrSyntax)
		}
		if p.Number != nil {
			r.renumber(p.Number)
		}
		all.add(r, p.Return)
	}
	if p.Return == nil {
		return all.search(), nil
	}
	return all.esearch(tag, uid, p.Return), nil
}

// result is what a SEARCH or ESEARCH response says.
type result struct {
	ids              wire.Set
	min, max, count  uint32
	modseq           uint64
	extended, hasAny bool
}

// parseResult reads "* SEARCH 1 2 (MODSEQ 3)" or
// `* ESEARCH (TAG "a") UID ALL 1:2 MODSEQ 3` (RFC 4731; RFC 7162, Section 3.1.5).
func parseResult(line []byte) (result, error) {
	var r result
	fields := strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(string(bytes.TrimSpace(line))))
	if len(fields) < 2 || fields[0] != "*" {
		return r, fmt.Errorf("%w: not a search response", wire.ErrSyntax)
	}
	kind := strings.ToUpper(fields[1])
	if kind != "SEARCH" && kind != "ESEARCH" {
		return r, fmt.Errorf("%w: not a search response", wire.ErrSyntax)
	}
	r.extended = kind == "ESEARCH"
	fields = fields[2:]
	if kind == "ESEARCH" && len(fields) > 0 && fields[0] == "(" {
		end := slices.Index(fields, ")")
		if end < 0 {
			return r, fmt.Errorf("%w: ESEARCH response", wire.ErrSyntax)
		}
		fields = fields[end+1:]
	}
	for i := 0; i < len(fields); i++ {
		name := strings.ToUpper(fields[i])
		if name == "(" || name == ")" || name == "UID" {
			continue
		}
		if n, err := strconv.ParseUint(name, 10, 32); err == nil && kind == "SEARCH" {
			r.ids = append(r.ids, wire.Range{First: uint32(n), Last: uint32(n)})
			r.hasAny = true
			continue
		}
		if i++; i >= len(fields) {
			return r, fmt.Errorf("%w: %s without a value", wire.ErrSyntax, name)
		}
		if err := r.set(name, fields[i]); err != nil {
			return r, err
		}
	}
	return r, nil
}

// renumber gives what was found other numbers.
func (r *result) renumber(to func(uint32) uint32) {
	if r.min > 0 {
		r.min = to(r.min)
	}
	if r.max > 0 {
		r.max = to(r.max)
	}
	var ids wire.Set
	for _, s := range r.ids {
		for n := s.First; ; n++ {
			m := to(n)
			if k := len(ids); k > 0 && r.extended && ids[k-1].Last+1 == m {
				ids[k-1].Last = m
			} else {
				ids = append(ids, wire.Range{First: m, Last: m})
			}
			if n == s.Last {
				break
			}
		}
	}
	r.ids = ids
}

// set takes one named value.
func (r *result) set(name, value string) error {
	if name == "ALL" {
		set, err := wire.ParseSet([]byte(value))
		r.ids, r.hasAny = set, len(set) > 0
		return err
	}
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return fmt.Errorf("%w: %s %q", wire.ErrSyntax, name, value)
	}
	switch name {
	case "MIN":
		r.min, r.hasAny = uint32(n), true
	case "MAX":
		r.max, r.hasAny = uint32(n), true
	case "COUNT":
		r.count = uint32(n)
	case "MODSEQ":
		r.modseq = n
	}
	return nil
}

// add takes in the result of the next part. Parts are disjoint and ascending.
// The MODSEQ is the highest of all that are told; of only MIN or only MAX, its
// message's (RFC 7162, Section 3.1.10). Of MIN and MAX together, which should
// have the higher of the two messages', it is that of all found: a client that
// takes it for a reason to look again finds nothing new.
func (r *result) add(part result, options []string) {
	switch {
	case slices.Equal(options, []string{"MIN"}):
		if r.hasAny {
			return
		}
		r.modseq = part.modseq
	case slices.Equal(options, []string{"MAX"}):
		if part.hasAny {
			r.modseq = part.modseq
		}
	default:
		r.modseq = max(r.modseq, part.modseq)
	}
	r.ids = append(r.ids, part.ids...)
	if part.min != 0 && r.min == 0 {
		r.min = part.min
	}
	if part.max != 0 {
		r.max = part.max
	}
	r.count += part.count
	r.hasAny = r.hasAny || part.hasAny
}

// search writes "* SEARCH".
func (r *result) search() []byte {
	b := []byte("* SEARCH")
	for _, s := range r.ids {
		for n := s.First; ; n++ {
			b = append(b, ' ')
			b = strconv.AppendUint(b, uint64(n), 10)
			if n == s.Last {
				break
			}
		}
	}
	if r.modseq > 0 && len(r.ids) > 0 {
		b = fmt.Appendf(b, " (MODSEQ %d)", r.modseq)
	}
	return append(b, "\r\n"...)
}

// esearch writes "* ESEARCH" with what was asked for. What has no value where
// nothing was found is left out (RFC 4731, Section 3.1).
func (r *result) esearch(tag string, uid bool, options []string) []byte {
	b := fmt.Appendf(nil, "* ESEARCH (TAG %s)", wire.StringToken(tag).Raw)
	if uid {
		b = append(b, " UID"...)
	}
	if len(options) == 0 {
		options = []string{"ALL"}
	}
	lo, hi, count := r.min, r.max, r.count
	if k := len(r.ids); k > 0 {
		lo, hi, count = r.ids[0].First, r.ids[k-1].Last, 0
		for _, s := range r.ids {
			count += s.Last - s.First + 1
		}
	}
	for _, o := range options {
		switch {
		case o == "MIN" && lo > 0:
			b = fmt.Appendf(b, " MIN %d", lo)
		case o == "MAX" && hi > 0:
			b = fmt.Appendf(b, " MAX %d", hi)
		case o == "COUNT":
			b = fmt.Appendf(b, " COUNT %d", count)
		case o == "ALL" && len(r.ids) > 0:
			b = fmt.Appendf(b, " ALL %s", joined(r.ids))
		}
	}
	if r.modseq > 0 && (r.hasAny || count > 0) {
		b = fmt.Appendf(b, " MODSEQ %d", r.modseq)
	}
	return append(b, "\r\n"...)
}

// joined joins ranges that touch.
func joined(ids wire.Set) wire.Set {
	var set wire.Set
	for _, s := range ids {
		if k := len(set); k > 0 && set[k-1].Last+1 == s.First {
			set[k-1].Last = s.Last
			continue
		}
		set = append(set, s)
	}
	return set
}
