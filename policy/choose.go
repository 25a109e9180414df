package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// NoIdentity is the trust level, in Rule.Identity, of who has no certificate.
const NoIdentity pgp.Identity = "none"

// maxPending bounds Decision.Pending.
const maxPending = 16

// choice is the settings that hold for one recipient.
type choice struct {
	rule
	over    string   // the name of another rule that these are raised above, or ""
	strip   string   // the word of a trigger that wants it off the subject
	pending []string // rules that look at the message, where it isn't known
	lowers  []*rule  // those of them that may lower protection
	chosen  bool
}

// choose finds the settings for mail from one address to f.Address. Without a
// message the rules that look at it are left out, but for assumed: that is taken
// to match.
//
// It walks the rules that may match, and stops at the first that settles it. Those
// before it that may only raise are joined with it: triggers, and rules for a
// trust level where it isn't known whether the recipient has that.
func (r *Rules) choose(from address.Address, f *keydir.Finding, s *seen, assumed *rule) (c choice) {
	level := identityOf(f)
	var only cursor
	if s != nil {
		only.push(s.named)
		only.push(s.others)
	}
	r.match(from, f.Address, &only, func(n int, ru *rule) (stop bool) {
		settled := true
		if len(ru.identity) > 0 {
			switch {
			case level == pgp.Conflict:
				settled = false
			case !slices.Contains(ru.identity, level):
				return false
			}
		}
		if t := ru.trigger; t != nil && ru != assumed {
			if s == nil {
				if c.pend(ru); len(c.pending) == maxPending && len(only.lists) == 0 {
					only.push(r.firm) // no other is told of
				}
				return false
			}
			h := s.hits(n, t)
			if !h.yes {
				return false
			}
			if t.strip && c.strip == "" {
				c.strip = h.word
			}
			settled = settled && t.lower
		}
		c.join(ru)
		return settled
	})
	return c
}

func (c *choice) pend(ru *rule) {
	if len(c.pending) < maxPending {
		c.pending = append(c.pending, ru.name)
	}
	if ru.trigger.lower {
		c.lowers = append(c.lowers, ru)
	}
}

func (c *choice) join(ru *rule) {
	if !c.chosen {
		c.rule, c.chosen = *ru, true
		return
	}
	before := c.rule.name
	c.rule.raise(*ru)
	c.over = ru.name
	if c.rule.name == ru.name {
		c.over = before
	}
}

// beside joins what the rules say for the author where he isn't the sender of the
// envelope: the stricter of both, or a rule for either could be gone around by
// naming another one in MAIL.
func (c *choice) beside(o choice) {
	c.join(&o.rule)
	c.strip = cmp.Or(c.strip, o.strip)
}

// named says in a reason which rule it was.
func (c *choice) named() string {
	if c.over == "" || c.over == c.name {
		return "rule " + strconv.Quote(c.name)
	}
	return fmt.Sprintf("rule %q, with what rule %q asks for", c.name, c.over)
}

// identityOf is the trust level that rules match: NoIdentity of who certainly has
// no certificate, Conflict where nobody knows.
func identityOf(f *keydir.Finding) pgp.Identity {
	switch {
	case f.Problem != "":
	case f.Outcome == keydir.Found && len(f.Certificates) > 0 && f.Identity.AtLeast(pgp.FirstSeen):
		return f.Identity
	case (f.Outcome == keydir.Absent || f.Outcome == keydir.NoDirectory) && !f.Known && len(f.Certificates) == 0:
		return NoIdentity
	}
	return pgp.Conflict
}
