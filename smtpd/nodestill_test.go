package smtpd_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

// TestANodeStandsStillAndAnotherFinishes has two bridges on one PostgreSQL. One
// is stopped (SIGSTOP) at each step of a delivery, as a machine that sleeps; its
// client hears nothing and repeats its message at the other, which takes it for
// dead and finishes what the journal knows. Then the first goes on where it
// stood. Nobody gets two copies, and nobody none, unless that is said. A message
// without Message-ID can't be recognised when its client repeats it: who got it
// before the node stood still gets it again, and nobody else.
func TestANodeStandsStillAndAnotherFinishes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	pg := peer.Postgres(t)
	all := []string{"bob@example.net", "carol@example.net", "dave@example.net", "erin@example.net"}
	for _, tt := range []struct {
		groups int
		steps  []string
		sent   []int // at each step, how many groups have got it
	}{
		{1, []string{"journalled", "commit 0", "committed 0", "settled"}, []int{0, 0, 1, 1}},
		{4, []string{"opened", "journalled", "commit 0", "committed 0", "commit 1", "committed 1", "commit 2", "committed 2", "settled", "queue attempt", "queue attempted"},
			[]int{0, 0, 0, 1, 1, 2, 2, 3, 4, 4, 4}}, // from "settled" on, the last is in the queue
	} {
		for i, step := range tt.steps {
			for _, id := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%d groups/Message-ID %v", step, tt.groups, id), func(t *testing.T) {
					t.Parallel()
					u, dir, shared := newUpstream(t), t.TempDir(), "LETTERLOCK_CRASH_STORE="+pg.Fresh()
					sleeper := startChild(t, u, dir, step, shared, "LETTERLOCK_CRASH_SIGNAL=stop")
					msg := wired(letter("1", all[0]))
					var twice []string
					if !id {
						twice = all[:tt.sent[i]]
						msg = strings.Replace(msg, "Message-ID: ", "X-ID: ", 1)
					}
					late := make(chan string, 1)
					go func() { late <- sleeper.submit(msg, all[:tt.groups]) }()
					eventually(t, "it stands still", sleeper.stopped)
					other := startChild(t, u, dir, "", shared) // not before: it would help with the queue
					answers, again := "", false
					select {
					case answers = <-late: // it had answered before
					default:
						eventually(t, "the other node takes it for dead", func() bool {
							pause := 100 * time.Millisecond
							if !id { // the client can't be recognised: it is patient
								pause = crashLease * 3 / 2
							}
							time.Sleep(pause)
							answers = other.submit(msg, all[:tt.groups])
							return !strings.Contains(answers, "right now")
						})
						again = true
					}
					if !again { // let it be taken for dead
						time.Sleep(crashLease * 3 / 2)
					}
					sleeper.cmd.Process.Signal(syscall.SIGCONT)
					if again {
						<-late // it has done what it does, though nobody hears its answer
					}
					eventually(t, "both queues are empty", func() bool { return sleeper.settled() && other.settled() })
					// What the first found that it must not send it forgets, soon.
					for try := 0; try < 10 && !strings.HasPrefix(answers, "250"); try++ {
						time.Sleep(150 * time.Millisecond)
						eventually(t, "it is forgotten", func() bool {
							answers = other.submit(msg, all[:tt.groups])
							return !strings.Contains(answers, "right now")
						})
						eventually(t, "the queue is empty", other.settled)
					}
					sleeper.stop()
					other.stop()
					checkCopies(t, u, strings.TrimPrefix(shared, "LETTERLOCK_CRASH_STORE="), all[:tt.groups], answers, twice...)
				})
			}
		}
	}
}

// stopped tells whether the process stands still.
func (c *child) stopped() bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		c.t.Fatal(err)
	}
	_, state, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(state, "T")
}
