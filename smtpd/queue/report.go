package queue

import (
	"fmt"
	"strings"
	"time"
)

// report is a delivery status notification, ready to wait.
type report struct {
	entry Entry
	body  []byte
}

// reportOn makes the notification about the recipients of e that have failed,
// or of whom nobody knows, and were not reported yet; it marks them reported.
// It has nothing of the message but its Message-ID (RFC 3464). NOTIFY that
// leaves FAILURE out is obeyed.
func reportOn(e *Entry, now time.Time, lifetime time.Duration) (report, bool) {
	var failed []Recipient
	e.Recipients = append([]Recipient(nil), e.Recipients...)
	for i, r := range e.Recipients {
		lost := r.State == Unknown && e.Queued
		if r.State != Failed && !lost || r.Reported {
			continue
		}
		e.Recipients[i].Reported = true
		if r.Notify == "" || strings.Contains(strings.ToUpper(r.Notify), "FAILURE") {
			failed = append(failed, r)
		}
	}
	if len(failed) == 0 || e.Report || e.From == "" {
		return report{}, false
	}
	body := reportText(e, failed, now)
	return report{body: body, entry: Entry{
		ID: NewID(), Account: e.Account, From: e.From, Report: true, State: Waiting,
		Recipients: []Recipient{{Address: e.From, Key: strings.ToLower(e.From), Notify: "NEVER", State: Waiting}},
		Created:    now, Next: now, Expires: now.Add(lifetime), Size: int64(len(body)),
		UTF8: !ascii(string(body)),
	}}, true
}

// What a report says of each state. RFC 3464, Section 2.3.3, has no word for
// what nobody knows: delayed is the one that claims least.
var (
	opening = map[State]string{
		Failed:  "Letterlock could not deliver a message of yours to these recipients:",
		Unknown: "The mail server did not confirm a message of yours; these recipients may have got it or not:",
	}
	action = map[State]string{Failed: "failed", Unknown: "delayed"}
)

// reportText is the message. Addresses and replies were checked and cleaned
// when they came in; line ends are taken out once more.
func reportText(e *Entry, failed []Recipient, now time.Time) []byte {
	var b strings.Builder
	line := func(format string, args ...any) {
		s := strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return ' '
			}
			return r
		}, fmt.Sprintf(format, args...))
		b.WriteString(s + "\r\n")
	}
	boundary := "=_letterlock_" + NewID()
	line("From: <%s>", e.From)
	line("To: <%s>", e.From)
	line("Subject: Not delivered")
	line("Date: %s", now.Format(time.RFC1123Z))
	line("Message-ID: <%s@letterlock.invalid>", NewID())
	line("Auto-Submitted: auto-replied") // RFC 3834, Section 5
	line("MIME-Version: 1.0")
	line("Content-Type: multipart/report; report-type=delivery-status; boundary=\"%s\"", boundary)
	line("")
	line("--%s", boundary)
	line("Content-Type: text/plain; charset=utf-8")
	line("")
	for _, state := range []State{Failed, Unknown} {
		listed := false
		for _, r := range failed {
			if r.State != state {
				continue
			}
			if !listed {
				listed = true
				line("%s", opening[state])
				line("")
			}
			line("  <%s>: %d %s %s", r.Address, r.Code, r.Status, r.Text)
		}
		if listed {
			line("")
		}
	}
	line("Other recipients of the same message are not concerned. To send it again, look")
	line("for it in your Sent folder.")
	if e.MessageID != "" {
		line("It is the message with the Message-ID %s.", e.MessageID)
	}
	line("")
	line("--%s", boundary)
	line("Content-Type: message/delivery-status")
	line("")
	line("Reporting-MTA: dns; letterlock.invalid")
	if e.Envid != "" {
		line("Original-Envelope-Id: %s", e.Envid)
	}
	line("Arrival-Date: %s", e.Created.Format(time.RFC1123Z))
	for _, r := range failed {
		line("")
		if r.Orcpt != "" {
			line("Original-Recipient: %s", r.Orcpt)
		}
		line("Final-Recipient: rfc822; %s", r.Address)
		line("Action: %s", action[r.State])
		line("Status: %s", r.Status)
		line("Diagnostic-Code: smtp; %d %s %s", r.Code, r.Status, r.Text)
	}
	line("")
	line("--%s--", boundary)
	return []byte(b.String())
}

func ascii(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}
