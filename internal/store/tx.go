package store

import (
	"context"
	"errors"
	"fmt"
)

// tx implements Tx over a connection that is within a transaction.
type tx struct {
	c    *conn
	ctx  context.Context
	done bool
	// write is false for a View.
	write bool
}

var errReadOnly = errors.New("a view cannot lock")

var errTxDone = errors.New("store transaction used after it ended")

func (t *tx) check() error {
	if t.done {
		return errTxDone
	}
	return t.ctx.Err()
}

// Exec implements Tx.
func (t *tx) Exec(query string, args ...any) (int64, error) {
	n := int64(0)
	err := t.run(query, args, func(s *statement) error {
		before := t.c.db.TotalChanges()
		for s.Step() { // rows of RETURNING and of PRAGMA are passed over
		}
		if err := s.Err(); err != nil {
			return err
		}
		if t.c.db.TotalChanges() != before {
			n = t.c.db.Changes()
		}
		return nil
	})
	return n, err
}

// Row implements Tx.
func (t *tx) Row(query string, args []any, dest ...any) error {
	return t.run(query, args, func(s *statement) error {
		if !s.Step() {
			if err := s.Err(); err != nil {
				return err
			}
			return ErrNoRow
		}
		return s.scan(dest)
	})
}

// Rows implements Tx.
func (t *tx) Rows(query string, args []any, each func(scan func(dest ...any) error) error) error {
	return t.run(query, args, func(s *statement) error {
		scan := func(dest ...any) error { return s.scan(dest) }
		for s.Step() {
			if err := each(scan); err != nil {
				return caller{err}
			}
			if err := t.check(); err != nil {
				return err
			}
		}
		return s.Err()
	})
}

// Lock implements Tx: one Update runs at a time.
func (t *tx) Lock(name string) error {
	if err := t.check(); err != nil {
		return err
	}
	if !t.write {
		return errReadOnly
	}
	return nil
}

// caller is an error of the caller's own function, not to be wrapped.
type caller struct{ error }

// run prepares query, binds args and calls f. Errors name the statement's text,
// which is constant, and never its arguments.
func (t *tx) run(query string, args []any, f func(*statement) error) error {
	if err := t.check(); err != nil {
		return err
	}
	s, err := t.c.prepare(query)
	if err != nil {
		return fmt.Errorf("preparing %q: %w", query, err)
	}
	defer t.c.giveBack(query, s)
	err = s.bind(args)
	if err == nil {
		err = f(s)
	}
	var own caller
	switch {
	case err == nil, err == ErrNoRow:
		return err
	case errors.As(err, &own):
		return own.error
	case t.ctx.Err() != nil:
		return t.ctx.Err()
	}
	return fmt.Errorf("running %q: %w", query, err)
}
