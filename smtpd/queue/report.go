package queue

import (
	"slices"
	"strings"
	"time"
)

// Notice is what the sender is told of recipients who have not failed.
type Notice string

const (
	NoticeDelayed Notice = "delayed" // it is late, and still tried
	NoticeHeld    Notice = "held"    // it waits for a certificate or a person
)

// report is a delivery status notification, ready to wait.
type report struct {
	entry Entry
	body  []byte
}

// reportsOn makes the notifications that are due about an entry that is about
// to be written, and marks in it what they tell: recipients that have failed, or
// of whom nobody knows, and were not reported yet; and the notice. They have
// nothing of the message but its Message-ID and date (RFC 3464). NOTIFY is
// obeyed; RET isn't, since neither the text nor the header is ours to repeat.
func reportsOn(e *Entry, n Notice, now time.Time, lifetime time.Duration) (out []report) {
	add := func(k kind, rs []Recipient) {
		if len(rs) == 0 || e.Report || e.From == "" {
			return
		}
		out = append(out, newReport(e, k, rs, now, lifetime))
	}
	add(kindFailed, unreported(e))
	var rs []Recipient
	for _, r := range e.Recipients {
		if (r.State == Waiting && n == NoticeDelayed || r.State == Held && n == NoticeHeld) && wants(r, "DELAY") {
			rs = append(rs, r)
		}
	}
	add(kinds[n], rs)
	return out
}

// unreported are the recipients who have to be reported; it marks them.
func unreported(e *Entry) (rs []Recipient) {
	e.Recipients = slices.Clone(e.Recipients)
	for i, r := range e.Recipients {
		lost := r.State == Unknown && e.Queued
		if r.State != Failed && !lost || r.Reported {
			continue
		}
		e.Recipients[i].Reported = true
		if wants(r, "FAILURE") {
			rs = append(rs, r)
		}
	}
	return rs
}

// wants tells whether RFC 3461's NOTIFY asks for a report of some kind; without
// it, failures and delays are reported (Section 4.1).
func wants(r Recipient, kind string) bool {
	return r.Notify == "" || slices.Contains(strings.Split(strings.ToUpper(r.Notify), ","), kind)
}

// newReport is the entry that brings a report to the sender: from themselves
// where nobody else is in charge, else with the null reverse-path.
func newReport(e *Entry, k kind, rs []Recipient, now time.Time, lifetime time.Duration) report {
	body := k.text(e, rs, now)
	r := report{body: body, entry: Entry{
		ID: NewID(), Account: e.Account, From: e.From, Report: true, State: Waiting,
		Recipients: []Recipient{{Address: e.From, Key: keyOf(e.From), Notify: "NEVER", State: Waiting}},
		Created:    now, Next: now, Expires: now.Add(lifetime), Size: int64(len(body)),
		UTF8: !ascii(string(body)),
	}}
	if e.Reporter != "" {
		r.entry.From = ""
	}
	return r
}

// keyOf is the address.Key of an envelope address, near enough to find its
// domain again.
func keyOf(address string) string { return strings.ToLower(address) }

func domainOf(address string) string {
	return keyOf(address)[strings.LastIndexByte(address, '@')+1:]
}

func ascii(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}
