package store

import (
	"fmt"

	"github.com/ncruces/go-sqlite3"
)

// statement binds and scans Go values.
type statement struct{ *sqlite3.Stmt }

func (s *statement) bind(args []any) error {
	if n := s.BindCount(); n != len(args) {
		return fmt.Errorf("%d parameters, %d arguments", n, len(args))
	}
	for i, a := range args {
		if err := s.bindOne(i+1, a); err != nil {
			return fmt.Errorf("argument %d: %w", i+1, err)
		}
	}
	return nil
}

func (s *statement) bindOne(i int, a any) error {
	v, err := normal(a)
	if err != nil {
		return err
	}
	switch v := v.(type) {
	case int64:
		return s.BindInt64(i, v)
	case string:
		return s.BindText(i, v)
	case []byte:
		return s.bindBytes(i, v)
	case float64:
		return s.BindFloat(i, v)
	}
	return s.BindNull(i)
}

func (s *statement) bindBytes(i int, b []byte) error {
	if len(b) == 0 {
		return s.BindZeroBlob(i, 0)
	}
	return s.BindBlob(i, b)
}

func (s *statement) scan(dest []any) error {
	if n := s.ColumnCount(); n != len(dest) {
		return fmt.Errorf("%d columns, %d destinations", n, len(dest))
	}
	for i, d := range dest {
		if err := scanOne(sqliteCell{s, i}, d); err != nil {
			return fmt.Errorf("column %d: %w", i+1, err)
		}
	}
	return nil
}

// sqliteCell is a column of the row that a statement stands at.
type sqliteCell struct {
	s *statement
	i int
}

func (c sqliteCell) kind() kind {
	switch c.s.ColumnType(c.i) {
	case sqlite3.INTEGER:
		return isInt
	case sqlite3.FLOAT:
		return isFloat
	case sqlite3.TEXT:
		return isText
	case sqlite3.BLOB:
		return isBytes
	}
	return isNull
}

func (c sqliteCell) int64() int64   { return c.s.ColumnInt64(c.i) }
func (c sqliteCell) float() float64 { return c.s.ColumnFloat(c.i) }
func (c sqliteCell) text() string   { return c.s.ColumnText(c.i) }
func (c sqliteCell) bytes() []byte  { return c.s.ColumnBlob(c.i, make([]byte, 0, 32)) }
