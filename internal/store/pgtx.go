package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
)

// pgTx implements Tx over a connection that is within a transaction.
type pgTx struct {
	s     *postgres
	c     *pg
	ctx   context.Context
	write bool
	wrote bool // something was written
	done  bool
	// failed is the first error of a statement: PostgreSQL does nothing more then.
	failed *pgError
	rows   *pgRows // of the outer Rows that is being read, nil if none
}

// begin begins a transaction; an idle connection that turns out to be gone is
// replaced.
func (s *postgres) begin(ctx context.Context, sql string) (*pgTx, error) {
	for {
		c, fresh, err := s.acquire(ctx)
		if err != nil {
			return nil, err
		}
		if _, err = c.exec(ctx, sql); err == nil {
			return &pgTx{s: s, c: c, ctx: ctx}, nil
		}
		c.bad = true
		s.release(c)
		if cerr := ctx.Err(); cerr != nil {
			return nil, cerr
		}
		if fresh {
			return nil, err
		}
	}
}

// end rolls back unless the transaction was committed, and gives the connection
// back.
func (t *pgTx) end() {
	t.done = true
	if t.c == nil {
		return
	}
	t.drain()
	if !t.c.IsClosed() && t.c.TxStatus() != 'I' {
		if _, err := t.c.exec(background, "ROLLBACK"); err != nil {
			t.c.bad = true
		}
	}
	t.s.release(t.c)
	t.c = nil
}

// Exec implements Tx.
func (t *pgTx) Exec(query string, args ...any) (n int64, err error) {
	err = t.run(query, args, func(ctx context.Context, st *pgStatement, r *pgconn.ResultReader) error {
		tag, err := r.Close()
		if !tag.Select() {
			n = tag.RowsAffected()
		}
		return err
	})
	return n, err
}

// Row implements Tx.
func (t *pgTx) Row(query string, args []any, dest ...any) error {
	return t.run(query, args, func(ctx context.Context, st *pgStatement, r *pgconn.ResultReader) error {
		found := r.NextRow()
		var serr error
		if found {
			serr = t.s.scan(st, r.Values(), dest)
		}
		_, err := r.Close()
		switch {
		case err != nil:
			return err
		case !found:
			return ErrNoRow
		}
		return serr
	})
}

// pgRows is a result that is being read. A statement that runs meanwhile makes
// what is left of it be read into memory, since the connection has one at a time.
type pgRows struct {
	r     *pgconn.ResultReader
	outer *pgRows
	row   [][]byte // the one that each is called for
	ahead [][][]byte
	over  bool
	err   error
}

func (r *pgRows) next() bool {
	switch {
	case len(r.ahead) > 0:
		r.row, r.ahead = r.ahead[0], r.ahead[1:]
		return true
	case !r.over && r.r.NextRow():
		r.row = r.r.Values()
		return true
	}
	r.close()
	return false
}

func (r *pgRows) close() {
	if !r.over {
		r.over = true
		_, r.err = r.r.Close()
	}
}

// readAhead reads what is left; the connection's buffer is lost.
func (r *pgRows) readAhead() {
	if !r.over {
		r.row = cloneRow(r.row)
	}
	for !r.over && r.r.NextRow() {
		r.ahead = append(r.ahead, cloneRow(r.r.Values()))
	}
	r.close()
}

func cloneRow(row [][]byte) [][]byte {
	row = slices.Clone(row)
	for i := range row {
		row[i] = slices.Clone(row[i]) // nil stays nil
	}
	return row
}

// drain lets the connection run another statement.
func (t *pgTx) drain() error {
	if t.rows != nil {
		t.rows.readAhead()
		return t.rows.err
	}
	return nil
}

// Rows implements Tx.
func (t *pgTx) Rows(query string, args []any, each func(scan func(dest ...any) error) error) error {
	return t.run(query, args, func(ctx context.Context, st *pgStatement, r *pgconn.ResultReader) error {
		rows := &pgRows{r: r, outer: t.rows}
		t.rows = rows
		defer func() {
			t.rows = rows.outer
			rows.close()
		}()
		scan := func(dest ...any) error { return t.s.scan(st, rows.row, dest) }
		for rows.next() {
			if err := each(scan); err != nil {
				return caller{err}
			}
			if err := t.check(); err != nil {
				return err
			}
		}
		return rows.err
	})
}

func (t *pgTx) check() error {
	if t.done {
		return errTxDone
	}
	if t.failed != nil {
		return t.failed
	}
	return t.ctx.Err()
}

// Lock implements Tx.
func (t *pgTx) Lock(name string) error {
	if !t.write {
		return errReadOnly
	}
	_, err := t.Exec("SELECT pg_advisory_xact_lock(?)", t.s.lockNumber("lock", name))
	return err
}

// run prepares query, sends it with args and calls f, which reads the result.
// Errors name the statement's text, which is constant, and no values.
func (t *pgTx) run(query string, args []any, f func(context.Context, *pgStatement, *pgconn.ResultReader) error) error {
	if err := t.check(); err != nil {
		return err
	}
	if err := t.drain(); err != nil {
		return t.fail(query, err)
	}
	ctx, cancel := context.WithTimeout(t.ctx, pgTime)
	defer cancel()
	st, err := t.s.prepare(ctx, t.c, query)
	if err != nil {
		return t.fail("preparing "+query, err)
	}
	if len(args) != len(st.ParamOIDs) {
		return fmt.Errorf("running %q: %d parameters, %d arguments", query, len(st.ParamOIDs), len(args))
	}
	values, formats := make([][]byte, len(args)), make([]int16, len(args))
	for i, a := range args {
		if values[i], formats[i], err = t.s.encode(a, st.ParamOIDs[i], st.sealed[i]); err != nil {
			return fmt.Errorf("running %q: argument %d: %w", query, i+1, err)
		}
	}
	t.wrote = t.wrote || st.writes
	err = f(ctx, st, t.c.ExecPrepared(ctx, st.Name, values, formats, st.formats))
	if err == nil || err == ErrNoRow {
		return err
	}
	return t.fail(query, err)
}

// fail is a statement's error as the caller sees it.
func (t *pgTx) fail(query string, err error) error {
	var own caller
	if errors.As(err, &own) {
		return own.error
	}
	if t.done {
		return err
	}
	err = t.c.failed(err)
	var e *pgError
	if errors.As(err, &e) && t.failed == nil {
		t.failed = e
	}
	if t.ctx.Err() != nil {
		return t.ctx.Err()
	}
	return fmt.Errorf("running %q: %w", query, err)
}
