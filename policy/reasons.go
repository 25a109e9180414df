package policy

import (
	"fmt"
	"time"

	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// problems say why a certificate that exists can't be used, and the way out;
// %[1]s is the address.
var problems = map[string]struct {
	fact         fact
	reason, hint string
}{
	keydir.ProblemExpired: {expired, "the certificate of %s has expired",
		"Ask for a renewed one, then `letterlock cert import FILE`; or `letterlock cert forget %[1]s` to write as to a stranger."},
	keydir.ProblemRevoked: {revoked, "the certificate of %s is revoked",
		"Ask for the new one, then `letterlock cert import FILE`; or `letterlock cert forget %[1]s` to write as to a stranger."},
	keydir.ProblemWeak: {weak, "the certificate of %s can't be encrypted to safely",
		"Ask for a newer one; or `letterlock cert forget %[1]s` to write as to a stranger."},
	keydir.ProblemChanged: {changed, "%s has another certificate than before",
		"Compare the fingerprint over another channel, then `letterlock cert accept %[1]s`."},
	keydir.ProblemConflict: {conflict, "sources contradict each other about the certificate of %s",
		"Compare the fingerprint over another channel, then `letterlock cert accept %[1]s`; `letterlock cert show %[1]s` lists both."},
	keydir.ProblemGone: {gone, "%s had a certificate, and no directory has confirmed it for too long",
		"Ask whether that is meant; then `letterlock cert accept %[1]s` to go on using it, or `letterlock cert forget %[1]s` to write as to a stranger."},
}

func identity(i pgp.Identity) string {
	if i == pgp.Unknown {
		return "unknown"
	}
	return string(i)
}

// hours is a span as the configuration writes it.
func hours(d time.Duration) string { return fmt.Sprintf("%dh", d/time.Hour) }
