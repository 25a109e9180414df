package queue_test

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"letterlock.org/letterlock/audit"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/smtpd/queue"
)

// BenchmarkJournal measures what a submission to one group writes: its row before
// the final dot, and what became of it. Sixteen sessions share syncs. cpu-µs/op is
// of the whole process: a loaded machine makes it larger, though less than ns/op.
func BenchmarkJournal(b *testing.B) {
	st, err := store.Open(filepath.Join(b.TempDir(), "store.db"), [32]byte{1}, queue.Schema)
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	q, err := queue.New(queue.Config{Store: st, Logger: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	defer q.Close()
	var n atomic.Int64
	b.SetParallelism(8)
	b.ReportAllocs()
	began := cpuTime(b)
	defer func() { b.ReportMetric(float64((cpuTime(b)-began).Nanoseconds())/1000/float64(b.N), "cpu-µs/op") }()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := n.Add(1)
			now := time.Now()
			id := fmt.Sprintf("<%d.%d@client.example.org>", i, now.UnixNano())
			e := queue.Entry{ID: queue.NewID(), Account: "alice@example.org", From: "alice@example.org", MessageID: id,
				Submission: queue.Key("alice@example.org", id, sha256.Sum256([]byte(id))), Date: now.Format(time.RFC1123Z),
				State: queue.Sending, Created: now, Next: now, Expires: now.Add(48 * time.Hour), Size: 17000,
				Recipients: []queue.Recipient{{Address: "bob@example.org", Key: "bob@example.org", State: queue.Sending,
					Decided: &audit.Decided{Rule: "default", Action: "encrypt", SignedAs: "0123456789ABCDEF0123456789ABCDEF01234567"}}}}
			release, _ := q.Claim(e.Submission, "bob@example.org")
			if err := q.Begin([]queue.Change{{Entry: e, Bare: true}}); err != nil {
				b.Error(err)
				return
			}
			e.State, e.Attempts = queue.Sent, 1
			e.Recipients = []queue.Recipient{e.Recipients[0]}
			r := &e.Recipients[0]
			r.State, r.Code, r.Status, r.Text = queue.Sent, 250, "2.0.0", "ok: queued as 4X2b3c4d"
			q.SettleLater([]queue.Change{{Entry: e, Bare: true}})
			release()
		}
	})
}

// cpuTime is what the process has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
