package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/smtpd/queue"
)

// TestWhatAPersonGaveUpIsNotCalledSent is inside the package, which needs no mail
// server then.
func TestWhatAPersonGaveUpIsNotCalledSent(t *testing.T) {
	ctx := context.Background()
	cfg, err := config.Parse("test", fmt.Sprintf("state_dir = %q\n", t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.OpenMemory(schemas...)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newState(ctx, cfg, st, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	now := time.Now()
	held := queue.Entry{ID: queue.NewID(), Account: "alice@example.org", From: "alice@example.org", State: queue.Held, Created: now, Next: now, Expires: now.Add(time.Hour), Size: 4,
		Recipients: []queue.Recipient{{Address: "bob@example.org", Key: "bob@example.org", State: queue.Held, Text: "why"}}}
	if err := s.queue.Settle([]queue.Change{{Entry: held, Body: message.Bytes([]byte("text"))}}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what    string
		command stateCommand
		want    string
	}{
		{"held mail isn't tried", &queueRetry{ID: []string{held.ID}}, "it is held, so the rules are asked first: letterlock queue release " + held.ID},
		{"it is given up", &queueDrop{ID: []string{held.ID}}, "is given up"},
		{"once", &queueDrop{ID: []string{held.ID}}, held.ID + ": it is given up (see"},
		{"and called that", &queueShow{ID: held.ID}, "  dropped  bob@example.org  dropped by hand"},
		{"in JSON too", &queueShow{ID: held.ID, JSON: true}, `"state": "dropped"`},
		{"what there never was isn't there", &queueDrop{ID: []string{"x"}}, "x: no such queue entry (see: letterlock queue list)"},
	} {
		var out bytes.Buffer
		e := &env{stdout: &out, stderr: &out, now: time.Now}
		if err := tt.command.runState(ctx, e, s); err != nil {
			fmt.Fprint(&out, err)
		}
		if !strings.Contains(out.String(), tt.want) {
			t.Errorf("%s: it says %s", tt.what, out.String())
		}
	}
}
