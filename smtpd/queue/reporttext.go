package queue

import (
	"fmt"
	"net/mail"
	"strings"
	"time"
)

// kind is what a report is about.
type kind struct {
	subject string
	// opening stands above the recipients of each state.
	opening map[State]string
	// action is RFC 3464's, Section 2.3.3, which has no word for what nobody
	// knows: delayed is the one that claims least.
	action map[State]string
	// closing is said after them; %[1]s is the entry's ID, %[2]s when it is
	// given up.
	closing string
}

var kindFailed = kind{
	subject: "Not delivered",
	opening: map[State]string{
		Failed:  "Letterlock could not deliver a message of yours to these recipients:",
		Unknown: "The mail server did not confirm a message of yours; these recipients may have got it or not:",
	},
	action: map[State]string{Failed: "failed", Unknown: "delayed"},
	closing: `Other recipients of the same message are not concerned. To send it again, look
for it in your Sent folder.`,
}

var kinds = map[Notice]kind{
	NoticeDelayed: {
		subject: "Not delivered yet",
		opening: map[State]string{Waiting: "A message of yours could not be delivered to these recipients so far:"},
		action:  map[State]string{Waiting: "delayed"},
		closing: `You need not do anything: it is tried until %[2]s.
If that fails too, you are told. ` + "`letterlock queue drop %[1]s`" + ` gives it up now.`,
	},
	NoticeHeld: {
		subject: "Held until it can be encrypted",
		opening: map[State]string{Held: "A message of yours is held and has not left for these recipients:"},
		action:  map[State]string{Held: "delayed"},
		closing: `It goes by itself, encrypted, as soon as that has changed, such as when a
certificate of theirs is found. If nothing changes until %[2]s,
it is given up and you are told. What you or whoever runs Letterlock can do:

- Ask them for a certificate. You may forward this:

    I would like to write to you encrypted, with OpenPGP. Please have your
    mail program or your mail provider publish your certificate (Web Key
    Directory), or send it to me as an attachment.

- Import it where you got it: ` + "`letterlock cert import FILE`" + `
- Have it decided again now: ` + "`letterlock queue release %[1]s`" + `
- Give it up: ` + "`letterlock queue drop %[1]s`",
	},
}

// lines writes lines of a message. Addresses and replies were checked and
// cleaned when they came in; line ends are taken out once more.
type lines struct{ strings.Builder }

func (b *lines) line(format string, args ...any) {
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, fmt.Sprintf(format, args...))
	b.WriteString(s + "\r\n")
}

// text is the report's message, a multipart/report (RFC 6522) with three parts:
// for people, for programs (RFC 3464), and what is said of the message itself.
func (k kind) text(e *Entry, rs []Recipient, now time.Time) []byte {
	b := &lines{}
	boundary := "=_letterlock_" + NewID()
	from := e.Reporter
	if from == "" {
		from = e.From
	}
	b.line("From: Letterlock <%s>", from)
	b.line("To: <%s>", e.From)
	b.line("Subject: %s", k.subject)
	b.line("Date: %s", now.Format(time.RFC1123Z))
	b.line("Message-ID: <%s@letterlock.invalid>", NewID())
	if e.MessageID != "" {
		b.line("References: %s", e.MessageID)
	}
	b.line("Auto-Submitted: auto-replied") // RFC 3834, Section 5
	b.line("MIME-Version: 1.0")
	b.line("Content-Type: multipart/report; report-type=delivery-status; boundary=\"%s\"", boundary)
	b.line("")
	b.line("--%s", boundary)
	b.line("Content-Type: text/plain; charset=utf-8")
	b.line("")
	k.people(b, e, rs)
	b.line("--%s", boundary)
	k.programs(b, e, rs, now)
	b.line("--%s", boundary)
	b.line("Content-Type: text/rfc822-headers")
	b.line("")
	if e.MessageID != "" {
		b.line("Message-ID: %s", e.MessageID)
	}
	if t, err := mail.ParseDate(e.Date); err == nil {
		b.line("Date: %s", t.Format(time.RFC1123Z))
	}
	b.line("")
	b.line("--%s--", boundary)
	return []byte(b.String())
}

// people is the part that a person reads.
func (k kind) people(b *lines, e *Entry, rs []Recipient) {
	for _, state := range []State{Failed, Unknown, Waiting, Held} {
		listed := false
		for _, r := range rs {
			if r.State != state {
				continue
			}
			if !listed {
				listed = true
				b.line("%s", k.opening[state])
				b.line("")
			}
			if r.Code == 0 {
				b.line("  <%s>: %s", r.Address, r.Text)
			} else {
				b.line("  <%s>: %d %s %s", r.Address, r.Code, r.Status, r.Text)
			}
		}
		if listed {
			b.line("")
		}
	}
	for l := range strings.Lines(fmt.Sprintf(k.closing+"%[3]s", e.ID, e.Expires.UTC().Format("2006-01-02 15:04 MST"), "")) {
		b.line("%s", strings.TrimRight(l, "\n"))
	}
	if e.MessageID != "" {
		b.line("")
		b.line("It is the message with the Message-ID %s.", e.MessageID)
	}
	b.line("")
}

// programs is the part for programs: RFC 3464, Section 2; with addresses beyond
// ASCII that of RFC 6533, Section 4.
func (k kind) programs(b *lines, e *Entry, rs []Recipient, now time.Time) {
	global := false
	for _, r := range rs {
		global = global || !ascii(r.Address)
	}
	if global {
		b.line("Content-Type: message/global-delivery-status")
	} else {
		b.line("Content-Type: message/delivery-status")
	}
	b.line("")
	b.line("Reporting-MTA: dns; letterlock.invalid")
	if e.Envid != "" {
		b.line("Original-Envelope-Id: %s", e.Envid)
	}
	b.line("Arrival-Date: %s", e.Created.Format(time.RFC1123Z))
	for _, r := range rs {
		b.line("")
		if r.Orcpt != "" {
			b.line("Original-Recipient: %s", r.Orcpt)
		}
		kind := "rfc822"
		if !ascii(r.Address) {
			kind = "utf-8"
		}
		b.line("Final-Recipient: %s; %s", kind, r.Address)
		b.line("Action: %s", k.action[r.State])
		b.line("Status: %s", statusOf(r))
		if r.Code != 0 {
			b.line("Diagnostic-Code: smtp; %d %s %s", r.Code, r.Status, r.Text)
		}
		if e.Attempts > 0 {
			b.line("Last-Attempt-Date: %s", now.Format(time.RFC1123Z))
		}
		if r.State == Waiting || r.State == Held {
			b.line("Will-Retry-Until: %s", e.Expires.Format(time.RFC1123Z))
		}
	}
	b.line("")
}

// statusOf is a recipient's status, which must be there: RFC 3464, Section 2.3.4.
func statusOf(r Recipient) string {
	switch {
	case r.Status != "":
		return r.Status
	case r.State == Held:
		return "4.7.0"
	case r.State == Failed:
		return "5.0.0"
	}
	return "4.0.0"
}
