package smtpd_test

import (
	"sync"
	"time"

	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// clock is a time that tests set forward.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// set makes it the time of a bridge's queue.
func (c *clock) set(_ *smtpd.Config, _ *smtpd.Account, q *queue.Config) {
	q.Now = c.Now
	q.Lifetime = 1000000 * time.Hour
	q.Remember = 1000000 * time.Hour
}
