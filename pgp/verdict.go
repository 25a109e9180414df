package pgp

// SignatureState is the verdict on a signature.
type SignatureState string

const (
	SignatureNone     SignatureState = "none"
	SignatureValid    SignatureState = "valid"
	SignatureUnknown  SignatureState = "unknown"  // no certificate of the issuer
	SignatureMismatch SignatureState = "mismatch" // good, but not by a key of the From address
	SignatureWeak     SignatureState = "weak"
	SignatureExpired  SignatureState = "expired"
	SignatureBad      SignatureState = "bad"
)

// Verdict is what we say of a message's security; frozen at its first opening.
type Verdict struct {
	Encrypted bool
	Sealed    bool // stored by ourselves
	Signature SignatureState
	Identity  Identity
	Signer    Fingerprint // primary key; "" without a certificate
	Warnings  []string    // words such as "replayed", "from-mismatch", "not-for-us", "date"
}
