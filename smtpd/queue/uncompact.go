package queue

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"time"

	"letterlock.org/letterlock/audit"
	"letterlock.org/letterlock/pgp"
)

var errCompact = errors.New("the bytes of an entry are cut off or damaged")

// uncompact reads what compact wrote. After the first fault, err says so and all
// that is read is zero.
type uncompact struct {
	b     []byte
	words []string
	err   error
}

func (u *uncompact) fail() {
	u.b, u.err = nil, errCompact
}

func (u *uncompact) number() uint64 {
	n, k := binary.Uvarint(u.b)
	if k <= 0 {
		u.fail()
		return 0
	}
	u.b = u.b[k:]
	return n
}

func (u *uncompact) signed() int64 {
	n, k := binary.Varint(u.b)
	if k <= 0 {
		u.fail()
		return 0
	}
	u.b = u.b[k:]
	return n
}

func (u *uncompact) flag(set ...*bool) {
	n := u.number()
	for i, b := range set {
		*b = n&(1<<i) != 0
	}
}

// count reads how many follow, each of at least one byte.
func (u *uncompact) count() int {
	n := u.number()
	if n > uint64(len(u.b)) {
		u.fail()
		return 0
	}
	return int(n)
}

func (u *uncompact) text() string {
	s, _ := u.any()
	return s
}

func (u *uncompact) word() string {
	s, known := u.any()
	if !known && len(s) >= 2 {
		u.words = append(u.words, s)
	}
	return s
}

// any reads a text or a word, and tells whether it came before.
func (u *uncompact) any() (s string, known bool) {
	n := u.number()
	how, n := n&3, n>>2
	size := n
	switch how {
	case asKnown:
		if n >= uint64(len(u.words)) {
			u.fail()
			return "", true
		}
		return u.words[n], true
	case asHex, asUpperHex:
		size = n / 2
	}
	if size > uint64(len(u.b)) {
		u.fail()
		return "", false
	}
	b := u.b[:size]
	u.b = u.b[size:]
	switch how {
	case asHex:
		return hex.EncodeToString(b), false
	case asUpperHex:
		return strings.ToUpper(hex.EncodeToString(b)), false
	}
	return string(b), false
}

func (u *uncompact) time() time.Time {
	n := u.signed()
	if n == math.MinInt64 || u.err != nil {
		return time.Time{}
	}
	return time.Unix(0, n)
}

func (u *uncompact) entry() (e Entry) {
	e.ID = u.text()
	e.Account = u.word()
	e.Submission = u.text()
	e.From = u.word()
	e.MessageID = u.text()
	e.Date = u.text()
	u.flag(&e.Clear, &e.Report, &e.Queued, &e.EightBit, &e.UTF8, &e.Warned, &e.Last)
	e.Ret = u.word()
	e.Envid = u.text()
	e.State = State(u.word())
	e.Attempts = int(u.signed())
	e.Created = u.time()
	e.Next = u.time()
	e.Expires = u.time()
	e.Size = u.signed()
	e.LastError = u.text()
	e.Reporter = u.word()
	e.About = u.text()
	if s := u.text(); s != "" {
		e.Hold = []byte(s)
	}
	for n := u.count(); n > 0 && u.err == nil; n-- {
		e.Recipients = append(e.Recipients, u.recipient())
	}
	return e
}

func (u *uncompact) recipient() (r Recipient) {
	r.Address = u.word()
	r.Key = u.word()
	r.Notify = u.word()
	r.Orcpt = u.text()
	r.State = State(u.word())
	r.Code = int(u.signed())
	r.Status = u.word()
	r.Text = u.text()
	var decided, dry bool
	u.flag(&r.Reported, &decided, &dry)
	if !decided {
		return r
	}
	d := &audit.Decided{DryRun: dry, Rule: u.word(), Action: u.word(), SignedAs: pgp.Fingerprint(u.word())}
	for n := u.count(); n > 0 && u.err == nil; n-- {
		d.Certificates = append(d.Certificates, pgp.Fingerprint(u.word()))
	}
	r.Decided = d
	return r
}
