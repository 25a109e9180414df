package imapd_test

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/internal/message"
)

// odd is an upstream with a few messages in one mailbox, that answers as the
// standard wants and in the way of one that does not.
type odd struct {
	mail [][]byte
	uids []uint32
	// fetch writes the answers about one message; nil: one response of all items.
	fetch func(seq int, items []oddItem) string
	// search writes the answers to a search; nil: one line.
	search func(command string, uids []uint32) string
	// edit changes what is sent for a command, at last.
	edit func(command, reply string) string
	// caps are its capabilities, if it has not just a few.
	caps string
	// silent: of the third message nothing is told but its UID.
	silent bool
	// size is what RFC822.SIZE says of a message; nil: the truth.
	size func(n int) int
}

// oddItem is an item of a FETCH response.
type oddItem struct{ name, value string }

func (o *odd) double() *double {
	if o.caps == "" {
		o.caps = "IMAP4rev1 UIDPLUS IDLE"
	}
	return &double{caps: o.caps, answer: func(c string) string {
		reply := o.reply(c)
		if o.edit != nil {
			reply = o.edit(c, reply)
		}
		return reply
	}}
}

func (o *odd) reply(c string) string {
	name, rest, _ := strings.Cut(c, " ")
	if name == "UID" {
		var second string
		second, rest, _ = strings.Cut(rest, " ")
		name += " " + second
	}
	switch name {
	case "CAPABILITY":
		return "* CAPABILITY " + o.caps + "\r\nTAG OK done\r\n"
	case "SELECT", "EXAMINE":
		return fmt.Sprintf("* %d EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY 7] ok\r\n* FLAGS (\\Seen)\r\nTAG OK [READ-WRITE] done\r\n", len(o.mail))
	case "UID SEARCH":
		set := c[strings.LastIndex(c, "UID ")+len("UID "):]
		parsed, err := wire.ParseSet([]byte(strings.Fields(set)[0]))
		found := o.uids
		if err == nil {
			found = slices.DeleteFunc(slices.Clone(o.uids), func(u uint32) bool {
				return !slices.ContainsFunc(parsed.Resolve(o.uids[len(o.uids)-1]), func(r wire.Range) bool { return r.First <= u && u <= r.Last })
			})
		}
		if strings.Contains(c, "RETURN (") && o.search == nil {
			return "* ESEARCH (TAG \"TAG\") UID ALL " + wire.MakeSet(found).String() + "\r\nTAG OK done\r\n"
		}
		if o.search != nil {
			return o.search(c, found) + "TAG OK done\r\n"
		}
		return searchLine(found) + "TAG OK done\r\n"
	case "FETCH", "UID FETCH":
		return o.fetched(name == "UID FETCH", rest) + "TAG OK done\r\n"
	}
	return "TAG OK done\r\n"
}

func searchLine(uids []uint32) string {
	return "* SEARCH" + strings.TrimRight(" "+strings.Trim(fmt.Sprint(uids), "[]"), " ") + "\r\n"
}

// fetched answers a FETCH.
func (o *odd) fetched(uid bool, rest string) string {
	cmd, err := wire.NewCommandReader(strings.NewReader("x FETCH "+rest+"\r\n"), wire.Limits{}).Next()
	if err != nil {
		return ""
	}
	set, err := wire.ParseSet(cmd.Args[0].Value)
	items, err2 := wire.ParseFetchItems(cmd.Args[1])
	if err != nil || err2 != nil {
		return ""
	}
	var b strings.Builder
	for i, raw := range o.mail {
		number, last := uint32(i+1), uint32(len(o.mail))
		if uid {
			number, last = o.uids[i], o.uids[len(o.uids)-1]
		}
		if !slices.ContainsFunc(set.Resolve(last), func(r wire.Range) bool { return r.First <= number && number <= r.Last }) {
			continue
		}
		answers := o.items(i, raw, items)
		if uid && !slices.ContainsFunc(answers, func(a oddItem) bool { return a.name == "UID" }) {
			answers = append([]oddItem{{"UID", fmt.Sprint(o.uids[i])}}, answers...)
		}
		if o.fetch != nil {
			b.WriteString(o.fetch(i+1, answers))
			continue
		}
		b.WriteString(oneFetch(i+1, answers))
	}
	return b.String()
}

func oneFetch(seq int, items []oddItem) string {
	var all []string
	for _, i := range items {
		all = append(all, i.name+" "+i.value)
	}
	return fmt.Sprintf("* %d FETCH (%s)\r\n", seq, strings.Join(all, " "))
}

func literalOf(b []byte) string { return fmt.Sprintf("{%d}\r\n%s", len(b), b) }

// items are the answers to what is asked of a message.
func (o *odd) items(i int, raw []byte, asked []wire.FetchItem) (out []oddItem) {
	h := message.ParseHeader(raw)
	for _, a := range asked {
		switch {
		case a.Name == "UID":
			out = append(out, oddItem{"UID", fmt.Sprint(o.uids[i])})
		case a.Name == "FLAGS":
			out = append(out, oddItem{"FLAGS", `(\Seen)`})
		case a.Name == "INTERNALDATE":
			out = append(out, oddItem{"INTERNALDATE", `"03-Mar-2026 10:00:00 +0100"`})
		case a.Name == "RFC822.SIZE":
			n := len(raw)
			if o.size != nil {
				n = o.size(n)
			}
			out = append(out, oddItem{"RFC822.SIZE", fmt.Sprint(n)})
		case a.Name == "ENVELOPE":
			out = append(out, oddItem{"ENVELOPE", `(NIL "upstream's" NIL NIL NIL NIL NIL NIL NIL NIL)`})
		case a.Name == "X-GM-LABELS":
			out = append(out, oddItem{"X-GM-LABELS", "(\"\\\\Inbox\" {5}\r\na \"b\" \"c\")"})
		case strings.HasPrefix(a.Name, "X-GM-"):
			out = append(out, oddItem{a.Name, "1278455344230334865"})
		case a.Name == "BODYSTRUCTURE":
			out = append(out, oddItem{"BODYSTRUCTURE", `("TEXT" "PLAIN" NIL NIL NIL "7BIT" 5 1 NIL NIL NIL NIL)`})
		case a.Section != nil || a.Name == "RFC822":
			b := raw
			if a.Section != nil {
				b = part(raw, h, *a.Section)
			}
			if p := a.Partial; p != nil {
				from := min(p.Offset, int64(len(b)))
				b = b[from:min(from+p.Count, int64(len(b)))]
			}
			out = append(out, oddItem{a.Response(), literalOf(b)})
		}
	}
	return out
}

// part is a section of a message that has no parts.
func part(raw []byte, h message.Header, s wire.Section) []byte {
	switch s.Kind {
	case "HEADER":
		return h.Raw
	case "TEXT":
		return raw[len(h.Raw):]
	case "HEADER.FIELDS":
		return render.HeaderFields(h, s.Fields, false)
	}
	return raw
}

// oddMail is mail of the kinds that matter: plain texts, of which only their
// beginning tells that they are not encrypted, others, an empty one, encrypted
// ones, and one that is read in pieces.
func oddMail(t testing.TB, b *bridge) (mail [][]byte, secret []bool) {
	plain := func(n int, head, body string) []byte {
		return fmt.Appendf(nil, "From: Bob <bob@example.org>\r\nTo: alice@example.test\r\nSubject: plain number %d\r\nMessage-ID: <plain%d@example.org>\r\n%s\r\n%s", n, n, head, body)
	}
	return [][]byte{
		plain(1, "", "hello\r\n"),
		encrypt(t, b.key, letter(2, "\r\nthis was secret\r\n")),
		plain(3, "MIME-Version: 1.0\r\nContent-Type: text/html\r\n", "<p>hello</p>\r\n)\r\n* 1 EXPUNGE\r\n"),
		plain(4, "", ""),
		encrypt(t, b.key, letter(5, "\r\n"+strings.Repeat("this was secret, and long\r\n", 6000))),
		plain(6, "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n", strings.Repeat("gr\xc3\xbc\xc3\x9fe {5}\r\n", 9000)),
	}, []bool{false, true, false, false, true, false}
}

// told is what the responses to a FETCH tell of each message, by UID: they are
// found by their number, since servers leave out the UID and tell it in several.
func (o *odd) told(c *client, command string) map[string]map[string]string {
	c.t.Helper()
	out := map[string]map[string]string{}
	for _, r := range c.ok(command) {
		f := strings.Fields(r)
		if len(f) < 3 || f[2] != "FETCH" {
			continue
		}
		n, _ := strconv.Atoi(f[1])
		uid := fmt.Sprint(o.uids[n-1])
		if out[uid] == nil {
			out[uid] = map[string]string{}
		}
		for k, v := range items(c.t, r) {
			out[uid][strings.ToUpper(k)] = v
		}
	}
	return out
}

// checkShown reads a message's bytes as clients do, in two sessions and in several
// ways, and compares them with what was stored or what was encrypted.
func (o *odd) checkShown(t *testing.T, b *bridge, secret []bool) {
	t.Helper()
	for session, first := range []string{
		"UID FETCH 1:* (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Subject Message-ID Content-Type)])",
		"UID FETCH 1:* (FLAGS)",
		"FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE BODYSTRUCTURE ENVELOPE)",
	} {
		c := login(t, b.addr, user, password)
		c.ok("SELECT INBOX")
		seen := o.told(c, first)
		for i, raw := range o.mail {
			uid := fmt.Sprint(o.uids[i])
			m := o.told(c, "UID FETCH "+uid+" (UID FLAGS RFC822.SIZE BODY.PEEK[])")[uid]
			size := len(m["BODY[]"])
			switch {
			case o.silent && i == 2:
				if _, ok := m["BODY[]"]; ok {
					t.Errorf("of a message that was not told %q is shown", m)
				}
				continue
			case !secret[i]:
				if m["BODY[]"] != string(raw) {
					t.Errorf("session %d, UID %s has %d bytes: %.200q, want %d as they are stored", session, uid, size, m["BODY[]"], len(raw))
				}
				if strings.Contains(m["FLAGS"], "$Letterlock") {
					t.Errorf("session %d, UID %s has %s", session, uid, m["FLAGS"])
				}
			case !strings.Contains(m["BODY[]"], "this was secret") || m["RFC822.SIZE"] != fmt.Sprint(size) || !strings.Contains(m["FLAGS"], "$LetterlockEncrypted"):
				t.Errorf("session %d, UID %s: size %s and %d, flags %s: %.200q", session, uid, m["RFC822.SIZE"], size, m["FLAGS"], m["BODY[]"])
			}
			if seen[uid] == nil {
				t.Errorf("session %d: of UID %s nothing came at first", session, uid)
			}
			if said := seen[uid]["RFC822.SIZE"]; secret[i] && said != "" && said != fmt.Sprint(size) {
				t.Errorf("session %d, UID %s: the list says %s bytes, there are %d", session, uid, said, size)
			}
			var pieces bytes.Buffer
			for at := 0; at < size; at += 1 << 16 {
				pieces.WriteString(o.told(c, fmt.Sprintf("UID FETCH %s (UID BODY.PEEK[]<%d.65536>)", uid, at))[uid][fmt.Sprintf("BODY[]<%d>", at)])
			}
			if pieces.String() != m["BODY[]"] {
				t.Errorf("session %d, UID %s in pieces: %d bytes, want %d", session, uid, pieces.Len(), size)
			}
		}
		var found []string
		for _, r := range c.ok("UID SEARCH SUBJECT secret") { // which passes as it comes
			found = append(found, strings.Fields(r)[2:]...)
		}
		if !slices.Equal(found, []string{"12", "20"}) {
			t.Errorf("session %d: search finds %q", session, found)
		}
		c.ok("NOOP")
		c.ok("LOGOUT")
	}
}
