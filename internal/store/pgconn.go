package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// pgTime bounds each exchange with the server, and each statement there.
const pgTime = 2 * time.Minute

// pg is a connection to PostgreSQL; not for concurrent use.
type pg struct {
	*pgconn.PgConn
	stmts map[string]*pgStatement // by our text
	next  int                     // number of the next prepared statement
	// backend is the server process at the other end; see backendName.
	backend string
	// bad means that it must not be used again.
	bad bool
}

// pgStatement is a prepared statement.
type pgStatement struct {
	*pgconn.StatementDescription
	sealed  []target
	formats []int16    // of results: text, and binary for bytes
	origin  [][]string // column and tables that result bytes are opened for
	column  []string
	writes  bool // it isn't a SELECT
}

// pgError is what went wrong, without the values that the server quotes.
type pgError struct {
	code       string // https://www.postgresql.org/docs/current/errcodes-appendix.html
	constraint string
	fatal      bool // the connection is gone
}

func (e *pgError) Error() string {
	s := "PostgreSQL: SQLSTATE " + e.code
	if name := map[string]string{
		"23505": "unique violation", "23503": "foreign key violation", "40001": "serialization failure", "40P01": "deadlock",
		"42501": "insufficient privilege", "53300": "too many connections", "57014": "took too long or was cancelled",
		"57P01": "server is shutting down", "57P03": "server is starting", "25006": "server is read-only", "42P01": "no such table",
	}[e.code]; name != "" {
		s += " (" + name + ")"
	}
	if e.constraint != "" {
		s += " of " + e.constraint
	}
	return s
}

// again tells whether a transaction that failed so may succeed if run again.
func (e *pgError) again() bool { return e.code == "40001" || e.code == "40P01" }

// failed is err as our callers see it.
func (c *pg) failed(err error) error {
	var theirs *pgconn.PgError
	if errors.As(err, &theirs) {
		switch theirs.Code {
		case "25006", "0A000", "26000": // demoted; a plan or a statement that is no more
			c.bad = true
		}
		return &pgError{theirs.Code, theirs.ConstraintName, theirs.Severity == "FATAL" || theirs.Severity == "PANIC"}
	}
	if c.IsClosed() && err != nil {
		return fmt.Errorf("connection to PostgreSQL lost: %w", err)
	}
	return err
}

// exec runs statements without parameters, one after another, and gives the
// first value of the last.
func (c *pg) exec(ctx context.Context, sql string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, pgTime)
	defer cancel()
	all, err := c.Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", c.failed(err)
	}
	if last := all[len(all)-1]; len(last.Rows) > 0 && len(last.Rows[0]) > 0 {
		return string(last.Rows[0][0]), nil
	}
	return "", nil
}

// query runs one statement with parameters in text form and reads all rows, in
// text form too.
func (c *pg) query(ctx context.Context, sql string, params ...string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, pgTime)
	defer cancel()
	values := make([][]byte, len(params))
	for i, p := range params {
		values[i] = []byte(p)
	}
	r := c.ExecParams(ctx, sql, values, nil, nil, nil).Read()
	if r.Err != nil {
		return nil, c.failed(r.Err)
	}
	var rows [][]string
	for _, row := range r.Rows {
		var s []string
		for _, v := range row {
			s = append(s, string(v))
		}
		rows = append(rows, s)
	}
	return rows, nil
}

// prepare gives the statement for our text.
func (s *postgres) prepare(ctx context.Context, c *pg, query string) (*pgStatement, error) {
	if st := c.stmts[query]; st != nil {
		return st, nil
	}
	q, err := s.translated(query)
	if err != nil {
		return nil, err
	}
	for old, st := range c.stmts {
		if len(c.stmts) < maxStatements {
			break
		}
		delete(c.stmts, old) // any one
		if err := c.Deallocate(ctx, st.Name); err != nil {
			return nil, c.failed(err)
		}
	}
	c.next++
	sd, err := c.Prepare(ctx, fmt.Sprintf("ll%d", c.next), q.sql, nil)
	if err != nil {
		return nil, c.failed(err)
	}
	st := &pgStatement{StatementDescription: sd, sealed: q.sealed, writes: q.writes}
	if len(st.sealed) != len(sd.ParamOIDs) {
		return nil, fmt.Errorf("%d parameters, PostgreSQL found %d", len(st.sealed), len(sd.ParamOIDs))
	}
	if err := s.origins(ctx, c, st); err != nil {
		return nil, err
	}
	c.stmts[query] = st
	return st, nil
}

// translated is q's translation, kept since queries are constants.
func (s *postgres) translated(query string) (*postgresQuery, error) {
	s.queryMu.Lock()
	defer s.queryMu.Unlock()
	if q := s.queries[query]; q != nil {
		return q, nil
	}
	q, err := s.blobs.translate(query)
	if err != nil {
		return nil, err
	}
	if len(s.queries) >= 10*maxStatements {
		clear(s.queries)
	}
	s.queries[query] = q
	return q, nil
}

// origins finds the table and column of each result that is bytes.
func (s *postgres) origins(ctx context.Context, c *pg, st *pgStatement) error {
	st.formats = make([]int16, len(st.Fields))
	st.origin, st.column = make([][]string, len(st.Fields)), make([]string, len(st.Fields))
	for i, f := range st.Fields {
		if f.DataTypeOID != oidBytes {
			continue
		}
		st.formats[i] = 1
		if f.TableOID == 0 {
			return fmt.Errorf("column %d is bytes made by an expression, which are sealed", i+1)
		}
		rows, err := c.query(ctx, `SELECT c.relname, a.attname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
			WHERE c.oid = $1::oid AND a.attnum = $2::int2`, fmt.Sprint(f.TableOID), fmt.Sprint(f.TableAttributeNumber))
		if err != nil {
			return err
		}
		if len(rows) != 1 {
			return fmt.Errorf("column %d is of an unknown table", i+1)
		}
		st.column[i] = rows[0][1]
		st.origin[i] = append([]string{rows[0][0]}, s.blobs.former[rows[0][0]]...)
	}
	return nil
}
