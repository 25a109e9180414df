// Package keydir finds the certificates of mail addresses and keeps trust.
package keydir

import (
	"context"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// Outcome is what a look-up gave. The zero value is none of them.
type Outcome string

const (
	Found       Outcome = "found"
	Absent      Outcome = "absent"       // the directory says that there is none
	NoDirectory Outcome = "no-directory" // the domain has no directory
	Unavailable Outcome = "unavailable"  // could not ask; asking again may help
)

// Attempt is one source that was asked.
type Attempt struct {
	Source  string // "pinned", "stored", "wkd-advanced", "wkd-direct", "autocrypt"
	Outcome Outcome
	Detail  string // for a person; no content
	Took    time.Duration
}

// Problems that a Finding can have.
const (
	ProblemExpired  = "expired"  // the certificate expired
	ProblemRevoked  = "revoked"  // its primary key is revoked
	ProblemWeak     = "weak"     // no algorithm or key of it is safe or fit to encrypt to
	ProblemChanged  = "changed"  // another primary key than the one that is pinned
	ProblemConflict = "conflict" // sources contradict each other
	ProblemGone     = "gone"     // its directory has not had it for too long
	ProblemTampered = "tampered" // the stored row was changed outside of letterlock
)

// Finding is everything known of an address when sending to it.
type Finding struct {
	Address address.Address
	Outcome Outcome
	// Certificates to encrypt to: usable ones only. Empty unless Found.
	Certificates []*pgp.Certificate
	Source       string
	Identity     pgp.Identity
	Fetched      time.Time // when the source said so
	Stale        bool      // served from store because the source could not be asked
	// Known tells that this address once had a certificate.
	Known bool
	// Problem is why a certificate that exists can't be used, one of the
	// Problem constants; "" if none.
	Problem  string
	Detail   string // for a person
	Attempts []Attempt
}

// Observation is what a received message showed of its sender's certificate.
type Observation struct {
	From      address.Address
	Autocrypt []string // values of its Autocrypt fields
	Date      time.Time
	Signer    pgp.Fingerprint // of a valid signature over it, "" without
}

// Resolver finds certificates. It is safe for concurrent use.
type Resolver struct{ todo int }

// Find asks pinned, stored, then directories. An error is a fault of our own
// (store failing); what directories did is in the Finding.
func (r *Resolver) Find(ctx context.Context, a address.Address) (Finding, error) {
	panic("not built yet")
}
