package imapd_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd/wire"
)

// churn is an upstream whose mailbox changes whenever it likes, also where it
// must not say so.
type churn struct {
	r    *rand.Rand
	uids []int
	next int
}

// change expunges or adds a message and tells it.
func (u *churn) change(b *strings.Builder) {
	for u.r.IntN(2) == 0 {
		if u.r.IntN(3) == 0 || len(u.uids) < 3 {
			u.uids = append(u.uids, u.next)
			u.next++
			fmt.Fprintf(b, "* %d EXISTS\r\n", len(u.uids))
			continue
		}
		i := u.r.IntN(len(u.uids))
		u.uids = slices.Delete(u.uids, i, i+1)
		fmt.Fprintf(b, "* %d EXPUNGE\r\n", i+1)
	}
}

func (u *churn) answer(command string) string {
	var b strings.Builder
	name, rest, _ := strings.Cut(command, " ")
	set, _, _ := strings.Cut(rest, " ")
	switch name {
	case "SELECT":
		return fmt.Sprintf("* %d EXISTS\r\n* OK [UIDVALIDITY 7] x\r\nTAG OK [READ-WRITE] x\r\n", len(u.uids))
	case "FETCH", "STORE":
		if name == "STORE" && !strings.Contains(command, "+FLAGS (x)") {
			break
		}
		// The numbers in the command are of before the changes told now.
		parsed, err := wire.ParseSet([]byte(set))
		if err != nil {
			return "TAG BAD x\r\n"
		}
		var meant []int
		for _, r := range parsed.Resolve(uint32(len(u.uids))) {
			for n := r.First; n <= r.Last && int(n) <= len(u.uids); n++ {
				meant = append(meant, u.uids[n-1])
			}
		}
		u.change(&b)
		for _, uid := range meant {
			if i := slices.Index(u.uids, uid); i >= 0 {
				fmt.Fprintf(&b, "* %d FETCH (UID %d FLAGS (u%d))\r\n", i+1, uid, uid)
			}
		}
		u.change(&b)
	case "NOOP":
		u.change(&b)
	case "UID":
		b.WriteString("* SEARCH")
		for _, uid := range u.uids {
			if strings.Contains(command, "UID 1:*") || uid >= u.next-1 {
				fmt.Fprintf(&b, " %d", uid)
			}
		}
		b.WriteString("\r\n")
	default:
		return ""
	}
	return b.String() + "TAG OK x\r\n"
}

// TestNumbersStayTrue checks over random sessions that a sequence number that
// the client sees is the message it has under that number, whatever the upstream
// expunges when, and that no EXPUNGE comes where RFC 3501, Section 7.4.1 forbids.
func TestNumbersStayTrue(t *testing.T) {
	for seed := range uint64(20) {
		u := &churn{r: rand.New(rand.NewPCG(seed, 5)), uids: []int{10, 11, 12, 13, 14, 15}, next: 16}
		d := (&double{caps: "IMAP4rev1 LITERAL+", answer: u.answer}).start(t)
		b := startBridge(t, d.addr, "up", "pw", nil)
		c := login(t, b.addr, user, password)
		c.ok("SELECT INBOX")
		mine := []int{10, 11, 12, 13, 14, 15} // 0 is not known yet
		for step := range 60 {
			n := 1 + u.r.IntN(len(mine))
			command := []string{"NOOP", fmt.Sprintf("FETCH %d (UID FLAGS)", n), fmt.Sprintf("STORE %d +FLAGS (x)", n), "FETCH 1:* (UID FLAGS)"}[u.r.IntN(4)]
			quiet := command != "NOOP"
			for _, r := range c.cmd(command) {
				f := strings.Fields(r)
				if len(f) < 3 || f[0] != "*" {
					continue
				}
				seq, _ := strconv.Atoi(f[1])
				switch f[2] {
				case "EXISTS":
					if seq < len(mine) {
						t.Fatalf("seed %d, step %d: the mailbox shrinks to %d of %d", seed, step, seq, len(mine))
					}
					mine = append(mine, make([]int, seq-len(mine))...)
				case "EXPUNGE":
					if quiet || seq < 1 || seq > len(mine) {
						t.Fatalf("seed %d, step %d: %s during %s, with %d messages", seed, step, r, command, len(mine))
					}
					mine = slices.Delete(mine, seq-1, seq)
				case "FETCH":
					uid, _ := strconv.Atoi(items(t, r)["UID"])
					if seq < 1 || seq > len(mine) || mine[seq-1] != 0 && mine[seq-1] != uid {
						t.Fatalf("seed %d, step %d: %q during %s, but I have %v", seed, step, r, command, mine)
					}
					mine[seq-1] = uid
				}
			}
		}
		c.ok("NOOP")
		c.conn.Close()
	}
}
