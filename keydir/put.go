package keydir

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
)

// PutRoot is where a directory of ours takes certificates by authenticated PUT:
// an address follows. A directory that does so says PutPolicy in its policy.
const (
	PutRoot   = "/letterlock/v1/"
	PutPolicy = "letterlock-put: 1"
)

// Fields of an authenticated PUT. Signatures are armored, in base64 without line
// ends.
const (
	FieldDate      = "Letterlock-Date"      // RFC 3339, UTC, within five minutes
	FieldNonce     = "Letterlock-Nonce"     // 32 characters of z-base-32, used once
	FieldSignature = "Letterlock-Signature" // by the certificate that is put
	FieldFormer    = "Letterlock-Former"    // by the one that is published, if it is another
	FieldInvite    = "Letterlock-Invite"    // what the operator gave
)

// PutRequest is what the signatures of an authenticated PUT are over.
type PutRequest struct {
	Host    string // as in the request
	Address address.Address
	Date    time.Time
	Nonce   string
	Body    []byte // the certificate, binary
}

// Canonical is the text to sign: its lines each end in LF, and neither
// certificate nor host nor time can be exchanged under it.
func (p PutRequest) Canonical() []byte {
	sum := sha256.Sum256(p.Body)
	return fmt.Appendf(nil, "letterlock put v1\nhost: %s\naddress: %s\ndate: %s\nnonce: %s\nsha256: %s\n",
		strings.ToLower(p.Host), p.Address.Key(), p.Date.UTC().Format(time.RFC3339), p.Nonce, hex.EncodeToString(sum[:]))
}

// Proofs are what authorises a PUT; empty strings where there is none.
type Proofs struct {
	Signature, Former string // armored, over PutRequest.Canonical
	Invite            string
}

// fields are the header fields of a PUT.
func (p PutRequest) fields(by Proofs) http.Header {
	h := http.Header{}
	set := func(name, value string) {
		if value != "" {
			h.Set(name, value)
		}
	}
	set(FieldDate, p.Date.UTC().Format(time.RFC3339))
	set(FieldNonce, p.Nonce)
	set(FieldSignature, base64.StdEncoding.EncodeToString([]byte(by.Signature)))
	set(FieldFormer, base64.StdEncoding.EncodeToString([]byte(by.Former)))
	set(FieldInvite, by.Invite)
	return h
}
