package smtpd_test

import (
	"slices"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

// TestACrashWhileWhatWaitsIsSealed kills the bridge at each step of having a copy that
// waited in clear sealed, since a certificate has come. Another process finishes, on
// the same files or as another node: zoe has one copy, and nobody reads it; where the
// crash came between the final dot and its journal, that is said.
func TestACrashWhileWhatWaitsIsSealed(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	for _, where := range []string{"files", "PostgreSQL"} {
		for _, step := range []string{"reviewed", "queue attempt", "queue attempted"} {
			t.Run(where+"/"+step, func(t *testing.T) {
				u, dir := newUpstream(t), t.TempDir()
				var shared []string
				if where == "PostgreSQL" {
					shared = []string{"LETTERLOCK_CRASH_STORE=" + peer.Postgres(t).Fresh()}
				}
				u.failWith(func(step string, n int, _ string) fault {
					if step == "dot" && n == 2 {
						return fault{reply: "451 4.3.0 later"}
					}
					return fault{}
				})
				rcpts := []string{"bob@example.net", "zoe@example.com"}
				first := startChild(t, u, dir, "", append(shared, "LETTERLOCK_CRASH_KNOWS=bob@example.net")...)
				if got := first.submit(wired(letter("1", rcpts[0])), rcpts); !strings.Contains(got, "1 wait in the queue") {
					t.Fatalf("reply %q", got)
				}
				first.stop()
				if !u.saw(canary) { // by the attempt that was refused
					t.Fatal("zoe's copy was not in clear")
				}
				after := append(shared, "LETTERLOCK_CRASH_KNOWS=bob@example.net zoe@example.com", "LETTERLOCK_CRASH_AHEAD=2h")
				startChild(t, u, dir, step, after...).waitKilled(step)
				last := startChild(t, u, dir, "", after...)
				eventually(t, "the queue is empty", last.settled)
				last.stop()
				copies, told := 0, false
				for _, m := range u.received() {
					switch {
					case strings.Contains(m.data, "multipart/report"):
						told = true
					case slices.Contains(m.rcpts, "zoe@example.com"):
						copies++
						if !strings.Contains(m.data, "multipart/encrypted") || strings.Contains(m.data, canary) {
							t.Errorf("zoe got\n%s", m.data)
						}
					}
				}
				switch {
				case step == "reviewed" && (copies != 1 || told):
					t.Errorf("zoe has %d copies; told of it: %v", copies, told)
				case step == "queue attempted" && (copies != 1 || !told), step == "queue attempt" && (copies != 0 || !told):
					t.Errorf("zoe has %d copies; told of it: %v", copies, told)
				}
				noCanary(t, dir)
			})
		}
	}
}
