// Package meter lets libraries tell figures without knowing who collects them.
// Every figure is a class of outcomes out of a few; never an address, a name
// from the network or the text of an error.
package meter

import "time"

// Counter is something that happens; what its classes are stands beside it.
type Counter string

const (
	Submissions    Counter = "submissions"     // outcome: sent, queued, held, refused, deferred, unknown, repeated, upstream-refused
	QueueAttempts  Counter = "queue_attempts"  // outcome: the entry's state after an attempt
	Lookups        Counter = "lookups"         // outcome, source
	UpstreamFaults Counter = "upstream_faults" // kind: connect, tls, certificate, auth, timeout, lost, refused
	Logins         Counter = "logins"          // outcome: ok, refused, throttled, failed
)

// Timer is work whose duration is worth knowing.
type Timer string

const (
	Protect Timer = "protect" // encrypting and signing one group's copy
	Open    Timer = "open"    // decrypting and verifying one message
	Accept  Timer = "accept"  // from the end of DATA to the reply
)

// Meter takes figures. It is called concurrently and must not block.
type Meter interface {
	// Count adds one; classes are as many as the Counter's comment names.
	Count(c Counter, classes ...string)
	Took(t Timer, d time.Duration)
}

// Discard takes figures and forgets them.
var Discard Meter = discard{}

type discard struct{}

func (discard) Count(Counter, ...string)  {}
func (discard) Took(Timer, time.Duration) {}
