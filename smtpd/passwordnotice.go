package smtpd

import (
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"letterlock.org/letterlock/form"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/text"
)

// passwordNotice tells a sender the password of a message.
type passwordNotice struct {
	from     address.Address
	to       []address.Address
	header   message.Header // of the message
	password form.Password
	now      time.Time
	host     string
}

// text is the notice as a message. The subject of the other message is in it
// only where it will be encrypted.
func (n passwordNotice) text(sealed bool) []byte {
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(text.Safe(fmt.Sprintf(format, args...)) + "\r\n") }
	line("From: <%s>", n.from)
	line("To: <%s>", n.from)
	line("Subject: Password for your message to %s", n.first())
	line("Date: %s", n.now.UTC().Format(time.RFC1123Z))
	line("Message-ID: <%s@%s>", strings.ToLower(rand.Text()), n.domain())
	line("Auto-Submitted: auto-generated") // RFC 3834, Section 5
	line("MIME-Version: 1.0")
	line("Content-Type: text/plain; charset=utf-8")
	line("Content-Transfer-Encoding: 8bit")
	line("")
	line("Your message is on its way under a password, since these recipients have")
	line("no certificate:")
	line("")
	for _, a := range n.to {
		line("    %s", a)
	}
	line("")
	line("The password is")
	line("")
	line("    %s", n.password.Reveal())
	line("")
	line("Tell it to them in another way: by telephone, in person, by a messenger that")
	line("is encrypted. Not by mail, since who reads their mail could then read the")
	line("message too. Keep this notice for as long as they may need the password:")
	line("it is stored nowhere else.")
	line("")
	if sealed {
		line("Subject: %s", shortened(text.Decode(n.header.Get("Subject"))))
	}
	if id := n.header.Get("Message-ID"); len(id) < 200 {
		line("Message-ID: %s", id)
	}
	line("")
	line("An answer is not protected by this password. To agree upon one password for")
	line("all messages to somebody: letterlock password set ADDRESS")
	return []byte(b.String())
}

func (n passwordNotice) first() string {
	if len(n.to) == 1 {
		return n.to[0].String()
	}
	return fmt.Sprintf("%s and %d more", n.to[0], len(n.to)-1)
}

func (n passwordNotice) domain() string {
	if n.host == "" {
		return "letterlock.invalid"
	}
	return n.host
}

// shortened keeps a line within what mail allows (RFC 5322, Section 2.1.1).
func shortened(s string) string {
	if r := []rune(s); len(r) > 200 {
		return string(r[:200]) + "…"
	}
	return s
}
