package store

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// notifyChannel is the one channel of PostgreSQL that is used; ours are the
// first word of the payload.
const notifyChannel = "letterlock"

// notes is what is to be told. PostgreSQL lets commits that notify happen one
// after another, so equal ones are told once, and several in one transaction.
type notes struct {
	mu      sync.Mutex // guards the rest
	waiting map[string]bool
	running bool
}

// Notify implements Store. It doesn't wait.
func (s *postgres) Notify(ctx context.Context, channel, payload string) error {
	if err := checkNotification(channel, payload); err != nil {
		return err
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	s.notes.mu.Lock()
	defer s.notes.mu.Unlock()
	if s.notes.waiting == nil {
		s.notes.waiting = map[string]bool{}
	}
	if len(s.notes.waiting) > maxPayloads {
		payload = ""
	}
	s.notes.waiting[channel+" "+payload] = true
	if s.notes.running {
		s.work.Done()
	} else {
		s.notes.running = true
		go s.tellAll()
	}
	return nil
}

// tellAll sends what waits until nothing does.
func (s *postgres) tellAll() {
	defer s.work.Done()
	for {
		s.notes.mu.Lock()
		all := s.notes.waiting
		s.notes.waiting = map[string]bool{}
		if len(all) == 0 {
			s.notes.running = false
			s.notes.mu.Unlock()
			return
		}
		s.notes.mu.Unlock()
		s.tell(all) // a hint: an error loses it
	}
}

func (s *postgres) tell(all map[string]bool) error {
	ctx, cancel := context.WithTimeout(background, 10*time.Second)
	defer cancel()
	t, err := s.begin(ctx, "BEGIN")
	if err != nil {
		return err
	}
	defer t.end()
	for note := range all {
		if _, err := t.c.query(ctx, "SELECT pg_notify($1, $2)", notifyChannel, note); err != nil {
			return err
		}
	}
	return t.commit()
}

// Listen implements Store.
func (s *postgres) Listen(ctx context.Context, channel string, f func(string)) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	s.work.Done()
	s.ears.Do(func() { go s.hear() })
	return s.hub.listen(ctx, s.end, channel, f)
}

// hear passes on what the server tells, over a connection of its own, which it
// makes again when it is lost.
func (s *postgres) hear() {
	ctx, cancel := context.WithCancel(background)
	go func() { <-s.end; cancel() }()
	for ctx.Err() == nil {
		s.hearOnce(ctx)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// pulse is how long the server may say nothing before it is asked whether it is
// there.
const pulse = 30 * time.Second

func (s *postgres) hearOnce(ctx context.Context) error {
	config := s.config.Copy()
	config.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) {
		if channel, payload, ok := strings.Cut(n.Payload, " "); ok && channel != "" {
			s.hub.tell(channel, payload)
		}
	}
	c, err := s.connect(ctx, config)
	if err != nil {
		return err
	}
	defer c.hangUp()
	if _, err := c.exec(ctx, "LISTEN "+notifyChannel); err != nil {
		return err
	}
	s.hub.tell("", "") // whatever was missed
	for {
		wait, cancel := context.WithTimeout(ctx, pulse)
		err := c.WaitForNotification(wait)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.DeadlineExceeded) && !c.IsClosed():
			ask, cancel := context.WithTimeout(ctx, 10*time.Second)
			_, err = c.exec(ask, "SELECT 1")
			cancel()
		}
		if err != nil {
			return err
		}
	}
}
