package policy

import (
	"maps"
	"slices"
	"strings"
)

// group is the name of the group that a pattern stands for, if it does.
func group(pattern string) (name string, ok bool) { return strings.CutPrefix(pattern, "@") }

// groupsFit checks the groups themselves, used or not.
func (k *checker) groupsFit() {
	for _, name := range slices.Sorted(maps.Keys(k.groups)) {
		key := "policy.groups." + name
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '@' || r == '*' }) {
			k.add(key, `%q is no name for a group; write one word, such as board, and "@board" in a rule`, name)
		}
		if len(k.groups[name]) == 0 {
			k.add(key, `has nobody; write for example %s = ["alice@example.org", "*@board.example.org"], or leave it out`, name)
		}
		k.members(newIndex(), key, name, 0)
	}
}

// members makes a rule match everybody of a group.
func (k *checker) members(x index, key, name string, rule int) {
	for _, p := range k.groups[name] {
		if _, nested := group(p); nested {
			k.add(key, "%q: a group has no groups in it; write its addresses, or name both groups in the rule", p)
			continue
		}
		k.pattern(x, key, p, rule)
	}
}

// patterns makes a rule match addresses; no pattern matches all.
func (k *checker) patterns(x index, key string, patterns []string, rule int) {
	if len(patterns) == 0 {
		x.all(rule)
	}
	for _, p := range patterns {
		name, ok := group(p)
		switch _, known := k.groups[name]; {
		case !ok:
			k.pattern(x, key, p, rule)
		case !known:
			k.add(key, "%q: there is no group of that name; %s", p, k.known())
		default:
			(&checker{groups: k.groups}).members(x, key, name, rule) // its problems are told where it stands
		}
	}
}

func (k *checker) pattern(x index, key, p string, rule int) {
	if err := x.add(p, rule); err != nil {
		k.add(key, "%q is not a pattern (%v); write user@example.org, *@example.org, *@*.example.org, * or @GROUP", p, err)
	}
}

// known lists the groups for a person.
func (k *checker) known() string {
	if len(k.groups) == 0 {
		return `write [policy.groups] with a line like board = ["alice@example.org"]`
	}
	return "there are @" + strings.Join(slices.Sorted(maps.Keys(k.groups)), ", @")
}
