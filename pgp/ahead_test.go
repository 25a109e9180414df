package pgp_test

import (
	"bytes"
	"errors"
	"testing"

	"letterlock.org/letterlock/pgp"
)

// failAfter takes n bytes and then fails, or panics.
type failAfter struct {
	bytes.Buffer
	n     int
	panic bool
}

var errNoRoom = errors.New("no room")

func (f *failAfter) Write(p []byte) (int, error) {
	if f.Len()+len(p) > f.n {
		if f.panic {
			panic("no room")
		}
		return 0, errNoRoom
	}
	return f.Buffer.Write(p)
}

// TestAhead: another goroutine's writing keeps the order and tells its errors.
func TestAhead(t *testing.T) {
	text := make([]byte, 1<<20+12345)
	for i := range text {
		text[i] = byte(i * 7 >> 3)
	}
	for _, tt := range []struct {
		name  string
		size  int // of what is written
		room  int
		panic bool
		want  error
	}{
		{"a short message", 1000, 1 << 30, false, nil},
		{"a long message", len(text), 1 << 30, false, nil},
		{"nothing", 0, 1 << 30, false, nil},
		{"an error at once", 1000, 10, false, errNoRoom},
		{"an error late", len(text), 600 << 10, false, errNoRoom},
		{"an error at the very end", len(text), len(text) - 1, false, errNoRoom},
		{"a panic late", len(text), 600 << 10, true, pgp.ErrMalformed},
	} {
		out := &failAfter{n: tt.room, panic: tt.panic}
		a := pgp.NewAhead(out)
		var err error
		for rest := text[:tt.size]; len(rest) > 0 && err == nil; {
			n := min(10_007, len(rest))
			_, err = a.Write(rest[:n])
			rest = rest[n:]
		}
		err = errors.Join(err, a.Close(), a.Close())
		if !errors.Is(err, tt.want) || tt.want == nil && (err != nil || !bytes.Equal(out.Bytes(), text[:tt.size])) {
			t.Errorf("%s: %v, %d bytes", tt.name, err, out.Len())
		}
	}
}
