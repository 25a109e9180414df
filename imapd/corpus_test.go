package imapd_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd"
	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// corpusColumn gives a column of a table of the corpus, each value once.
func corpusColumn(t *testing.T, path, column string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	at := slices.Index(strings.Split(lines[0], "\t"), column)
	if at < 0 {
		t.Fatalf("%s has no column %s", path, column)
	}
	var all []string
	for _, l := range lines[1:] {
		if f := strings.Split(l, "\t"); at < len(f) {
			all = append(all, f[at])
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// corpusMail is every mail of the corpus, with line ends as in transport; and
// every OpenPGP message that is no mail, in the body of one.
func corpusMail(t *testing.T, dir string) (names []string, mail [][]byte) {
	t.Helper()
	add := func(name string, b []byte) {
		if b = crlf(b); len(b) > 0 && bytes.IndexByte(b, 0) < 0 { // APPEND cannot take NUL (RFC 3501, Section 4.3)
			names, mail = append(names, name), append(mail, b)
		}
	}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".eml") {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		add(name, b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(mail) < 150 {
		t.Fatalf("%d mails in the corpus", len(mail))
	}
	for _, name := range corpusColumn(t, filepath.Join(dir, "EXPECTED.tsv"), "file") {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || strings.HasSuffix(name, ".eml") || !bytes.Contains(b, []byte("-----BEGIN PGP MESSAGE-----")) {
			continue // packed, or binary
		}
		add(name, slices.Concat([]byte("From: a@example.test\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=q\r\n\r\n"+
			"--q\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--q\r\nContent-Type: application/octet-stream\r\n\r\n"), b, []byte("\r\n--q--\r\n")))
	}
	return names, mail
}

func crlf(b []byte) []byte {
	return bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
}

// corpusShelf has all certificates of the corpus; each is first-seen.
type corpusShelf []*pgp.Certificate

func (s corpusShelf) Issuer(_ context.Context, id uint64) (found []*pgp.Certificate, _ error) {
	for _, c := range s {
		if slices.Contains(c.KeyIDs(), id) {
			found = append(found, c)
		}
	}
	return found, nil
}

func (s corpusShelf) Identity(_ context.Context, a address.Address, f pgp.Fingerprint) (pgp.Identity, error) {
	for _, c := range s {
		if c.Fingerprint() == f && c.Has(a) {
			return pgp.FirstSeen, nil
		}
	}
	return pgp.Unknown, nil
}

var corpusRing struct { // to unlock them takes a while
	keys  []*pgp.Key
	shelf corpusShelf
}

func corpusKeys(t *testing.T, dir string) (keys []*pgp.Key, shelf corpusShelf) {
	t.Helper()
	if corpusRing.keys != nil {
		return corpusRing.keys, corpusRing.shelf
	}
	defer func() { corpusRing.keys, corpusRing.shelf = keys, shelf }()
	passwords := map[string]string{"rnp": "password", "rpgp": "test"} // as EXPECTED.tsv names them
	seen := map[string]bool{}                                         // a key may be in several groups, complete in one
	for _, name := range corpusColumn(t, filepath.Join(dir, "KEYS.tsv"), "file") {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		group, _, _ := strings.Cut(name, "/")
		found, _ := pgp.ParseKeys(b, func(*pgp.Certificate) ([]byte, error) { return []byte(passwords[group]), nil })
		for _, k := range found {
			if id := group + string(k.Fingerprint()); !seen[id] {
				seen[id] = true
				keys = append(keys, k)
				shelf = append(shelf, k.Certificate())
			}
		}
		certs, _ := pgp.ParseCertificates(b)
		for _, c := range certs {
			if id := "certificate " + group + string(c.Fingerprint()); !seen[id] {
				seen[id] = true
				shelf = append(shelf, c)
			}
		}
	}
	return keys, shelf
}

// withKeys gives the bridge's account a library with these keys.
func withKeys(t *testing.T, keys []*pgp.Key, shelf corpusShelf) func(*imapd.Config, *imapd.Account) {
	return func(_ *imapd.Config, a *imapd.Account) {
		st, err := store.OpenMemory(index.Schema)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		own, _ := address.Parse(user)
		a.Library, err = index.New(index.Config{
			Store: st, Account: own.Key(), Own: []address.Address{own},
			Keys:         func(context.Context) (pgp.Decrypter, error) { return pgp.Keys(keys...), nil },
			Certificates: shelf, Spool: message.SpoolOptions{Dir: t.TempDir()},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// overlap lists messages whose embedded message has no header but text, which
// Dovecot counts as both.
var overlap = map[string]bool{"muacrypt/multipart_report.eml": true}

// TestCorpusAgrees checks on every message of the corpus, as it is and opened
// with the corpus' keys, that what is said of it describes the bytes that are
// delivered; that Dovecot says the same of these bytes; and that a bridge which
// lost its index gives them again.
func TestCorpusAgrees(t *testing.T) {
	dir := peer.Corpus(t)
	const mirror = "mirror@example.test"
	d := peer.StartDovecot(t, peer.DovecotOptions{Users: map[string]string{peer.Alice: peer.AlicePassword, mirror: "mirror-pw"}})
	names, mail := corpusMail(t, dir)
	d.Append(t, peer.Alice, "INBOX", mail...)
	keys, shelf := corpusKeys(t, dir)

	read := func(addr, user, password, box string) []map[string]string {
		c := login(t, addr, user, password)
		c.ok("EXAMINE " + box)
		// One after the other: of two messages around one ciphertext, the one that
		// is opened first is the original, and the corpus has such pairs.
		var out []map[string]string
		for i := range mail {
			uid := strconv.Itoa(i + 1)
			m, ok := c.fetch("UID FETCH " + uid + " (" + wholeItems + ")")[uid]
			if !ok {
				t.Fatalf("%s is not answered", names[i])
			}
			out = append(out, m)
		}
		return out
	}
	for _, tt := range []struct {
		name   string
		box    string
		keys   []*pgp.Key
		opened int // at least
	}{
		{"as they are", "Plain", nil, 0},
		{"opened", "Opened", keys, 80},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := startBridge(t, d.Addr, peer.Alice, peer.AlicePassword, withKeys(t, tt.keys, shelf))
			first := read(b.addr, user, password, "INBOX")
			var shown [][]byte
			opened := 0
			for i, m := range first {
				shown = append(shown, []byte(m["BODY[]"]))
				if !bytes.Equal(mail[i], shown[i]) {
					opened++
				}
			}
			t.Logf("%d of %d messages are shown otherwise than they are stored", opened, len(mail))
			if opened < tt.opened || tt.opened == 0 && opened > 0 {
				t.Errorf("%d messages are opened, want %d", opened, tt.opened)
			}
			c := login(t, b.addr, user, password)
			c.ok("EXAMINE INBOX")
			for i := range first {
				agrees(t, c, names[i], i+1, first[i])
			}
			d.Append(t, mirror, tt.box, shown...)
			direct := read(d.Addr, mirror, "mirror-pw", tt.box)
			for i, m := range direct {
				for name, want := range m {
					got := canonical(first[i][name])
					if want = canonical(want); name != "FLAGS" && got != want {
						t.Errorf("%s: %s is\n%.600s\nDovecot says\n%.600s", names[i], name, got, want)
					}
				}
			}
			again := startBridge(t, d.Addr, peer.Alice, peer.AlicePassword, withKeys(t, tt.keys, shelf))
			for i, m := range read(again.addr, user, password, "INBOX") {
				for name, got := range m {
					if want := first[i][name]; name != "FLAGS" && got != want {
						t.Errorf("%s: without the index %s is %.300q, was %.300q", names[i], name, got, want)
					}
				}
			}
		})
	}
}

const wholeItems = "UID RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT] RFC822.HEADER BODY.PEEK[1] BODY.PEEK[1.MIME]"

// canonical writes strings in structures the same way.
func canonical(s string) string {
	if !strings.HasPrefix(s, "(") {
		return s
	}
	return strings.TrimPrefix(quoted("* 1 FETCH ENVELOPE "+s), "* 1 FETCH ENVELOPE ")
}

// agrees checks one message: all that can be fetched of it is of the same bytes.
func agrees(t *testing.T, c *client, name string, uid int, m map[string]string) {
	t.Helper()
	body := m["BODY[]"]
	if m["RFC822.SIZE"] != strconv.Itoa(len(body)) {
		t.Errorf("%s: RFC822.SIZE is %s of %d bytes", name, m["RFC822.SIZE"], len(body))
	}
	if m["BODY[HEADER]"]+m["BODY[TEXT]"] != body || m["RFC822.HEADER"] != m["BODY[HEADER]"] {
		t.Errorf("%s: header and text are not the message", name)
	}
	get := func(items string) map[string]string {
		return c.fetch(fmt.Sprintf("UID FETCH %d (%s)", uid, items))[strconv.Itoa(uid)]
	}
	const fields = "From To Subject Date Message-ID Content-Type Letterlock-Status"
	some := get("BODY.PEEK[HEADER.FIELDS (" + fields + ")] BODY.PEEK[HEADER.FIELDS.NOT (" + fields + ")]")
	header := message.ParseHeader([]byte(m["BODY[HEADER]"]))
	var in, out []byte
	for _, f := range header.Fields {
		if slices.ContainsFunc(strings.Fields(fields), f.Is) {
			in = append(in, f.Raw...)
		} else { // with lines that are no field
			out = append(out, f.Raw...)
		}
	}
	for k, v := range some {
		switch {
		case strings.HasPrefix(k, "BODY[HEADER.FIELDS ("):
			if strings.TrimSuffix(v, "\r\n") != strings.TrimSuffix(string(in), "\r\n") && strings.TrimSuffix(v, "\r\n") != string(in) {
				t.Errorf("%s: %s is %q, want %q", name, k, v, in)
			}
		case strings.HasPrefix(k, "BODY[HEADER.FIELDS.NOT"):
			if !strings.HasPrefix(v, string(out)) {
				t.Errorf("%s: %s is %.300q, want %.300q", name, k, v, out)
			}
		}
	}
	tiles(t, get, name, body)
	s, rest := parseStructure(m["BODYSTRUCTURE"])
	if rest != "" {
		t.Errorf("%s: BODYSTRUCTURE has %q at its end", name, rest)
		return
	}
	parts(t, get, name, s, "", body)
}

// tiles reads the message in pieces, as clients do.
func tiles(t *testing.T, get func(string) map[string]string, name, body string) {
	t.Helper()
	step := max(1, len(body)/5)
	var whole strings.Builder
	for at := 0; at <= len(body); at += step {
		piece := get(fmt.Sprintf("BODY.PEEK[]<%d.%d>", at, step))[fmt.Sprintf("BODY[]<%d>", at)]
		if piece == `""` || piece == "NIL" {
			piece = ""
		}
		whole.WriteString(piece)
	}
	if whole.String() != body {
		t.Errorf("%s: pieces of %d bytes make %d bytes, want %d", name, step, whole.Len(), len(body))
	}
}

// node is a part of a structure: a string (text, or nil) or a list.
type node struct {
	text string
	null bool
	list []node
	leaf bool
}

func parseStructure(s string) (node, string) {
	s = strings.TrimLeft(s, " ")
	switch {
	case s == "":
		return node{null: true, leaf: true}, ""
	case s[0] == '(':
		var n node
		for s = s[1:]; ; {
			s = strings.TrimLeft(s, " ")
			if s == "" {
				return n, "unbalanced"
			}
			if s[0] == ')' {
				return n, s[1:]
			}
			var child node
			child, s = parseStructure(s)
			n.list = append(n.list, child)
		}
	case s[0] == '"':
		var b strings.Builder
		i := 1
		for ; i < len(s) && s[i] != '"'; i++ {
			if s[i] == '\\' && i+1 < len(s) {
				i++
			}
			b.WriteByte(s[i])
		}
		return node{text: b.String(), leaf: true}, s[min(i+1, len(s)):]
	case s[0] == '{':
		digits, rest, _ := strings.Cut(s[1:], "}\r\n")
		n, _ := strconv.Atoi(digits)
		return node{text: rest[:min(n, len(rest))], leaf: true}, rest[min(n, len(rest)):]
	}
	end := strings.IndexAny(s, " ()")
	if end < 0 {
		end = len(s)
	}
	return node{text: s[:end], null: s[:end] == "NIL", leaf: true}, s[end:]
}

// parts fetches every part that a structure names and compares its size, its
// lines and its place.
func parts(t *testing.T, get func(string) map[string]string, name string, n node, number, whole string) {
	t.Helper()
	if len(n.list) == 0 {
		t.Errorf("%s: part %s is no list", name, number)
		return
	}
	sub := func(i int) string { return strings.TrimPrefix(number+"."+strconv.Itoa(i), ".") }
	if !n.list[0].leaf { // multipart
		for i, child := range n.list {
			if child.leaf {
				break
			}
			parts(t, get, name, child, sub(i+1), whole)
		}
		return
	}
	at := number
	if at == "" {
		at = "1"
	}
	if len(n.list) < 7 {
		t.Errorf("%s: part %s has %d fields", name, at, len(n.list))
		return
	}
	got := get("BODY.PEEK[" + at + "] BODY.PEEK[" + at + ".MIME]")
	body := got["BODY["+at+"]"]
	if n.list[6].text != strconv.Itoa(len(body)) && !(n.list[6].text == "0" && (body == `""` || body == "NIL")) {
		t.Errorf("%s: part %s has %d bytes, BODYSTRUCTURE says %s", name, at, len(body), n.list[6].text)
	}
	if !strings.Contains(whole, body) && len(body) > 3 {
		t.Errorf("%s: part %s is not in the message", name, at)
	}
	lines := -1
	kind := strings.ToLower(n.list[0].text + "/" + n.list[1].text)
	switch {
	case kind == "message/rfc822" && len(n.list) > 9 && !n.list[7].leaf:
		lines = 9
		inner := get("BODY.PEEK[" + at + ".HEADER] BODY.PEEK[" + at + ".TEXT]")
		h, x := inner["BODY["+at+".HEADER]"], inner["BODY["+at+".TEXT]"]
		if clean(h)+clean(x) != clean(body) && !overlap[name] {
			t.Errorf("%s: header and text of %s are not that message", name, at)
		}
		next := n.list[8]
		if len(next.list) > 0 && next.list[0].leaf {
			parts(t, get, name, next, at+".1", whole)
		} else {
			parts(t, get, name, next, at, whole)
		}
	case n.list[0].text == "text" && len(n.list) > 7:
		lines = 7
	}
	if lines > 0 && n.list[lines].text != strconv.Itoa(strings.Count(clean(body), "\n")) {
		t.Errorf("%s: part %s has %d lines, BODYSTRUCTURE says %s", name, at, strings.Count(body, "\n"), n.list[lines].text)
	}
}

// clean is the bytes of a value, which may be NIL or quoted where it is short.
func clean(v string) string {
	if v == "NIL" || v == `""` {
		return ""
	}
	return v
}
