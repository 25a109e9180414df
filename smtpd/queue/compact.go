package queue

import (
	"encoding/binary"
	"math"
	"time"
)

// compact writes entries one after another, in less room and time than JSON
// takes: numbers as varints, hex digits as bytes, and what comes again (addresses,
// rules) as the number of the place where it came first. Only what stands before
// in the same bytes is needed to read an entry.
type compact struct {
	b     []byte
	words map[string]int // numbers of the words so far
}

// How a text stands: its length or, of a known word, its number, in front of
// these two bits.
const (
	asIs = iota
	asHex
	asUpperHex
	asKnown
)

func (c *compact) number(n uint64)  { c.b = binary.AppendUvarint(c.b, n) }
func (c *compact) signed(n int64)   { c.b = binary.AppendVarint(c.b, n) }
func (c *compact) flag(set ...bool) { c.number(bits(set)) }

func bits(set []bool) (n uint64) {
	for i, b := range set {
		if b {
			n |= 1 << i
		}
	}
	return n
}

// text writes what hardly comes a second time.
func (c *compact) text(s string) {
	how := hexed(s)
	c.number(uint64(len(s))<<2 | uint64(how))
	if how == asIs {
		c.b = append(c.b, s...)
		return
	}
	for i := 0; i < len(s); i += 2 {
		c.b = append(c.b, digits[s[i]]<<4|digits[s[i+1]]&15)
	}
}

// word writes what may come again.
func (c *compact) word(s string) {
	if len(s) < 2 {
		c.text(s)
		return
	}
	if n, ok := c.words[s]; ok {
		c.number(uint64(n)<<2 | asKnown)
		return
	}
	c.words[s] = len(c.words)
	c.text(s)
}

// hexed tells whether s is hex digits of one case, an even number of them.
func hexed(s string) int {
	if len(s) < 16 || len(s)%2 != 0 {
		return asIs
	}
	seen := byte(0)
	for i := range len(s) {
		if seen |= digits[s[i]]; seen&notHex != 0 {
			return asIs
		}
	}
	switch seen & (lower | upper) {
	case lower | upper:
		return asIs
	case upper:
		return asUpperHex
	}
	return asHex
}

// digits are the values of hex digits, and what they are.
var digits = func() (t [256]byte) {
	for i := range t {
		t[i] = notHex
	}
	for i := range byte(10) {
		t['0'+i] = i
	}
	for i := range byte(6) {
		t['a'+i], t['A'+i] = 10+i|lower, 10+i|upper
	}
	return t
}()

const (
	lower = 1 << (4 + iota)
	upper
	notHex
)

// time writes t to the nanosecond, without its zone.
func (c *compact) time(t time.Time) {
	if t.IsZero() {
		c.signed(math.MinInt64)
		return
	}
	c.signed(t.UnixNano())
}

// entry writes e, all of it.
func (c *compact) entry(e *Entry) {
	c.text(e.ID)
	c.word(e.Account)
	c.text(e.Submission)
	c.word(e.From)
	c.text(e.MessageID)
	c.text(e.Date)
	c.flag(e.Clear, e.Report, e.Queued, e.EightBit, e.UTF8, e.Warned, e.Last)
	c.word(e.Ret)
	c.text(e.Envid)
	c.word(string(e.State))
	c.signed(int64(e.Attempts))
	c.time(e.Created)
	c.time(e.Next)
	c.time(e.Expires)
	c.signed(e.Size)
	c.text(e.LastError)
	c.word(e.Reporter)
	c.text(e.About)
	c.text(string(e.Hold))
	c.number(uint64(len(e.Recipients)))
	for i := range e.Recipients {
		c.recipient(&e.Recipients[i])
	}
}

func (c *compact) recipient(r *Recipient) {
	c.word(r.Address)
	c.word(r.Key)
	c.word(r.Notify)
	c.text(r.Orcpt)
	c.word(string(r.State))
	c.signed(int64(r.Code))
	c.word(r.Status)
	c.text(r.Text)
	d := r.Decided
	c.flag(r.Reported, d != nil, d != nil && d.DryRun)
	if d == nil {
		return
	}
	c.word(d.Rule)
	c.word(d.Action)
	c.word(string(d.SignedAs))
	c.number(uint64(len(d.Certificates)))
	for _, f := range d.Certificates {
		c.word(string(f))
	}
}
