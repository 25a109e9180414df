// Package search is IMAP's SEARCH (RFC 3501, Section 6.4.4) where some of the
// messages are encrypted upstream.
//
// [Rewrite] turns a client's search into one or several that the upstream can
// answer exactly, by answering the keys that look into messages for the
// encrypted ones itself: each such key K becomes OR (NOT UID E K) UID H, with E
// the encrypted messages and H those of them that match. Words that are looked
// for do not go upstream where only encrypted messages are searched.
//
// A [Term] is one such key. What matches is a case-insensitive substring of the
// decoded text (RFC 5051), as Dovecot has it.
package search

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"time"

	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/internal/message"
)

// Term is a search key that looks into a message.
type Term struct {
	// Key is BODY, TEXT, HEADER, LARGER, SMALLER, SENTBEFORE, SENTON or
	// SENTSINCE; SUBJECT, FROM, TO, CC and BCC are HEADER.
	Key string
	// Field of HEADER.
	Field string
	// Words of BODY, TEXT and HEADER, folded. Empty words are in every text;
	// HEADER with them asks for the field itself.
	Words []byte
	// Size of LARGER and SMALLER.
	Size int64
	// Day of SENTBEFORE, SENTON and SENTSINCE, at 00:00 UTC.
	Day time.Time
}

// NeedsText tells whether the term looks beyond what is kept of size, date and
// root header.
func (t Term) NeedsText() bool { return t.Key == "BODY" || t.Key == "TEXT" }

// MatchSize tells whether LARGER or SMALLER holds (RFC 3501: strictly).
func (t Term) MatchSize(size int64) bool {
	if t.Key == "LARGER" {
		return size > t.Size
	}
	return size < t.Size
}

// MatchHeader tells whether a term that needs no text holds for a message with
// this root header and size.
func (t Term) MatchHeader(h message.Header, size int64) bool {
	switch t.Key {
	case "LARGER", "SMALLER":
		return t.MatchSize(size)
	case "HEADER":
		for _, f := range h.Fields {
			if f.Is(t.Field) && (len(t.Words) == 0 || bytes.Contains(Fold([]byte(fieldText(f))), t.Words)) {
				return true
			}
		}
		return false
	}
	return t.matchDay(h)
}

// matchDay compares the Date field disregarding time and time zone (RFC 3501,
// Section 6.4.4). A message without one has no day.
func (t Term) matchDay(h message.Header) bool {
	day, ok := sentDay(h.Get("Date"))
	if !ok {
		return false
	}
	switch t.Key {
	case "SENTBEFORE":
		return day.Before(t.Day)
	case "SENTON":
		return day.Equal(t.Day)
	case "SENTSINCE":
		return !day.Before(t.Day)
	}
	return false
}

// MatchTexts tells whether BODY or TEXT holds for what Extract gave, whole.
func (t Term) MatchTexts(texts []Text) bool {
	for _, text := range texts {
		if (t.Key == "TEXT" || text.Kind == Bodies) && bytes.Contains(text.Text, t.Words) {
			return true
		}
	}
	return false
}

// Match tells whether the term holds for a message, reading all of it in
// bounded memory.
func (t Term) Match(m *render.Message) (bool, error) {
	if !t.NeedsText() {
		return t.MatchHeader(m.Root.Header, m.Size()), nil
	}
	err := walk(m, func(kind Kind, r io.Reader) error {
		if t.Key == "BODY" && kind == Headers {
			return nil
		}
		found, err := contains(r, t.Words)
		if found {
			return errFound
		}
		return err
	})
	if errors.Is(err, errFound) {
		return true, nil
	}
	return false, err
}

var errFound = errors.New("found")

// contains looks for folded words in a text of any length, line by line where
// it can, with as much of the text before as a match may begin in.
func contains(r io.Reader, words []byte) (bool, error) {
	buf := make([]byte, 64<<10)
	var rest, tail []byte // unfolded end of a chunk; folded end of what was looked at
	for {
		n, err := r.Read(buf)
		chunk := append(rest, buf[:n]...)
		cut := len(chunk)
		if err == nil {
			if cut = lastBorder(chunk); cut < 0 && len(chunk) < 256<<10 {
				rest = chunk
				continue
			}
			cut = max(cut, 0)
			if cut == 0 {
				cut = len(chunk)
			}
		}
		folded := append(tail, Fold(chunk[:cut])...)
		if bytes.Contains(folded, words) {
			return true, nil
		}
		tail = bytes.Clone(folded[max(0, len(folded)-len(words)+1):])
		rest = bytes.Clone(chunk[cut:])
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// lastBorder is where a text may be cut without parting a character from its
// marks: after its last line end, or -1.
func lastBorder(b []byte) int {
	if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
		return i + 1
	}
	return -1
}

// isWordKey tells whether a key's argument is words that somebody looks for.
func isWordKey(key string) bool {
	return strings.Contains(" BODY TEXT SUBJECT FROM TO CC BCC HEADER ", " "+key+" ")
}
