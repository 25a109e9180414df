package pgp

import (
	"fmt"
	"slices"
	"strings"
)

// SignatureState is the verdict on a signature.
type SignatureState string

const (
	SignatureNone     SignatureState = "none"
	SignatureValid    SignatureState = "valid"
	SignatureGateway  SignatureState = "gateway"  // good, by a key of the From address in the hands of a gateway, or by that of its domain's gateway
	SignatureUnknown  SignatureState = "unknown"  // no certificate of the issuer
	SignatureMismatch SignatureState = "mismatch" // good, but not by a key of the From address
	SignatureWeak     SignatureState = "weak"     // good, but by an algorithm that is no longer safe
	SignatureExpired  SignatureState = "expired"  // good, but the signature or its key had expired
	SignatureBad      SignatureState = "bad"      // wrong, by a revoked key, or sealed by somebody else
)

// Good tells of a signature that fits and is by a key of the From address, whether
// its author made it or a gateway, or by the key of its domain's gateway. Only
// SignatureValid is the author's.
func (s SignatureState) Good() bool { return s == SignatureValid || s == SignatureGateway }

// rank orders states: of several signatures the best one tells.
func (s SignatureState) rank() int {
	order := []SignatureState{SignatureNone, SignatureUnknown, SignatureBad, SignatureWeak, SignatureExpired, SignatureMismatch, SignatureGateway, SignatureValid}
	return slices.Index(order, s)
}

// Warnings that a Verdict may carry.
const (
	WarnReplayed     = "replayed"      // the packet came before, in another message
	WarnFromMismatch = "from-mismatch" // the sender inside is not the one outside, and no signature binds it
	WarnNotForUs     = "not-for-us"    // signed for other recipients than us
	WarnDate         = "date"          // signed a day or more away from its date
	WarnRevoked      = "revoked"       // signed by a key that is revoked
	WarnConflict     = "conflict"      // sources contradict each other about the key
	WarnSealForged   = "seal-forged"   // claims to be stored by us, without our signature
)

// Verdict is what we say of a message's security; frozen at its first opening.
type Verdict struct {
	Encrypted bool
	Sealed    bool // stored by ourselves
	Signature SignatureState
	Identity  Identity
	Signer    Fingerprint // primary key; "" without a certificate
	Warnings  []string    // the Warn words, sorted, each once
}

// warn adds a warning, once.
func (v *Verdict) warn(word string) {
	if i, have := slices.BinarySearch(v.Warnings, word); !have {
		v.Warnings = slices.Insert(v.Warnings, i, word)
	}
}

// Warns tells whether the verdict carries that warning.
func (v Verdict) Warns(word string) bool { return slices.Contains(v.Warnings, word) }

// StatusField is the name of the field that a rendering tells its verdict in.
const StatusField = "Letterlock-Status"

// statusLength is the length of every status field without its line end: that
// of the longest words and a version 6 fingerprint. A frozen verdict that is
// replaced must not change the size of the rendering.
const statusLength = 144

// statusField is the one line that tells v, padded with spaces to statusLength.
func (v Verdict) statusField() string {
	word := func(s string) string {
		if s == "" || len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ';' }) {
			return "none"
		}
		return s
	}
	s := fmt.Sprintf("%s: encrypted; signature=%s; identity=%s; signer=%s", StatusField,
		word(string(v.Signature)), word(string(v.Identity)), word(string(v.Signer)))
	return fmt.Sprintf("%-*.*s", statusLength, statusLength, s)
}
