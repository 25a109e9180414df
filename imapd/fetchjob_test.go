package imapd

import (
	"errors"
	"testing"

	"letterlock.org/letterlock/imapd/wire"
)

// TestWhatIsKeptIsBounded: an upstream that tells very much beside the messages that
// are to be opened cannot fill the memory with it.
func TestWhatIsKeptIsBounded(t *testing.T) {
	flags := func(n int) wire.Item { return wire.Item{Name: []byte("FLAGS"), Value: make([]byte, n)} }
	for _, tt := range []struct {
		name string
		held int
		item wire.Item
		ends bool
	}{
		{"many flags", 0, flags(1 << 20), false},
		{"too many flags", 0, flags(1<<20 + 1), true},
		{"labels in a literal without end", 0, wire.Item{Name: []byte("X-GM-LABELS"), Literal: true, Size: 1 << 30}, true},
		{"of too many messages", maxHeld, flags(1), true},
	} {
		j := &fetchJob{later: map[uint32]*kept{9: {}}}
		j.held = tt.held
		err := j.gather(nil, &gathering{kept: kept{uid: 9}}, tt.item)
		if j.merge(9, []dynamicItem{{value: []byte("x")}}); err == nil {
			err = j.gather(nil, &gathering{}, flags(1))
		}
		if got := errors.Is(err, wire.ErrDesync); got != tt.ends {
			t.Errorf("%s: ended %v (%v), want %v", tt.name, got, err, tt.ends)
		}
	}
}
