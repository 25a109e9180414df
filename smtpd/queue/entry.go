package queue

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"time"

	"letterlock.org/letterlock/audit"
)

// State is where an entry stands. The zero value is none.
type State string

const (
	Prepared State = "prepared" // body kept, nobody was promised anything: gone after a crash
	Sending  State = "sending"  // the final dot is about to be sent; Unknown after a crash
	Waiting  State = "waiting"  // will be sent, at Next
	Held     State = "held"     // as submitted; decided again at Next
	Sent     State = "sent"     // the upstream has taken it; remembered
	Unknown  State = "unknown"  // the answer to the final dot was lost; never repeated by itself
	Failed   State = "failed"   // refused for good or expired; the sender was told
)

// Recipient is one envelope recipient of an entry.
type Recipient struct {
	Address string `json:"a"` // as in the envelope
	Key     string `json:"k"` // address.Key
	// RFC 3461 parameters, as the client gave them, "" without.
	Notify string `json:"n,omitempty"`
	Orcpt  string `json:"o,omitempty"`
	// State is Waiting, Sending, Sent, Failed or Unknown: they may part while
	// the entry waits. In a Held entry it is Held.
	State State `json:"s"`
	// Code, Status and Text are the last reply about it, such as 451, "4.4.1";
	// where it is held, Text says why.
	Code   int    `json:"c,omitempty"`
	Status string `json:"e,omitempty"`
	Text   string `json:"t,omitempty"`
	// Reported: the sender was told that it failed, or that nobody knows.
	Reported bool `json:"r,omitempty"`
	// Decided is for the audit records that are still to come.
	Decided *audit.Decided `json:"d,omitempty"`
}

// Entry is one transaction with the upstream, or a message that is held.
type Entry struct {
	ID         string `json:",omitempty"` // see NewID
	Account    string `json:",omitempty"` // key of the account's primary address
	Submission string `json:",omitempty"` // what the client submitted: see Key; "" is never matched
	From       string // reverse-path; "" is the null one
	MessageID  string `json:",omitempty"` // for reports; "" without
	Date       string `json:",omitempty"` // of the message, as it has it: nobody has read it; "" without
	Recipients []Recipient
	Clear      bool      `json:",omitempty"` // the policy let it go unencrypted
	Report     bool      `json:",omitempty"` // a notification of our own: never reported upon
	Queued     bool      `json:",omitempty"` // the client was told 250 and left it to us
	EightBit   bool      `json:",omitempty"` // needs BODY=8BITMIME
	UTF8       bool      `json:",omitempty"` // needs SMTPUTF8
	Ret        string    `json:",omitempty"`
	Envid      string    `json:",omitempty"`
	State      State     // of the whole: see Overall
	Attempts   int       `json:",omitempty"`
	Created    time.Time // when the client submitted it
	Next       time.Time `json:"-"` // when it is tried again, if Waiting; or decided again, if Held
	Expires    time.Time // when it is given up
	Warned     bool      `json:",omitempty"` // the sender was told that it is late
	Last       bool      `json:",omitempty"` // its next attempt is the last; see lastChance
	Size       int64     // of the body
	LastError  string    `json:",omitempty"` // for a person, without content
	// Reporter is whom reports are from: "" is the sender's own address, as
	// a note to oneself; else they go to the sender with a null reverse-path.
	Reporter string `json:",omitempty"`
	// About is the entry whose password this one tells, "" for none. Only prepared
	// when its node dies, it goes on its way if that entry may have.
	About string `json:",omitempty"`
	// Hold is for whoever decides again about an entry, Held or Clear; the queue keeps it.
	Hold []byte `json:",omitempty"`
}

// Key names what a client submitted: the same account, Message-ID and bytes
// give the same key. Without a Message-ID there is no key, since two messages
// that look alike may both be meant (RFC 5322, Section 3.6.4).
func Key(account, messageID string, content [32]byte) string {
	if messageID == "" {
		return ""
	}
	b := make([]byte, 0, 256)
	for _, s := range []string{account, messageID} {
		b = strconv.AppendInt(b, int64(len(s)), 10)
		b = append(append(b, ':'), s...)
	}
	sum := sha256.Sum256(append(b, content[:]...))
	return hex.EncodeToString(sum[:])
}

// NewID makes the ID of an entry. It begins with the time, so that new rows lie
// next to each other; the rest is random, for other nodes make IDs too.
func NewID() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(time.Now().UnixMilli())<<16)
	rand.Read(b[6:])
	return hex.EncodeToString(b[:14])
}

// idAt is below all IDs that are made from t on, and above all made before.
func idAt(t time.Time) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(t.UnixMilli())<<16)
	return hex.EncodeToString(b[:6])
}
