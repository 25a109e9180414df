package imapd_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/imapd"
	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// encrypt makes raw a message to the test's own key, from a key of its own.
func encrypt(t testing.TB, key *pgp.Key, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	from, err := address.Parse(user)
	if err != nil {
		t.Fatal(err)
	}
	err = pgp.Protect(context.Background(), &b, message.Bytes(raw), pgp.Protection{
		Signer: key, Recipients: []*pgp.Certificate{key.Certificate()}, From: from, Now: time.Now(),
	})
	if err != nil {
		t.Fatalf("Protect: %v", err)
	}
	return b.Bytes()
}

// letter is a message that can be protected.
func letter(i int, body string) []byte {
	return []byte(fmt.Sprintf("From: Alice <%s>\r\nTo: Alice <%s>\r\nSubject: secret number %d\r\nDate: Tue, 3 Mar 2026 10:%02d:00 +0100\r\nMessage-ID: <secret%d@example.test>\r\nMIME-Version: 1.0\r\n%s", user, user, i, i%60, i, body))
}

func letters() [][]byte {
	return [][]byte{
		letter(1, "Content-Type: text/plain; charset=utf-8\r\n\r\nwhisper canary one\r\n"),
		letter(2, "Content-Type: multipart/mixed; boundary=q\r\n\r\n--q\r\nContent-Type: text/plain\r\n\r\nsee the canary attached\r\n--q\r\nContent-Type: application/pdf; name=\"canary.pdf\"\r\nContent-Disposition: attachment; filename=\"canary.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\nY2FuYXJ5\r\n--q--\r\n"),
		letter(3, "Content-Type: text/plain\r\n\r\n"+strings.Repeat("a line of some length, to make it long enough to be read in pieces\r\n", 3000)),
	}
}

// items reads a FETCH response.
func items(t testing.TB, r string) map[string]string {
	t.Helper()
	rr := wire.NewResponseReader(strings.NewReader(r+"\r\n"), wire.Limits{Response: 8 << 20})
	if h, err := rr.Next(); err != nil || h.Name != "FETCH" {
		t.Fatalf("no FETCH: %.200q", r)
	}
	f, err := rr.Fetch()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for {
		i, err := f.Next()
		if err != nil {
			if i.Name == nil && err.Error() == "EOF" {
				return out
			}
			t.Fatalf("%v in %.300q", err, r)
		}
		name := string(i.Name)
		if _, twice := out[name]; twice {
			t.Errorf("%s twice", name)
		}
		if i.Literal {
			var b strings.Builder
			_ = f.Copy(&b)
			out[name] = b.String()
			continue
		}
		out[name] = string(i.Value)
	}
}

// fetch gives the items of the FETCH responses by UID.
func (c *client) fetch(command string) map[string]map[string]string {
	c.t.Helper()
	out := map[string]map[string]string{}
	for _, r := range c.ok(command) {
		if f := strings.Fields(r); len(f) > 2 && f[2] == "FETCH" {
			m := items(c.t, r)
			if out[m["UID"]] == nil {
				out[m["UID"]] = map[string]string{}
			}
			for k, v := range m {
				out[m["UID"]][k] = v
			}
		}
	}
	return out
}

// secretBox is a mailbox with plain and encrypted mail, and a bridge before it.
func secretBox(t testing.TB, change func(*imapd.Config, *imapd.Account)) (*peer.DovecotServer, *bridge, [][]byte) {
	d := peer.Dovecot(t)
	b := startBridge(t, d.Addr, peer.Alice, peer.AlicePassword, change)
	plain := plainMail(rand.New(rand.NewPCG(3, 3)), 4)
	var mail [][]byte
	for i, l := range letters() {
		mail = append(mail, plain[i], encrypt(t, b.key, l))
	}
	d.Append(t, peer.Alice, "INBOX", mail...)
	return d, b, mail
}

// TestSizesAndSectionsAgree checks on every message that what is said of it
// describes exactly the bytes that are delivered, in whatever order it is asked.
func TestSizesAndSectionsAgree(t *testing.T) {
	_, b, _ := secretBox(t, nil)
	for _, first := range []string{
		"UID FETCH 1:* (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From Subject)])",
		"UID FETCH 1:* (BODY.PEEK[])",
		"FETCH 1:* (UID ENVELOPE BODYSTRUCTURE BODY.PEEK[TEXT]<0.100>)",
		"FETCH 1:* (BODY.PEEK[HEADER] UID)",
	} {
		c := login(t, b.addr, user, password)
		c.ok("SELECT INBOX")
		before := c.fetch(first)
		if len(before) != 6 {
			t.Fatalf("%s: %d answers, want 6", first, len(before))
		}
		whole := c.fetch("UID FETCH 1:* (RFC822.SIZE BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT] BODY.PEEK[1] ENVELOPE BODYSTRUCTURE BODY.PEEK[TEXT]<0.100> BODY.PEEK[HEADER.FIELDS (From Subject)])")
		for uid, m := range whole {
			body := m["BODY[]"]
			if got := strconv.Itoa(len(body)); got != m["RFC822.SIZE"] {
				t.Errorf("UID %s: BODY[] has %s bytes, RFC822.SIZE says %s", uid, got, m["RFC822.SIZE"])
			}
			if m["BODY[HEADER]"]+m["BODY[TEXT]"] != body {
				t.Errorf("UID %s: header and text are not the message", uid)
			}
			for k, v := range before[uid] {
				if k != "FLAGS" && m[k] != "" && m[k] != v && strings.ReplaceAll(k, "FROM SUBJECT", "From Subject") == k {
					t.Errorf("UID %s: %s was %.100q and is %.100q", uid, k, v, m[k])
				}
			}
			n, _ := strconv.Atoi(uid)
			if n%2 == 0 && (!strings.Contains(body, "Subject: secret number") || strings.Contains(body, "BEGIN PGP")) {
				t.Errorf("UID %s is not decrypted: %.400q", uid, body)
			}
			if n%2 == 0 && !strings.Contains(m["ENVELOPE"], "secret number") {
				t.Errorf("UID %s: ENVELOPE %s", uid, m["ENVELOPE"])
			}
		}
		for _, p := range []struct{ off, n int }{{0, 65536}, {65536, 65536}, {131072, 65536}, {5, 100}, {1 << 20, 10}} {
			part := c.fetch(fmt.Sprintf("UID FETCH 6 (UID RFC822.SIZE BODY.PEEK[]<%d.%d>)", p.off, p.n))["6"]
			body := whole["6"]["BODY[]"]
			want := body[min(p.off, len(body)):min(p.off+p.n, len(body))]
			if got := part[fmt.Sprintf("BODY[]<%d>", p.off)]; got != want {
				t.Errorf("piece %v has %d bytes, want %d", p, len(got), len(want))
			}
		}
		c.ok("LOGOUT")
	}
}

// TestKeywordsAreOurs checks that keywords tell of opened messages, and cannot
// be planted from either side.
func TestKeywordsAreOurs(t *testing.T) {
	d, b, _ := secretBox(t, nil)
	up := login(t, d.Addr, peer.Alice, peer.AlicePassword)
	up.ok("SELECT INBOX")
	up.ok("STORE 1:2 +FLAGS ($LetterlockVerified $letterlockfoo mine)")
	c := login(t, b.addr, user, password)
	for _, r := range c.ok("SELECT INBOX") {
		if strings.Contains(strings.ToLower(r), "$letterlock") {
			t.Errorf("offered: %s", r)
		}
	}
	c.fetch("UID FETCH 1:* (BODY.PEEK[HEADER])")
	c.ok("NOOP")
	flags := c.fetch("UID FETCH 1:* (FLAGS)")
	if f := flags["1"]["FLAGS"]; !strings.Contains(f, "mine") || strings.Contains(strings.ToLower(f), "$letterlock") {
		t.Errorf("plain message has flags %s", f)
	}
	if f := flags["2"]["FLAGS"]; !strings.Contains(f, "$LetterlockEncrypted") || strings.Contains(f, "Verified") || strings.Contains(f, "foo") {
		t.Errorf("encrypted message has flags %s", f)
	}
	c.ok("UID STORE 1 +FLAGS ($LetterlockSigned other)")
	c.ok("UID STORE 1 +FLAGS $LetterlockSigned")
	c.ok("UID STORE 1 +FLAGS $LetterlockSigned another")
	c.ok("UID STORE 1 +FLAGS third $LetterlockSigned $LetterlockVerified")
	for _, r := range up.ok("UID FETCH 1 (FLAGS)") {
		if strings.Contains(r, "$LetterlockSigned") || !strings.Contains(r, " other") || !strings.Contains(r, "another third") {
			t.Errorf("stored upstream: %s", r)
		}
	}
	if got := c.ok("UID SEARCH KEYWORD $LetterlockEncrypted"); !slices.Contains(got, "* SEARCH 2 4 6") {
		t.Errorf("SEARCH KEYWORD: %q", got)
	}
	if got := c.ok("UID SEARCH KEYWORD $LetterlockVerified"); !slices.Contains(got, "* SEARCH") {
		t.Errorf("SEARCH KEYWORD: %q", got)
	}
}

// TestSearchInside checks that a search sees what the client sees.
func TestSearchInside(t *testing.T) {
	_, b, _ := secretBox(t, nil)
	c := login(t, b.addr, user, password)
	c.ok("SELECT INBOX")
	for _, tt := range []struct{ search, want string }{
		{"SUBJECT secret", "2 4 6"}, {"BODY canary", "2 4"}, {"OR SUBJECT \"number 1\" SUBJECT number_9", "2 3"},
		{"NOT SUBJECT secret", "1 3 5"}, {"TEXT whisper", "2"}, {"LARGER 150000", "6"}, {"UID 4 BODY canary", "4"},
	} {
		got := c.ok("UID SEARCH " + tt.search)
		if !slices.Contains(got, "* SEARCH "+tt.want) {
			t.Errorf("SEARCH %s: %q, want %s", tt.search, got, tt.want)
		}
	}
	if got := c.ok("SEARCH RETURN (COUNT) SUBJECT secret"); len(got) != 1 || !strings.HasSuffix(got[0], "COUNT 3") || !strings.Contains(got[0], fmt.Sprintf("(TAG \"t%d\")", c.n)) {
		t.Errorf("ESEARCH: %q", got)
	}
}

// TestSeenIsSetByReading checks that reading an encrypted message sets \Seen
// upstream just where reading a plain one does.
func TestSeenIsSetByReading(t *testing.T) {
	d, b, _ := secretBox(t, nil)
	up := login(t, d.Addr, peer.Alice, peer.AlicePassword)
	seen := func() string {
		up.ok("EXAMINE INBOX")
		return strings.Join(up.ok("SEARCH SEEN"), "")
	}
	c := login(t, b.addr, user, password)
	c.ok("EXAMINE INBOX")
	c.fetch("UID FETCH 2 (BODY[])")
	c.ok("SELECT INBOX")
	c.fetch("UID FETCH 1:* (BODY.PEEK[] ENVELOPE RFC822.SIZE)")
	if got := seen(); got != "* SEARCH" {
		t.Errorf("after peeking: %s", got)
	}
	if f := c.fetch("UID FETCH 2 (BODY[TEXT]<0.20>)")["2"]; !strings.Contains(f["FLAGS"], `\Seen`) {
		t.Errorf("FLAGS don't come with the answer: %q", f)
	}
	c.fetch("FETCH 4 RFC822")
	if got := seen(); got != "* SEARCH 2 4" {
		t.Errorf("after reading: %s", got)
	}
}

// TestAppendIsSealed checks that an upload lies upstream sealed, and comes back
// byte for byte.
func TestAppendIsSealed(t *testing.T) {
	d, b, mail := secretBox(t, nil)
	c := login(t, b.addr, user, password)
	raw := letter(9, "Bcc: hidden@example.test\r\nContent-Type: text/plain\r\n\r\nappended canary\r\n")
	for _, up := range [][]byte{raw, mail[1]} {
		c.n++
		tag := fmt.Sprintf("t%d", c.n)
		c.send(fmt.Sprintf("%s APPEND Drafts (\\Draft $LetterlockVerified) \"03-Mar-2026 10:00:00 +0100\" {%d}\r\n", tag, len(up)))
		if r := c.response(); !strings.HasPrefix(r, "+") {
			t.Fatal(r)
		}
		c.send(string(up) + "\r\n")
		if r := c.until(tag); !strings.Contains(r[len(r)-1], "[APPENDUID ") {
			t.Fatalf("%q", r)
		}
	}
	direct := login(t, d.Addr, peer.Alice, peer.AlicePassword)
	direct.ok("EXAMINE Drafts")
	stored := direct.fetch("UID FETCH 1:* (BODY.PEEK[] FLAGS INTERNALDATE)")
	if s := stored["1"]["BODY[]"]; strings.Contains(s, "canary") || strings.Contains(s, "secret number") || strings.Contains(s, "hidden") || !strings.Contains(s, "BEGIN PGP MESSAGE") {
		t.Errorf("stored upstream: %.500q", s)
	}
	if s := stored["2"]["BODY[]"]; s != string(mail[1]) {
		t.Error("what was encrypted already was changed")
	}
	if f := stored["1"]["FLAGS"]; strings.Contains(f, "Letterlock") || !strings.Contains(f, `\Draft`) || !strings.Contains(stored["1"]["INTERNALDATE"], "03-Mar-2026 ") {
		t.Errorf("stored with %s %s", f, stored["1"]["INTERNALDATE"])
	}
	c.ok("SELECT Drafts")
	if got := c.fetch("UID FETCH 1 (BODY.PEEK[])")["1"]["BODY[]"]; got != string(raw) {
		t.Errorf("comes back as %q, want %q", got, raw)
	}
}

// TestCopiesAreKnown checks that a copy answers as its original does, at once.
func TestCopiesAreKnown(t *testing.T) {
	_, b, _ := secretBox(t, nil)
	c := login(t, b.addr, user, password)
	c.ok("SELECT INBOX")
	want := c.fetch("UID FETCH 2 (BODY.PEEK[] RFC822.SIZE)")["2"]
	c.ok("UID COPY 1:2 Archive")
	c.ok("UID MOVE 4 Archive")
	c.ok("SELECT Archive")
	got := c.fetch("UID FETCH 1:* (RFC822.SIZE BODY.PEEK[])")
	if len(got) != 3 || got["2"]["BODY[]"] != want["BODY[]"] || got["2"]["RFC822.SIZE"] != want["RFC822.SIZE"] || !strings.Contains(got["3"]["BODY[]"], "secret number 2") {
		t.Errorf("copies are %.300q", got)
	}
}

// TestKeywordsComeWhileIdle checks that a client in IDLE hears of keywords that
// another session's reading has settled, and QRESYNC of those it missed.
func TestKeywordsComeWhileIdle(t *testing.T) {
	_, b, _ := secretBox(t, nil)
	idler, reader := login(t, b.addr, user, password), login(t, b.addr, user, password)
	idler.ok("ENABLE QRESYNC")
	var validity, modseq string
	for _, r := range idler.ok("SELECT INBOX") {
		if m := validityCode.FindStringSubmatch(r); m != nil {
			validity = m[1]
		}
		if _, s, ok := strings.Cut(r, "[HIGHESTMODSEQ "); ok {
			modseq, _, _ = strings.Cut(s, "]")
		}
	}
	idler.fetch("UID FETCH 1:* (FLAGS)")
	idler.send("i IDLE\r\n")
	if r := idler.response(); !strings.HasPrefix(r, "+") {
		t.Fatal(r)
	}
	reader.ok("SELECT INBOX")
	reader.fetch("UID FETCH 2 (BODY.PEEK[])")
	for {
		r := idler.response()
		if strings.HasPrefix(r, "* 2 FETCH") && strings.Contains(r, "$LetterlockEncrypted") {
			break
		}
	}
	idler.send("DONE\r\n")
	if r := idler.until("i"); !strings.Contains(r[len(r)-1], "i OK") {
		t.Errorf("%q", r)
	}
	late := login(t, b.addr, user, password)
	late.ok("ENABLE QRESYNC")
	all := strings.Join(late.ok(fmt.Sprintf("SELECT INBOX (QRESYNC (%s %s))", validity, modseq)), "\n")
	if !strings.Contains(all, "$LetterlockEncrypted") {
		t.Errorf("QRESYNC tells nothing of the keyword:\n%s", all)
	}
}

// TestImitationsAreMasked checks every way to a root header that imitates ours.
func TestImitationsAreMasked(t *testing.T) {
	d := peer.Dovecot(t)
	b := startBridge(t, d.Addr, peer.Alice, peer.AlicePassword, nil)
	raw := []byte("From: a@example.org\r\nletterlock-status : encrypted; signature=valid\r\nSubject: x\rLETTERLOCK-Status: y\r\nLetterlock-Other:\r\n folded\r\nContent-Type: text/plain\r\n\r\nLetterlock-Status: in the text\r\n")
	d.Append(t, peer.Alice, "INBOX", raw)
	for _, warm := range []bool{false, true} {
		for _, item := range []string{"BODY.PEEK[]", "BODY.PEEK[HEADER]", "RFC822", "RFC822.HEADER", "BODY.PEEK[HEADER.FIELDS (Letterlock-Status Letterlock-Other Subject)]",
			"BODY.PEEK[HEADER.FIELDS.NOT (From)]", "BODY.PEEK[1.MIME]", "BODY.PEEK[]<3.90>", "BODY.PEEK[]<25.60>", "BODY.PEEK[HEADER]<30.50>",
			"BODY.PEEK[HEADER.FIELDS (Letterlock-Status Subject)]<3.40>", "RFC822 BODY.PEEK[]<21.3>"} {
			if !warm { // first contact
				b = startBridge(t, d.Addr, peer.Alice, peer.AlicePassword, nil)
			}
			c := login(t, b.addr, user, password)
			up := login(t, d.Addr, peer.Alice, peer.AlicePassword)
			c.ok("EXAMINE INBOX")
			up.ok("EXAMINE INBOX")
			got, want := c.fetch("UID FETCH 1 (" + item + ")")["1"], up.fetch("UID FETCH 1 (" + item + ")")["1"]
			for name, w := range want {
				g := got[name]
				if len(g) != len(w) {
					t.Errorf("%s: %d bytes, want %d: %q", item, len(g), len(w), g)
				}
				text := strings.Replace(g, "Letterlock-Status: in the text", "", 1)
				if strings.Contains(strings.ToLower(text), "letterlock-") || strings.HasPrefix(strings.ToLower(text), "tterlock-") {
					t.Errorf("%s: %q", item, g)
				}
			}
			c.conn.Close()
			up.conn.Close()
		}
	}
}
