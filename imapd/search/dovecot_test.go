package search_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/imapd/search"
	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/message"
)

// twin is a Dovecot with the same mail twice: as it is, and with some of it
// replaced by what encrypted mail looks like.
type twin struct {
	t         *testing.T
	c         net.Conn
	r         *bufio.Reader
	tags      int
	uids      []uint32
	encrypted []uint32
	open      map[uint32]*render.Message
}

func (d *twin) run(command *wire.Out) []byte {
	d.t.Helper()
	d.tags++
	tag := fmt.Sprintf("t%d", d.tags)
	var b bytes.Buffer
	b.WriteString(tag + " ")
	for _, p := range command.Parts {
		if p.Literal {
			fmt.Fprintf(&b, "{%d+}\r\n", len(p.Bytes))
		}
		b.Write(p.Bytes)
	}
	b.WriteString("\r\n")
	d.c.SetDeadline(time.Now().Add(10 * time.Minute))
	if _, err := d.c.Write(b.Bytes()); err != nil {
		d.t.Fatal(err)
	}
	var answer []byte
	for {
		line, err := d.r.ReadBytes('\n')
		if err != nil {
			d.t.Fatal(err)
		}
		if bytes.HasPrefix(line, []byte("* SEARCH")) || bytes.HasPrefix(line, []byte("* ESEARCH")) {
			answer = line
		}
		if bytes.HasPrefix(line, []byte(tag+" ")) {
			if !bytes.HasPrefix(line, []byte(tag+" OK")) {
				d.t.Fatalf("%.300s: %s", b.Bytes(), line)
			}
			return answer
		}
	}
}

func (d *twin) say(s string) []byte { d.t.Helper(); return d.run((&wire.Out{}).String(s)) }

func newTwin(t *testing.T, messages []string, isEncrypted func(i int) bool) *twin {
	s := peer.Dovecot(t)
	c, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	d := &twin{t: t, c: c, r: bufio.NewReaderSize(c, 64<<10), open: map[uint32]*render.Message{}}
	d.r.ReadBytes('\n')
	d.say("LOGIN " + peer.Alice + " " + peer.AlicePassword)
	d.say("CREATE plain")
	d.say("CREATE twin")
	for i, m := range messages {
		uid := uint32(i + 1)
		raw := []byte(strings.ReplaceAll(m, "\n", "\r\n"))
		stored := raw
		d.uids = append(d.uids, uid)
		if isEncrypted(i) {
			d.encrypted = append(d.encrypted, uid)
			rendered, err := render.New(message.Bytes(raw), message.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			d.open[uid] = rendered
			// Every word is in it, so that asking the upstream of it shows.
			stored = []byte("From: apple@pear.test\r\nTo: apple@pear.test\r\nDate: Sat, 6 Jan 2024 00:00:00 +0000\r\nSubject: [...] apple pear plum\r\n" +
				"Content-Type: text/plain\r\n\r\napple pear plum cherry \xc3\xbcber ÜBER Apfel\r\n" + strings.Repeat("x", 3000) + "\r\n")
		}
		flags := []string{"", "(\\Seen) ", "(\\Flagged $Other) "}[i%3]
		d.run((&wire.Out{}).String("APPEND plain " + flags).Literal(raw))
		d.run((&wire.Out{}).String("APPEND twin " + flags).Literal(stored))
	}
	return d
}

func (d *twin) scope() search.Scope {
	return search.Scope{
		UIDs: d.uids, Encrypted: d.encrypted, WordsUpstream: true,
		Keyword: func([]uint32, string) ([]uint32, bool) { return nil, true },
		Search: func(_ context.Context, uids []uint32, term search.Term) (hits, unknown []uint32, err error) {
			for _, uid := range uids {
				if uid%5 == 0 {
					unknown = append(unknown, uid)
					continue
				}
				texts, whole, err := search.Extract(d.open[uid])
				if err != nil || !whole {
					return nil, nil, fmt.Errorf("not whole: %v", err)
				}
				ok := term.NeedsText() && term.MatchTexts(texts) ||
					!term.NeedsText() && term.MatchHeader(d.open[uid].Root.Header, d.open[uid].Size())
				if ok {
					hits = append(hits, uid)
				}
			}
			return hits, unknown, nil
		},
		Match: func(_ context.Context, uid uint32, term search.Term) (bool, error) { return term.Match(d.open[uid]) },
	}
}

// tokens reads arguments as wire does.
func tokens(t *testing.T, s string) []wire.Token {
	t.Helper()
	r := wire.NewCommandReader(strings.NewReader("a SEARCH "+s+"\r\n"), wire.Limits{})
	c, err := r.Next()
	if err != nil || c == nil {
		t.Fatalf("%s: %v", s, err)
	}
	return c.Args
}

// check compares the answer of the plain mailbox with that of the twin.
func (d *twin) check(query string, limit int) {
	d.t.Helper()
	args := tokens(d.t, query)
	d.say("EXAMINE plain")
	want := d.run((&wire.Out{}).String("UID SEARCH ").Tokens(args))
	q, err := search.Parse(args)
	if err != nil {
		d.t.Fatalf("%s: %v", query, err)
	}
	s := d.scope()
	s.Limit = limit
	p, err := search.Rewrite(context.Background(), q, s)
	if err != nil {
		d.t.Fatalf("%s: %v", query, err)
	}
	d.say("EXAMINE twin")
	var answers [][]byte
	for _, c := range p.Commands {
		c.Parts = append([]wire.Part{{Bytes: []byte("UID SEARCH ")}}, c.Parts...)
		answers = append(answers, d.run(c))
	}
	got := answers[0]
	if len(answers) > 1 {
		if got, err = p.Answer("x", true, answers); err != nil {
			d.t.Fatal(err)
		}
	}
	if a, b := numbers(got), numbers(want); !slices.Equal(a, b) {
		d.t.Errorf("%s\n in %d commands, the first: %.300s\n got:  %v\n want: %v", query, len(p.Commands), p.Commands[0].Parts[0].Bytes, a, b)
	}
}

// numbers is what an answer says, without the tag in it.
func numbers(b []byte) []string {
	s := strings.TrimSpace(string(b))
	if _, rest, ok := strings.Cut(s, ")"); ok && strings.HasPrefix(s, "* ESEARCH") {
		s = rest
	}
	return strings.Fields(s)
}

var words = []string{"apple", "APPLE", "pear", "lum", "cherry pie", "über", "ÜBER", "uber", "zzz", "a", "", "example.test", "Apfel", "ß", "Content-Type", "text/plain", "Subject: on", "fl", "html"}

// message i of the test's mail.
func mail(r *rand.Rand, i int) string {
	w := func() string { return words[r.IntN(len(words))] }
	day := time.Date(2024, 1, 1+i%10, 23, 30, 0, 0, time.FixedZone("", (r.IntN(25)-12)*3600))
	h := fmt.Sprintf("From: \"%s %d\" <user%d@example.test>\nTo: Pear <p@example.test>, apple@other.test\nDate: %s\nMessage-ID: <%d@example.test>\nX-Mark: %s\n",
		"Apple", i, i%4, day.Format(time.RFC1123Z), i, w())
	switch i % 6 {
	case 0:
		return h + "Subject: on " + w() + "\n\n" + w() + " plain " + w() + "\n" + strings.Repeat("fill ", r.IntN(600)) + "\n"
	case 1:
		return h + "Subject: =?utf-8?q?=C3=BCber?= " + w() + "\nContent-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\n=FCber ap=\nple " + w() + "\n"
	case 2:
		return h + "Subject: folded\n apple\n\tpear\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\nw5xiZXIgQXBmZWwgYXBwbGU=\n"
	case 3:
		return h + "Cc: =?utf-8?q?M=C3=BCller?= <m@example.test>\nSubject: two parts\nContent-Type: multipart/mixed; boundary=b\n\npreamble plum\n--b\nContent-Type: text/html; charset=utf-8\n\n<p>apple " + w() + "</p>\n--b\nContent-Type: application/octet-stream; name=cherry\n\nplum in a file " + w() + "\n--b--\nepilogue pear\n"
	case 4:
		return h + "Subject: forwarded\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nsee " + w() + "\n--b\nContent-Type: message/rfc822\n\nFrom: inner@plum.test\nSubject: inner cherry\n\ninner apple " + w() + "\n--b--\n"
	}
	return h + "\n" + w() + "\n"
}

func query(r *rand.Rand, depth int) string {
	w := strconv.Quote(words[r.IntN(len(words))])
	date := fmt.Sprintf("%d-Jan-2024", 1+r.IntN(10))
	switch k := r.IntN(22); {
	case k < 3 && depth > 0:
		return "OR " + query(r, depth-1) + " " + query(r, depth-1)
	case k < 5 && depth > 0:
		return "NOT " + query(r, depth-1)
	case k < 7 && depth > 0:
		return "(" + query(r, depth-1) + " " + query(r, depth-1) + ")"
	case k < 9:
		return "BODY " + w
	case k < 11:
		return "TEXT " + w
	case k < 13:
		return []string{"SUBJECT ", "FROM ", "TO ", "CC ", "BCC "}[r.IntN(5)] + w
	case k < 14:
		return "HEADER " + []string{"X-Mark", "x-mark", "Cc", "Subject", "Content-Type", "X-None"}[r.IntN(6)] + " " + w
	case k < 15:
		return []string{"SENTON ", "SENTBEFORE ", "SENTSINCE "}[r.IntN(3)] + date
	case k < 16:
		return []string{"LARGER ", "SMALLER "}[r.IntN(2)] + strconv.Itoa(r.IntN(3000))
	case k < 17:
		return []string{"SEEN", "UNSEEN", "FLAGGED", "KEYWORD $Other", "ALL", "NEW"}[r.IntN(6)]
	case k < 19:
		return fmt.Sprintf("UID %d:%d", 1+r.IntN(70), 1+r.IntN(70))
	case k < 20:
		return fmt.Sprintf("%d,%d:*", 1+r.IntN(50), 1+r.IntN(50))
	}
	return "HEADER Message-ID " + strconv.Itoa(r.IntN(60)) + "@"
}

// TestAsDovecotWouldFind searches mail of which some is encrypted upstream, and
// finds what Dovecot finds where none is.
func TestAsDovecotWouldFind(t *testing.T) {
	for name, encrypted := range map[string]func(i int) bool{
		"a third encrypted": func(i int) bool { return i*7919%31 < 10 },
		"most encrypted":    func(i int) bool { return i%7 != 3 },
		"none encrypted":    func(i int) bool { return false },
		"all encrypted":     func(i int) bool { return true },
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(3, 4))
			var all []string
			for i := range 60 {
				all = append(all, mail(r, i))
			}
			d := newTwin(t, all, encrypted)
			for i := range 400 {
				q := query(r, 3)
				if r.IntN(3) == 0 {
					q += " " + query(r, 2)
				}
				if strings.Count(q, "LARGER")+strings.Count(q, "SMALLER") > 1 {
					continue // Dovecot 2.3 takes "OR LARGER 1 LARGER 2" for LARGER 2
				}
				q = "CHARSET UTF-8 " + q
				switch i % 4 {
				case 1:
					q = "RETURN (" + []string{"MIN", "MAX", "COUNT", "ALL", "MIN MAX COUNT ALL", "MIN COUNT", ""}[r.IntN(7)] + ") " + q
				}
				d.check(q, []int{0, 150, 400}[i%3])
				if t.Failed() && i > 40 {
					return
				}
			}
		})
	}
}
