package store

import (
	"database/sql"
	"database/sql/driver"
	"fmt"
	"reflect"
	"time"

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
	switch v := a.(type) {
	case nil:
		return s.BindNull(i)
	case int:
		return s.BindInt64(i, int64(v))
	case int64:
		return s.BindInt64(i, v)
	case string:
		return s.BindText(i, v)
	case []byte:
		return s.bindBytes(i, v)
	case bool:
		return s.BindBool(i, v)
	case float64:
		return s.BindFloat(i, v)
	case time.Time:
		return s.BindInt64(i, micros(v))
	}
	if v := reflect.ValueOf(a); v.Kind() == reflect.Array && v.Type().Elem().Kind() == reflect.Uint8 {
		b := make([]byte, v.Len())
		reflect.Copy(reflect.ValueOf(b), v)
		return s.bindBytes(i, b)
	}
	v, err := driver.DefaultParameterConverter.ConvertValue(a)
	if err != nil {
		return fmt.Errorf("cannot store a %T", a)
	}
	switch v.(type) {
	case nil, int64, string, []byte, bool, float64, time.Time:
		return s.bindOne(i, v)
	}
	return fmt.Errorf("cannot store a %T", a)
}

func (s *statement) bindBytes(i int, b []byte) error {
	if len(b) == 0 {
		return s.BindZeroBlob(i, 0)
	}
	return s.BindBlob(i, b)
}

// micros is t as it is stored.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func (s *statement) scan(dest []any) error {
	if n := s.ColumnCount(); n != len(dest) {
		return fmt.Errorf("%d columns, %d destinations", n, len(dest))
	}
	for i, d := range dest {
		if err := s.scanOne(i, d); err != nil {
			return fmt.Errorf("column %d: %w", i+1, err)
		}
	}
	return nil
}

func (s *statement) scanOne(i int, dest any) error {
	switch d := dest.(type) {
	case *any:
		*d = s.value(i)
		return nil
	case *[]byte:
		*d = s.bytes(i)
		return nil
	case sql.Scanner:
		return d.Scan(s.value(i))
	}
	v := reflect.ValueOf(dest)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return fmt.Errorf("cannot scan into a %T", dest)
	}
	v = v.Elem()
	if v.Kind() == reflect.Pointer { // for NULL
		if s.ColumnType(i) == sqlite3.NULL {
			v.SetZero()
			return nil
		}
		v.Set(reflect.New(v.Type().Elem()))
		return s.scanOne(i, v.Interface())
	}
	return s.scanKind(i, v)
}

// scanKind scans into a value by its kind; NULL only into byte slices.
func (s *statement) scanKind(i int, v reflect.Value) error {
	typ := s.ColumnType(i)
	isBytes := v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8
	if isBytes {
		v.SetBytes(s.bytes(i))
		return nil
	}
	if typ == sqlite3.NULL {
		return fmt.Errorf("NULL for a %s", v.Type())
	}
	if v.Type() == reflect.TypeFor[time.Time]() {
		if typ != sqlite3.INTEGER {
			return fmt.Errorf("%v for a time", typ)
		}
		t := time.Time{}
		if n := s.ColumnInt64(i); n != 0 {
			t = time.UnixMicro(n).UTC()
		}
		v.Set(reflect.ValueOf(t))
		return nil
	}
	n, isInt := s.ColumnInt64(i), typ == sqlite3.INTEGER
	switch {
	case v.CanInt() && isInt && !v.OverflowInt(n):
		v.SetInt(n)
	case v.CanUint() && isInt && n >= 0 && !v.OverflowUint(uint64(n)):
		v.SetUint(uint64(n))
	case v.Kind() == reflect.Bool && isInt:
		v.SetBool(n != 0)
	case v.CanFloat() && (isInt || typ == sqlite3.FLOAT):
		v.SetFloat(s.ColumnFloat(i))
	case v.Kind() == reflect.String && (typ == sqlite3.TEXT || typ == sqlite3.BLOB):
		v.SetString(s.ColumnText(i))
	case v.Kind() == reflect.Array && v.Type().Elem().Kind() == reflect.Uint8 && len(s.bytes(i)) == v.Len():
		reflect.Copy(v, reflect.ValueOf(s.bytes(i)))
	default:
		return fmt.Errorf("%v does not fit a %s", typ, v.Type())
	}
	return nil
}

// bytes is a copy of a column; nil for NULL, and only for that.
func (s *statement) bytes(i int) []byte {
	switch s.ColumnType(i) {
	case sqlite3.NULL:
		return nil
	case sqlite3.TEXT:
		return []byte(s.ColumnText(i))
	}
	return s.ColumnBlob(i, make([]byte, 0, 32))
}

func (s *statement) value(i int) any {
	switch s.ColumnType(i) {
	case sqlite3.INTEGER:
		return s.ColumnInt64(i)
	case sqlite3.FLOAT:
		return s.ColumnFloat(i)
	case sqlite3.TEXT:
		return s.ColumnText(i)
	case sqlite3.BLOB:
		return s.bytes(i)
	}
	return nil
}
