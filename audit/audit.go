// Package audit keeps what an organisation has to be able to show: for every
// recipient of every message, who sent it when, which rule decided what, to
// which certificates it was encrypted, and what came of it. No subject, no
// content, no file name.
//
// The mail server gives [Record]s to a [Log]. A [Book] is the one that keeps
// them in the store, for as long as it is told to; [Book.Export] reads them.
//
// What it promises: a record is written in batches and never holds a message
// up; where records are required, none leaves before one that says so is synced.
package audit

import (
	"context"
	"time"

	"letterlock.org/letterlock/pgp"
)

// Outcome is what came of a message for one recipient.
type Outcome string

const (
	// Sending is written before the final dot, where records are required. One
	// that no other outcome follows is a message whose fate only the upstream
	// knows.
	Sending Outcome = "sending"
	Sent    Outcome = "sent"   // the upstream answered 250
	Queued  Outcome = "queued" // the client has its 250, we try on
	Held    Outcome = "held"   // it waits for a certificate or a person
	// Refused and Deferred are a 5xx and a 4xx to the client, by us or passed on from
	// the upstream, to the recipient or to the message: nothing was taken in this
	// attempt. A client may try again, with the same message or without having given
	// one: then there is another record, of that attempt, and neither contradicts the
	// other. An attempt has one record for each recipient, at its end.
	Refused  Outcome = "refused"
	Deferred Outcome = "deferred"
	// Unknown: the answer to the final dot was lost, or the process died about then.
	// Behind a Sent of the same entry it died before the queue had noted that.
	Unknown Outcome = "unknown"
	Failed  Outcome = "failed"  // given up after the client had its 250
	Dropped Outcome = "dropped" // given up by a person, who took it out of the queue
)

// Record is what became of one message for one recipient at one moment. One
// that is queued gets another when it is settled, with the same Entry.
type Record struct {
	Time time.Time // zero means now
	Node string    // filled in by the Book
	// Account is whose login it was, or what the relay knows the client by.
	Account string
	Sender  string // the reverse-path; "" is the null one
	// Recipient is given as an address; the Book keeps a keyed hash of its key
	// (address.Address.Key) or its text, as it is configured.
	Recipient string
	// Message is given as the Message-ID with its brackets; kept as a keyed hash. ""
	// also where everybody was refused before the client gave the message.
	Message string
	Entry   string // the queue's ID of the transaction; "" before there is one
	Decided
	Outcome Outcome
	// Code and Status are the reply that settled it, ours or the upstream's,
	// such as 250 and "2.0.0"; 0 and "" for none. Its text isn't kept: it may
	// quote what was sent.
	Code   int
	Status string
}

// Decided is what was decided about a recipient. It is known before the message
// is on its way; the queue keeps it beside the recipient for the records to come.
type Decided struct {
	Rule   string `json:"rule,omitempty"`   // the name of the rule that decided, "default" for none
	Action string `json:"action,omitempty"` // what it said: encrypt, sign, cleartext, sealed, refuse, …
	// Certificates are those that the recipient's copy is encrypted to; none where no
	// copy was about to leave.
	Certificates []pgp.Fingerprint `json:"certificates,omitempty"`
	// SignedAs is the certificate that signed; "" for none.
	SignedAs pgp.Fingerprint `json:"signed_as,omitempty"`
	// DryRun: it went unchanged; Action says what would have happened.
	DryRun bool `json:"dry_run,omitempty"`
}

// Log takes records. It is called concurrently; callers give one record for
// each recipient, and don't change it after.
type Log interface {
	// Append notes what happened. It doesn't wait for the disk and cannot fail:
	// what a full or broken store loses is counted and logged.
	Append(rs ...Record)
	// Before is to be called right before mail leaves, with Sending records. It
	// returns nil at once unless records are required; then after they are
	// synced. After an error the mail must not leave now (a 4xx).
	Before(ctx context.Context, rs ...Record) error
}

// Discard is a Log that keeps nothing.
var Discard Log = discard{}

type discard struct{}

func (discard) Append(...Record)                        {}
func (discard) Before(context.Context, ...Record) error { return nil }
