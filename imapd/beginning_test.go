package imapd_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

// beginningsBox has mail enough that classes are found by beginnings, with
// headers that end before, at and behind them, and what must not be shown.
func beginningsBox(t *testing.T) (*peer.DovecotServer, []string) {
	d := peer.Dovecot(t)
	b := startBridge(t, d.Addr, peer.Alice, peer.AlicePassword, nil)
	r := rand.New(rand.NewPCG(9, 9))
	var mail [][]byte
	var want []string // "" is what Dovecot has
	add := func(raw []byte, shown string) { mail, want = append(mail, raw), append(want, shown) }
	for i := range 260 {
		switch {
		case i%20 == 1: // a header beyond any beginning
			add(fmt.Appendf(nil, "Subject: %d\r\nX-Long: %s\r\nLetterlock-Status: encrypted\r\n\r\nlong header\r\n", i, strings.Repeat("x", 900+r.IntN(6000))), "")
		case i%20 == 2: // around the end of one
			add(fmt.Appendf(nil, "Subject: %d\r\nX-Long: %s\r\n\r\n%s", i, strings.Repeat("x", 400+r.IntN(1200)), strings.Repeat("body line\r\n", r.IntN(200))), "")
		case i%20 == 3:
			secret := letter(i, "Content-Type: text/plain\r\n\r\nwhisper canary\r\n")
			raw := encrypt(t, b.key, secret)
			if i%40 == 3 { // a long header without
				raw = append(fmt.Appendf(nil, "X-Long: %s\r\n", strings.Repeat("y", 5000)), raw...)
			}
			add(raw, "whisper canary")
		case i%20 == 4:
			add(plainMail(r, 1+i%7)[i%7], "")
		case i%20 == 6: // headers that readers differ about (Dovecot itself loses its way with a bare CR)
			odd := []string{"Subject : space\r\n", "From x@example.org\r\nSubject: c\r\n", "Subject: d\r\n \r\nFrom: e\r\n",
				" folded\r\nSubject: f\r\n", "Subject\r\n", ": g\r\nSubject: h\r\n", "Subject: \x01\r\n", "Autocrypt: addr=a@example.org\r\nSubject: i\r\n", "",
				"Subject: j\r\n\tk and more words of it\r\nSUBJECT: l\r\nLetterlock-Status: m\r\n", "Subject:\r\n\r\n\r\n", "X: \xfc\r\nsubject: \xfc\r\n"}
			add([]byte(odd[i/20%len(odd)]+"\r\nodd\r\n"), "")
		case i == 5:
			add([]byte("no end of a header"), "")
		default:
			add(fmt.Appendf(nil, "From: a%d@example.org\r\nSubject: short\r\n\r\nshort %d\r\n", i, i), "")
		}
	}
	d.Append(t, peer.Alice, "INBOX", mail...)
	return d, want
}

// TestClassesByBeginnings: whatever items a client meets a mailbox with, it gets
// what it gets from Dovecot, and the messages that are to be opened opened.
func TestClassesByBeginnings(t *testing.T) {
	d, shown := beginningsBox(t)
	for _, items := range []string{
		"(FLAGS BODY.PEEK[HEADER.FIELDS (Subject From)])",
		"(BODY.PEEK[HEADER.FIELDS.NOT (Subject x-long)] UID)",
		"(BODY.PEEK[HEADER.FIELDS (\"Subject\" X-Long Letterlock-Status)] BODY.PEEK[HEADER.FIELDS (From)] BODY.PEEK[1.MIME])",
		"(BODY.PEEK[HEADER.FIELDS (Subject)] BODY.PEEK[HEADER])",
		"(BODY.PEEK[HEADER.FIELDS (Subject)] BODY.PEEK[])",
		"(BODY[HEADER.FIELDS (Subject)] BODY.PEEK[HEADER.FIELDS (From)] FLAGS)",
		"(BODY.PEEK[HEADER.FIELDS (\"Sub ject\" From)])",
		"(BODY.PEEK[])",
		"(BODY.PEEK[TEXT] RFC822)",
		"(BODY.PEEK[]<0.10> FLAGS)",
		"(BODY.PEEK[]<0.1500>)",
		"(BODY.PEEK[]<0.400000> RFC822.SIZE)",
		"(BODY.PEEK[]<5.700>)",
		"(BODY.PEEK[TEXT]<0.10>)",
		"(BODY.PEEK[HEADER] BODY.PEEK[])",
		"(ENVELOPE BODYSTRUCTURE)",
		"(BODY[1] FLAGS)",
		"(BODY.PEEK[TEXT]<0.20> BODY.PEEK[1]<0.20>)",
		// Under one name come several answers.
		"(BODY[HEADER] BODY.PEEK[HEADER])",
		"(BODY.PEEK[] BODY.PEEK[])",
		"(BODY.PEEK[HEADER] BODY.PEEK[HEADER] FLAGS FLAGS)",
		"(BODY.PEEK[]<0.10> BODY.PEEK[]<0.20>)",
		"(BODY.PEEK[TEXT]<0.10> BODY[TEXT]<0.700> BODY.PEEK[TEXT]<0.20>)",
		"(BODY.PEEK[HEADER.FIELDS (Subject)]<0.9> BODY.PEEK[HEADER.FIELDS (Subject)]<0.4> BODY.PEEK[HEADER.FIELDS (Subject)])",
		"(BODY.PEEK[HEADER.FIELDS (Subject)]<3.9> BODY.PEEK[HEADER.FIELDS (Subject)]<0.4>)",
		"(BODY.PEEK[]<5.700> BODY.PEEK[]<0.20> BODY.PEEK[]<300.5> BODY.PEEK[]<70000.10>)",
		"(BODY.PEEK[]<70000.10> FLAGS)",
		"(BODY.PEEK[HEADER]<7.30> BODY.PEEK[HEADER]<3.9> BODY.PEEK[HEADER] BODY.PEEK[]<1.9>)",
		"(BODY.PEEK[]<20.4294967295>)",
		"(BODY.PEEK[1.MIME]<0.9> BODY.PEEK[1.MIME]<3.4> BODY.PEEK[1.MIME])",
	} {
		for _, command := range []string{"FETCH 1:* ", "UID FETCH 1:* "} {
			t.Run(command+items, func(t *testing.T) {
				b := startBridge(t, d.Addr, peer.Alice, peer.AlicePassword, nil)
				direct, bridged := login(t, d.Addr, peer.Alice, peer.AlicePassword), login(t, b.addr, user, password)
				direct.ok("EXAMINE INBOX") // so that nothing becomes \Seen
				bridged.ok("EXAMINE INBOX")
				sorted := func(c *client) []string {
					var out []string
					for _, r := range c.ok(command + items) {
						if strings.HasPrefix(r, "* FLAGS (") && ourKeyword.MatchString(r) {
							continue // which come before the first message that has one
						}
						out = append(out, normal(t, r))
					}
					return out
				}
				want, got := sorted(direct), sorted(bridged)
				again := sorted(bridged)
				if len(want) != len(shown) || len(got) != len(want) {
					t.Fatalf("%d and %d answers, want %d", len(want), len(got), len(shown))
				}
				byNumber := func(all []string) map[string]string {
					m := map[string]string{}
					for _, r := range all {
						m[strings.Fields(r)[1]] = r
					}
					return m
				}
				w, g, a := byNumber(want), byNumber(got), byNumber(again)
				for i, s := range shown {
					n := fmt.Sprint(i + 1)
					if g[n] != a[n] {
						t.Errorf("%s: at first %.300q, then %.300q", n, g[n], a[n])
					}
					if s == "" {
						w[n] = strings.ReplaceAll(w[n], "Letterlock-", "XXXXXXXXXX-")
						if strings.Contains(items, "BODYSTRUCTURE") {
							continue
						}
						if w[n] != g[n] {
							t.Errorf("%s: %.300q, want %.300q", n, g[n], w[n])
						}
					} else if strings.Contains(g[n], "BEGIN PGP") || g[n] == w[n] && !strings.HasPrefix(items, "(BODY.PEEK[]<") {
						t.Errorf("%s shows %.300q", n, g[n])
					}
				}
				bridged.ok("NOOP")
			})
		}
	}
}

// TestCommandsOfAFirstContact counts what the upstream is asked.
func TestCommandsOfAFirstContact(t *testing.T) {
	header := func(n int) string { return "Subject: " + strings.Repeat("x", n) + "\r\n\r\n" }
	for _, tt := range []struct {
		name, command string
		want          []string
	}{
		{"the message tells its class", "UID FETCH 10:12 (BODY.PEEK[])", []string{"UID FETCH 10:12 (UID BODY.PEEK[])"}},
		{"a long piece does", "UID FETCH 10:12 (BODY.PEEK[]<0.9999>)", []string{"UID FETCH 10:12 (UID BODY.PEEK[]<0.9999>)"}},
		{"a header that is asked for", "UID FETCH 10:12 (BODY.PEEK[HEADER])", []string{"UID FETCH 10:12 (UID BODY.PEEK[TEXT]<0.512> BODY.PEEK[HEADER])"}},
		{"header fields", "UID FETCH 10:12 (FLAGS BODY.PEEK[HEADER.FIELDS (Subject)])", []string{"UID FETCH 10:12 (UID BODY.PEEK[HEADER] BODY.PEEK[TEXT]<0.512> FLAGS)"}},
		{"header fields that set \\Seen", "UID FETCH 10:12 (BODY[HEADER.FIELDS (Subject)])", []string{"UID FETCH 10:12 (UID BODY.PEEK[HEADER] BODY.PEEK[TEXT]<0.512> BODY[HEADER.FIELDS (Subject)])"}},
		{"header fields of what changed", "UID FETCH 10:12 (BODY.PEEK[HEADER.FIELDS (Subject)]) (CHANGEDSINCE 1)", []string{"UID FETCH 10:12 (UID BODY.PEEK[HEADER] BODY.PEEK[TEXT]<0.512> BODY.PEEK[HEADER.FIELDS (Subject)]) (CHANGEDSINCE 1)"}},
		{"few messages", "UID FETCH 10:12 (RFC822.SIZE)", []string{"UID FETCH 10:12 (UID BODY.PEEK[HEADER] BODY.PEEK[TEXT]<0.512> RFC822.SIZE)"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &double{}
			d.answer = func(c string) string {
				if !strings.HasPrefix(c, "UID FETCH") {
					return ""
				}
				var b strings.Builder
				for i := range 3 {
					fmt.Fprintf(&b, "* %d FETCH (UID %d", i+1, 10+i)
					h := header(50)
					for item, v := range map[string]string{"BODY.PEEK[HEADER]": h, "BODY.PEEK[TEXT]<0.": "text", "BODY.PEEK[])": h + "text", "BODY.PEEK[]<0.": h + "text"} {
						if strings.Contains(c, item) {
							name := strings.TrimSuffix(strings.Replace(item, ".PEEK", "", 1), ")")
							if strings.HasSuffix(name, ".") {
								name = strings.TrimSuffix(name, ".") + ">"
							}
							fmt.Fprintf(&b, " %s {%d}\r\n%s", name, len(v), v)
						}
					}
					b.WriteString(" RFC822.SIZE 99)\r\n")
				}
				return b.String() + "TAG OK done\r\n"
			}
			d.start(t)
			b := startBridge(t, d.addr, "up", "pw", nil)
			c := login(t, b.addr, user, password)
			c.ok("SELECT INBOX")
			for range 2 { // nothing is asked for twice
				c.ok(tt.command)
			}
			var got []string
			for _, l := range strings.Split(d.received(), "\n") {
				if strings.Contains(l, "FETCH") {
					got = append(got, l)
				}
			}
			if want := append(slices.Clone(tt.want), tt.command); !slices.Equal(got, want) {
				t.Errorf("the upstream was asked %q, want %q", got, want)
			}
		})
	}
}
