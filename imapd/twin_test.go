package imapd_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/mailtest/twin"
	"letterlock.org/letterlock/internal/message"
)

// Differences between a store of plain mail, asked directly, and its encrypted
// twin, read through the bridge. What a message itself looks like is compared by
// package twin, once for each message; here the plain store has the messages as
// they are shown, and nothing else may differ.
//
//	our keywords        FLAGS of opened messages have them; nobody else can set them;
//	                    FLAGS of the mailbox is told again with them, before the first
//	late FLAGS          a keyword that is settled after FLAGS were told is told by an
//	                    untagged FETCH of FLAGS (RFC 3501, Section 7.4.2), also
//	                    through CHANGEDSINCE and QRESYNC; before a CHANGEDSINCE of numbers
//	                    that turn out BAD, too
//	STATUS and LIST     SIZE is how much the upstream stores
//	FETCH responses     of messages that have to be opened first come after others
//	FLAGS and MODSEQ    that change by the command itself are told by themselves or with an
//	                    answer, one by one or once; what is told last is compared, of MODSEQ
//	                    not in a pipeline, where it depends on when Dovecot looks
//	HIGHESTMODSEQ       in the OK of a command: Dovecot tells it when a MODSEQ was fetched that
//	                    is further than what it told of before; and in an untagged OK
//	                    when CONDSTORE is enabled, which our questions may do earlier
//	SEARCH MODSEQ       enables CONDSTORE, but not in Dovecot where another key finds nothing
//	                    and is written so that it knows; half of the sessions enable it
//	                    first, the others don't search for it
//	sections asked for  twice in one FETCH, as with and without PEEK, are answered once; so
//	                    are pieces from the same offset, and the sessions ask for one of those
//	BODY[] with         CHANGEDSINCE and no parentheses is BAD for Dovecot; the sessions have
//	                    them
//	section names       are told as asked for, or with the fields in capitals
//	multipart in a      part ends for Dovecot after the CRLF of the enclosing delimiter, here
//	                    before it (RFC 2046, Section 5.1.1)
//	SENTBEFORE          finds a message without a Date in Dovecot, which takes it to be of
//	                    1970, and not here; the sessions search for other dates
//	LIST                comes in another order now and then, and says \Marked or \UnMarked
//	                    when Dovecot happens to know
//	strings             are quoted or literals, as each likes (RFC 3501, Section 4.3)
var (
	reading      = regexp.MustCompile(`^(?:(?:UID )?(?:FETCH|SEARCH)|STATUS|LIST|NOOP)`)
	isFetch      = regexp.MustCompile(`^\* \d+ FETCH `)
	isExpunge    = regexp.MustCompile(`^\* (?:\d+ EXPUNGE|VANISHED)`)
	literal      = regexp.MustCompile(`\{(\d+)\}\r\n`)
	ourKeyword   = regexp.MustCompile(`(?i) ?\$Letterlock\w+`)
	marked       = regexp.MustCompile(` ?\\(?:Un)?[Mm]arked`)
	statusSize   = regexp.MustCompile(`^(\* STATUS .*)SIZE \d+`)
	emptySection = regexp.MustCompile(`^((?:\* \d+ FETCH )?BODY\[[^\]]*\](?:<\d+>)? )""$`)
	sectionName  = regexp.MustCompile(`^(?:\* \d+ FETCH )?BODY\[[^\]]*\]`)
	nested       = regexp.MustCompile(`(?s)^(?:\* \d+ FETCH )?BODY\[2\] \{\}--y\r\n.*--y--\r\n$`)
	highestCode  = regexp.MustCompile(`^(\S+ OK) \[HIGHESTMODSEQ \d+\]$`)
	lateFlags    = regexp.MustCompile(`^\* \d+ FETCH FLAGS \([^|]*\)(?: \| MODSEQ \(\d+\))?(?: \| UID \d+)?$`)
)

// withoutListed takes the listed differences out of normalised answers.
func withoutListed(lines []string) (out []string, late map[string]int) {
	late = map[string]int{}
	for _, l := range lines {
		l = highestCode.ReplaceAllString(quoted(l), "$1")
		if l == "* OK" {
			continue
		}
		if isList(l) {
			l = marked.ReplaceAllString(l, "")
		}
		l = statusSize.ReplaceAllString(l, "${1}SIZE n")
		if strings.Contains(l, "FETCH") {
			had := ourKeyword.MatchString(l)
			if i := strings.Index(l, "FLAGS ("); i >= 0 {
				end := i + strings.IndexByte(l[i:], ')')
				l = l[:i] + strings.Replace(ourKeyword.ReplaceAllString(l[i:end], ""), "( ", "(", 1) + l[end:]
			}
			if had && lateFlags.MatchString(l) {
				late[l]++
				late["* "+strings.Fields(l)[1]]++
			}
		}
		out = append(out, l)
	}
	return out, late
}

// quoted writes the strings in structures the same way.
func quoted(l string) string {
	if !strings.Contains(l, "FETCH") {
		return l
	}
	parts := strings.Split(l, " | ")
	for i, p := range parts {
		p = emptySection.ReplaceAllString(p, "$1{}")
		if m := sectionName.FindString(p); m != "" {
			p = strings.ToUpper(strings.ReplaceAll(m, `"`, "")) + p[len(m):]
		}
		if m := nested.FindString(p); m != "" {
			p = strings.TrimSuffix(p, "\r\n")
		}
		parts[i] = p
		if !strings.Contains(p, "ENVELOPE (") && !strings.Contains(p, "BODY (") && !strings.Contains(p, "BODYSTRUCTURE (") {
			continue
		}
		for {
			at := literal.FindStringSubmatchIndex(p)
			if at == nil {
				break
			}
			n, _ := strconv.Atoi(p[at[2]:at[3]])
			end := min(len(p), at[1]+n)
			q := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(p[at[1]:end])
			p = p[:at[0]] + `"` + q + `"` + p[end:]
		}
		parts[i] = p
	}
	for i, p := range parts { // asked for twice
		name, _, _ := strings.Cut(p, "] ")
		for k := i + 1; k < len(parts) && strings.Contains(name, "BODY["); k++ {
			if again, _, _ := strings.Cut(parts[k], "] "); isFetch.ReplaceAllString(name, "") == again {
				parts[k] = ""
			}
		}
	}
	parts = slices.DeleteFunc(parts, func(p string) bool { return p == "" })
	return strings.Join(parts, " | ")
}

// sameButListed compares the answers of the twins.
func sameButListed(plain, encrypted []string, pipelined bool) bool {
	plain, _ = withoutListed(plain)
	encrypted, late := withoutListed(withoutDeclared(plain, encrypted))
	for _, lines := range [][]string{plain, encrypted} {
		sortAmong(lines, isList)
	}
	if slices.ContainsFunc(slices.Concat(plain, encrypted), isExpunge.MatchString) {
		return sameInOrder(plain, encrypted, late) // numbers change between answers
	}
	if len(plain) == 1 && strings.HasSuffix(plain[0], " BAD") {
		encrypted = slices.DeleteFunc(encrypted, func(l string) bool { return late[l] > 0 })
	}
	if slices.Equal(plain, encrypted) {
		return true
	}
	p, e := split(plain), split(encrypted)
	for n, flags := range p.flags {
		if e.flags[n] != flags {
			return false
		}
	}
	for n := range e.flags {
		if p.flags[n] == "" && late["* "+n] == 0 {
			return false
		}
	}
	for n, m := range p.modseq {
		if !pipelined && e.modseq[n] != m {
			return false
		}
	}
	return slices.Equal(p.answers, e.answers)
}

// withoutDeclared takes our keywords out of FLAGS of the mailbox, and FLAGS that was
// told again for them.
func withoutDeclared(plain, encrypted []string) (out []string) {
	count := func(lines []string, l string) (n int) {
		for _, o := range lines {
			if o == l {
				n++
			}
		}
		return n
	}
	for _, l := range encrypted {
		if strings.HasPrefix(l, "* FLAGS (") && ourKeyword.MatchString(l) {
			if l = strings.Replace(ourKeyword.ReplaceAllString(l, ""), "( ", "(", 1); count(out, l) >= count(plain, l) {
				continue
			}
		}
		out = append(out, l)
	}
	return out
}

// sameInOrder allows for late flags only, which may stand anywhere, once more
// than in the plain store.
func sameInOrder(plain, encrypted []string, late map[string]int) bool {
	i := 0
	for _, l := range encrypted {
		switch {
		case i < len(plain) && plain[i] == l:
			i++
		case late[l] > 0:
			late[l]--
		default:
			return false
		}
	}
	return i == len(plain)
}

// told is what answers tell: of each message the FLAGS and the MODSEQ that were
// told last, by message number, and everything else.
type told struct {
	answers       []string
	flags, modseq map[string]string
}

func split(lines []string) told {
	t := told{flags: map[string]string{}, modseq: map[string]string{}}
	for _, l := range lines {
		if !isFetch.MatchString(l) {
			t.answers = append(t.answers, l)
			continue
		}
		head := isFetch.FindString(l)
		n := strings.Fields(head)[1]
		var rest []string
		for _, item := range strings.Split(strings.TrimPrefix(l, head), " | ") {
			switch {
			case strings.HasPrefix(item, "FLAGS ("):
				t.flags[n] = item
			case strings.HasPrefix(item, "MODSEQ ("):
				t.modseq[n] = item
			default:
				rest = append(rest, item)
			}
		}
		if len(rest) > 1 || len(rest) == 1 && !strings.HasPrefix(rest[0], "UID ") {
			t.answers = append(t.answers, head+strings.Join(rest, " | "))
		}
	}
	sortAmong(t.answers, isFetch.MatchString)
	return t
}

func isList(l string) bool {
	return strings.HasPrefix(l, "* LIST ") || strings.HasPrefix(l, "* STATUS ")
}

// byMessage sorts FETCH answers by message; those about one stay in their order, since
// what was told last counts.
func byMessage(lines []string) {
	var at []int
	var some []string
	for i, l := range lines {
		if isFetch.MatchString(l) {
			at, some = append(at, i), append(some, l)
		}
	}
	slices.SortStableFunc(some, func(a, b string) int {
		return strings.Compare(isFetch.FindString(a), isFetch.FindString(b))
	})
	for i, k := range at {
		lines[k] = some[i]
	}
}

// sortAmong sorts answers of one kind, each at a place of one of them.
func sortAmong(lines []string, kind func(string) bool) {
	var at []int
	var some []string
	for i, l := range lines {
		if kind(l) {
			at, some = append(at, i), append(some, l)
		}
	}
	slices.Sort(some)
	for i, k := range at {
		lines[k] = some[i]
	}
}

// maker encrypts messages in one of the ways.
func maker(t testing.TB, b *bridge, how twin.How) func(raw []byte) []byte {
	t.Helper()
	switch how {
	case twin.Sealed:
		return func(raw []byte) []byte {
			var out bytes.Buffer
			if err := b.account.Seal(t.Context(), &out, message.Bytes(raw)); err != nil {
				t.Fatal(err)
			}
			return out.Bytes()
		}
	case twin.Protected:
		return func(raw []byte) []byte { return encrypt(t, b.key, raw) }
	}
	g, n := peer.StartGPG(t), 0
	return func(raw []byte) []byte {
		n++
		return g.Encrypt(b.key.Certificate().Bytes(), raw, n%2 == 0)
	}
}

// TestTwins runs random sessions on a store of mail and on its encrypted twin:
// the answers are equal but for the differences listed above.
func TestTwins(t *testing.T) {
	for _, how := range []twin.How{twin.Sealed, twin.Protected, twin.Foreign} {
		t.Run(string(how), func(t *testing.T) { testTwins(t, how) })
	}
}

func testTwins(t *testing.T, how twin.How) {
	const other, otherPassword = "twin@example.test", "twin-pw"
	d := peer.StartDovecot(t, peer.DovecotOptions{Users: map[string]string{peer.Alice: peer.AlicePassword, other: otherPassword}})
	b := startBridge(t, d.Addr, peer.Alice, peer.AlicePassword, nil)
	fillTwins(t, d.Addr, b, how, other, otherPassword)
	sessions := (*differentialSessions + 1) / 2 // there are three kinds of twins
	if testing.Short() {
		sessions = 3
	}
	for n := range sessions {
		seed := *differentialSeed + uint64(n)
		if !twinSession(t, seed, d, b, other, otherPassword) {
			t.Fatalf("seed %d differs", seed)
		}
	}
}

// TestReadingBehindCyrus: what is shown of encrypted mail doesn't depend on the
// server that stores it.
func TestReadingBehindCyrus(t *testing.T) {
	d := peer.StartCyrus(t, map[string]string{peer.Alice: peer.AlicePassword, second: secondPassword})
	b := startBridge(t, d.Addr, peer.Alice, peer.AlicePassword, nil)
	fillTwins(t, d.Addr, b, twin.Protected, second, secondPassword)
	c := login(t, b.addr, user, password)
	c.ok("SELECT A")
	shown := c.fetch("UID FETCH 1:* (FLAGS)")
	for uid, flags := range map[string]string{"1": "$LetterlockEncrypted", "2": "$LetterlockEncrypted"} {
		if got := shown[uid]["FLAGS"]; !strings.Contains(got, flags) {
			t.Errorf("UID %s has %q, want %s", uid, got, flags)
		}
	}
	if got := shown["4"]["FLAGS"]; strings.Contains(got, "$Letterlock") {
		t.Errorf("plain mail has %q", got)
	}
	if got := c.cmd("UID SEARCH KEYWORD $LetterlockEncrypted SUBJECT number"); !strings.HasPrefix(got[0], "* SEARCH 1 2 3") {
		t.Errorf("search in encrypted mail: %q", got)
	}
}

// fillTwins stores mail of many shapes behind the bridge, most of it encrypted,
// and checks each message as it is shown; other's mailboxes at addr get it plain.
func fillTwins(t *testing.T, addr string, b *bridge, how twin.How, other, otherPassword string) {
	t.Helper()
	r := rand.New(rand.NewPCG(11, 11))
	encrypted := maker(t, b, how)
	for _, box := range []string{"INBOX", "A", "B c"} {
		var mail [][]byte
		for i, m := range plainMail(r, 11) {
			if how != twin.Sealed && i%7 == 4 {
				continue // it has no From, so nobody can send it
			}
			if i%2 == 0 { // ours, so that a signature of ours is valid
				m = bytes.Replace(m, fmt.Appendf(nil, "<a%d@example.org>", i), []byte("<"+user+">"), 1)
			}
			mail = append(mail, m)
		}
		store := login(t, addr, peer.Alice, peer.AlicePassword)
		store.cmd(`CREATE "` + box + `"`)
		for i, m := range mail {
			if i%5 != 3 { // a few stay plain
				m = encrypted(m)
			}
			store.upload(`"`+box+`"`, `(foo) "01-Mar-2026 10:00:00 +0100" `, m)
		}
		c := login(t, b.addr, user, password)
		c.ok(`EXAMINE "` + box + `"`)
		shown := c.fetch("UID FETCH 1:* (BODY.PEEK[] FLAGS)")
		plain := login(t, addr, other, otherPassword)
		plain.cmd(`CREATE "` + box + `"`)
		for i, m := range mail {
			got := []byte(shown[fmt.Sprint(i+1)]["BODY[]"])
			want := how
			if i%5 == 3 {
				want = twin.Sealed // nothing may differ
			}
			if err := twin.Check(m, got, want); err != nil {
				t.Errorf("%s, message %d: %v", box, i+1, err)
			}
			plain.upload(`"`+box+`"`, `(foo) "01-Mar-2026 10:00:00 +0100" `, got)
		}
		for _, c := range []*client{c, plain, store} {
			c.ok("LOGOUT")
		}
	}
}

func twinSession(t *testing.T, seed uint64, d *peer.DovecotServer, b *bridge, other, otherPassword string) bool {
	g := &generator{r: rand.New(rand.NewPCG(seed, 2))}
	plain := &side{c: login(t, d.Addr, other, otherPassword), other: login(t, d.Addr, other, otherPassword), validity: map[string]string{"A": "1"}}
	enc := &side{c: login(t, b.addr, user, password), other: login(t, d.Addr, peer.Alice, peer.AlicePassword), validity: map[string]string{"A": "1"}, ordered: true}
	defer func() {
		for _, c := range []*client{plain.c, plain.other, enc.c, enc.other} {
			c.conn.Close()
		}
	}()
	both := func(tag string, batch ...string) (want, got []string, same bool) {
		for i := range batch {
			batch[i] = strings.ReplaceAll(batch[i], "SENTBEFORE 1-Jan-2027", "SENTSINCE 1-Jan-2000")
			batch[i] = strings.ReplaceAll(batch[i], " BODY[] (CH", " (BODY[]) (CH")
			if seed%2 == 0 && strings.Contains(batch[i], "SEARCH") {
				batch[i] = strings.ReplaceAll(batch[i], " MODSEQ 3", "")
			}
			if strings.Count(batch[i], "[TEXT]<0.") > 1 {
				batch[i] = "NOOP"
			}
		}
		want, got = plain.play(t, tag, batch), enc.play(t, tag, batch)
		return want, got, sameButListed(want, got, len(batch) > 1)
	}
	for i := range 40 {
		tag := fmt.Sprintf("s%d", i)
		batch := []string{g.command()}
		switch k := g.r.IntN(20); {
		case i == 0:
			if seed%2 == 1 {
				both("c", "ENABLE CONDSTORE")
			}
			batch = []string{"SELECT A"}
			plain.last, enc.last = "A", "A"
		case k < 4:
			batch = []string{"NOOP"}
			for range 2 + g.r.IntN(9) {
				// What is told beside other answers depends too much on time.
				if c := g.command(); reading.MatchString(c) && !strings.Contains(c, "SINCE") {
					batch = append(batch, c)
				}
			}
		case k == 4:
			box := g.box()
			for _, c := range []string{"SELECT " + box, "STORE 1 +FLAGS (\\Flagged)", "CLOSE"} {
				plain.other.cmd(c)
				enc.other.cmd(c)
			}
			batch = []string{"NOOP"}
		}
		want, got, same := both(tag, batch...)
		if i > 0 {
			plain.last, enc.last = "", ""
		}
		if !same {
			show(t, seed, i, batch, want, got)
			return false
		}
	}
	for n, box := range []string{"INBOX", "A", `"B c"`} { // what is left is the same
		batch := []string{"SELECT " + box, "UID FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[])"}
		for k, c := range batch {
			if want, got, same := both(fmt.Sprintf("e%d%d", n, k), c); !same {
				show(t, seed, 40+n, batch, want, got)
				return false
			}
		}
	}
	return true
}

func show(t *testing.T, seed uint64, i int, batch, want, got []string) {
	t.Helper()
	want, _ = withoutListed(want)
	got, _ = withoutListed(got)
	for _, lines := range [][]string{want, got} {
		sortAmong(lines, isFetch.MatchString)
	}
	t.Errorf("seed %d, batch %d: %.600q: %d and %d answers", seed, i, batch, len(want), len(got))
	t.Errorf("ends %.200q and %.200q", want[len(want)-1], got[len(got)-1])
	for k, n := 0, 0; k < max(len(want), len(got)) && n < 4; k++ {
		var w, g string
		if k < len(want) {
			w = want[k]
		}
		if k < len(got) {
			g = got[k]
		}
		if w == g {
			continue
		}
		n++
		at := 0
		for at < len(w) && at < len(g) && w[at] == g[at] {
			at++
		}
		from := max(0, at-60)
		t.Errorf("answer %d, %.40q, from byte %d on\nplain:     %.300q\nencrypted: %.300q", k, w, from, w[min(from, len(w)):], g[min(from, len(g)):])
	}
}
