package index

import (
	"context"
	"errors"
	"fmt"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// Compare tells whether a signed message, which a client was given as the upstream
// has it, is another one by its SHA-256 than the one whose signature was looked at.
// Its keywords are taken back then, and it is to be looked at again: a keyword tells
// of what is under its UID, and the upstream could give one message to us and
// another one to the client.
func (m *Mailbox) Compare(ctx context.Context, uid uint32, raw [32]byte) (changed bool, err error) {
	e := m.entry(uid)
	if e.class != pgp.Signed || e.state&settled == 0 {
		return false, nil
	}
	r, err := m.anyRow(ctx, uid)
	if errors.Is(err, store.ErrNoRow) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the row of UID %d: %w", uid, err)
	}
	if r.Raw == raw {
		return false, nil
	}
	e = entry{class: pgp.Signed}
	if err := m.change(ctx, uid, e, func(tx store.Tx, e entry) error { return m.put(tx, uid, e, "") }); err != nil {
		return true, fmt.Errorf("taking back the keywords of UID %d: %w", uid, err)
	}
	return true, nil
}
