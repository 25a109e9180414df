// Package policy turns rules and facts into decisions. It does no I/O, keeps no
// state and reads no clock: the same rules and facts give the same decision.
//
// [Rules.Recipient] decides what the envelope alone decides, from what
// [keydir.Resolver] found; [Rules.Message] settles all recipients of one message
// together. The rest of the program may send in clear only what leaves here as
// [SendClear] or [SignOnly], and each of those has a Rule and a Reason that a
// person can read.
//
// What no rule can change: an unavailable directory, an expired, revoked,
// changed or contradicted certificate, and a contact who once had a certificate
// never lead to cleartext under require and prefer; what answers a message that
// we showed decrypted never goes in clear at all; facts that fit no known case
// are deferred.
package policy

import (
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// Mode is what a rule asks for.
type Mode string

const (
	// Require sends encrypted or not at all. Only Require promises.
	Require Mode = "require"
	// Prefer encrypts where a certificate is found, and sends in clear where
	// none exists. Who controls DNS or the network at first contact can force
	// cleartext.
	Prefer Mode = "prefer"
	// Sign sends readable, signed.
	Sign Mode = "sign"
	// Cleartext sends as submitted.
	Cleartext Mode = "cleartext"
	// Refuse sends nothing.
	Refuse Mode = "refuse"
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
	Hold          Action = "hold" // not given yet: comes with the queue's holds
)

// Decision is what happens to one recipient of one message, and why.
type Decision struct {
	Recipient    address.Address
	Action       Action
	Mode         Mode
	Rule         string             // name of the rule, or "default"
	Certificates []*pgp.Certificate // whom to encrypt to; empty unless Encrypt
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

// DefaultRule is the name of the rule that decides where no other matches. No
// configured rule may have it.
const DefaultRule = "default"

// Rules are the policy of one configuration, immutable; safe for concurrent use.
type Rules struct {
	rules  []rule // in order; the last is the default
	byName map[string]int
	to     index
	from   index
	trust  MinTrust
}

// rule is a Rule with everything inherited filled in.
type rule struct {
	name        string
	mode        Mode
	unavailable Unavailable
	mixed       Mixed
}
