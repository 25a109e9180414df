// Package policy turns rules and facts into decisions. It does no I/O, keeps no
// state and reads no clock: the same rules and facts give the same decision.
//
// [Rules.Recipient] decides what the envelope alone decides, from what
// [keydir.Resolver] found; [Rules.Message] decides anew where the message is
// known, and settles all recipients together. The rest of the program may send
// in clear only what leaves Message as [SendClear] or [SignOnly], and each of
// those has a Rule and a Reason that a person can read.
//
// The first rule that matches decides. A rule that looks at the message (its
// subject, header, size or attachments) can only raise protection above what
// would hold without it, in every setting, unless it says lower = true.
//
// What no rule can change: an unavailable directory, an expired, revoked,
// changed or contradicted certificate, and a contact who once had a certificate
// never lead to cleartext under require and prefer, nor does a rule for one
// trust level where the level isn't known; what answers a message that we showed
// decrypted never goes in clear at all; facts that fit no known case are
// deferred.
package policy

import (
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
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
	// Hold keeps the message, encrypted to ourselves, until a certificate can
	// be used: then everything is decided anew. It never goes out in clear.
	Hold Action = "hold"
	// Password sends the password-protected form.
	Password Action = "password"
	// PassUnchanged delivers as submitted, in a dry run only; Decision.Would is
	// what would have happened.
	PassUnchanged Action = "dry-run"
)

// Accepted tells whether a copy is taken from its sender: it goes, or is held.
func (a Action) Accepted() bool {
	switch a {
	case Encrypt, SignOnly, SendClear, PassSealed, Hold, Password, PassUnchanged:
		return true
	}
	return false
}

// Cause is which fact of the recipient's certificate a decision rests on; it is
// one of few words, fit for a metric.
type Cause string

const (
	CauseRule        Cause = "rule"        // the mode alone: cleartext, sign, refuse
	CauseFound       Cause = "found"       // a certificate that may be used
	CauseSuccessor   Cause = "successor"   // a changed one that accept_wkd_after takes
	CauseMissing     Cause = "missing"     // there is none, and never was
	CauseUnavailable Cause = "unavailable" // nobody could be asked
	CauseExpired     Cause = "expired"
	CauseRevoked     Cause = "revoked"
	CauseWeak        Cause = "weak"
	CauseChanged     Cause = "changed"
	CauseConflict    Cause = "conflict"
	CauseGone        Cause = "gone"      // there was one, and there is none now
	CauseUntrusted   Cause = "untrusted" // below min_trust
	CauseFault       Cause = "fault"     // tampered with, or facts that contradict each other
)

// SignAs is whose key signs.
type SignAs string

const (
	SignAsSender SignAs = "sender" // the author's own key
	SignAsDomain SignAs = "domain" // the organisation's, the sender in a notation
)

// Options are how a copy is made. They are comparable: recipients who share a
// copy have equal ones.
type Options struct {
	SignAs SignAs
	// SubjectVisible: the subject of an encrypted copy stands outside too, unless
	// it answers a message that we showed decrypted.
	SubjectVisible bool
	// Strip is the word of a trigger that is taken off the subject, "" for none;
	// letters of any case.
	Strip string
	// Footer is appended to a copy that goes in clear and unsigned (SendClear),
	// where that leaves every signature in it true; "" for none.
	Footer string
	// Least is what the algorithms of an encrypted copy must reach, for all who
	// share it.
	Least pgp.Strength
}

// Decision is what happens to one recipient of one message, and why.
type Decision struct {
	Recipient    address.Address
	Action       Action
	Mode         Mode
	Rule         string             // name of the rule, or "default"
	Certificates []*pgp.Certificate // whom to encrypt to; empty unless Encrypt
	Identity     pgp.Identity
	Reason       string // a sentence for a person
	Hint         string // what to do next, where refused, deferred or held
	Cause        Cause
	Options      Options
	Mixed        Mixed
	// HoldFor is how long a Hold waits for a certificate; 0 leaves it to who
	// holds it.
	HoldFor time.Duration
	// Served is set by who decides again about a held message: this recipient's
	// copy went already, by this decision. Message leaves it as it is, and counts
	// it: one message has one protection.
	Served bool

	all  Options // whatever the action is
	sign Signing

	// From and Finding are the facts that it rests on: Message decides anew
	// from them.
	From    address.Address
	Finding keydir.Finding
	// Pending names rules that look at the message and may yet change it, 16 at
	// most.
	// Message leaves none.
	Pending []string
	// Would is what would have happened, in a dry run; else "".
	Would Action
}

// Known are the certificates that we would encrypt to, whatever the rules say.
func (d Decision) Known() []*pgp.Certificate {
	if len(d.Certificates) > 0 {
		return d.Certificates
	}
	return d.Finding.Certificates
}

// Message is the facts of a message that rules need beyond its envelope.
type Message struct {
	// From is the author. Where it is not the envelope's sender, by whom
	// Recipient decided, the stricter of what the rules say of both holds.
	From address.Address
	// AnswersDecrypted: it replies to or forwards a message that we showed
	// decrypted; it is never sent in clear, its subject neither.
	AnswersDecrypted bool
	// Sealed: already PGP/MIME or S/MIME encrypted; Covers tells, per
	// recipient key (address.Key), whether its session-key packets cover the
	// recipient's known certificate.
	Sealed bool
	Covers map[string]bool
	// Headers are the values of its root header fields, decoded (RFC 2047), by
	// name in lower case; those that Rules.Needs names suffice.
	Headers    map[string][]string
	Size       int64 // bytes as submitted
	Attachment bool  // a part that is a file, or an attached message
}

// DefaultRule is the name of the rule that decides where no other matches. No
// configured rule may have it.
const DefaultRule = "default"

// Rules are the policy of one configuration, immutable; safe for concurrent use.
type Rules struct {
	rules   []rule // in order; the last is the default
	to      index
	from    index
	headers []string // that triggers look at, in lower case
	subject words    // of the rules that look for words in the subject
	others  []int    // all other rules
	firm    []int    // those that do more than raise protection
	dry     bool
}

// Headers are the names, in lower case, of the fields that Message needs.
func (r *Rules) Headers() []string { return r.headers }

// DryRun tells whether every message is delivered as submitted.
func (r *Rules) DryRun() bool { return r.dry }
