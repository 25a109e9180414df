// Package keydir finds the certificates of mail addresses and keeps trust.
//
// A [Resolver] takes what a person confirmed, what is stored and fresh, and else
// asks the sources that [Discovery] names, all at once. What came of it is a
// [Finding]. Absent and unavailable are different facts: after [Absent] and
// [NoDirectory] a rule may allow cleartext, after [Unavailable] none can.
//
// # Whose word counts
//
// A source speaks for the organisation (LDAP configured for the domain), for the
// domain (its Web Key Directory; OPENPGPKEY records on a validated path), or is
// a third party: VKS, which verified addresses, and LDAP that isn't configured
// for the domain, before HKP, where anybody uploads. The organisation's and the
// domain's word is the domain's word here:
//
//	what the domain's sources say                 the domain's word
//	any found it                                  found; of the organisation's where it found any
//	  several fit for use, of one rank            a conflict
//	none found it, any was unavailable            unavailable
//	else any says absent                          absent
//	else (no directory)                           no-directory
//	  and it was once seen with one               unavailable
//
//	the domain's word   third parties             Finding
//	found               whatever                  found, by the domain's word
//	unavailable         whatever                  unavailable, or what is stored
//	absent              one certificate           found, first-seen
//	                    several that differ       a conflict, where nothing is known yet
//	                    any unavailable           unavailable; absent where a directory
//	                                              of the domain said so
//	                    absent                    absent
//	no-directory, or    one certificate           found, first-seen
//	  nobody is asked   several that differ       a conflict, where nothing is known yet
//	                    any unavailable           unavailable
//	                    absent                    no-directory
//
// So a third party's absence is nobody's, its failing holds no mail that a
// directory of the domain has answered about (a web server's 404 where no
// directory was seen is no such answer), and whoever cuts off the domain's directory can't
// put a third party in its place. The surest third party that found any counts.
// Of what is pinned third parties only bring new states (revocations, subkeys):
// they never replace it, contradict it or end a conflict, and are then asked by
// its fingerprint, not for the address.
//
// Trust is a pin per address, by fingerprint, and only rises by evidence:
//
//   - A certificate of the domain's own directory is pinned as [pgp.Directory].
//     One that contradicts a pin with a history of valid signatures, or one that
//     a person confirmed, is a conflict and is not used; without history the
//     directory wins, and the change is recorded and told.
//   - A certificate of an Autocrypt header is pinned as [pgp.FirstSeen] where
//     nothing is known, and is otherwise a candidate without effect. Where the
//     name of our own mail server is configured, only if that says that the
//     message comes from the domain of its From address (DKIM or DMARC).
//   - One that somebody else sends along (gossip) is an [Introduction], without
//     effect until a person accepts it. One that is attached to a message is
//     never taken by itself: a person imports it.
//   - New states of the same primary key (subkeys, expiry, revocation) are merged.
//   - A contact who had a certificate doesn't lose it: [Finding.Known].
//
// Reading a message ([Resolver.Stored], [Resolver.Issuer], [Resolver.Identity],
// [Resolver.Observe]) touches no network.
//
// keydir never holds secret keys.
package keydir

import (
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// Outcome is what a look-up gave. The zero value is none of them.
type Outcome string

const (
	Found       Outcome = "found"
	Absent      Outcome = "absent"       // the directory says that there is none
	NoDirectory Outcome = "no-directory" // the domain has no directory, and was never seen with one
	Unavailable Outcome = "unavailable"  // could not ask; asking again may help
)

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

// Attempt is one source that was asked.
type Attempt struct {
	// Source is "own", "pinned", "stored", "wkd-advanced", "wkd-direct",
	// "wkd-override", "dane", "ldap", "vks" or "hkp".
	Source  string
	Outcome Outcome
	Detail  string // for a person; no content
	Took    time.Duration
}

// Finding is everything known of an address when sending to it.
type Finding struct {
	Address address.Address
	Outcome Outcome
	// Certificates to encrypt to: usable ones only, at most one per version of
	// OpenPGP key. Empty unless Found and without Problem. Callers share them,
	// and must not change the slice.
	Certificates []*pgp.Certificate
	// Strengths are how mail to each of Certificates alone would be protected, in
	// their order.
	Strengths []pgp.Strength
	// Source is "wkd", "dane", "ldap", "vks", "hkp", "autocrypt", "import",
	// "accepted" or "own".
	Source   string
	Identity pgp.Identity
	Fetched  time.Time // when the source said so
	Stale    bool      // served from store because the source could not be asked
	// Known tells that this address once had a certificate.
	Known bool
	// Problem is why a certificate that exists can't be used, one of the
	// Problem constants; "" if none.
	Problem string
	// Successor is what the domain's directory serves in place of what we knew,
	// where Problem is ProblemChanged or ProblemConflict for that; nil if not, or
	// where a person vouched for the old certificate.
	Successor *Successor
	// Introduction is a certificate that somebody sent along, where nothing surer
	// is known. It is shown, and no rule makes mail be encrypted to it: who sent it
	// along is nobody that the address knows of. A person may take it over
	// ([Resolver.Accept]).
	Introduction *Introduction
	// Plain is the address without its tag (bob@ of bob+shop@, RFC 5233), where a
	// certificate of that is stored or our own and none is known of this one; zero
	// if not. It is told, and nothing is encrypted to it: only the domain knows
	// whether both are one mailbox. Nobody is asked for it, and it may be some
	// minutes old.
	Plain    address.Address
	Detail   string // for a person; a Found without Problem has one only where there is something to tell
	Attempts []Attempt
}

// Successor is the one certificate (one for each version of OpenPGP key) that a
// directory has served, and no other, since it first contradicted us.
type Successor struct {
	Certificates []*pgp.Certificate // usable; shared, not to be changed
	Strengths    []pgp.Strength     // as Finding.Strengths
	Since        time.Time          // when it was first served
	// Served is from Since until it was last served: how long we know it to have
	// been served, with no other answer in between that we saw.
	Served time.Duration
}

// Observation is what a received message showed of its sender's certificate.
type Observation struct {
	From      address.Address
	Autocrypt []string // values of its Autocrypt fields
	Date      time.Time
	Signer    pgp.Fingerprint // of a valid signature over it, "" without
	// Results are the values of its Authentication-Results fields, topmost first.
	// Authserv is the name by which our own mail server puts them there; where it
	// is "" an Autocrypt field counts at first sight whatever they say.
	Results  []string
	Authserv string
	// Gossip are the values of its Autocrypt-Gossip fields, if they were inside of
	// what was encrypted, and Recipients the addresses of To and Cc, which alone
	// can be spoken of.
	Gossip     []string
	Recipients []address.Address
	// Account is our own address that it came to, and NotForUs that its valid
	// signature is meant for other keys than ours.
	Account  address.Address
	NotForUs bool
}
