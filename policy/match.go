package policy

import (
	"errors"
	"slices"
	"strings"

	"letterlock.org/letterlock/internal/address"
)

// index finds the rules whose patterns match an address. Each pattern is a map
// key, so the cost of a match follows the labels of the address's domain and the
// rules that do match, not the number of rules.
type index struct {
	exact map[string][]int // address.Key, "bob@example.org"
	at    map[string][]int // "*@example.org", by domain
	under map[string][]int // "*@*.example.org", by the domain above
	any   *[]int           // "*" and rules without patterns
}

func newIndex() index {
	return index{exact: map[string][]int{}, at: map[string][]int{}, under: map[string][]int{}, any: new([]int)}
}

// all makes rule match every address.
func (x index) all(rule int) { *x.any = append(*x.any, rule) }

var errPattern = errors.New("* stands for a whole local part or the leading labels of a domain only")

// add makes rule match pattern. Rules must be added in rising order.
func (x index) add(pattern string, rule int) error {
	domain, wild := strings.CutPrefix(pattern, "*@")
	sub, subdomains := strings.CutPrefix(domain, "*.")
	switch {
	case pattern == "*":
		x.all(rule)
		return nil
	case strings.Contains(sub, "*"):
		return errPattern
	case !wild:
		a, err := address.Parse(pattern)
		if err != nil {
			return err
		}
		x.exact[a.Key()] = append(x.exact[a.Key()], rule)
		return nil
	}
	a, err := address.Parse("x@" + sub)
	if err != nil {
		return err
	}
	m := x.at
	if subdomains {
		m = x.under
	}
	m[a.Domain] = append(m[a.Domain], rule)
	return nil
}

// cursor walks the rules that match one address, in order: a union of sorted lists.
type cursor struct {
	lists [][]int
	room  [16][]int // for lists, where it suffices
}

func (c *cursor) push(l []int) {
	if len(l) > 0 {
		c.lists = append(c.lists, l)
	}
}

// match collects the lists that apply to a.
func (x index) match(a address.Address, c *cursor) {
	c.lists = c.room[:0]
	c.push(*x.any)
	c.push(x.exact[a.Key()])
	c.push(x.at[a.Domain])
	for d := a.Domain; ; {
		i := strings.IndexByte(d, '.')
		if i < 0 {
			return
		}
		d = d[i+1:]
		c.push(x.under[d])
	}
}

// next is the first rule of the cursor that is not before from. It must be
// called with rising arguments; ok is false at the end.
func (c *cursor) next(from int) (rule int, ok bool) {
	for i, l := range c.lists {
		if len(l) > 0 && l[0] < from {
			if l = l[1:]; len(l) > 0 && l[0] < from { // not the next one
				at, _ := slices.BinarySearch(l, from)
				l = l[at:]
			}
			c.lists[i] = l
		}
		if len(l) > 0 && (!ok || l[0] < rule) {
			rule, ok = l[0], true
		}
	}
	return rule, ok
}

// match calls f with the rules that match both ends, and their places, in order,
// until it says stop. As soon as only has lists, those that are in none of them
// are passed over. The default, which is the last, matches all.
func (r *Rules) match(from, to address.Address, only *cursor, f func(n int, ru *rule) (stop bool)) {
	if len(r.rules) == 1 { // the default
		f(0, &r.rules[0])
		return
	}
	var fc, tc cursor
	r.from.match(from, &fc)
	r.to.match(to, &tc)
	for at := 0; at < len(r.rules); {
		// All lists end with the default rule, so none runs out before.
		a, _ := tc.next(at)
		b, _ := fc.next(a)
		if a == b && len(only.lists) > 0 {
			b, _ = only.next(a)
		}
		if a != b {
			at = b
			continue
		}
		if f(a, &r.rules[a]) {
			return
		}
		at = a + 1
	}
}
