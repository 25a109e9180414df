package keyring_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/pgp/keyring"
)

// Two commands that find no key at once make one: of two, mail goes on being encrypted
// to the one that was handed out first.
func TestOneFirstKey(t *testing.T) {
	r, _ := open(t)
	alice := address.Address{Local: "alice", Domain: "example.org"}
	var made atomic.Int32
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			switch _, err := r.GenerateFirst(t.Context(), alice, pgp.DefaultProfile); {
			case err == nil:
				made.Add(1)
			case !errors.Is(err, keyring.ErrHasKey):
				t.Error(err)
			}
		})
	}
	all.Wait()
	keys, err := r.List(t.Context())
	if err != nil || len(keys) != 1 || made.Load() != 1 || !keys[0].Active {
		t.Errorf("%d were made, and there are %d, %v", made.Load(), len(keys), err)
	}
}
