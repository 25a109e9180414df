package render

import (
	"strings"

	"letterlock.org/letterlock/internal/message"
)

// Envelope is the ENVELOPE of a message with this root header, parentheses
// included (RFC 3501, Section 7.4.2).
func Envelope(h message.Header) []byte {
	from := addresses(h, "From")
	b := append([]byte(nil), '(')
	b = appendNString(b, value(h, "Date"))
	b = append(b, ' ')
	subject := value(h, "Subject")
	subject.text = squeeze(subject.text)
	b = appendNString(b, subject)
	for _, name := range []string{"From", "Sender", "Reply-To", "To", "Cc", "Bcc"} {
		list := addresses(h, name)
		// An absent Sender or Reply-To is the From.
		if len(list) == 0 && (name == "Sender" || name == "Reply-To") {
			list = from
		}
		b = append(b, ' ')
		b = appendAddresses(b, list)
	}
	b = append(b, ' ')
	b = appendNString(b, value(h, "In-Reply-To"))
	b = append(b, ' ')
	b = appendNString(b, value(h, "Message-ID"))
	return append(b, ')')
}

// value is the last field of that name, unfolded, not decoded. An empty one
// is an empty string, an absent one NIL.
func value(h message.Header, name string) optional {
	for i := len(h.Fields) - 1; i >= 0; i-- {
		if h.Fields[i].Is(name) {
			return some(h.Fields[i].Value())
		}
	}
	return optional{}
}

// addresses is the addresses of every field of that name together.
func addresses(h message.Header, name string) []Address {
	var all []Address
	for _, f := range h.Fields {
		if f.Is(name) {
			all = append(all, ParseAddresses(f.Value())...)
		}
	}
	return all
}

func appendAddresses(b []byte, list []Address) []byte {
	if len(list) == 0 {
		return append(b, "NIL"...)
	}
	b = append(b, '(')
	for _, a := range list {
		b = append(b, '(')
		for i, part := range []optional{a.Name, a.Route, a.Mailbox, a.Host} {
			if i > 0 {
				b = append(b, ' ')
			}
			b = appendNString(b, part)
		}
		b = append(b, ')')
	}
	return append(b, ')')
}

// squeeze makes every run of white space and controls one space, as servers do
// with a Subject that was folded.
func squeeze(s string) string {
	clean := true
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] == ' ' && i+1 < len(s) && s[i+1] == ' ' {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r <= ' ' }), " ")
}
