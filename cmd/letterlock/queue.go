package main

import (
	"context"
	"time"

	"letterlock.org/letterlock/smtpd/queue"
)

type queueCmd struct {
	List queueList `cmd:"" help:"Mail that is not sent yet, or whose fate is unknown."`
}

type queueList struct {
	JSON bool `name:"json" help:"For scripts."`
}

type queueJSON struct {
	ID         string      `json:"id"`
	Account    string      `json:"account"`
	Recipients []string    `json:"recipients"`
	State      queue.State `json:"state"`
	Clear      bool        `json:"clear"`
	Attempts   int         `json:"attempts"`
	Created    time.Time   `json:"created"`
	Next       *time.Time  `json:"next"`
	Size       int64       `json:"size"`
	LastError  string      `json:"last_error,omitempty"`
}

func (c *queueList) runState(ctx context.Context, e *env, s *state) error {
	entries, err := s.queue.List(ctx)
	if err != nil {
		return err
	}
	out := []queueJSON{}
	for _, q := range entries {
		j := queueJSON{ID: q.ID, Account: q.Account, Recipients: []string{}, State: q.State, Clear: q.Clear, Attempts: q.Attempts,
			Created: q.Created.UTC(), Size: q.Size, LastError: q.LastError}
		for _, r := range q.Recipients {
			j.Recipients = append(j.Recipients, r.Address)
		}
		if q.State == queue.Waiting {
			t := q.Next.UTC()
			j.Next = &t
		}
		out = append(out, j)
	}
	if c.JSON {
		return e.json(out)
	}
	for _, q := range out {
		e.printf("%s  %s  %s  %d tries  %v", q.ID, q.State, q.Account, q.Attempts, q.Recipients)
		if q.Next != nil {
			e.printf("  next %s UTC", q.Next.Format(time.DateTime))
		}
		if q.LastError != "" {
			e.printf("  %s", q.LastError)
		}
		e.printf("\n")
	}
	if len(out) == 0 {
		e.printf("Nothing is waiting.\n")
	}
	return nil
}
