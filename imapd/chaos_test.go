package imapd_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"letterlock.org/letterlock/imapd"
)

// syncBuffer is a log that several write to.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// chaos makes what an upstream out of its mind may say.
type chaos struct {
	*rand.Rand
	mad    int    // percent
	sealed []byte // a message that can be opened
}

func (c chaos) odd() bool { return c.IntN(100) < c.mad }

func (c chaos) one(of ...string) string { return of[c.IntN(len(of))] }

func (c chaos) literal(b string) string {
	n := len(b)
	if c.odd() {
		n -= c.IntN(20) // longer, and everybody waits for the rest
	}
	return fmt.Sprintf("{%d}\r\n%s", max(n, 0), b)
}

func (c chaos) content() string {
	return c.one("Subject: x\r\n\r\n", "Subject: x\r\nLetterlock-Status: forged\r\n\r\ntext", "", "text only", "Content-Type: multipart/encrypted\r\n\r\n",
		"A: b\rLetterlock-Status: forged\r\n\r\n", strings.Repeat("X: "+strings.Repeat("y", 70)+"\r\n", 900), string(c.sealed), string(c.sealed[:300]),
		"Subject: x\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n", "\r\n", "\x00\xff\r\n\r\n\x00")
}

func (c chaos) item() string {
	switch c.IntN(12) {
	case 0:
		return "FLAGS (" + c.one(`\Seen`, "$LetterlockVerified", "a b", "(", `\Seen \Recent`) + ")"
	case 1:
		if !c.odd() {
			return "MODSEQ (" + c.one("5", "x", "99999999999999999999") + ")"
		}
		return "UID " + c.one("10", "11", "12", "99", "0", "x")
	case 3:
		return c.one("ENVELOPE (NIL NIL)", "BODYSTRUCTURE ((((NIL))))", "RFC822.SIZE 5", `INTERNALDATE "x"`, "BODY NIL", `X-GM-LABELS ("a")`)
	}
	return c.one("BODY[]", "BODY[HEADER]", "BODY[TEXT]<0>", "BODY[]<0>", "BODY[1]", "RFC822", "BODY[HEADER.FIELDS (SUBJECT)]", "BODY[]<5>", "BODY[]<70000>", "BODY[1.MIME]") +
		" " + c.one(c.literal(c.content()), c.literal(c.content()), c.literal(c.content()), "NIL", `"x"`, `""`)
}

// unit is some untagged response.
func (c chaos) unit() string {
	n := c.one("1", "2", "3")
	switch k := c.IntN(9); {
	case c.odd():
		n = c.one("0", "4", "4294967295")
	case k == 0 && c.odd():
		return "* " + n + c.one(" EXPUNGE", " EXISTS", " RECENT")
	case k == 1 && !c.odd():
		return c.one("* SEARCH 1 2 (MODSEQ 9)", "* OK [HIGHESTMODSEQ 77] x", "* STATUS INBOX (HIGHESTMODSEQ 5)", "* FLAGS (a $LetterlockVerified)", "* 3 EXISTS",
			"* LIST () \"/\" {3}\r\na\r\n", "* OK [COPYUID 7 10 20] x", "* NO x", "* 1 RECENT", "* VANISHED (EARLIER) 1:9")
	case k == 1:
		return c.one("* VANISHED 10:11", "* VANISHED (EARLIER) 1:9", "* VANISHED 1:4294967295", "* ESEARCH (TAG \"TAG\") UID ALL 10:12", "* SEARCH 10 11", "* SEARCH 1 2 (MODSEQ 9)",
			"* OK [UIDVALIDITY 8] x", "* OK [HIGHESTMODSEQ 77] x", "* STATUS INBOX (HIGHESTMODSEQ 5)", "* FLAGS (a $LetterlockVerified)", "* LIST () \"/\" {3}\r\na\r\n",
			"* OK [COPYUID 7 10 20] x", "* ENABLED QRESYNC", "+ go", "* BAD x", "* NO x", "* CAPABILITY IMAP4rev1 SORT")
	}
	var items []string
	for range 1 + c.IntN(5) {
		items = append(items, c.item())
	}
	switch {
	case c.odd():
		items = append([]string{"UID 1" + c.one("0", "1", "2")}, items...)
	case c.IntN(4) > 0 && len(n) == 1: // as it is
		items = append([]string{"UID 1" + string(n[0]-1)}, items...)
	}
	return "* " + n + " FETCH (" + strings.Join(items, " ") + ")"
}

func (c chaos) command() string {
	item := func() string {
		return c.one("FLAGS", "UID", "BODY.PEEK[]", "BODY[]", "BODY.PEEK[HEADER]", "BODY.PEEK[HEADER.FIELDS (Subject)]", "BODY.PEEK[]<0.100>", "BODY.PEEK[]<5.100>",
			"BODY.PEEK[]<70000.10>", "RFC822.SIZE", "ENVELOPE", "BODY.PEEK[TEXT]<0.9>", "BODY.PEEK[1]", "RFC822", "MODSEQ", "BODY.PEEK[HEADER.FIELDS.NOT (A)]", "BODY.PEEK[1.MIME]")
	}
	switch c.IntN(14) {
	case 0:
		return c.one("NOOP", "CHECK", "EXPUNGE", "UID EXPUNGE 10:12", "ENABLE QRESYNC", "SELECT INBOX", "EXAMINE INBOX", "CLOSE")
	case 1:
		return c.one("SEARCH SUBJECT x", "UID SEARCH BODY y", "SEARCH RETURN (COUNT) KEYWORD $LetterlockVerified", "UID SEARCH ALL", "SEARCH NOT TEXT z")
	case 2:
		return c.one("STORE 1 +FLAGS (a)", "UID STORE 10 FLAGS $LetterlockVerified", "COPY 1 x", "UID MOVE 10 x", "STATUS INBOX (HIGHESTMODSEQ)", "SELECT INBOX (QRESYNC (7 1))")
	case 3:
		return "APPEND INBOX {3+}\r\nabc"
	}
	items := []string{item()}
	for c.IntN(2) == 0 {
		items = append(items, item())
	}
	return c.one("FETCH ", "UID FETCH ", "UID FETCH 1") + c.one("1", "2", "1:*", "1:3") + " (" + strings.Join(items, " ") + ")" + c.one("", "", "", " (CHANGEDSINCE 3)")
}

// TestUpstreamOutOfItsMind: whatever an upstream says, a session is never ended
// by a fault of ours, never waits for ever, and shows no keyword or field of ours
// that is not. Reproduce with -differential.seed.
func TestUpstreamOutOfItsMind(t *testing.T) {
	rounds := 150
	if testing.Short() {
		rounds = 30
	}
	for n := range rounds {
		seed := *differentialSeed + uint64(n)
		var log syncBuffer
		var mu sync.Mutex
		g := chaos{Rand: rand.New(rand.NewPCG(seed, 5))}
		up := chaos{Rand: rand.New(rand.NewPCG(seed, 6)), mad: []int{0, 1, 1, 3, 30}[n%5]}
		d := &double{}
		b := (*bridge)(nil)
		d.answer = func(command string) string {
			mu.Lock()
			defer mu.Unlock()
			if strings.HasPrefix(command, "AUTH") || strings.HasPrefix(command, "CAPA") || strings.HasPrefix(command, "IDLE") || command == "LOGOUT" {
				return ""
			}
			calm := strings.HasPrefix(command, "SELECT") || strings.HasPrefix(command, "UID SEARCH RETURN (ALL) UID")
			if calm && (up.mad < 30 || up.IntN(4) > 0) {
				return ""
			}
			var out strings.Builder
			for up.IntN(3) > 0 {
				out.WriteString(up.unit() + "\r\n")
			}
			return out.String() + "TAG " + up.one("OK done", "OK done", "OK done", "OK done", "NO x", "BAD x", "OK [READ-WRITE] done") + "\r\n"
		}
		d.start(t)
		b = startBridge(t, d.addr, "up", "pw", func(c *imapd.Config, _ *imapd.Account) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		sealed := encrypt(t, b.key, []byte("From: alice@example.test\r\nSubject: x\r\nMessage-ID: <x@y>\r\n\r\nhello\r\n"))
		mu.Lock()
		up.sealed = sealed
		mu.Unlock()
		c := login(t, b.addr, user, password)
		var batch strings.Builder
		batch.WriteString("c0 SELECT INBOX\r\n")
		const commands = 12
		for i := 1; i <= commands; i++ {
			fmt.Fprintf(&batch, "c%d %s\r\n", i, g.command())
		}
		c.hurl(batch.String())
		for {
			r, err := c.tryResponse()
			if err != nil {
				if strings.Contains(err.Error(), "timeout") {
					t.Fatalf("seed %d: nothing more comes", seed)
				}
				break
			}
			all := strings.HasPrefix(r, "* FLAGS (") && strings.HasSuffix(r, "$LetterlockEncrypted $LetterlockSigned $LetterlockVerified $LetterlockWarning)")
			if strings.Contains(r, "$LetterlockVerified") && strings.Contains(r, "FLAGS") && !all { // all are declared by us
				t.Fatalf("seed %d: a planted keyword: %.300q", seed, r)
			}
			if strings.Contains(r, "\r\nLetterlock-Status: forged") && strings.Contains(r, "BODY[HEADER") {
				t.Fatalf("seed %d: a planted field: %.300q", seed, r)
			}
			if strings.HasPrefix(r, fmt.Sprintf("c%d ", commands)) {
				break
			}
		}
		c.conn.Close()
		if s := log.String(); strings.Contains(s, "fault of ours") || strings.Contains(s, "panic") {
			t.Fatalf("seed %d: %s", seed, s)
		}
	}
}
