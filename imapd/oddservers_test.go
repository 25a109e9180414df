package imapd_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestOddServers plays sessions before upstreams that answer in other ways than
// most: allowed ones, and faults that others have met. What a client sees of its
// mail is the same.
func TestOddServers(t *testing.T) {
	each := func(change func(oddItem) oddItem) func(int, []oddItem) string {
		return func(seq int, items []oddItem) string {
			items = slices.Clone(items)
			for i := range items {
				items[i] = change(items[i])
			}
			return oneFetch(seq, items)
		}
	}
	responseHead := regexp.MustCompile(`(?m)^\* (\d+ )?[A-Z]+`)
	for _, tt := range []struct {
		name string
		odd  odd
	}{
		{"as the standard wants", odd{}},
		{"names in lower case", odd{
			fetch: func(seq int, items []oddItem) string {
				for i := range items {
					items[i].name = strings.ToLower(items[i].name)
				}
				return strings.Replace(oneFetch(seq, items), "FETCH", "Fetch", 1)
			},
			edit: func(c, r string) string {
				if strings.Contains(c, "FETCH") {
					return r
				}
				return responseHead.ReplaceAllStringFunc(r, strings.ToLower)
			},
		}},
		{"spaces where none belong", odd{
			fetch: func(seq int, items []oddItem) string {
				var all []string
				for _, i := range items {
					all = append(all, i.name+"  "+i.value)
				}
				return fmt.Sprintf("* %d FETCH ( %s ) \r\n", seq, strings.Join(all, "  "))
			},
			search: func(_ string, uids []uint32) string { return strings.ReplaceAll(searchLine(uids), "\r\n", " \r\n") },
		}},
		{"an empty line behind each literal", odd{fetch: each(func(i oddItem) oddItem {
			if strings.HasPrefix(i.value, "{") {
				i.value += "\r\n"
			}
			return i
		})}},
		{"empty lines between responses", odd{fetch: func(seq int, items []oddItem) string { return oneFetch(seq, items) + "\r\n" }}},
		{"a response for each item", odd{fetch: func(seq int, items []oddItem) string {
			var b strings.Builder
			for _, i := range items {
				b.WriteString(oneFetch(seq, []oddItem{i}))
			}
			return b.String()
		}}},
		{"a response for each item with its UID", odd{fetch: func(seq int, items []oddItem) string {
			var b strings.Builder
			uid := items[slices.IndexFunc(items, func(i oddItem) bool { return i.name == "UID" })]
			for _, i := range items {
				if i.name != "UID" || len(items) == 1 {
					b.WriteString(oneFetch(seq, slices.Compact([]oddItem{i, uid})))
				}
			}
			return b.String()
		}}},
		{"items in the other order", odd{fetch: func(seq int, items []oddItem) string {
			slices.Reverse(items)
			return oneFetch(seq, items)
		}}},
		{"messages in the other order", odd{edit: func(c, r string) string {
			if !strings.Contains(c, "FETCH") || strings.Contains(c, "[") && !strings.Contains(c, "HEADER.FIELDS") {
				return r
			}
			body, tagged, _ := strings.Cut(r, "TAG ")
			all := strings.SplitAfter(body, ")\r\n* ")
			slices.Reverse(all)
			for i := range all {
				all[i] = "* " + strings.TrimPrefix(strings.TrimSuffix(all[i], "* "), "* ")
			}
			return strings.Join(all, "") + "TAG " + tagged
		}}},
		{"FLAGS that nobody asked for, before and behind", odd{fetch: func(seq int, items []oddItem) string {
			flags := fmt.Sprintf("* %d FETCH (FLAGS (\\Seen))\r\n", seq)
			if !slices.ContainsFunc(items, func(i oddItem) bool { return i.name == "FLAGS" }) {
				items = append([]oddItem{{"FLAGS", `(\Seen)`}, {"MODSEQ", "(9)"}}, items...)
			}
			return flags + oneFetch(seq, items) + flags
		}}},
		{"counts told again and again", odd{fetch: func(seq int, items []oddItem) string {
			return "* 6 EXISTS\r\n* 0 RECENT\r\n" + oneFetch(seq, items) + "* OK still here\r\n* 6 EXISTS\r\n"
		}}},
		{"text quoted where it can be, and NIL for nothing", odd{fetch: each(func(i oddItem) oddItem {
			if head, text, ok := strings.Cut(i.value, "}\r\n"); ok && strings.HasPrefix(head, "{") && !strings.ContainsAny(text, "\r\n\"\\") {
				if i.value = `"` + text + `"`; text == "" {
					i.value = "NIL"
				}
			}
			return i
		})}},
		{"fields of a section in quotes and in capitals", odd{fetch: each(func(i oddItem) oddItem {
			if name, fields, ok := strings.Cut(i.name, " ("); ok {
				i.name = name + ` ("` + strings.ReplaceAll(strings.ToUpper(strings.TrimSuffix(fields, ")]")), " ", `" "`) + `")]`
			}
			return i
		})}},
		{"fields of a section in an order of its own, each once", odd{fetch: each(func(i oddItem) oddItem {
			if name, fields, ok := strings.Cut(i.name, " ("); ok {
				all := strings.Fields(strings.ToUpper(strings.TrimSuffix(fields, ")]")))
				slices.Sort(all)
				i.name = name + " (" + strings.Join(slices.Compact(all), " ") + ")]"
			}
			return i
		})}},
		{"items that nobody knows", odd{fetch: func(seq int, items []oddItem) string {
			return oneFetch(seq, append([]oddItem{{"X-ODD", "(a (b \"c)\") {3}\r\n)))x)"}, {"X-MORE", "{4}\r\n\r\n* "}}, items...))
		}}},
		{"no space between a name and its value", odd{fetch: func(seq int, items []oddItem) string {
			var all []string
			for _, i := range items {
				if all = append(all, i.name+" "+i.value); strings.HasPrefix(i.value, "(") || strings.HasPrefix(i.value, "{") {
					all[len(all)-1] = i.name + i.value
				}
			}
			return fmt.Sprintf("* %d FETCH (%s)\r\n", seq, strings.Join(all, " "))
		}}},
		{"items in parentheses, as Domino has them", odd{fetch: each(func(i oddItem) oddItem {
			if i.name == "ENVELOPE" || i.name == "FLAGS" || i.name == "BODY[]" {
				i.name, i.value = "("+i.name, i.value+")"
			}
			return i
		})}},
		{"quotes that are not quoted, as iCloud and Coremail have them", odd{fetch: each(func(i oddItem) oddItem {
			if i.name == "ENVELOPE" {
				i.value = `(NIL "a "b"c)" NIL NIL NIL NIL NIL NIL NIL "<"x) y"@example.org>")`
			}
			if i.name == "BODYSTRUCTURE" {
				i.value = `("TEXT" "PLAIN" NIL NIL """" "7BIT" 5 1 NIL NIL NIL NIL)`
			}
			return i
		})}},
		{"very long lines", odd{fetch: func(seq int, items []oddItem) string {
			return oneFetch(seq, append([]oddItem{{"X-LONG", `"` + strings.Repeat("long ", 600_000) + `"`}}, items...)) + "* OK " + strings.Repeat("long ", 30_000) + "\r\n"
		}}},
		{"sizes that are too large", odd{size: func(n int) int { return n + 700 }}},
		{"sizes that are too small", odd{size: func(n int) int { return n / 2 }}},
		{"sizes of nothing", odd{size: func(int) int { return 0 }}},
		{"a search in several lines", odd{search: func(_ string, uids []uint32) string {
			var b strings.Builder
			for _, u := range uids {
				b.WriteString(searchLine([]uint32{u}))
			}
			return b.String()
		}}},
		{"a search that names a message twice", odd{search: func(c string, uids []uint32) string {
			if strings.Contains(c, "OR") {
				return searchLine(uids)
			}
			return searchLine(append([]uint32{uids[0]}, uids...))
		}}},
		{"a search that finds a few of all", odd{search: func(c string, uids []uint32) string { return searchLine(uids[:min(3, len(uids))]) }}},
		{"a search that says nothing of all", odd{search: func(c string, uids []uint32) string {
			if strings.Contains(c, "UID 1:*") || strings.HasSuffix(c, "SEARCH ALL") {
				return ""
			}
			return searchLine(uids)
		}}},
		{"no search for UIDs", odd{edit: func(c, r string) string {
			if strings.HasSuffix(c, "UID 1:*") {
				return "TAG NO [CANNOT] not so\r\n"
			}
			return r
		}}},
		{"a message of which only the UID is told", odd{silent: true, fetch: func(seq int, items []oddItem) string {
			if seq != 3 {
				return oneFetch(seq, items)
			}
			return fmt.Sprintf("* %d FETCH (UID 14 )\r\n", seq)
		}}},
		{"a message of which nothing is told", odd{silent: true, fetch: func(seq int, items []oddItem) string {
			if seq != 3 {
				return oneFetch(seq, items)
			}
			return ""
		}}},
		{"OK without a word", odd{edit: func(_, r string) string { return strings.ReplaceAll(r, "TAG OK done\r\n", "TAG OK\r\n") }}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := tt.odd
			o.uids = []uint32{11, 12, 14, 17, 20, 21}
			d := o.double().start(t)
			b := startBridge(t, d.addr, "up", "pw", nil)
			var secret []bool
			o.mail, secret = oddMail(t, b)
			o.checkShown(t, b, secret)
		})
	}
}
