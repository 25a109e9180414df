// Package policy turns rules and facts into decisions. It does no I/O.
package policy

import (
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// Mode is what a rule asks for.
type Mode string

const (
	Require   Mode = "require"
	Prefer    Mode = "prefer"
	Sign      Mode = "sign"
	Cleartext Mode = "cleartext"
	Refuse    Mode = "refuse"
)

// Action is what happens to a recipient's copy. The zero value allows nothing.
type Action string

const (
	Encrypt       Action = "encrypt"
	SignOnly      Action = "sign"
	SendClear     Action = "cleartext"
	PassSealed    Action = "pass" // was encrypted by the sender's own program; goes unchanged
	Defer         Action = "defer"
	RefuseMessage Action = "refuse"
	Hold          Action = "hold"
)

// Decision is what happens to one recipient of one message, and why.
type Decision struct {
	Recipient    address.Address
	Action       Action
	Mode         Mode
	Rule         string // name of the rule, or "default"
	Certificates []*pgp.Certificate
	Identity     pgp.Identity
	Reason       string // a sentence for a person
	Hint         string // what to do next, where refused or deferred
}

// Message is the facts of a message that rules need beyond its envelope.
type Message struct {
	From address.Address
	// AnswersDecrypted: it replies to or forwards a message that we showed
	// decrypted; it is never sent in clear.
	AnswersDecrypted bool
	// Sealed: already PGP/MIME or S/MIME encrypted; Covers tells, per
	// recipient key (address.Key), whether its session-key packets cover the
	// recipient's known certificate.
	Sealed bool
	Covers map[string]bool
}

// Rules are the policy of one configuration, immutable.
type Rules struct{ todo int }

// Recipient decides what the envelope alone decides.
func (r *Rules) Recipient(from address.Address, f keydir.Finding) Decision {
	panic("not built yet")
}

// Message settles the decisions of all recipients together: the reply rule,
// sealed submissions, mixed. One message has one protection.
func (r *Rules) Message(m Message, each []Decision) []Decision { panic("not built yet") }
