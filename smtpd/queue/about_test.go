package queue_test

import (
	"testing"
	"time"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/smtpd/queue"
)

// TestThePasswordOfWhatMayHaveArrivedIsTold: a process died between preparing the
// notice of a password and sending it.
func TestThePasswordOfWhatMayHaveArrivedIsTold(t *testing.T) {
	for _, tt := range []struct {
		name  string
		state queue.State // of what the notice is about
		about string
		want  bool
	}{
		{"the message was about to be sent", queue.Sending, "message", true},
		{"the message was sent", queue.Sent, "message", true},
		{"nobody knows of the message", queue.Unknown, "message", true},
		{"the message was only prepared", queue.Prepared, "message", false},
		{"the message is not in the journal", queue.Sending, "another", false},
		{"it is about nothing", queue.Sending, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st, err := store.OpenMemory(queue.Schema)
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			now := time.Unix(1_800_000_000, 0)
			c := queue.Config{Store: st, Now: func() time.Time { return now }}
			q, err := queue.New(c)
			if err != nil {
				t.Fatal(err)
			}
			entry := func(id, to string, state, his queue.State) queue.Change {
				return queue.Change{Body: message.Bytes([]byte("text")), Entry: queue.Entry{ID: id, Account: "alice@example.org", From: "alice@example.org", State: state, Size: 4,
					Recipients: []queue.Recipient{{Address: to, Key: to, State: his}}, Created: now, Next: now, Expires: now.Add(time.Hour)}}
			}
			his := tt.state
			if his == queue.Prepared {
				his = queue.Waiting
			}
			notice := entry("notice", "alice@example.org", queue.Prepared, queue.Waiting)
			notice.Entry.Report, notice.Entry.About = true, tt.about
			about := entry("message", "zoe@x", tt.state, his)
			if tt.state == queue.Sent { // so that it is in the daybook
				about = entry("message", "zoe@x", queue.Sending, queue.Sending)
				about.Bare, about.Body = true, nil
				if err := q.Begin([]queue.Change{about}); err != nil {
					t.Fatal(err)
				}
				about = entry("message", "zoe@x", queue.Sent, queue.Sent)
				about.Body = nil
			}
			if err := q.Settle([]queue.Change{notice, about}); err != nil {
				t.Fatal(err)
			}
			if q, err = queue.New(c); err != nil { // the first is dead
				t.Fatal(err)
			}
			es, err := q.List(t.Context(), queue.Waiting, 10)
			if err != nil || (len(es) == 1 && es[0].ID == "notice") != tt.want || len(es) > 1 {
				t.Errorf("waiting %+v, %v; want the notice: %v", es, err, tt.want)
			}
		})
	}
}
