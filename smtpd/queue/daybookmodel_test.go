package queue_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/smtpd/queue"
)

// TestTheDaybookIsTrueToItsModel begins and settles at random, in small volumes;
// the process dies at some write, before or after it takes effect, or ends in
// peace, again and again. After each start, what was promised holds: what was
// synced is there, once, in the state that it was left in, or Unknown where its
// final dot may have been sent; of the write that died there is all or nothing.
func TestTheDaybookIsTrueToItsModel(t *testing.T) {
	seeds := uint64(12)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 11))
			j := newJournal(t, queue.Config{Volume: 1 << (6 + r.IntN(8))})
			may := map[string][]queue.State{} // by ID: what it may be now
			all := map[string]queue.Entry{}
			for range 12 {
				c := &crasher{Store: j.st, left: 1 + r.IntN(60), after: r.IntN(2) == 0}
				if err := j.tryOpen(c); errors.Is(err, errCut) {
					continue // it died in settling what the last one left
				} else if err != nil {
					t.Fatal(err)
				}
				listed := j.listed()
				for id, e := range all {
					got := j.known(e)
					if got != queue.Sent && listed[id] != got || got == queue.Sent && listed[id] != "" {
						t.Fatalf("%s is %q, and listed as %q", e.MessageID, got, listed[id])
					}
					if !slices.Contains(may[id], got) {
						t.Fatalf("%s is %q after a start, may be %q", e.MessageID, got, may[id])
					} else {
						may[id] = []queue.State{got}
					}
				}
				for j.step(r, all, may) {
				}
				for id, was := range may { // the process is gone
					if slices.Contains(was, queue.Sending) {
						may[id] = append(was, queue.Unknown)
					}
					may[id] = slices.DeleteFunc(may[id], func(s queue.State) bool { return s == queue.Sending })
				}
				c.die()
				j.q.Close()
			}
			if n := j.number(`SELECT COUNT(*) FROM queue_volume`); n == 0 {
				t.Error("no volume was closed")
			}
		})
	}
}

// die has everything fail from now on.
func (c *crasher) die() {
	c.mu.Lock()
	c.gone = true
	c.mu.Unlock()
}

// step does one thing at random; false if the store died or the process ends.
func (j *journal) step(r *rand.Rand, all map[string]queue.Entry, may map[string][]queue.State) bool {
	var open []string
	for id, states := range may {
		if slices.Equal(states, []queue.State{queue.Sending}) {
			open = append(open, id)
		}
	}
	slices.Sort(open)
	j.later(time.Second)
	n := r.IntN(40)
	switch {
	case n == 0:
		return false
	case n < 20 || len(open) == 0:
		var cs []queue.Change
		for range 1 + r.IntN(3) {
			e := j.letter(fmt.Sprintf("<%d@x>", len(all)))
			all[e.ID], may[e.ID] = e, []queue.State{"", queue.Sending}
			cs = append(cs, queue.Change{Entry: e, Bare: true})
		}
		err := j.q.Begin(cs)
		for _, c := range cs {
			if err == nil {
				may[c.Entry.ID] = []queue.State{queue.Sending}
			}
		}
		return err == nil
	}
	id := open[r.IntN(len(open))]
	e := all[id]
	to := []queue.State{queue.Sent, queue.Sent, queue.Sent, queue.Waiting, queue.Failed, queue.Unknown, ""}[r.IntN(7)]
	c := queue.Change{Entry: in(e, to, "said"), Bare: r.IntN(2) == 0, IfOpen: r.IntN(2) == 0}
	switch to {
	case queue.Waiting:
		c.Body = message.Bytes([]byte("text"))
	case "":
		c = queue.Change{Entry: e, Forget: true, Bare: true}
	}
	may[id] = []queue.State{queue.Sending, to}
	if to == queue.Sent && r.IntN(2) == 0 {
		j.q.SettleLater([]queue.Change{c})
		return true
	}
	if err := j.settle(c); err != nil {
		return false
	}
	may[id] = []queue.State{to}
	if got := j.known(e); got != to {
		j.t.Fatalf("%s is %q right after it was settled as %q", e.MessageID, got, to)
	}
	return true
}
