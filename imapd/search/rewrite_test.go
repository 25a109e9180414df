package search_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd/search"
	"letterlock.org/letterlock/imapd/wire"
)

// written is a command as one line, literals in braces.
func written(o *wire.Out) string {
	var b strings.Builder
	for _, p := range o.Parts {
		if p.Literal {
			fmt.Fprintf(&b, "{%s}", p.Bytes)
		} else {
			b.Write(p.Bytes)
		}
	}
	return b.String()
}

// fixed is a scope in which every term finds the same.
func fixed(uids, encrypted, hits []uint32) search.Scope {
	return search.Scope{
		UIDs: uids, Encrypted: encrypted, WordsUpstream: true,
		Keyword: func(uids []uint32, k string) ([]uint32, bool) {
			return hits, strings.EqualFold(k, "$LetterlockSigned")
		},
		Search: func(_ context.Context, within []uint32, _ search.Term) (found, unknown []uint32, err error) {
			for _, u := range within {
				for _, h := range hits {
					if u == h {
						found = append(found, u)
					}
				}
			}
			return found, nil, nil
		},
		Match: func(context.Context, uint32, search.Term) (bool, error) { return false, errors.New("not asked for") },
	}
}

func TestRewrite(t *testing.T) {
	mixed := fixed([]uint32{1, 2, 3, 5, 8, 9}, []uint32{2, 3, 5}, []uint32{3})
	gaps := fixed([]uint32{10, 20, 30, 40}, []uint32{20, 30}, []uint32{20, 30})
	none := fixed([]uint32{1, 2}, nil, nil)
	only := fixed([]uint32{1, 2}, []uint32{1, 2}, []uint32{2})
	noHit := fixed([]uint32{1, 2}, []uint32{2}, nil)
	for _, tt := range []struct {
		name  string
		scope search.Scope
		query string
		want  string
	}{
		{"plain mail only is asked as it is", none, `TEXT secret UNSEEN`, `TEXT secret UNSEEN`},
		{"encrypted mail only is never asked for words", only, `TEXT secret UNSEEN`, `UID 2 UNSEEN`},
		{"an empty mailbox neither", fixed(nil, nil, nil), `TEXT secret`, `NOT ALL`},
		{"a key that looks inside", mixed, `BODY secret`, `OR (NOT UID 2:5 BODY secret) UID 3`},
		{"without hits", noHit, `SUBJECT secret`, `(UID 1 SUBJECT secret)`},
		{"within NOT", mixed, `NOT BODY x`, `NOT OR (NOT UID 2:5 BODY x) UID 3`},
		{"within OR", mixed, `OR SEEN FROM x`, `OR SEEN OR (NOT UID 2:5 FROM x) UID 3`},
		{"ranges pass over numbers that no message has", gaps, `BODY x`, `OR (NOT UID 20:30 BODY x) UID 20:30`},
		{"dates of arrival are the upstream's", mixed, `SINCE 1-Jan-2024 BEFORE 2-Feb-2025`, `SINCE 1-Jan-2024 BEFORE 2-Feb-2025`},
		{"our keyword", mixed, `KEYWORD $letterlocksigned`, `UID 3`},
		{"not our keyword", mixed, `UNKEYWORD $LetterlockSigned`, `NOT UID 3`},
		{"whichever set is shorter", fixed([]uint32{1, 2, 3, 5, 8, 9}, []uint32{1, 3, 8}, nil), `BODY x`, `(NOT UID 1,3,8 BODY x)`},
		{"the rest, where that is shorter", fixed([]uint32{1, 2, 3, 5, 8, 9}, []uint32{1, 3, 8, 9}, nil), `BODY x`, `(UID 2,5 BODY x)`},
		{"another keyword", mixed, `KEYWORD $Other`, `KEYWORD $Other`},
		{"RETURN, CHARSET and MODSEQ stay", mixed, `RETURN (MIN COUNT) CHARSET utf-8 MODSEQ "/flags/\\draft" all 7 SEEN`, `RETURN (MIN COUNT) CHARSET "utf-8" MODSEQ "/flags/\\draft" all 7 SEEN`},
		{"a field that imitates ours is in no plain mail", mixed, `HEADER Letterlock-Status valid`, `UID 3`},
		{"a literal stays one", mixed, "TEXT {3+}\r\na\x00b", "OR (NOT UID 2:5 TEXT {a\x00b}) UID 3"},
		{"UID keys narrow what is looked into", mixed, `UID 5:9 BODY x`, `UID 5:9 (NOT UID 2:5 BODY x)`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q, err := search.Parse(tokens(t, strings.ReplaceAll(tt.query, "\x00", "\x01")))
			if err != nil {
				t.Fatal(err)
			}
			p, err := search.Rewrite(context.Background(), q, tt.scope)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := written(p.Commands[0]), strings.ReplaceAll(tt.want, "\x00", "\x01"); len(p.Commands) != 1 || got != want {
				t.Errorf("%s\n got:  %s\n want: %s", tt.query, got, want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, s := range []string{"", "BODY", "NOT", "OR SEEN", "X-GM-RAW x", "FUZZY BODY x", "BODY (x)", "LARGER x", "SENTON yesterday",
		"UID x", "()", "(SEEN", "HEADER Subject", "KEYWORD", "CHARSET utf-8", "RETURN (MIN)", `"SEEN"`, "MODSEQ"} {
		r := wire.NewCommandReader(strings.NewReader("a SEARCH "+s+"\r\n"), wire.Limits{})
		c, err := r.Next()
		if err != nil || c == nil {
			continue // refused before
		}
		if _, err := search.Parse(c.Args); !errors.Is(err, search.ErrSyntax) {
			t.Errorf("%q: %v, want ErrSyntax", s, err)
		}
	}
	if _, err := search.Parse(tokens(t, "CHARSET klingon BODY x")); !errors.Is(err, search.ErrCharset) {
		t.Errorf("unknown character set: %v", err)
	}
	if _, err := search.Parse(tokens(t, strings.Repeat("BODY x ", 200)+"SEEN")); !errors.Is(err, search.ErrComplex) {
		t.Errorf("200 keys: %v", err)
	}
}

func TestWordsStayHereWhereTheyMust(t *testing.T) {
	for _, tt := range []struct {
		name, query string
		encrypted   []uint32
		want        error
	}{
		{"words and plain mail", "BODY x", []uint32{1}, search.ErrWords},
		{"a subject", "NOT (SEEN SUBJECT x)", []uint32{1}, search.ErrWords},
		{"encrypted mail only", "BODY x", []uint32{1, 2}, nil},
		{"a size", "LARGER 100", []uint32{1}, nil},
		{"a day", "SENTON 1-Jan-2024", []uint32{1}, nil},
		{"a Message-ID, which the upstream knows", "HEADER Message-ID <x@y>", []uint32{1}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q, err := search.Parse(tokens(t, tt.query))
			if err != nil {
				t.Fatal(err)
			}
			s := fixed([]uint32{1, 2}, tt.encrypted, nil)
			s.WordsUpstream = false
			if _, err := search.Rewrite(context.Background(), q, s); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", tt.query, err, tt.want)
			}
		})
	}
}

// TestSplitKeepsToTheLimit has every other message encrypted.
func TestSplitKeepsToTheLimit(t *testing.T) {
	var uids, encrypted []uint32
	for i := range uint32(20000) {
		uids = append(uids, 7+3*i)
		if i%2 == 0 {
			encrypted = append(encrypted, 7+3*i)
		}
	}
	q, err := search.Parse(tokens(t, "RETURN (COUNT) OR BODY secret SUBJECT other"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := search.Rewrite(context.Background(), q, fixed(uids, encrypted, encrypted[:5000]))
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range p.Commands {
		if c.Len() > search.Limit {
			t.Errorf("command %d has %d bytes", i, c.Len())
		}
	}
	if n := len(p.Commands); n < 2 || n > 200 {
		t.Errorf("%d commands", n)
	}
}

// TestLongKeysAreNoReasonToSplit: a client that names thousands of messages made
// as many commands, each as long as its own.
func TestLongKeysAreNoReasonToSplit(t *testing.T) {
	var uids, encrypted []uint32
	var set []string
	for i := range uint32(20_000) {
		uids = append(uids, 3*i+1)
		if i%2 == 0 && i < 4000 {
			encrypted = append(encrypted, 3*i+1)
		}
		if i%3 == 0 {
			set = append(set, fmt.Sprint(3*i+1))
		}
	}
	long := "NOT UID " + strings.Join(set, ",")
	for _, tt := range []struct {
		name, query string
		encrypted   []uint32
		want        int
	}{
		{"plain mail", long + " SUBJECT x", nil, 1},
		{"no key that looks inside", long, encrypted, 1},
		{"our own sets are long too", long + " SUBJECT x", encrypted, 4},
	} {
		q, err := search.Parse(tokens(t, tt.query))
		if err != nil {
			t.Fatal(err)
		}
		p, err := search.Rewrite(context.Background(), q, fixed(uids, tt.encrypted, nil))
		if err != nil {
			t.Fatal(err)
		}
		if got := len(p.Commands); got > tt.want {
			t.Errorf("%s: %d commands, want at most %d", tt.name, got, tt.want)
		}
	}
}

func TestAnswerOfSeveral(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options []string
		answers []string
		want    string
	}{
		{"SEARCH", nil, []string{"* SEARCH 1 2", "* SEARCH", "* SEARCH 9"}, "* SEARCH 1 2 9"},
		{"SEARCH with MODSEQ", nil, []string{"* SEARCH 1 (MODSEQ 70)", "* SEARCH", "* SEARCH 9 (MODSEQ 8)"}, "* SEARCH 1 9 (MODSEQ 70)"},
		{"nothing", nil, []string{"* SEARCH", "* SEARCH"}, "* SEARCH"},
		{"ALL", []string{"ALL"}, []string{`* ESEARCH (TAG "t1") UID ALL 1:3`, `* ESEARCH (TAG "t2") UID`, `* ESEARCH (TAG "t3") UID ALL 4,9`}, `* ESEARCH (TAG "x") UID ALL 1:4,9`},
		{"no options means ALL", []string{}, []string{`* ESEARCH (TAG "t") UID ALL 1`, `* ESEARCH (TAG "t") UID ALL 3`}, `* ESEARCH (TAG "x") UID ALL 1,3`},
		{"MIN with its MODSEQ", []string{"MIN"}, []string{`* ESEARCH (TAG "t") UID`, `* ESEARCH (TAG "t") UID MIN 4 MODSEQ 5`, `* ESEARCH (TAG "t") UID MIN 7 MODSEQ 9`}, `* ESEARCH (TAG "x") UID MIN 4 MODSEQ 5`},
		{"MAX with its MODSEQ", []string{"MAX"}, []string{`* ESEARCH (TAG "t") UID MAX 4 MODSEQ 9`, `* ESEARCH (TAG "t") UID MAX 7 MODSEQ 5`, `* ESEARCH (TAG "t") UID`}, `* ESEARCH (TAG "x") UID MAX 7 MODSEQ 5`},
		{"COUNT", []string{"COUNT"}, []string{`* ESEARCH (TAG "t") UID COUNT 2`, `* ESEARCH (TAG "t") UID COUNT 3`}, `* ESEARCH (TAG "x") UID COUNT 5`},
		{"all of them from ALL", []string{"MIN", "MAX", "COUNT", "ALL"}, []string{`* ESEARCH (TAG "t") UID ALL 2:3 MODSEQ 5`, `* ESEARCH (TAG "t") UID ALL 8 MODSEQ 4`}, `* ESEARCH (TAG "x") UID MIN 2 MAX 8 COUNT 3 ALL 2:3,8 MODSEQ 5`},
		{"COUNT of nothing", []string{"MIN", "COUNT"}, []string{`* ESEARCH (TAG "t") UID`}, `* ESEARCH (TAG "x") UID COUNT 0`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &search.Plan{Return: tt.options}
			var lines [][]byte
			for _, a := range tt.answers {
				lines = append(lines, []byte(a+"\r\n"))
			}
			got, err := p.Answer("x", true, lines)
			if err != nil || string(got) != tt.want+"\r\n" {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
	for _, bad := range []string{"", "* OK", "* SEARCH 1 (MODSEQ", "* ESEARCH ALL 1:4294967295", "* SEARCH x"} {
		if got, err := (&search.Plan{}).Answer("x", true, [][]byte{[]byte(bad)}); err == nil {
			t.Errorf("%q gives %q", bad, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"BODY x", "OR NOT (SEEN TEXT {1+}\r\nx) LARGER 5", "RETURN (MIN) CHARSET utf-8 UID 1:* KEYWORD $LetterlockSigned", "MODSEQ \"a\" all 5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := wire.NewCommandReader(strings.NewReader("a SEARCH "+s+"\r\n"), wire.Limits{}).Next()
		if err != nil || c == nil {
			return
		}
		q, err := search.Parse(c.Args)
		if err != nil {
			return
		}
		sc := fixed([]uint32{1, 2, 3, 5, 8, 9}, []uint32{2, 3, 5}, []uint32{3})
		sc.Limit = 50
		p, err := search.Rewrite(context.Background(), q, sc)
		if err != nil || len(p.Commands) == 0 {
			t.Fatalf("%q: %v", s, err)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte("* SEARCH 1 2 (MODSEQ 3)\r\n"), false)
	f.Add([]byte("* ESEARCH (TAG \"a\") UID MIN 1 COUNT 3 ALL 1:4294967295 MODSEQ 3\r\n"), true)
	f.Fuzz(func(t *testing.T, line []byte, extended bool) {
		p := &search.Plan{}
		if extended {
			p.Return = []string{"MIN", "MAX", "COUNT", "ALL"}
		}
		got, err := p.Answer("x", true, [][]byte{line, line})
		if err == nil && (len(got) > 2*len(line)+200 || strings.Count(string(got), "\r\n") != 1) {
			t.Errorf("%q makes %q", line, got)
		}
	})
}
