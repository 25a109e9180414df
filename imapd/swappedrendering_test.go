package imapd_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/imapd"
	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// byAnother is what anybody can make who has the certificate.
func byAnother(t *testing.T, to *pgp.Key, raw []byte) []byte {
	t.Helper()
	eve, err := address.Parse("eve@example.test")
	if err != nil {
		t.Fatal(err)
	}
	key, err := pgp.GenerateKey(eve, pgp.DefaultProfile, time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	err = pgp.Protect(context.Background(), &b, message.Bytes(raw), pgp.Protection{Signer: key, From: eve, Recipients: []*pgp.Certificate{to.Certificate()}, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestPartsOfASwappedRendering: a message that was opened doesn't lend its header,
// and what that says of a signature, to the text of another one that the upstream
// gives under the same UID later: neither in the session, nor to a client that keeps
// the header and comes back.
func TestPartsOfASwappedRendering(t *testing.T) {
	key := testKey(t)
	text := func(i int) []byte {
		return fmt.Appendf(nil, "From: alice@example.test\r\nSubject: x\r\nMessage-ID: <%d@x>\r\n\r\n%s\r\n", i, strings.Repeat(fmt.Sprintf("text %d ", i), 100))
	}
	first, eves := encrypt(t, key, text(0)), byAnother(t, key, text(0))
	head, _, _ := bytes.Cut(first, []byte("Content-Type:"))
	for _, other := range []struct {
		name       string
		raw        []byte
		unverified bool // what was first is by somebody unknown
	}{
		{"another one of the same author", encrypt(t, key, text(1)), false},
		{"one of somebody else", byAnother(t, key, text(1)), false},
		{"text that is not encrypted", text(1), false},
		{"text that is not encrypted, for what nobody signed that is known", text(1), true},
		{"text that is not encrypted, below the same header", append(bytes.Clone(head), strings.Repeat("\r\ntext 1", 100)...), false},
		{"text of two parts that is not encrypted", bytes.Replace(text(1), []byte("\r\n\r\n"), []byte("\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"), 1), false},
	} {
		for _, again := range []bool{false, true} {
			if again && other.unverified {
				continue // its header says nothing that isn't so of the other
			}
			for _, tt := range []struct{ name, first, then string }{
				{"pieces", "BODY.PEEK[]<0.200>", "BODY.PEEK[]<200.4000>"},
				{"header and text", "BODY.PEEK[HEADER]", "BODY.PEEK[TEXT]"},
				{"fields and a part", "BODY.PEEK[HEADER.FIELDS (Letterlock-Status)]", "BODY.PEEK[1]"},
				{"header and all", "BODY.PEEK[HEADER]", "BODY.PEEK[]"},
				{"header and all, as in RFC 822", "BODY.PEEK[HEADER]", "RFC822"},
			} {
				t.Run(fmt.Sprintf("%s, %s, new session: %v", other.name, tt.name, again), func(t *testing.T) {
					up := swappable{raw: first}
					if other.unverified {
						up.raw = eves
					}
					d := &double{answer: up.answer}
					d.start(t)
					b := startBridge(t, d.addr, "up", "pw", func(c *imapd.Config, _ *imapd.Account) { c.Logger = nil })
					c := login(t, b.addr, user, password)
					c.ok("SELECT INBOX")
					got := strings.Join(c.ok("UID FETCH 11 ("+tt.first+")"), "")
					if strings.Contains(got, "BEGIN PGP") || !strings.Contains(got, "FETCH") {
						t.Fatalf("at first %.300q", got)
					}
					if again {
						c = login(t, b.addr, user, password)
						c.ok("SELECT INBOX")
					}
					b.library.Close() // so that nothing is kept in memory
					up.raw = other.raw
					c.send("x UID FETCH 11 (" + tt.then + ")\r\n")
					for got = ""; ; {
						r, err := c.tryResponse()
						if got += r; err != nil || strings.HasPrefix(r, "x ") {
							break
						}
					}
					if strings.Contains(got, "text 1") || strings.Contains(got, "x OK") {
						t.Errorf("then %.300q", got)
					}
					if all, err := b.library.Unopened(context.Background()); !other.unverified && (err != nil || len(all) != 1 || all[0].Reason != index.ErrSwapped.Error()) {
						t.Errorf("status says %v, %v", all, err)
					}
				})
			}
		}
	}
}

// TestAFieldThatTheServerAdds: a signed message under whose UID the server comes to
// give fields of its own is the same message still.
func TestAFieldThatTheServerAdds(t *testing.T) {
	raw := encrypt(t, testKey(t), letters()[0])
	up := swappable{raw: raw}
	d := &double{answer: up.answer}
	d.start(t)
	b := startBridge(t, d.addr, "up", "pw", nil)
	first, again := login(t, b.addr, user, password), login(t, b.addr, user, password)
	for _, c := range []*client{first, again} {
		c.ok("SELECT INBOX")
	}
	if got := strings.Join(first.ok("UID FETCH 11 (BODY.PEEK[HEADER])"), ""); !strings.Contains(got, "signature=valid") {
		t.Fatalf("at first %.600q", got)
	}
	b.library.Close() // so that nothing is kept in memory
	up.raw = append([]byte("X-Scanned: twice\r\n"), raw...)
	if got := strings.Join(again.ok("UID FETCH 11 (BODY.PEEK[TEXT])"), ""); !strings.Contains(got, "whisper canary one") {
		t.Errorf("then %.600q", got)
	}
}

// swappable is an upstream's one message, of UID 11, which is another one when raw
// is set.
type swappable struct{ raw []byte }

func (u *swappable) answer(c string) string {
	if !strings.HasPrefix(c, "UID FETCH") {
		return ""
	}
	var b strings.Builder
	b.WriteString("* 2 FETCH (UID 11")
	head, text, _ := strings.Cut(string(u.raw), "\r\n\r\n")
	for item, v := range map[string]string{
		"BODY.PEEK[]": string(u.raw), "BODY.PEEK[HEADER]": head + "\r\n\r\n", "BODY.PEEK[TEXT]<0": text[:min(100, len(text))],
		"BODY.PEEK[TEXT])": text, "BODY.PEEK[1]": text, "RFC822)": string(u.raw),
	} {
		if strings.Contains(c, item) {
			name := strings.TrimSuffix(strings.Replace(item, ".PEEK", "", 1), ")")
			if strings.HasSuffix(name, "<0") {
				name += ">"
			}
			fmt.Fprintf(&b, " %s {%d}\r\n%s", name, len(v), v)
		}
	}
	return b.String() + ")\r\nTAG OK done\r\n"
}
