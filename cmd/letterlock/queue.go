package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/smtpd/queue"
)

type queueCmd struct {
	List    queueList    `cmd:"" help:"Mail that is not sent yet, is held, was given up, or whose fate is unknown; the oldest first."`
	Show    queueShow    `cmd:"" help:"Everything about one entry, but its content."`
	Retry   queueRetry   `cmd:"" help:"Try now what waits; and once more what may have been delivered: it may arrive twice."`
	Drop    queueDrop    `cmd:"" help:"Give up what waits, is held or is unknown. Nobody is told."`
	Release queueRelease `cmd:"" help:"Decide again now about what is held. What can be encrypted goes."`
}

type queueList struct {
	State string `help:"Only these: waiting, held, unknown, failed, sending." enum:",waiting,held,unknown,failed,sending,prepared" default:""`
	Limit int    `help:"At most so many." default:"1000"`
	JSON  bool   `name:"json" help:"For scripts."`
}

type queueJSON struct {
	ID         string          `json:"id"`
	Account    string          `json:"account"`
	From       string          `json:"from"`
	Recipients []string        `json:"recipients"`
	State      queue.State     `json:"state"`
	Clear      bool            `json:"clear"`
	Report     bool            `json:"report"`
	Attempts   int             `json:"attempts"`
	Created    time.Time       `json:"created"`
	Next       *time.Time      `json:"next"`
	Expires    time.Time       `json:"expires"`
	Size       int64           `json:"size"`
	LastError  string          `json:"last_error,omitempty"`
	MessageID  string          `json:"message_id,omitempty"`
	Details    []recipientJSON `json:"details,omitempty"`
}

type recipientJSON struct {
	Address string      `json:"address"`
	State   queue.State `json:"state"`
	Code    int         `json:"code,omitempty"`
	Status  string      `json:"status,omitempty"`
	Text    string      `json:"text,omitempty"`
}

// dropped is what a person is told of what was given up by one.
const dropped queue.State = "dropped"

func describeEntry(q queue.Entry) queueJSON {
	j := queueJSON{ID: q.ID, Account: q.Account, From: q.From, Recipients: []string{}, State: q.State, Clear: q.Clear, Report: q.Report,
		Attempts: q.Attempts, Created: q.Created.UTC(), Expires: q.Expires.UTC(), Size: q.Size, LastError: q.LastError, MessageID: q.MessageID}
	for _, r := range q.Recipients {
		j.Recipients = append(j.Recipients, r.Address)
	}
	if q.Dropped() {
		j.State = dropped
	}
	if q.State == queue.Waiting || q.State == queue.Held {
		t := q.Next.UTC()
		j.Next = &t
	}
	return j
}

func (c *queueList) runState(ctx context.Context, e *env, s *state) error {
	put := func(j queueJSON) error { c.print(e, j); return nil }
	list := e.jsonList()
	if c.JSON {
		put = func(j queueJSON) error { return list.put(j) }
	}
	n, enough := 0, errors.New("enough")
	err := s.queue.Each(ctx, queue.State(c.State), func(q queue.Entry) error {
		if n == c.Limit {
			return enough
		}
		n++
		return put(describeEntry(q))
	})
	switch {
	case err != nil && err != enough:
		return err
	case c.JSON:
		list.end()
	case err == enough:
		e.printf("These are the first %d, the oldest; --limit shows more.\n", c.Limit)
	case n == 0:
		e.printf("Nothing is waiting.\n")
	}
	return nil
}

func (c *queueList) print(e *env, q queueJSON) {
	e.printf("%s  %s  %s  %d tries  %v", q.ID, q.State, q.Account, q.Attempts, q.Recipients)
	if q.Next != nil {
		e.printf("  next %s UTC", q.Next.Format(time.DateTime))
	}
	if q.LastError != "" {
		e.printf("  %s", q.LastError)
	}
	e.printf("\n")
}

type queueShow struct {
	ID   string `arg:""`
	JSON bool   `name:"json" help:"For scripts."`
}

func (c *queueShow) runState(ctx context.Context, e *env, s *state) error {
	q, err := s.queue.Show(ctx, c.ID)
	if err != nil {
		return entryError(c.ID, err)
	}
	j := describeEntry(q)
	for _, r := range q.Recipients {
		state := r.State
		if r.Dropped() {
			state = dropped
		}
		j.Details = append(j.Details, recipientJSON{r.Address, state, r.Code, r.Status, r.Text})
	}
	if c.JSON {
		return e.json(j)
	}
	e.printf("%s  %s  from %s, for the account %s\n", j.ID, j.State, j.From, j.Account)
	e.printf("  submitted %s UTC, %d bytes, %d tries, given up %s UTC\n", j.Created.Format(time.DateTime), j.Size, j.Attempts, j.Expires.Format(time.DateTime))
	if j.Next != nil {
		e.printf("  next %s UTC\n", j.Next.Format(time.DateTime))
	}
	if j.MessageID != "" {
		e.printf("  Message-ID %s\n", j.MessageID)
	}
	if j.Clear {
		e.printf("  not encrypted, as the rules have it\n")
	}
	for _, r := range j.Details {
		e.printf("  %s  %s  %s\n", r.State, r.Address, strings.TrimSpace(fmt.Sprintf("%s %s", r.Status, r.Text)))
	}
	if j.LastError != "" {
		e.printf("  last: %s\n", j.LastError)
	}
	return nil
}

// entryError says what to do about an ID that doesn't fit.
func entryError(id string, err error) error {
	if errors.Is(err, queue.ErrNoEntry) {
		return fmt.Errorf("%s: %w (see: letterlock queue list)", id, err)
	}
	return fmt.Errorf("%s: %w", id, err)
}

type queueRetry struct {
	ID []string `arg:""`
}

func (c *queueRetry) runState(ctx context.Context, e *env, s *state) error {
	return eachEntry(c.ID, func(id string) error {
		err := s.queue.Retry(ctx, id)
		q, errShow := s.queue.Show(ctx, id)
		if err != nil && errShow == nil && q.State == queue.Held {
			return fmt.Errorf("it is held, so the rules are asked first: letterlock queue release %s", id)
		}
		if err != nil {
			return err
		}
		err = errShow
		switch {
		case err == nil && q.State == queue.Waiting:
			e.printf("%s is tried now.\n", id)
		case errors.Is(err, queue.ErrNoEntry):
			e.printf("%s: nothing of it is kept here; send the message again from the mail program, and it is accepted.\n", id)
		default:
			e.printf("%s is %s.\n", id, q.State)
		}
		return nil
	})
}

type queueDrop struct {
	ID []string `arg:""`
}

func (c *queueDrop) runState(ctx context.Context, e *env, s *state) error {
	return eachEntry(c.ID, func(id string) error {
		if err := s.queue.Drop(ctx, id); err != nil {
			return err
		}
		e.printf("%s is given up.\n", id)
		return nil
	})
}

type queueRelease struct {
	ID    []string `arg:""`
	Clear bool     `help:"Also what the rules let go in clear now. They are asked again: this goes around none of them."`
}

func (c *queueRelease) runState(ctx context.Context, e *env, s *state) error {
	return eachEntry(c.ID, func(id string) error {
		stay, err := s.queue.Release(ctx, id, c.Clear)
		if errors.Is(err, queue.ErrNotServing) && !c.Clear {
			e.printf("%s is decided again as soon as serve runs.\n", id)
			return nil
		}
		if err != nil {
			return err
		}
		for _, r := range stay {
			e.printf("%s stays held for %s: %s\n", id, r.Address, r.Text)
		}
		if len(stay) > 0 {
			return exitError(exitFailed)
		}
		e.printf("%s is on its way.\n", id)
		return nil
	})
}

// eachEntry goes on after an error, and returns the first.
func eachEntry(ids []string, f func(id string) error) (first error) {
	for _, id := range ids {
		if err := f(id); err != nil && first == nil {
			first = err
			if _, told := err.(exitError); !told {
				first = entryError(id, err)
			}
		}
	}
	return first
}

// learned has what is held for an address decided again, as its certificate is
// known now.
func (s *state) learned(ctx context.Context, a address.Address) {
	s.standing.Store(true)
	if s.queue == nil {
		return
	}
	if err := s.queue.Learned(context.WithoutCancel(ctx), a.Key()); err != nil {
		s.log.Warn("held mail was not looked at", "error", err)
	}
}
