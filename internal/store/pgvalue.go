package store

import (
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Types of PostgreSQL, as in its pg_type.dat.
const (
	oidBool, oidBytes, oidInt8, oidInt2, oidInt4        = 16, 17, 20, 21, 23
	oidText, oidFloat4, oidFloat8, oidVarchar           = 25, 700, 701, 1043
	oidName, oidNumeric, oidVoid, oidUnknown     uint32 = 19, 1700, 2278, 705
)

// encode makes of an argument what a parameter of that type takes: text, and
// binary for bytes.
func (s *postgres) encode(a any, oid uint32, t target) (value []byte, format int16, err error) {
	a, err = normal(a)
	if err != nil || a == nil {
		return nil, 0, err
	}
	if oid == oidBytes {
		b, ok := a.([]byte)
		if str, is := a.(string); is {
			b, ok = []byte(str), true
		}
		switch {
		case !ok:
			return nil, 0, fmt.Errorf("cannot store a %T as bytes", a)
		case t.table == "":
			return nil, 0, fmt.Errorf("bytes are for a column: in VALUES, or after =")
		}
		return s.seal.seal(b, t), 1, nil
	}
	switch v := a.(type) {
	case int64:
		if oid == oidBool {
			return strconv.AppendBool(nil, v != 0), 0, nil
		}
		return strconv.AppendInt(nil, v, 10), 0, nil
	case float64:
		return strconv.AppendFloat(nil, v, 'g', -1, 64), 0, nil
	case []byte:
		a = string(v)
	}
	switch oid {
	case oidText, oidVarchar, oidName, oidUnknown:
		return []byte(escape(a.(string))), 0, nil
	}
	return nil, 0, fmt.Errorf("cannot store text as type %d", oid)
}

// escaped begins text that PostgreSQL would not take, in hexadecimal: what has a
// NUL or isn't UTF-8, and what begins so itself.
const escaped = "\uf8ffhex:"

func escape(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 && !strings.HasPrefix(s, escaped) {
		return s
	}
	return escaped + hex.EncodeToString([]byte(s))
}

func unescape(s string) string {
	if x, ok := strings.CutPrefix(s, escaped); ok {
		if b, err := hex.DecodeString(x); err == nil {
			return string(b)
		}
	}
	return s
}

// pgCell is a value of a row. What it holds of the connection's buffer is valid
// until the next row.
type pgCell struct {
	b      []byte // nil is NULL
	oid    uint32
	opened []byte // bytes, the caller's own
}

func (c pgCell) kind() kind {
	if c.b == nil || c.oid == oidVoid {
		return isNull
	}
	switch c.oid {
	case oidInt8, oidInt4, oidInt2, oidBool:
		return isInt
	case oidFloat8, oidFloat4:
		return isFloat
	case oidNumeric: // what SUM gives
		if _, err := strconv.ParseInt(string(c.b), 10, 64); err == nil {
			return isInt
		}
		return isFloat
	case oidBytes:
		return isBytes
	}
	return isText
}

func (c pgCell) int64() int64 {
	if c.oid == oidBool {
		if string(c.b) == "t" {
			return 1
		}
		return 0
	}
	n, _ := strconv.ParseInt(string(c.b), 10, 64)
	return n
}

func (c pgCell) float() float64 {
	f, err := strconv.ParseFloat(string(c.b), 64)
	if err != nil {
		return math.NaN()
	}
	return f
}

func (c pgCell) text() string {
	if c.oid == oidBytes {
		return string(c.opened)
	}
	return unescape(string(c.b))
}

func (c pgCell) bytes() []byte {
	if c.oid == oidBytes {
		return c.opened
	}
	return []byte(c.text())
}

// scan scans a row; bytes are opened here.
func (s *postgres) scan(st *pgStatement, row [][]byte, dest []any) error {
	if len(dest) != len(st.Fields) {
		return fmt.Errorf("%d columns, %d destinations", len(st.Fields), len(dest))
	}
	for i, d := range dest {
		c := pgCell{b: row[i], oid: st.Fields[i].DataTypeOID}
		if c.oid == oidBytes && c.b != nil {
			var err error
			if c.opened, err = s.seal.open(c.b, st.column[i], st.origin[i]...); err != nil {
				return err
			}
		}
		if err := scanOne(c, d); err != nil {
			return fmt.Errorf("column %d: %w", i+1, err)
		}
	}
	return nil
}
