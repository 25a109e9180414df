package imapd_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/internal/message"
)

// moving is an upstream whose mail comes and goes whenever the standard lets it say so
// (RFC 3501, Sections 7.3.1 and 7.4.1): EXISTS in any answer, EXPUNGE in all but
// those to FETCH, STORE and SEARCH by number.
type moving struct {
	odd
	rng  *rand.Rand
	made func(uid uint32) []byte

	mu     sync.Mutex
	byUID  bool     // guarded by mu: QRESYNC is enabled
	next   uint32   // guarded by mu, as are the mail and the UIDs
	did    []string // guarded by mu: what was stored or copied, by UID
	errors []string // guarded by mu
}

func (m *moving) answer(c string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	name, rest, _ := strings.Cut(c, " ")
	byUID := name == "UID"
	if byUID {
		name, rest, _ = strings.Cut(rest, " ")
	}
	free := byUID || !slices.Contains([]string{"FETCH", "STORE", "SEARCH"}, name)
	before, reply := "", ""
	if byUID {
		before = m.move(free)
	}
	switch name {
	case "SEARCH":
		reply = m.search(byUID, c)
	case "STORE", "COPY":
		set, err := wire.ParseSet([]byte(strings.Fields(rest)[0]))
		if err != nil {
			return "TAG BAD set\r\n"
		}
		for i, uid := range m.uids {
			n, last := uint32(i+1), uint32(len(m.uids))
			if byUID {
				n, last = uid, m.uids[len(m.uids)-1]
			}
			if within(set, n, last) {
				m.did = append(m.did, fmt.Sprint(name, " ", uid))
			}
		}
		reply = "TAG OK done\r\n"
	case "SELECT":
		return m.reply(c)
	case "ENABLE":
		m.byUID = true
		return "* ENABLED QRESYNC\r\nTAG OK done\r\n"
	case "IDLE":
		return "+ idling\r\n" + m.move(free)
	default:
		reply = m.reply(c)
	}
	body, tagged, _ := strings.Cut(reply, "TAG OK")
	return before + body + m.move(free) + "TAG OK" + tagged
}

func within(set wire.Set, n, last uint32) bool {
	return slices.ContainsFunc(set.Resolve(last), func(r wire.Range) bool { return r.First <= n && n <= r.Last })
}

// move lets mail come, and go where that may be told, and tells flags, in which is
// whose they are.
func (m *moving) move(free bool) string {
	var told strings.Builder
	for m.rng.IntN(4) == 0 && free && len(m.uids) > 3 {
		i := m.rng.IntN(len(m.uids))
		gone := fmt.Sprintf("* %d EXPUNGE\r\n", i+1)
		if m.byUID {
			gone = fmt.Sprintf("* VANISHED %d\r\n", m.uids[i])
		}
		told.WriteString(gone)
		m.uids, m.mail = slices.Delete(m.uids, i, i+1), slices.Delete(m.mail, i, i+1)
	}
	for m.rng.IntN(4) == 0 {
		m.uids, m.mail = append(m.uids, m.next), append(m.mail, m.made(m.next))
		m.next++
		fmt.Fprintf(&told, "* %d EXISTS\r\n", len(m.uids))
	}
	for m.rng.IntN(4) == 0 {
		i := m.rng.IntN(len(m.uids))
		uid := fmt.Sprintf("UID %d ", m.uids[i])
		if !m.byUID && m.rng.IntN(2) == 0 { // RFC 7162, Section 3.2.3
			uid = ""
		}
		fmt.Fprintf(&told, "* %d FETCH (%sFLAGS (of-%d))\r\n", i+1, uid, m.uids[i])
	}
	return told.String()
}

// search answers SEARCH.
func (m *moving) search(byUID bool, c string) string {
	cmd, err := wire.NewCommandReader(strings.NewReader("x "+c+"\r\n"), wire.Limits{}).Next()
	if err != nil {
		m.errors = append(m.errors, c)
		return "TAG BAD command\r\n"
	}
	args, extended := cmd.Args, false
	if args[0].Is("RETURN") {
		args, extended = args[2:], true
	}
	var found []uint32
	for i, uid := range m.uids {
		all := true
		for rest := args; len(rest) > 0; {
			var is bool
			is, rest = m.key(rest, i)
			all = all && is
		}
		if all && byUID {
			found = append(found, uid)
		} else if all {
			found = append(found, uint32(i+1))
		}
	}
	switch {
	case !extended:
		return searchLine(found) + "TAG OK done\r\n"
	case len(found) == 0:
		return "* ESEARCH (TAG \"TAG\")\r\nTAG OK done\r\n"
	case byUID:
		return "* ESEARCH (TAG \"TAG\") UID ALL " + wire.MakeSet(found).String() + "\r\nTAG OK done\r\n"
	}
	return "* ESEARCH (TAG \"TAG\") ALL " + wire.MakeSet(found).String() + "\r\nTAG OK done\r\n"
}

// key tells whether a message is found by the first of the keys, and gives the others.
func (m *moving) key(keys []wire.Token, i int) (is bool, rest []wire.Token) {
	k, rest := keys[0], keys[1:]
	switch {
	case k.Kind == wire.List:
		is = true
		for in := k.List; len(in) > 0; {
			var one bool
			one, in = m.key(in, i)
			is = is && one
		}
		return is, rest
	case k.Is("ALL"):
		return true, rest
	case k.Is("NOT"):
		is, rest = m.key(rest, i)
		return !is, rest
	case k.Is("OR"):
		a, rest := m.key(rest, i)
		b, rest := m.key(rest, i)
		return a || b, rest
	case k.Is("SUBJECT"):
		return strings.Contains(string(m.mail[i]), "Subject: "+rest[0].Text()), rest[1:]
	case k.Is("UID"):
		set, err := wire.ParseSet(rest[0].Value)
		return err == nil && within(set, m.uids[i], m.uids[len(m.uids)-1]), rest[1:]
	}
	set, err := wire.ParseSet(k.Value)
	if err != nil {
		m.errors = append(m.errors, k.Text())
	}
	return err == nil && within(set, uint32(i+1), uint32(len(m.uids))), rest
}

// mover is a client that keeps the list of its messages by what it is told.
type mover struct {
	*client
	up   *moving
	uids []uint32 // by number; 0 is not known
	old  int      // how many there were when the commands were sent: the others may have come too late
}

var shownUID = regexp.MustCompile(`(?:this is |of-|<|secret)(\d+)`)

// take takes one untagged response to a command.
func (c *mover) take(r, command string) {
	c.t.Helper()
	f := strings.Fields(r)
	n, _ := strconv.Atoi(f[1])
	switch {
	case len(f) > 2 && f[2] == "EXISTS":
		if n < len(c.uids) {
			c.t.Fatalf("%s: %q of %d", command, r, len(c.uids))
		}
		c.uids = append(c.uids, make([]uint32, n-len(c.uids))...)
	case len(f) > 2 && f[2] == "EXPUNGE":
		if quietCommand(command) {
			c.t.Fatalf("%s: %q", command, r)
		}
		if uid := c.uids[n-1]; uid != 0 && slices.Contains(c.up.uids, uid) {
			c.t.Fatalf("%s: %q is of UID %d, which is there", command, r, uid)
		}
		c.uids = slices.Delete(c.uids, n-1, n)
	case f[1] == "VANISHED":
		if quietCommand(command) {
			c.t.Fatalf("%s: %q", command, r)
		}
		set, err := wire.ParseSet([]byte(f[2]))
		if err != nil {
			c.t.Fatalf("%s: %q", command, r)
		}
		for uid := uint32(1); uid < c.up.next; uid++ {
			if within(set, uid, 0) {
				c.vanished(uid)
			}
		}
	case len(f) > 2 && f[2] == "FETCH":
		m := items(c.t, r)
		for _, said := range []string{m["UID"], m["BODY[]"], m["BODY[TEXT]"], m["FLAGS"], m["BODY[HEADER.FIELDS (MESSAGE-ID)]"], m["ENVELOPE"]} {
			if in := shownUID.FindStringSubmatch(said); in != nil {
				said = in[1]
			}
			if uid, err := strconv.Atoi(said); err == nil {
				if have := c.uids[n-1]; have != 0 && have != uint32(uid) {
					c.t.Fatalf("%s: number %d is UID %d, and told to be %d", command, n, have, uid)
				}
				c.uids[n-1] = uint32(uid)
			}
		}
		if strings.Contains(m["BODY[]"]+m["BODY[TEXT]"], "PGP") {
			c.t.Fatalf("%s: ciphertext", command)
		}
	case f[1] == "SEARCH":
		c.found(f[2:], command)
	}
}

// vanished takes a message from the list: where its UID isn't known, one of those that
// it may be.
func (c *mover) vanished(uid uint32) {
	c.t.Helper()
	at := -1
	for i, known := range c.uids {
		switch {
		case known == uid:
			at = i
		case known == 0 && at < 0, known != 0 && known < uid:
			if at = -1; known == 0 {
				at = i
			}
		}
		if known >= uid {
			break
		}
	}
	if at < 0 || slices.Contains(c.up.uids, uid) {
		c.t.Fatalf("UID %d vanished of %v; there are %v", uid, c.uids, c.up.uids)
	}
	c.uids = slices.Delete(c.uids, at, at+1)
}

func quietCommand(command string) bool {
	return strings.HasPrefix(command, "FETCH") || strings.HasPrefix(command, "STORE") || strings.HasPrefix(command, "SEARCH")
}

// found checks what a search by number found of the messages whose UIDs are known.
func (c *mover) found(numbers []string, command string) {
	c.t.Helper()
	if !quietCommand(command) {
		return
	}
	for i, uid := range c.uids {
		if uid == 0 || !slices.Contains(c.up.uids, uid) || i >= c.old {
			continue
		}
		want := !strings.Contains(command, "secret") || secretUID(uid)
		if set, err := wire.ParseSet([]byte(strings.Fields(command)[1])); err == nil {
			want = want && within(set, uint32(i+1), uint32(len(c.uids)))
		}
		if got := slices.Contains(numbers, fmt.Sprint(i+1)); got != want {
			c.t.Fatalf("%s: number %d, UID %d, found: %v", command, i+1, uid, got)
		}
	}
}

func secretUID(uid uint32) bool { return uid%3 == 0 }

// say plays commands in one pipeline.
func (c *mover) say(commands ...string) {
	c.t.Helper()
	var all strings.Builder
	for i, command := range commands {
		fmt.Fprintf(&all, "m%d %s\r\n", i, command)
	}
	before := slices.Clone(c.uids)
	c.old = len(before)
	c.up.mu.Lock()
	c.up.did = nil
	c.up.mu.Unlock()
	c.send(all.String())
	for i, command := range commands {
		tag := fmt.Sprintf("m%d", i)
		for {
			r := c.response()
			c.up.mu.Lock()
			if strings.HasPrefix(r, "* ") {
				c.take(r, command)
			}
			c.up.mu.Unlock()
			if strings.HasPrefix(r, "* BYE") || strings.HasPrefix(r, tag+" BAD") {
				c.t.Fatalf("%s: %q", command, r)
			}
			if strings.HasPrefix(r, tag+" ") {
				break
			}
		}
	}
	c.up.mu.Lock()
	defer c.up.mu.Unlock()
	for _, did := range c.up.did { // by number: to a message that the client meant
		command, uid, _ := strings.Cut(did, " ")
		meant := slices.ContainsFunc(commands, func(said string) bool {
			f := strings.Fields(said + " 0")
			n, _ := strconv.Atoi(f[1])
			return f[0] == command && (before[n-1] == 0 || fmt.Sprint(before[n-1]) == uid)
		})
		if !meant {
			c.t.Fatalf("%q: it was done to UID %s", commands, uid)
		}
	}
	if len(c.up.errors) > 0 {
		c.t.Fatalf("upstream was told %q", c.up.errors)
	}
}

// idle plays IDLE, during which somebody else opens a message.
func (c *mover) idle(m *index.Mailbox) {
	c.t.Helper()
	c.send("i IDLE\r\n")
	for {
		r := c.response()
		if strings.HasPrefix(r, "+") {
			c.up.mu.Lock()
			uid, raw := uint32(0), []byte(nil)
			for i, u := range c.up.uids {
				if secretUID(u) && !m.Settled(u) {
					uid, raw = u, c.up.mail[i]
				}
			}
			c.up.mu.Unlock()
			if uid != 0 {
				opened, err := m.Open(c.t.Context(), uid, message.Bytes(raw))
				if err != nil {
					c.t.Fatal(err)
				}
				opened.Close()
			}
			c.send("DONE\r\n")
			continue
		}
		if strings.HasPrefix(r, "i ") {
			return
		}
		c.up.mu.Lock()
		c.take(r, "IDLE")
		c.up.mu.Unlock()
	}
}

// TestMovingMail: a client that takes what it is told at its word knows which message
// each number is of, whatever comes and goes, and is told of nothing when it may not
// be.
func TestMovingMail(t *testing.T) {
	letters := map[uint32][]byte{}
	for seed := range uint64(45) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			up := &moving{rng: rand.New(rand.NewPCG(seed, 2)), next: 1}
			up.caps = []string{"IMAP4rev1 UIDPLUS IDLE ENABLE CONDSTORE QRESYNC", "IMAP4rev1 UIDPLUS ESEARCH LITERAL+ IDLE ENABLE CONDSTORE QRESYNC"}[seed%2]
			b := startBridgeLater(t, up)
			up.made = func(uid uint32) []byte {
				if !secretUID(uid) {
					return fmt.Appendf(nil, "From: bob@example.org\r\nSubject: plain\r\nMessage-ID: <%d@example.org>\r\n\r\nthis is %d\r\n", uid, uid)
				}
				if letters[uid] == nil {
					letters[uid] = encrypt(t, b.key, letter(int(uid), fmt.Sprintf("\r\nthis is %d\r\n", uid)))
				}
				return letters[uid]
			}
			for range 6 {
				up.uids, up.mail = append(up.uids, up.next), append(up.mail, up.made(up.next))
				up.next++
			}
			m, err := b.library.Mailbox(t.Context(), "INBOX", 7)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			c := &mover{client: login(t, b.addr, user, password), up: up}
			if seed%3 == 0 {
				c.say("ENABLE QRESYNC")
			}
			c.say("SELECT INBOX")
			for range 40 {
				c.say(c.some(rng)...)
				if rng.IntN(10) == 0 {
					c.idle(m)
				}
			}
			c.say("NOOP")
			c.say("NOOP")
		})
	}
}

// some are commands that may be sent in one pipeline (RFC 3501, Section 5.5).
func (c *mover) some(rng *rand.Rand) []string {
	n := func() int { return 1 + rng.IntN(len(c.uids)) }
	quiet := func() string {
		switch rng.IntN(12) {
		case 10:
			return "CAPABILITY"
		case 11:
			return "ID NIL"
		case 8:
			return fmt.Sprintf("FETCH %d:%d (BODY.PEEK[HEADER.FIELDS (Message-ID)] RFC822.SIZE)", n(), n())
		case 9:
			return fmt.Sprintf("FETCH %d:%d (FLAGS ENVELOPE)", n(), n())
		case 0:
			return fmt.Sprintf("FETCH %d (UID FLAGS)", n())
		case 1:
			return fmt.Sprintf("FETCH %d:%d (BODY.PEEK[TEXT])", n(), n())
		case 2:
			return fmt.Sprintf("FETCH %d (UID BODY.PEEK[])", n())
		case 3:
			return "SEARCH ALL"
		case 4:
			return fmt.Sprintf("SEARCH %d:%d", n(), n())
		case 5:
			return "SEARCH SUBJECT secret"
		case 6:
			return fmt.Sprintf("SEARCH %d:* SUBJECT secret", n())
		}
		return fmt.Sprintf("STORE %d +FLAGS.SILENT (x)", n())
	}
	switch rng.IntN(10) {
	case 0:
		return []string{"NOOP"}
	case 1:
		return []string{"UID FETCH 1:* (FLAGS)"}
	case 2:
		return []string{"UID FETCH 1:* (BODY.PEEK[TEXT])"}
	case 3:
		return []string{fmt.Sprintf("COPY %d Trash", n())}
	case 4:
		return []string{fmt.Sprintf("UID SEARCH %d:%d SUBJECT secret", n(), n())}
	case 5, 6, 7:
		return []string{quiet(), quiet(), quiet()}
	}
	return []string{quiet()}
}

// startBridgeLater starts a bridge before an upstream that gets its mail afterwards.
func startBridgeLater(t *testing.T, up *moving) *bridge {
	d := up.double()
	d.answer = up.answer
	d.start(t)
	return startBridge(t, d.addr, "up", "pw", nil)
}
