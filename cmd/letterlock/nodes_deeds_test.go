package main_test

import (
	"syscall"
	"time"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

// deed is one thing that befalls nodes: which of them, and for how long about.
type deed struct {
	name string
	do   func(i int, pause time.Duration)
}

// takeover is when a node under fire is taken for dead.
const takeover = 4 * time.Second

// deaths are what befalls processes.
func (f *fire) deaths() []deed {
	return []deed{
		{"kill a node", func(i int, pause time.Duration) {
			f.nodes[i].kill()
			time.Sleep(pause)
			f.restart(i)
		}},
		{"kill both nodes", func(int, time.Duration) {
			f.nodes[0].kill()
			f.nodes[1].kill()
			f.restart(0)
			f.restart(1)
		}},
		{"kill the database", func(_ int, pause time.Duration) {
			f.db.Crash()
			time.Sleep(pause)
			f.db.Start()
		}},
		{"stop a node", func(i int, pause time.Duration) { // as a machine that sleeps, past its lease
			f.nodes[i].process.Process.Signal(syscall.SIGSTOP)
			time.Sleep(takeover + pause)
			f.nodes[i].process.Process.Signal(syscall.SIGCONT)
		}},
	}
}

func (f *fire) restart(i int) {
	f.nodes[i].ready = nil
	f.nodes[i].serve(1)
}

// cableCuts are what befalls the lines of nodes to the database.
func cableCuts(lines []*peer.Cable) []deed {
	return []deed{
		{"cut a line", func(i int, pause time.Duration) {
			lines[i].Cut()
			time.Sleep(2 * pause)
			lines[i].Mend()
		}},
		{"silence a line", func(i int, pause time.Duration) {
			lines[i].Up.Store(true)
			lines[i].Down.Store(true)
			time.Sleep(2 * pause)
			lines[i].Cut() // or what was swallowed would be missing in the stream
			lines[i].Mend()
		}},
		{"silence answers", func(i int, pause time.Duration) {
			lines[i].Down.Store(true)
			time.Sleep(2 * pause)
			lines[i].Cut()
			lines[i].Mend()
		}},
	}
}
