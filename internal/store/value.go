package store

import (
	"database/sql"
	"database/sql/driver"
	"fmt"
	"reflect"
	"time"
)

// normal makes an argument nil, an int64, a float64, a string or a []byte.
func normal(a any) (any, error) {
	switch v := a.(type) {
	case nil, int64, string, float64:
		return v, nil
	case []byte:
		if v == nil {
			v = []byte{}
		}
		return v, nil
	case int:
		return int64(v), nil
	case bool:
		if v {
			return int64(1), nil
		}
		return int64(0), nil
	case time.Time:
		return micros(v), nil
	}
	if v := reflect.ValueOf(a); v.Kind() == reflect.Array && v.Type().Elem().Kind() == reflect.Uint8 {
		b := make([]byte, v.Len())
		reflect.Copy(reflect.ValueOf(b), v)
		return b, nil
	}
	v, err := driver.DefaultParameterConverter.ConvertValue(a)
	if err != nil {
		return nil, fmt.Errorf("cannot store a %T", a)
	}
	switch v.(type) {
	case nil, int64, string, []byte, bool, float64, time.Time:
		return normal(v)
	}
	return nil, fmt.Errorf("cannot store a %T", a)
}

// micros is t as it is stored.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// kind is what a stored value is.
type kind string

const (
	isNull  kind = "NULL"
	isInt   kind = "an integer"
	isFloat kind = "a float"
	isText  kind = "text"
	isBytes kind = "bytes"
)

// cell is a value in a row. text and bytes are for both of text and bytes.
type cell interface {
	kind() kind
	int64() int64
	float() float64
	text() string
	bytes() []byte // the caller's own
}

func scanOne[C cell](c C, dest any) error {
	switch d := dest.(type) {
	case *any:
		*d = value(c)
		return nil
	case *[]byte:
		*d = bytesOf(c)
		return nil
	case sql.Scanner:
		return d.Scan(value(c))
	}
	v := reflect.ValueOf(dest)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return fmt.Errorf("cannot scan into a %T", dest)
	}
	v = v.Elem()
	if v.Kind() == reflect.Pointer { // for NULL
		if c.kind() == isNull {
			v.SetZero()
			return nil
		}
		v.Set(reflect.New(v.Type().Elem()))
		return scanOne(c, v.Interface())
	}
	return scanKind(c, v)
}

// scanKind scans into a value by its kind; NULL only into byte slices.
func scanKind[C cell](c C, v reflect.Value) error {
	k := c.kind()
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
		v.SetBytes(bytesOf(c))
		return nil
	}
	if k == isNull {
		return fmt.Errorf("NULL for a %s", v.Type())
	}
	if v.Type() == reflect.TypeFor[time.Time]() {
		if k != isInt {
			return fmt.Errorf("%s for a time", k)
		}
		t := time.Time{}
		if n := c.int64(); n != 0 {
			t = time.UnixMicro(n).UTC()
		}
		v.Set(reflect.ValueOf(t))
		return nil
	}
	n := int64(0)
	if k == isInt {
		n = c.int64()
	}
	switch {
	case v.CanInt() && k == isInt && !v.OverflowInt(n):
		v.SetInt(n)
	case v.CanUint() && k == isInt && n >= 0 && !v.OverflowUint(uint64(n)):
		v.SetUint(uint64(n))
	case v.Kind() == reflect.Bool && k == isInt:
		v.SetBool(n != 0)
	case v.CanFloat() && (k == isInt || k == isFloat):
		v.SetFloat(c.float())
	case v.Kind() == reflect.String && (k == isText || k == isBytes):
		v.SetString(c.text())
	case v.Kind() == reflect.Array && v.Type().Elem().Kind() == reflect.Uint8 && (k == isText || k == isBytes):
		b := c.bytes()
		if len(b) != v.Len() {
			return fmt.Errorf("%d bytes do not fit a %s", len(b), v.Type())
		}
		reflect.Copy(v, reflect.ValueOf(b))
	default:
		return fmt.Errorf("%s does not fit a %s", k, v.Type())
	}
	return nil
}

// bytesOf is a copy of a column; nil for NULL, and only for that.
func bytesOf[C cell](c C) []byte {
	switch c.kind() {
	case isNull:
		return nil
	case isText:
		return []byte(c.text())
	}
	return c.bytes()
}

func value[C cell](c C) any {
	switch c.kind() {
	case isInt:
		return c.int64()
	case isFloat:
		return c.float()
	case isText:
		return c.text()
	case isBytes:
		return c.bytes()
	}
	return nil
}
