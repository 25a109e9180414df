package queue_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"letterlock.org/letterlock/smtpd/queue"
)

// random gives every field below v a value, now and then the zero one.
func random(r *rand.Rand, v reflect.Value) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		if r.IntN(3) > 0 {
			v.Set(reflect.ValueOf(time.Unix(0, r.Int64()-1<<62)))
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			random(r, v.Field(i))
		}
	case reflect.Pointer:
		if r.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			random(r, v.Elem())
		}
	case reflect.Slice:
		if n := r.IntN(4); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				random(r, v.Index(i))
			}
		}
	case reflect.String:
		texts := []string{"", "x", "sent", "alice@example.org", "0123456789abcdef0123", "0123456789ABCDEF0123", "0123456789abcdef012",
			"0123456789ABCDEf0123", "0123456789012345", "\x00\xff", "bücher@example.org", fmt.Sprint(r.IntN(1 << 30))}
		v.SetString(texts[r.IntN(len(texts))])
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int64:
		v.SetInt(r.Int64() >> r.IntN(63) * int64(1-2*r.IntN(2)))
	case reflect.Uint8:
		v.SetUint(uint64(r.IntN(256)))
	default:
		panic(v.Type().String() + " is new in an entry: can compact write it?")
	}
}

func someEntries(seed uint64, n int) []queue.Entry {
	r := rand.New(rand.NewPCG(seed, 3))
	es := make([]queue.Entry, n)
	for i := range es {
		random(r, reflect.ValueOf(&es[i]).Elem())
	}
	return es
}

// TestEveryFieldOfAnEntryIsKept also notices a field that is new.
func TestEveryFieldOfAnEntryIsKept(t *testing.T) {
	for seed := range uint64(2000) {
		es := someEntries(seed, 4)
		got, left, err := queue.Unpack(queue.Pack(es...), len(es))
		if err != nil || left != 0 {
			t.Fatalf("seed %d: %v, %d bytes left", seed, err, left)
		}
		if !reflect.DeepEqual(got, es) {
			t.Fatalf("seed %d: got\n%+v\nwant\n%+v", seed, got, es)
		}
	}
}

func TestEntriesThatAreCutOffAreAnError(t *testing.T) {
	for seed := range uint64(50) {
		b := queue.Pack(someEntries(seed, 2)...)
		for n := range b {
			if _, _, err := queue.Unpack(b[:n], 2); err == nil {
				t.Fatalf("seed %d: %d bytes of %d are taken for two entries", seed, n, len(b))
			}
		}
	}
}

// FuzzUnpack: pages have a MAC, and yet nothing in one may cost more than itself.
func FuzzUnpack(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(queue.Pack(someEntries(seed, 2)...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		es, left, err := queue.Unpack(b, 2)
		if err != nil {
			return
		}
		again, _, err := queue.Unpack(queue.Pack(es...), 2)
		if err != nil || !reflect.DeepEqual(es, again) || left > len(b) {
			t.Errorf("%+v became %+v: %v", es, again, err)
		}
	})
}
