package queue_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"letterlock.org/letterlock/audit"
	"letterlock.org/letterlock/smtpd/queue"
)

// ledger is an audit log that remembers who and what. It is safe for concurrent use.
type ledger struct {
	mu    sync.Mutex
	lines []string
}

func (l *ledger) Append(rs ...audit.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range rs {
		l.lines = append(l.lines, fmt.Sprintf("%s %s %s %d", r.Message, r.Recipient, r.Outcome, r.Code))
	}
}

func (l *ledger) Before(_ context.Context, rs ...audit.Record) error { l.Append(rs...); return nil }

// TestWhatDiedUnderWayIsRecorded: the process that sent it can't tell the audit what
// came of it; the next one says that nobody knows, once.
func TestWhatDiedUnderWayIsRecorded(t *testing.T) {
	l := &ledger{}
	j := newJournal(t, queue.Config{Audit: l})
	put := func(id string, s queue.State) {
		t.Helper()
		if err := j.settle(queue.Change{Entry: in(j.letter(id), s, "")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.begin(j.letter("<daybook@x>")); err != nil {
		t.Fatal(err)
	}
	j.send("<arrived@x>")
	put("<row@x>", queue.Sending)
	put("<prepared@x>", queue.Prepared)
	put("<waiting@x>", queue.Waiting)
	put("<held@x>", queue.Held)
	put("<unknown@x>", queue.Unknown)
	two := j.letter("<two@x>")
	two.Recipients = append(two.Recipients, queue.Recipient{Address: "carol@x", Key: "carol@x", State: queue.Sent})
	if err := j.settle(queue.Change{Entry: two}); err != nil {
		t.Fatal(err)
	}
	if len(l.lines) > 0 {
		t.Fatalf("recorded before anything died: %q", l.lines)
	}
	for range 2 {
		j.open(j.st)
	}
	slices.Sort(l.lines)
	want := []string{"<daybook@x> bob@example.org unknown 451", "<row@x> bob@example.org unknown 451", "<two@x> bob@example.org unknown 451"}
	if !slices.Equal(l.lines, want) {
		t.Errorf("got %q, want %q", l.lines, want)
	}
}
