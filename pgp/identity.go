package pgp

// Fingerprint identifies a primary key or subkey: upper-case hex, 40 digits for
// version 4, 64 for version 6.
type Fingerprint string

// Identity is how sure we are that a certificate belongs to an address.
type Identity string

const (
	Unknown      Identity = ""             // not bound to the address at all
	FirstSeen    Identity = "first-seen"   // Autocrypt, attached, first contact
	Directory    Identity = "directory"    // the domain's own directory says so
	Organisation Identity = "organisation" // certified by the organisation's CA
	Confirmed    Identity = "confirmed"    // the person compared it
	Conflict     Identity = "conflict"     // sources contradict each other
)

// rank orders identities; Unknown, Conflict and words we don't know are 0.
func (i Identity) rank() int {
	switch i {
	case FirstSeen:
		return 1
	case Directory:
		return 2
	case Organisation:
		return 3
	case Confirmed:
		return 4
	}
	return 0
}

// AtLeast tells whether i is as sure as min. Conflict and Unknown are below all,
// themselves included.
func (i Identity) AtLeast(min Identity) bool {
	return i.rank() > 0 && i.rank() >= min.rank()
}
