package index

import (
	"context"
	"fmt"
	"runtime/debug"

	"letterlock.org/letterlock/internal/mishap"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// A panic over one message is that message's error: otherwise it would end
// everybody's sessions, and again after every start, as the indexer comes to it first;
// or those who wait for its opening would wait for ever.

// panicked is the error of a panic, with its stack in the log.
func (l *Library) panicked(p any) error {
	l.c.Logger.Error("a message made letterlock panic", "panic", mishap.Text(p), "stack", string(debug.Stack()))
	return fmt.Errorf("fault of ours: %s", mishap.Text(p))
}

// described is describe. What panics over the decrypted text is not shown: the message
// stays as it arrived.
func (l *Library) described(ctx context.Context, o *judged) (err error) {
	defer func() {
		if p := recover(); p != nil {
			_ = l.panicked(p)
			o.close()
			reason := "its decrypted content is damaged, or letterlock fails to read it"
			o.opened, o.row = &pgp.Opened{Class: pgp.Opaque, Reason: reason}, &Row{Raw: o.row.Raw, Class: pgp.Opaque}
			o.message, o.texts, o.whole, o.ids, o.state, err = nil, nil, false, nil, settled|kwWarning, nil
		}
	}()
	return l.describe(ctx, o)
}

// safely is pass. What panics outside of opening, such as in looking at a header, is
// tried again later, as any failure is.
func (x *Indexer) safely(ctx context.Context, only map[string]bool) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = x.c.Library.panicked(p)
		}
	}()
	return x.pass(ctx, only)
}

// unshaken is observe, whose panics end nothing else.
func (l *Library) unshaken(observe func(context.Context, keydir.Observation)) func(context.Context, keydir.Observation) {
	return func(ctx context.Context, o keydir.Observation) {
		defer func() {
			if p := recover(); p != nil {
				_ = l.panicked(p)
			}
		}()
		observe(ctx, o)
	}
}
