package imapd_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/imapd"
	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/internal/mailtest/peer"
)

var (
	differentialSeed     = flag.Uint64("differential.seed", 1, "first seed of the differential test")
	differentialSessions = flag.Int("differential.sessions", 12, "sessions of the differential test")
)

// plainMail is mail of many shapes, none of it ours to touch.
func plainMail(r *rand.Rand, n int) [][]byte {
	body := func(k int) string {
		var b strings.Builder
		for b.Len() < k {
			b.WriteString([]string{"lorem", "ipsum", "dolor ", "sit\r\n", "gr\xc3\xbc\xc3\x9fe ", ".\r\n", "\r\n\r\n", "{5}\r\n", "a1 NOOP\r\n"}[r.IntN(9)])
		}
		return b.String()
	}
	var all [][]byte
	for i := range n {
		h := fmt.Sprintf("From: \"A \\\"x\\\" B\" <a%d@example.org>\r\nTo: bob@example.test,\r\n\tcarol <c@example.test>\r\nSubject: =?utf-8?q?number_%d?= and\r\n more\r\nDate: Tue, 3 Mar 2026 10:%02d:00 +0100\r\nMessage-ID: <m%d@example.org>\r\n", i, i, i%60, i)
		switch i % 7 {
		case 0:
			h += "\r\n" + body(r.IntN(300))
		case 1:
			h += "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + body(5000)
		case 2:
			h += "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b%\"\r\n\r\npreamble\r\n--b%\r\n\r\n" + body(100) +
				"\r\n--b%\r\nContent-Type: application/octet-stream; name=\"x y.bin\"\r\nContent-Disposition: attachment; filename=\"x y.bin\"\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJD\r\n--b%--\r\nepilogue\r\n"
		case 3:
			h += "MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\nFrom: inner@example.org\r\nSubject: inner\r\n\r\ninner " + body(50)
		case 4:
			h = "no header at all\r\n\r\n" + body(40)
		case 5:
			h += "MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\none\r\n--x\r\nContent-Type: multipart/related; boundary=y\r\n\r\n--y\r\nContent-Type: text/html\r\n\r\n<p>" + body(200) + "\r\n--y--\r\n--x--\r\n"
		case 6:
			h += "\r\n" + body(100_000)
		}
		all = append(all, []byte(h))
	}
	return all
}

// side is one of the twins: Dovecot itself, or the bridge before it.
type side struct {
	c        *client
	other    *client           // changes the same store from elsewhere, directly
	validity map[string]string // by mailbox
	last     string            // mailbox selected last
	ordered  bool              // answers come in the order of commands
	loose    bool              // Courier spells the fields of a section as it likes, and has one word for NO and BAD
	strict   bool              // with QRESYNC, Cyrus adds UID to an answer that tells flags unasked; the bridge, which asked for it, takes it out
}

// generator makes commands. $V stands for the mailbox's UIDVALIDITY.
type generator struct {
	r      *rand.Rand
	prefix string // of all mailboxes but INBOX
	strict bool   // a SELECT that the server takes for BAD: it keeps the mailbox open, the bridge doesn't (RFC 9051, Section 6.3.2, tells only of NO)
}

func (g *generator) pick(s ...string) string { return s[g.r.IntN(len(s))] }

func (g *generator) box() string {
	return g.pick("INBOX", "INBOX", g.prefix+"A", `"`+g.prefix+`B c"`, g.prefix+"Drafts")
}

func (g *generator) set() string {
	n := func() string { return g.pick("1", "2", "3", "5", "8", "13", "*", "4", "7", "30") }
	one := func() string {
		if g.r.IntN(2) == 0 {
			return n()
		}
		first, last := n(), n()
		if a, _ := strconv.Atoi(first); g.prefix != "" { // Courier finds nothing in a range that descends
			if b, _ := strconv.Atoi(last); first == "*" || last != "*" && a > b {
				first, last = last, first
			}
		}
		return first + ":" + last
	}
	s := one()
	for g.r.IntN(4) == 0 {
		s += "," + one()
	}
	if g.r.IntN(3) == 0 {
		s = "1:*"
	}
	return s
}

func (g *generator) items() string {
	one := func() string {
		return g.pick("FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY", "BODYSTRUCTURE", "MODSEQ",
			"BODY[]", "BODY.PEEK[]", "BODY.PEEK[HEADER]", "BODY.PEEK[TEXT]", "BODY.PEEK[1]", "BODY.PEEK[1.MIME]", "BODY.PEEK[2]",
			"BODY.PEEK[2.1]", "BODY.PEEK[1.HEADER]", "BODY.PEEK[1.TEXT]", "BODY[HEADER]", "RFC822", "RFC822.HEADER", "RFC822.TEXT",
			"BODY.PEEK[HEADER.FIELDS (From To Cc Subject Content-Type)]", "BODY.PEEK[HEADER.FIELDS.NOT (Received \"To\")]",
			"body.peek[header.fields (Message-ID)]", "BODY.PEEK[]<0.100>", "BODY.PEEK[]<20.65536>", "BODY.PEEK[TEXT]<0.2048>",
			"BODY.PEEK[TEXT]<0.10>", "BODY.PEEK[TEXT]<5.7>", "BODY.PEEK[HEADER]<10.20>", "BODY.PEEK[HEADER.FIELDS (Subject)]<3.9>",
			"BODY.PEEK[1]<0.50>", "BODY[TEXT]<0.600>", "BODY.PEEK[9]")
	}
	if g.r.IntN(6) == 0 {
		return g.pick("ALL", "FAST", "FULL", "FLAGS", "RFC822", "BODY[]")
	}
	var list []string
	for range 1 + g.r.IntN(4) {
		list = append(list, one()) // the same twice, too
	}
	return "(" + strings.Join(list, " ") + ")"
}

func (g *generator) search() string {
	key := func() string {
		return g.pick("ALL", "SEEN", "UNDELETED", "FLAGGED", "SUBJECT number", "FROM a1", "BODY lorem", "TEXT ipsum", "HEADER Message-ID m3",
			"LARGER 1000", "SMALLER 5000", "UID 2:9", "1:5", "NOT SEEN", "OR SEEN FLAGGED", "(SEEN UNDELETED)", "KEYWORD foo", "SINCE 1-Jan-2026",
			"SENTBEFORE 1-Jan-2027", "NEW", "TO carol", "MODSEQ 3")
	}
	s := key()
	for g.r.IntN(3) == 0 {
		s += " " + key()
	}
	if g.r.IntN(3) == 0 {
		s = "RETURN (" + g.pick("ALL", "MIN MAX", "COUNT", "", "ALL COUNT") + ") " + s
	}
	return s
}

func (g *generator) uid() string { return g.pick("", "UID ") }

// command makes one that Courier has too, if it is for Courier: it hangs up after
// ten in a row that it doesn't know.
func (g *generator) command() string {
	for {
		if c := g.any(); g.prefix == "" || !extension.MatchString(c) {
			return c
		}
	}
}

func (g *generator) any() string {
	switch g.r.IntN(26) {
	case 0, 1:
		return g.pick("SELECT ", "SELECT ", "EXAMINE ") + g.box() + g.pick("", "", " (CONDSTORE)")
	case 2, 3, 4, 5, 6, 7, 8:
		c := g.uid() + "FETCH " + g.set() + " " + g.items()
		if g.r.IntN(8) == 0 {
			if whole, bare := strings.CutSuffix(c, " BODY[]"); bare { // Dovecot takes no modifier behind it
				c = whole + " (BODY[])"
			}
			c += fmt.Sprintf(" (CHANGEDSINCE %d)", 1+g.r.IntN(20))
		}
		return c
	case 9, 10, 11:
		c := g.uid() + "STORE " + g.set() + " "
		if g.r.IntN(8) == 0 {
			c += fmt.Sprintf("(UNCHANGEDSINCE %d) ", 1+g.r.IntN(20))
		}
		return c + g.pick("+FLAGS", "-FLAGS", "FLAGS", "+FLAGS.SILENT", "FLAGS.SILENT") + " " + g.pick(`(\Seen)`, `(\Deleted)`, `\Flagged`, `(foo $Bar)`, `(\Answered \Draft)`, "()")
	case 12:
		return g.uid() + "COPY " + g.set() + " " + g.box()
	case 13:
		return g.uid() + "MOVE " + g.pick("1", "2", "3:4", "*") + " " + g.box()
	case 14:
		return g.pick("EXPUNGE", "UID EXPUNGE "+g.set())
	case 15, 16, 17:
		return g.uid() + "SEARCH " + g.search()
	case 18:
		return "STATUS " + g.box() + " (" + g.pick("MESSAGES UNSEEN", "UIDNEXT RECENT", "HIGHESTMODSEQ", "SIZE") + ")"
	case 19:
		return g.pick(`LIST "" "*"`, `LIST "" %`, `LSUB "" "*"`, `LIST "" "" `, `LIST (SUBSCRIBED) "" "*" RETURN (SPECIAL-USE)`, `LIST "" "*" RETURN (STATUS (MESSAGES))`, "NAMESPACE")
	case 20:
		p := g.prefix
		return g.pick("CREATE "+p+"tmp", "DELETE "+p+"tmp", "SUBSCRIBE "+p+"A", "UNSUBSCRIBE "+p+"A", "RENAME "+p+"tmp "+p+"tmp2", "DELETE "+p+"tmp2")
	case 21:
		return g.pick("CLOSE", "UNSELECT", "CHECK", "ENABLE CONDSTORE", "ENABLE QRESYNC")
	case 22:
		m := plainMail(g.r, 1+g.r.IntN(6))
		b := m[len(m)-1]
		return fmt.Sprintf("APPEND %s %s\"03-Mar-2026 10:00:00 +0100\" {%d+}\r\n%s", g.box(), g.pick("", `(\Seen) `, `(\Draft foo) `), len(b), b)
	case 23:
		if g.strict {
			return "SELECT " + g.prefix + "A (CONDSTORE)"
		}
		return "SELECT " + g.prefix + "A (QRESYNC ($V " + fmt.Sprint(1+g.r.IntN(9)) + "))"
	}
	return "NOOP"
}

var (
	validityCode = regexp.MustCompile(`\[UIDVALIDITY (\d+)\]`)
	validityOf   = regexp.MustCompile(`(\[(?:UIDVALIDITY|APPENDUID|COPYUID) )\d+`)
	extension    = regexp.MustCompile(`CONDSTORE|QRESYNC|CHANGEDSINCE|MODSEQ|RETURN|MOVE|ENABLE|LIST \(|UNSELECT`)
	fieldNames   = regexp.MustCompile(`BODY\[[^\]{}]*\]`)
	bigNumber    = regexp.MustCompile(`\b1[67]\d{8}\b|\b2[0-4]\d{8}\b`) // UIDVALIDITY is the time
	ambiguous    = regexp.MustCompile(`^(UID )?(MOVE|EXPUNGE|COPY|APPEND)`)
	flagsOnly    = regexp.MustCompile(`^\* \d+ FETCH (?:FLAGS [^|]*|MODSEQ \(\d+\)|FLAGS [^|]* \| MODSEQ \(\d+\))(?: \| UID \d+)?$`)
	seenNow      = regexp.MustCompile(`(?s)^\* \d+ FETCH .*FLAGS \([^|]*\\Seen[^|]*\) \| .*MODSEQ \(`)
	extraUID     = regexp.MustCompile(` \| UID \d+$`)
	modseqCode   = regexp.MustCompile(` \[HIGHESTMODSEQ \d+\]`)
	objectCode   = regexp.MustCompile(`(\[MAILBOXID|MAILBOXID) \([^)]*\)`) // RFC 8474: each account's own
	statusText   = regexp.MustCompile(`^(\S+ (?:OK|NO|BAD|BYE)(?: \[[^\]]*\])?).*`)
)

// normal gives a response without what must differ: the text for people, and
// UIDVALIDITY. The items of a FETCH are sorted.
func normal(t *testing.T, r string) string {
	if strings.HasPrefix(r, "* LIST ") { // when Dovecot notices new mail depends on time
		r = marked.ReplaceAllString(r, "")
	}
	r = objectCode.ReplaceAllString(r, "$1 ()")
	if m := statusText.FindStringSubmatch(r); m != nil {
		m[1] = validityOf.ReplaceAllString(m[1], "${1}V")
		return bigNumber.ReplaceAllString(m[1], "V")
	}
	if f := strings.SplitN(r, " ", 4); len(f) == 4 && f[2] == "FETCH" {
		rr := wire.NewResponseReader(strings.NewReader(r+"\r\n"), wire.Limits{})
		if _, err := rr.Next(); err != nil {
			t.Fatal(err)
		}
		fr, err := rr.Fetch()
		if err != nil {
			t.Fatalf("%q: %v", r, err)
		}
		var items []string
		for {
			i, err := fr.Next()
			if err != nil {
				break
			}
			v := string(i.Value)
			name := string(i.Name)
			if i.Literal {
				var b strings.Builder
				_ = fr.Copy(&b)
				v = "{}" + b.String()
			}
			items = append(items, name+" "+v)
		}
		slices.Sort(items)
		return "* " + f[1] + " FETCH " + strings.Join(items, " | ")
	}
	return bigNumber.ReplaceAllString(r, "V")
}

// play sends a batch at once and gives the normalised answers.
func (s *side) play(t *testing.T, tag string, batch []string) []string {
	var b strings.Builder
	for i, c := range batch {
		fmt.Fprintf(&b, "%s.%d %s\r\n", tag, i, strings.ReplaceAll(c, "$V", s.validity["A"]))
	}
	go s.c.send(b.String())
	var out, tagged []string
	for len(tagged) < len(batch) { // Dovecot answers pipelined commands in an order of its own
		r := s.c.response()
		if m := validityCode.FindStringSubmatch(r); m != nil && s.last == "A" {
			s.validity["A"] = m[1]
		}
		if strings.HasPrefix(r, tag) {
			if len(batch) > 1 { // of several it stands with one, or with another
				r = modseqCode.ReplaceAllString(r, "")
			}
			if r = normal(t, r); s.loose {
				r = strings.Replace(r, " BAD", " NO", 1)
			}
			tagged = append(tagged, r)
			continue
		}
		r = normal(t, r)
		if s.loose {
			r = fieldNames.ReplaceAllStringFunc(r, func(m string) string { return strings.ToUpper(strings.ReplaceAll(m, `"`, "")) })
			head := isFetch.FindString(r) // an item that was asked for twice is told twice
			r = head + strings.Join(slices.Compact(strings.Split(r[len(head):], " | ")), " | ")
		}
		if s.strict && seenNow.MatchString(r) {
			r = extraUID.ReplaceAllString(r, "")
		}
		if flagsOnly.MatchString(r) && len(batch) > 1 {
			continue // when Dovecot tells of changes, and how often, depends on time
		}
		out = append(out, r)
	}
	if s.ordered && !slices.IsSorted(tagged) && len(batch) < 10 {
		t.Errorf("answers out of order: %q", tagged)
	}
	slices.Sort(tagged)
	if !slices.ContainsFunc(out, isExpunge.MatchString) {
		// When a mailbox is met first, messages come last of whose header
		// readers may disagree which fields it has.
		byMessage(out)
	}
	if s.loose { // and answers twice for what a set names twice
		out = slices.Compact(out)
	}
	if len(batch) > 1 {
		slices.Sort(out) // changes of flags are told sooner or later
	}
	return append(out, tagged...)
}

// idle stays in IDLE while change is made from elsewhere, and gives what came,
// with only the last of counts that follow one another.
func (s *side) idle(t *testing.T, tag, change string) []string {
	s.c.send(tag + " IDLE\r\n")
	var out []string
	for {
		r := s.c.response()
		if strings.HasPrefix(r, "+") || strings.HasPrefix(r, tag) {
			break
		}
	}
	s.other.cmd(change)
	time.Sleep(700 * time.Millisecond) // Dovecot waits a while before it tells
	s.c.send("DONE\r\n")
	for _, r := range s.c.until(tag) {
		if strings.HasPrefix(r, "* OK Still") {
			continue
		}
		out = append(out, normal(t, r))
	}
	return out
}

const second, secondPassword = "twin@example.test", "twin-pw"

// twins are two equal mail stores on one server: one is reached directly, the
// other through the bridge.
type twins struct {
	name, addr string
	strict     bool   // refuses mail without a header
	asked      bool   // is Courier: has no LITERAL+, and more
	prefix     string // of all mailboxes but INBOX
	bridge     *bridge
}

// TestDifferential runs random sessions on twin mail stores, against Dovecot
// itself and through the bridge: on plain mail the answers are equal item by
// item. Reproduce with -differential.seed.
func TestDifferential(t *testing.T) {
	d := peer.StartDovecot(t, peer.DovecotOptions{Users: map[string]string{peer.Alice: peer.AlicePassword, second: secondPassword}})
	differential(t, twins{name: "Dovecot", addr: d.Addr})
}

// TestDifferentialCyrus does the same with Cyrus, whose answers come in other
// orders and forms.
func TestDifferentialCyrus(t *testing.T) {
	c := peer.StartCyrus(t, map[string]string{peer.Alice: peer.AlicePassword, second: secondPassword})
	differential(t, twins{name: "Cyrus", addr: c.Addr, strict: true})
}

// login logs in to the server itself.
func (d twins) login(t *testing.T, user, password string) *client {
	t.Helper()
	c := login(t, d.addr, user, password)
	c.asked = d.asked
	return c
}

func differential(t *testing.T, d twins) {
	r := rand.New(rand.NewPCG(7, 7))
	for _, box := range []string{"INBOX", d.prefix + "A", d.prefix + "B c"} {
		mail := plainMail(r, 9)
		for u, p := range map[string]string{peer.Alice: peer.AlicePassword, second: secondPassword} {
			c := d.login(t, u, p)
			c.cmd(`CREATE "` + box + `"`)
			for _, m := range mail {
				if d.strict && bytes.HasPrefix(m, []byte("no header")) {
					continue
				}
				c.upload(`"`+box+`"`, `(foo) "01-Mar-2026 10:00:00 +0100" `, m)
			}
			c.cmd("LOGOUT")
		}
	}
	d.bridge = startBridge(t, d.addr, peer.Alice, peer.AlicePassword, func(_ *imapd.Config, a *imapd.Account) {
		a.Append = imapd.AppendNone
	})
	sessions := *differentialSessions
	if d.asked {
		sessions = (sessions + 1) / 2 // in IDLE it is slow
	}
	if testing.Short() {
		sessions = 3
	}
	for n := range sessions {
		seed := *differentialSeed + uint64(n)
		if !d.session(t, seed) {
			t.Fatalf("seed %d differs", seed)
		}
	}
}

// session runs one session on both, and tells whether the answers were equal.
func (d twins) session(t *testing.T, seed uint64) bool {
	g := &generator{r: rand.New(rand.NewPCG(seed, 1)), strict: d.strict, prefix: d.prefix}
	direct := &side{c: d.login(t, second, secondPassword), other: d.login(t, second, secondPassword), validity: map[string]string{"A": "1"}}
	bridged := &side{c: login(t, d.bridge.addr, user, password), other: d.login(t, peer.Alice, peer.AlicePassword), validity: map[string]string{"A": "1"}}
	bridged.ordered = true
	direct.strict, bridged.strict = d.strict, d.strict
	direct.loose, bridged.loose = d.asked, d.asked
	defer func() {
		for _, s := range []*side{direct, bridged} {
			s.c.conn.Close()
			s.other.conn.Close()
		}
	}()
	for i := range 40 {
		tag := fmt.Sprintf("s%d", i)
		var batch []string
		var want, got []string
		switch k := g.r.IntN(20); {
		case i == 0:
			batch = []string{"SELECT " + d.prefix + "A"}
			direct.last, bridged.last = "A", "A"
		case k == 0:
			batch = []string{"NOOP"}
			for range 2 + g.r.IntN(9) {
				// A sequence number after one of these is ambiguous (RFC 3501, Section 5.5).
				if c := g.command(); !ambiguous.MatchString(c) {
					batch = append(batch, c)
				}
			}
		case k == 1:
			box := g.box()
			change := []string{"SELECT " + box, "STORE 1 +FLAGS (\\Flagged)", "APPEND " + box + " \"03-Mar-2026 10:00:00 +0100\" {25+}\r\nSubject: new\r\n\r\nhello\r\n\r\n", "CLOSE"}
			for _, c := range change {
				direct.other.cmd(c)
				bridged.other.cmd(c)
			}
			batch = []string{"NOOP"}
		case k == 2 && i > 1:
			change := "APPEND " + d.prefix + "A \"03-Mar-2026 10:00:00 +0100\" {25+}\r\nSubject: new\r\n\r\nhello\r\n\r\n"
			done := make(chan []string)
			go func() { done <- direct.idle(t, tag, change) }()
			got = bridged.idle(t, tag, change)
			want = <-done
			batch = []string{"IDLE"}
		default:
			batch = []string{g.command()}
		}
		if want == nil {
			want, got = direct.play(t, tag, batch), bridged.play(t, tag, batch)
			if len(batch) > 0 && i > 0 {
				direct.last, bridged.last = "", ""
			}
		}
		for i, w := range want {
			// Dovecot tells it with the first answer after QRESYNC is enabled. Where that
			// was to a question of our own it isn't passed on: the client may not have been
			// told of what is expunged yet.
			if i < len(got) && highestCode.ReplaceAllString(w, "$1") == got[i] {
				want[i] = got[i]
			}
		}
		if !slices.Equal(want, got) {
			short := func(s []string) string {
				var out []string
				for _, l := range s {
					if slices.Contains(want, l) && slices.Contains(got, l) {
						continue
					}
					if out = append(out, fmt.Sprintf("%.400q … %q", l, l[max(0, len(l)-200):])); len(out) > 10 {
						break
					}
				}
				return strings.Join(out, "\n  ")
			}
			t.Errorf("seed %d, batch %d: %.300q\n%s:\n  %s\nbridge:\n  %s", seed, i, batch, d.name, short(want), short(got))
			return false
		}
	}
	return true
}

// TestDifferentialCourier does the same with Courier, which has few extensions,
// and its mailboxes below INBOX.
func TestDifferentialCourier(t *testing.T) {
	c := peer.StartCourier(t, map[string]string{peer.Alice: peer.AlicePassword, second: secondPassword})
	differential(t, twins{name: "Courier", addr: c.Addr, asked: true, prefix: "INBOX."})
}
