package imapd_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

var oddSeed = flag.Uint64("odd.seed", 1, "first seed of the mixed odd servers")

// oddChanges are what servers do to the items of a response.
var oddChanges = []func(r *rand.Rand, items []oddItem) []oddItem{
	func(r *rand.Rand, items []oddItem) []oddItem { slices.Reverse(items); return items },
	func(r *rand.Rand, items []oddItem) []oddItem {
		r.Shuffle(len(items), func(i, k int) { items[i], items[k] = items[k], items[i] })
		return items
	},
	func(r *rand.Rand, items []oddItem) []oddItem { // nothing says which message it is but the number
		if len(items) > 1 && r.IntN(2) == 0 {
			items = slices.DeleteFunc(items, func(i oddItem) bool { return i.name == "UID" })
		}
		return items
	},
	func(r *rand.Rand, items []oddItem) []oddItem {
		for i := range items {
			items[i].name = strings.ToLower(items[i].name)
		}
		return items
	},
	func(r *rand.Rand, items []oddItem) []oddItem {
		for i := range items {
			if strings.HasPrefix(items[i].value, "{") && r.IntN(2) == 0 {
				items[i].value += "\r\n"
			}
		}
		return items
	},
	func(r *rand.Rand, items []oddItem) []oddItem {
		for i := range items {
			if head, text, ok := strings.Cut(items[i].value, "}\r\n"); ok && strings.HasPrefix(head, "{") && !strings.ContainsAny(text, "\r\n\"\\") {
				if items[i].value = `"` + text + `"`; text == "" && r.IntN(2) == 0 {
					items[i].value = "NIL"
				}
			}
		}
		return items
	},
	func(r *rand.Rand, items []oddItem) []oddItem {
		at := r.IntN(len(items) + 1)
		return slices.Insert(items, at, oddItem{"X-ODD", fmt.Sprintf("(a {%d}\r\n%s NIL)", 4, "\r\n)x")})
	},
	func(r *rand.Rand, items []oddItem) []oddItem {
		at := r.IntN(len(items))
		items[at].name, items[at].value = "("+items[at].name, items[at].value+" )"
		return items
	},
}

// oddWriting writes a response, or several.
func oddWriting(r *rand.Rand, how, seq int, items []oddItem) string {
	space := strings.Repeat(" ", 1+r.IntN(2))
	var all []string
	for _, i := range items {
		all = append(all, i.name+space+i.value)
	}
	news := []string{"", "\r\n", fmt.Sprintf("* %d FETCH (FLAGS (\\Seen))\r\n", seq), "* 6 EXISTS\r\n", "* OK [X-NEWS] hm\r\n"}
	var b strings.Builder
	b.WriteString(news[r.IntN(len(news))])
	switch how {
	case 0:
		fmt.Fprintf(&b, "* %d FETCH (%s)\r\n", seq, strings.Join(all, space))
	case 1: // an item each
		for _, one := range all {
			fmt.Fprintf(&b, "* %d%sFETCH (%s)\r\n%s", seq, space, one, news[r.IntN(len(news))])
		}
	case 2: // two halves
		at := r.IntN(len(all) + 1)
		for _, some := range [][]string{all[:at], all[at:]} {
			if len(some) > 0 {
				fmt.Fprintf(&b, "* %d FETCH (%s )\r\n%s", seq, strings.Join(some, " "), news[r.IntN(len(news))])
			}
		}
	}
	return b.String()
}

// TestOddServersMixed is TestOddServers with several oddities at once, picked by a
// seed: reproduce with -odd.seed.
func TestOddServersMixed(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 5
	}
	for n := range rounds {
		seed := *oddSeed + uint64(n)
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 5))
			var some []int
			for i := range oddChanges {
				if r.IntN(3) == 0 {
					some = append(some, i)
				}
			}
			how, lines, few := r.IntN(3), r.IntN(2) == 0, r.IntN(4) == 0
			o := odd{uids: []uint32{11, 12, 14, 17, 20, 21}}
			o.fetch = func(seq int, items []oddItem) string {
				items = slices.Clone(items)
				for _, i := range some {
					items = oddChanges[i](r, items)
				}
				return oddWriting(r, how, seq, items)
			}
			o.search = func(c string, uids []uint32) string {
				switch {
				case few && strings.HasSuffix(c, " UID 1:*"):
					return searchLine(uids[:len(uids)/2])
				case lines:
					at := len(uids) / 2
					return searchLine(uids[:at]) + searchLine(uids[at:])
				}
				return searchLine(uids)
			}
			d := o.double().start(t)
			b := startBridge(t, d.addr, "up", "pw", nil)
			var secret []bool
			o.mail, secret = oddMail(t, b)
			o.checkShown(t, b, secret)
			if t.Failed() {
				t.Logf("changes %v, writing %d, search in lines %v, few %v", some, how, lines, few)
			}
		})
	}
}
