package policy

import (
	"time"

	"letterlock.org/letterlock/pgp"
)

// Then is what happens where a certificate can't be used.
type Then string

const (
	ThenClear    Then = "cleartext" // only of missing, under prefer
	ThenPassword Then = "password"  // the password-protected form
	ThenHold     Then = "hold"      // kept, encrypted to ourselves, until one can be used
	ThenDefer    Then = "defer"     // the sender's program tries again
	ThenRefuse   Then = "refuse"
)

// Mixed is what happens to a message of which one recipient has a certificate
// and another would get it in clear.
type Mixed string

const (
	// MixedRefuse sends to nobody.
	MixedRefuse Mixed = "refuse"
	// MixedClear sends in clear to everybody; a recipient under require is
	// never among them, nor one who waits or gets it under a password: then it
	// is as MixedRefuse.
	MixedClear Mixed = "clear"
	// MixedSplit seals for those who have a certificate, and sends the same
	// text in clear to the others.
	MixedSplit Mixed = "split"
)

// Signing is which copies are signed.
type Signing string

const (
	SignEncrypted Signing = "encrypted"
	SignAll       Signing = "all" // those in clear for want of a certificate, too
)

// HeaderMode is what of the header stands outside of an encrypted copy.
type HeaderMode string

const (
	HeadersProtect HeaderMode = "protect" // as little as delivery needs (RFC 9788)
	HeadersSubject HeaderMode = "subject" // the subject too
)

// Settings are what a rule may say beside its mode. Unset fields of a rule are
// those of the configuration; unset fields of that have the default named here.
type Settings struct {
	// Missing: there is no certificate and never was one. Under require refuse,
	// hold or password; under prefer cleartext too. Of a configuration it is for
	// require, and prefer has Config.MissingPrefer. ThenRefuse.
	Missing Then
	// Unavailable: no directory could be asked. ThenDefer, hold or refuse.
	Unavailable Then
	// What is wrong with a certificate that exists: ThenRefuse or hold; password
	// too for those that Password tells of.
	Expired, Revoked, Weak, Changed, Conflict, Gone, Untrusted Then
	// AcceptWKDAfter is for how long the domain's directory must have served
	// another certificate than the one we knew, and no third, before it is used
	// in its place; negative: never (the default). What a person confirmed isn't
	// replaced.
	AcceptWKDAfter time.Duration
	// HoldFor is how long a message that ThenHold keeps waits for a certificate; 0
	// leaves it to who holds it.
	HoldFor time.Duration
	Mixed   Mixed      // MixedRefuse
	Sign    Signing    // SignEncrypted
	SignAs  SignAs     // SignAsSender
	Headers HeaderMode // HeadersProtect
	// What certificates must be capable of. One that isn't counts as Weak. Copies
	// reach it for all who share them together.
	MinCipher Cipher // AES128
	MinRSA    int    // bits of RSA, DSA and ElGamal keys; 0: 2048, as always
	AEAD      AEAD   // AEADOffered
	// Footer is appended to copies that go out in clear, unsigned.
	Footer string
}

// fact numbers the facts that have a Then of their own.
type fact int

const (
	missing fact = iota
	unavailable
	expired
	revoked
	weak
	changed
	conflict
	gone
	untrusted
	facts
)

// ladder is what a fact may lead to: the first is the default.
var ladder = [facts]struct {
	cause Cause
	may   []Then
}{
	missing:     {CauseMissing, []Then{ThenRefuse, ThenHold, ThenPassword}},
	unavailable: {CauseUnavailable, []Then{ThenDefer, ThenHold, ThenRefuse}},
	expired:     {CauseExpired, []Then{ThenRefuse, ThenHold, ThenPassword}},
	revoked:     {CauseRevoked, []Then{ThenRefuse, ThenHold, ThenPassword}},
	weak:        {CauseWeak, []Then{ThenRefuse, ThenHold, ThenPassword}},
	changed:     {CauseChanged, []Then{ThenRefuse, ThenHold}},
	conflict:    {CauseConflict, []Then{ThenRefuse, ThenHold}},
	gone:        {CauseGone, []Then{ThenRefuse, ThenHold, ThenPassword}},
	untrusted:   {CauseUntrusted, []Then{ThenRefuse, ThenHold}},
}

// missingPrefer is what prefer may do without a certificate.
var missingPrefer = []Then{ThenClear, ThenRefuse, ThenHold, ThenPassword}

func (s Settings) thens() [facts]Then {
	return [facts]Then{s.Missing, s.Unavailable, s.Expired, s.Revoked, s.Weak, s.Changed, s.Conflict, s.Gone, s.Untrusted}
}

// rule is a Rule with everything inherited filled in.
type rule struct {
	name string
	mode Mode
	then [facts]Then
	// trust, accept, headers, least and then mean something under require and prefer
	// only.
	trust    pgp.Identity
	accept   time.Duration // 0: never
	headers  HeaderMode
	least    pgp.Strength
	holdFor  time.Duration
	mixed    Mixed
	sign     Signing
	signAs   SignAs
	footer   string
	identity []pgp.Identity // the trust levels that it is for; all if empty
	trigger  *trigger       // nil: it doesn't look at the message
}

func (ru *rule) protects() bool { return ru.mode == Require || ru.mode == Prefer }
