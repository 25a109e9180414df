package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/ncruces/go-sqlite3"
	_ "github.com/ncruces/go-sqlite3/vfs/adiantum" // registers the encrypting file layer
)

// maxStatements bounds the prepared statements that a connection keeps.
const maxStatements = 200

// conn is a connection; not for concurrent use.
type conn struct {
	db    *sqlite3.Conn
	stmts map[string]*statement // prepared and not in use
}

// connect opens the existing file at path.
func (s *sqlite) connect(path string, readOnly bool) (*conn, error) {
	return s.connectThrough(s.vfs, path, readOnly)
}

// connectThrough opens it through the file layer of that name.
func (s *sqlite) connectThrough(layer, path string, readOnly bool) (*conn, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	u := url.URL{Scheme: "file", Path: abs, RawQuery: "vfs=" + layer + "&modeof=" + strings.ReplaceAll(url.QueryEscape(abs), "+", "%20")}
	db, err := sqlite3.OpenFlags(u.String(), sqlite3.OPEN_READWRITE|sqlite3.OPEN_URI)
	if err != nil {
		return nil, err
	}
	c := &conn{db: db, stmts: map[string]*statement{}}
	// The key first, and as hexkey: textkey would derive it anew with a fixed salt.
	if err := db.Exec("PRAGMA hexkey='" + hex.EncodeToString(s.page[:]) + "'"); err != nil {
		c.close()
		return nil, fmt.Errorf("setting the key: %w", sqlite3Code(err))
	}
	settings := "PRAGMA busy_timeout=20000; PRAGMA temp_store=memory; PRAGMA secure_delete=on;" +
		"PRAGMA foreign_keys=on; PRAGMA trusted_schema=off; PRAGMA cell_size_check=on;" +
		"PRAGMA synchronous=" + s.sync + ";"
	if readOnly {
		settings += "PRAGMA query_only=on; PRAGMA cache_size=-1024;"
	} else {
		settings += "PRAGMA cache_size=-4096; PRAGMA journal_size_limit=16777216;"
	}
	if err := db.Exec(settings); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// sqlite3Code is err without the statement that it may quote.
func sqlite3Code(err error) error {
	if e, ok := err.(*sqlite3.Error); ok {
		return e.ExtendedCode()
	}
	return err
}

func (c *conn) exec(sql string) error { return c.db.Exec(sql) }

// control runs a statement without arguments or rows that comes again and again.
func (c *conn) control(sql string) error {
	s, err := c.prepare(sql)
	if err != nil {
		return err
	}
	s.Step()
	err = s.Err()
	c.giveBack(sql, s)
	return err
}

func (c *conn) inTransaction() bool { return !c.db.GetAutocommit() }

func (c *conn) idle() bool { return c.db.GetAutocommit() }

// rollback ends the transaction, if there is one.
func (c *conn) rollback() {
	if c.inTransaction() {
		c.db.Exec("ROLLBACK")
	}
}

// interruptBy lets ctx stop what runs, until the function returned is called.
func (c *conn) interruptBy(ctx context.Context) func() {
	c.db.SetInterrupt(ctx)
	return func() { c.db.SetInterrupt(context.Background()) }
}

// prepare gives a statement that nobody else uses, also where query runs
// already further up.
func (c *conn) prepare(query string) (*statement, error) {
	if s := c.stmts[query]; s != nil {
		delete(c.stmts, query)
		return s, nil
	}
	st, tail, err := c.db.PrepareFlags(withoutLocking(query), sqlite3.PREPARE_PERSISTENT)
	if err != nil {
		return nil, err
	}
	if st == nil || len(tail) > 0 {
		st.Close()
		return nil, fmt.Errorf("not one statement")
	}
	return &statement{Stmt: st}, nil
}

// withoutLocking takes away the end of a SELECT that SQLite has no need for.
func withoutLocking(query string) string {
	for _, end := range []string{"SKIP LOCKED", "FOR UPDATE"} {
		query = strings.TrimSuffix(strings.TrimRight(query, " \t\n"), end)
	}
	return query
}

func (c *conn) giveBack(query string, s *statement) {
	s.Reset() // its error was reported by Step
	if s.ClearBindings() != nil || c.stmts[query] != nil {
		s.Close()
		return
	}
	if len(c.stmts) >= maxStatements {
		for q, old := range c.stmts { // any one
			old.Close()
			delete(c.stmts, q)
			break
		}
	}
	c.stmts[query] = s
}

func (c *conn) close() error {
	for _, s := range c.stmts {
		s.Close()
	}
	c.stmts = nil
	return c.db.Close()
}
