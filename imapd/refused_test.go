package imapd_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"letterlock.org/letterlock/imapd"
)

// hasty is an upstream that refuses every APPEND by its arguments and takes what
// comes next to be commands, as Dovecot 2.3 does with a literal that it didn't ask
// for.
func hasty(t *testing.T) (addr string, heard func() string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var mu sync.Mutex
	var lines []string
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprint(c, "* OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR AUTH=PLAIN IDLE ESEARCH UIDPLUS] hello\r\n")
				for s := bufio.NewScanner(c); s.Scan(); {
					mu.Lock()
					lines = append(lines, s.Text())
					mu.Unlock()
					tag, command, _ := strings.Cut(s.Text(), " ")
					switch name, _, _ := strings.Cut(command, " "); name {
					case "APPEND":
						fmt.Fprintf(c, "%s BAD Invalid system flag\r\n", tag)
					case "CAPABILITY":
						fmt.Fprintf(c, "* CAPABILITY IMAP4rev1 LITERAL+ IDLE ESEARCH UIDPLUS\r\n%s OK done\r\n", tag)
					default:
						fmt.Fprintf(c, "%s OK done\r\n", tag)
					}
				}
			}()
		}
	}()
	return l.Addr().String(), func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(lines, "\n")
	}
}

// TestARefusedUploadIsNoCommands: an upstream may refuse an upload for its flags or
// its date. Nothing of a mail, which anybody may have written, is a command then, and
// the session goes on.
func TestARefusedUploadIsNoCommands(t *testing.T) {
	for _, seals := range []imapd.AppendMode{imapd.AppendAll, imapd.AppendNone} {
		t.Run(string(seals), func(t *testing.T) {
			addr, heard := hasty(t)
			b := startBridge(t, addr, "up", "pw", func(_ *imapd.Config, a *imapd.Account) { a.Append = seals })
			c := login(t, b.addr, user, password)
			raw := "Message-ID: CREATE first\r\nx CREATE second\r\n\r\ny CREATE third\r\n"
			for _, args := range []string{`(\Recent) `, `"32-Foo-2026 10:00:00 +0000" `} {
				got := strings.Join(c.cmd(fmt.Sprintf("APPEND INBOX %s{%d+}\r\n%s", args, len(raw), raw)), "\n")
				if !strings.Contains(got, " BAD Invalid system flag") {
					t.Fatalf("APPEND: %q", got)
				}
				c.ok("NOOP")
			}
			if h := heard(); strings.Contains(h, "CREATE") || strings.Contains(h, "BEGIN PGP") || strings.Count(h, "NOOP") != 2 {
				t.Errorf("the upstream heard\n%s", h)
			}
		})
	}
}
