package smtpd

import (
	"context"
	"fmt"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// InboundKey is the key by which the journal and the queue know what comes in.
const InboundKey = "relay-inbound"

// Inbound makes a relay's account one that decrypts what comes in for mailboxes
// whose keys the organisation holds, and hands it to the server inside. What is
// behind it is plaintext: this is a gateway, and nothing end-to-end.
type Inbound struct {
	// Open gives what a mailbox is to get of a message: the rendering of what was
	// encrypted to it, and everything else as it came. The caller closes the
	// spool, if there is one. An error makes the message wait where it is; a
	// message that can't be opened is none.
	Open func(ctx context.Context, to address.Address, src message.Source) (message.Source, *message.Spool, error)
}

// inbound is what the account decrypts by, nil for most.
func (a *Account) inbound() *Inbound {
	if a.Relay == nil {
		return nil
	}
	return a.Relay.Inbound
}

// opensFor tells whether each recipient must have a copy of his own, opened by
// his key alone: whatever Open may open.
func (s *session) opensFor(sub submission) bool {
	if s.account.inbound() == nil {
		return false
	}
	class, err := pgp.ClassOf(sub.root, sub.src)
	return err != nil || class == pgp.Encrypted
}

// inside makes the copy of a group for the server inside.
func (s *session) inside(ctx context.Context, sub submission, g *group) (err error) {
	g.body, g.spool, err = s.account.inbound().Open(ctx, g.rcpts[0].address, sub.src)
	if err != nil {
		return fmt.Errorf("opening a message: %w", err)
	}
	g.eight, err = eightBit(g.body)
	return err
}
