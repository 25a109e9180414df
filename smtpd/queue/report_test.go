package queue_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/smtpd/queue"
)

// TestAReportSaysWhyNow: where the last attempt came to no answer, an earlier one is not
// the reason. What an error has besides is for the log.
func TestAReportSaysWhyNow(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"the mail server is away", fmt.Errorf("%w: dial tcp 192.0.2.1:587", queue.ErrUpstream), "the mail server could not be reached, or lets nobody in"},
		{"a fault of our own", errors.New("192.0.2.1 is a panic"), "letterlock could not hand the message over"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, queue.Config{Lifetime: 48 * time.Hour})
			tried := 0
			w.answer = func(e queue.Entry, _ []byte, _ queue.Attempt) ([]queue.Recipient, error) {
				if tried++; tried == 1 {
					return all(e, queue.Waiting), nil
				}
				return nil, tt.err
			}
			// While the server is away, nothing is tried for a while. The clock goes slowly:
			// what is told late must not be given up while a slow machine writes that.
			report := func(action string) (text string) {
				w.advance(time.Minute)
				time.Sleep(20 * time.Millisecond)
				w.mu.Lock()
				defer w.mu.Unlock()
				for _, e := range w.sent {
					if body := string(w.bodies[e.ID]); e.Report && strings.Contains(body, "Action: "+action) {
						text = body
					}
				}
				return text
			}
			w.put(queue.Waiting, "text", "bob@x")
			w.until("tried", func() bool { return w.attempts() == 1 && w.list() == "waiting bob@x=waiting" })
			w.advance(2 * time.Hour)
			w.until("tried again", func() bool { return w.attempts() >= 2 && w.list() == "waiting bob@x=waiting" })
			w.advance(3 * time.Hour)
			w.until("it is told that it is late", func() bool { return report("delayed") != "" })
			w.advance(49 * time.Hour)
			w.until("it is given up", func() bool { return report("failed") != "" })
			for _, text := range []string{report("delayed"), report("failed")} {
				if !strings.Contains(text, tt.want) || strings.Contains(text, "450") || strings.Contains(text, "192.0.2.1") {
					t.Errorf("%s", text)
				}
			}
		})
	}
}
