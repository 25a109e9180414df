package imapd_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd"
	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/internal/message"
)

// swapping is a message of size bytes in lines of 32, each of which imitates a
// field of ours, and of which the header ends after some lines: elsewhere each
// time.
func swapping(size, lines int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < size; i++ {
		if i == lines {
			fmt.Fprintf(&b, "\r\n%028d\r\n", i)
			continue
		}
		fmt.Fprintf(&b, "Letterlock-Status: forged %04d\r\n", i%10000)
	}
	return b.Bytes()
}

var pieceAsked = regexp.MustCompile(`BODY\.PEEK\[(HEADER|TEXT|)\](?:<(\d+)\.(\d+)>)?`)

// TestPiecesOfASwappedMessage: whatever the upstream gives a client that reads a
// message in pieces, the header that the client can put together of them imitates
// none of our fields. Reproduce with -differential.seed.
func TestPiecesOfASwappedMessage(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	ends := 0
	for n := range rounds {
		seed := *differentialSeed + uint64(n)
		r := rand.New(rand.NewPCG(seed, 3))
		size := 2000
		if r.IntN(3) > 0 {
			size = 250_000
		}
		honest, lines := n%3 == 0, r.IntN(size/32+size/64) // or it ends nowhere
		d := &double{}
		d.answer = func(c string) string {
			if !strings.HasPrefix(c, "UID FETCH") {
				return ""
			}
			raw := swapping(size, lines)
			if !honest && r.IntN(3) == 0 {
				raw = swapping(size, r.IntN(size/32+size/64))
			}
			head := raw
			if i := bytes.Index(raw, []byte("\r\n\r\n")); i >= 0 {
				head = raw[:i+4]
			}
			var out strings.Builder
			out.WriteString("* 2 FETCH (UID 11")
			for _, m := range pieceAsked.FindAllStringSubmatch(c, -1) {
				b, name := raw, "BODY["+m[1]+"]"
				switch m[1] {
				case "HEADER":
					b = head
				case "TEXT":
					b = raw[len(head):]
				}
				if m[2] != "" {
					from, _ := strconv.Atoi(m[2])
					count, _ := strconv.Atoi(m[3])
					from = min(from, len(b))
					b, name = b[from:min(from+count, len(b))], name+"<"+m[2]+">"
				}
				fmt.Fprintf(&out, " %s {%d}\r\n%s", name, len(b), b)
			}
			return out.String() + ")\r\nTAG OK done\r\n"
		}
		d.start(t)
		b := startBridge(t, d.addr, "up", "pw", func(c *imapd.Config, _ *imapd.Account) { c.Logger = nil })
		c := login(t, b.addr, user, password)
		c.ok("SELECT INBOX")
		known, have := make([]byte, size+64), make([]bool, size+64)
		for i := range 12 {
			from, count := r.IntN(size), 1+r.IntN(size/2)
			if r.IntN(3) == 0 {
				from = 0
			}
			c.n++
			tag := fmt.Sprintf("p%d", c.n)
			c.send(fmt.Sprintf("%s UID FETCH 11 (BODY.PEEK[]<%d.%d>)\r\n", tag, from, count))
			got, over := "", false
			for {
				a, err := c.tryResponse()
				if err != nil {
					over = true
					break
				}
				if strings.HasPrefix(a, tag) {
					break
				}
				got += a
			}
			if over && honest {
				t.Fatalf("seed %d: the session was cut", seed)
			}
			if over { // the rest of a piece that was cut off is nobody's
				ends++
				break
			}
			_, text, ok := strings.Cut(got, "}\r\n")
			if !ok {
				t.Fatalf("seed %d: %.200q", seed, got)
			}
			text = strings.TrimSuffix(text, ")")
			if name := "BODY[]<" + strconv.Itoa(from) + ">"; !strings.Contains(got, name) && !strings.Contains(text, " UID 11") {
				t.Fatalf("seed %d: %s is not %.200q", seed, name, got)
			}
			text = strings.TrimSuffix(text, " UID 11")
			if honest {
				want := swapping(size, lines)
				render.Mask(want, 0, render.Imitations(message.ParseHeader(want).Raw))
				if want := string(want[from:min(from+count, len(want))]); text != want {
					at := 0
					for at < min(len(text), len(want)) && text[at] == want[at] {
						at++
					}
					t.Fatalf("seed %d: %d of %d bytes from %d: other bytes from %d on: %.40q, want %.40q", seed, len(text), len(want), from, at, text[at:], want[at:])
				}
			}
			for k := range len(text) {
				if at := from + k; !have[at] {
					known[at], have[at] = text[k], true
				}
			}
			end := 0
			for end < len(have) && have[end] {
				end++
			}
			head := known[:end]
			if i := bytes.Index(head, []byte("\r\n\r\n")); i >= 0 {
				head = head[:i]
			}
			if bytes.HasPrefix(head, []byte("\r\n")) {
				head = nil
			}
			if bytes.HasPrefix(head, []byte("Letterlock-")) || bytes.Contains(head, []byte("\r\nLetterlock-")) {
				t.Fatalf("seed %d: after %d pieces the client has a header with a field of ours at %d", seed, i+1, bytes.Index(head, []byte("Letterlock-")))
			}
		}
	}
	if ends == 0 {
		t.Error("no session was cut")
	}
}

// TestNewsWhileAMessageIsFetchedToBeOpened: what is told then must be of a message
// that is there, as at any other time.
func TestNewsWhileAMessageIsFetchedToBeOpened(t *testing.T) {
	for _, tt := range []struct{ name, news string }{
		{"of a number that isn't there", "* 99 FETCH (UID 99 FLAGS (\\Seen))\r\n"},
		{"of no number", "* 0 FETCH (FLAGS (\\Seen))\r\n"},
		{"of another UID", "* 2 FETCH (UID 99 FLAGS (\\Seen))\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked := 0
			d := (&double{answer: func(c string) string {
				if c != "UID FETCH 10 (UID BODY.PEEK[])" {
					return ""
				}
				if asked++; asked == 1 {
					return "* 1 FETCH (UID 10)\r\nTAG OK done\r\n"
				}
				return tt.news + "TAG OK done\r\n"
			}}).start(t)
			b := startBridge(t, d.addr, "up", "pw", nil)
			m, err := b.library.Mailbox(t.Context(), "INBOX", 7)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if err := m.Classify(t.Context(), []index.Classification{{UID: 10, Header: []byte("Content-Type: multipart/encrypted\r\n\r\n")}}); err != nil {
				t.Fatal(err)
			}
			c := login(t, b.addr, user, password)
			c.ok("SELECT INBOX")
			talk(t, c, "C: x UID FETCH 10 (BODY.PEEK[])\nS: * BYE*\nS: EOF")
		})
	}
}
