package imapd

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"letterlock.org/letterlock/imapd/wire"
)

// TestVanishedIsExpungedOneByOne: a VANISHED means what EXPUNGE responses for
// the same messages mean, last first.
func TestVanishedIsExpungedOneByOne(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 2000 {
		var one, all view
		n, unknown := uint32(rng.IntN(20)), uint32(rng.IntN(4))
		one.exists(n + unknown)
		all.exists(n + unknown)
		uid := uint32(0)
		for i := range n {
			uid += 1 + rng.Uint32N(3)
			one.learn(i+1, uid)
			all.learn(i+1, uid)
		}
		for range rng.IntN(4) { // what is gone already, and was not told
			if l := uint32(one.len()); l > unknown {
				seq := 1 + rng.Uint32N(l-unknown)
				one.expunge(seq)
				all.expunge(seq)
			}
		}
		var set wire.Set
		for range 1 + rng.IntN(3) {
			first := 1 + rng.Uint32N(uid+1)
			set = append(set, wire.Range{First: first, Last: first + rng.Uint32N(6)})
		}
		got := all.vanish(set)
		fresh := 0
		for _, u := range slices.Backward(got) {
			i := slices.Index(one.uids, u)
			if i < 0 {
				fresh++
				i = len(one.uids) - 1
			}
			one.expunge(uint32(i) + 1)
		}
		if !slices.Equal(one.uids, all.uids) || told(&one) != told(&all) || fresh > int(unknown) {
			t.Fatalf("round %d: %v vanish from %d messages: %v, %d of them new; left %v, want %v", round, set, n, got, fresh, all.uids, one.uids)
		}
	}
}

// told is what a client would be told.
func told(v *view) string {
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	v.flush(w, false)
	w.Flush()
	return b.String()
}

// TestAllVanishAtOnce: a short response must not cost hours.
func TestAllVanishAtOnce(t *testing.T) {
	for _, known := range []bool{true, false} {
		var v view
		v.exists(maxMessages)
		if known {
			for i := range v.uids {
				v.uids[i] = uint32(i) + 1
			}
		}
		if got := v.vanish(wire.Set{{First: 1, Last: 1<<32 - 1}}); len(got) != maxMessages || v.len() != 0 {
			t.Errorf("%d vanished, %d are left", len(got), v.len())
		}
	}
}

// TestNumbersOfTheClient: the client's list of messages is the upstream's with those
// that are gone still in it.
func TestNumbersOfTheClient(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 500 {
		var v view
		n := 1 + rng.IntN(40)
		v.exists(uint32(n))
		var client, up []int // which message it is
		for i := range n {
			client, up = append(client, i), append(up, i)
		}
		for range rng.IntN(n) {
			at := rng.IntN(len(up))
			v.expunge(uint32(at) + 1)
			up = slices.Delete(up, at, at+1)
		}
		for i, message := range up {
			if got := v.client(uint32(i) + 1); client[got-1] != message {
				t.Fatalf("round %d: the upstream's %d is the client's %d", round, i+1, got)
			}
		}
	}
}

// BenchmarkExpungedUntold: during a FETCH nothing may be told, however much goes.
func BenchmarkExpungedUntold(b *testing.B) {
	var v view
	v.exists(uint32(min(b.N, maxMessages)))
	for i := range b.N {
		if i < maxMessages {
			v.client(1)
			v.expunge(1)
		}
	}
}

// TestVanishedOfWhatHasNoUID: an EXPUNGE of a message whose UID isn't known cannot be
// told by UID.
func TestVanishedOfWhatHasNoUID(t *testing.T) {
	var v view
	v.exists(3)
	v.fill([]uint32{7, 8, 9})
	v.exists(4)
	for _, tt := range []struct {
		gone []uint32
		want string
	}{
		{[]uint32{1, 1}, "* VANISHED 7:8\r\n"},
		{[]uint32{2}, "* 2 EXPUNGE\r\n"},
	} {
		for _, seq := range tt.gone {
			v.expunge(seq)
		}
		var b bytes.Buffer
		w := bufio.NewWriter(&b)
		v.flush(w, true)
		_ = w.Flush()
		if b.String() != tt.want {
			t.Errorf("of %v: %q, want %q", tt.gone, b.String(), tt.want)
		}
	}
}
