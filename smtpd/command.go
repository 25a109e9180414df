package smtpd

import (
	"strconv"
	"strings"

	"letterlock.org/letterlock/smtpd/wire"
)

func (s *session) envelopeFrom() string {
	if s.env.from.IsZero() {
		return ""
	}
	return s.env.from.String()
}

func (s *session) params(eight bool, size int64) mailParams {
	return mailParams{EightBit: eight, Size: size, UTF8: s.env.opts.UTF8, Ret: s.env.opts.Return, Envid: s.env.opts.EnvelopeID}
}

// mailParams are the parameters of MAIL.
type mailParams struct {
	EightBit, UTF8 bool
	Ret, Envid     string
	Size           int64 // bytes of the message; 0 where that isn't known
}

// mailLine is a MAIL command. What the upstream can't keep is an error.
func (c *client) mailLine(from string, p mailParams) (string, error) {
	var b strings.Builder
	caps := c.caps
	b.WriteString("MAIL FROM:<" + from + ">")
	if c.sized && p.Size > 0 {
		b.WriteString(" SIZE=" + strconv.FormatInt(p.Size, 10))
	}
	if p.EightBit && caps.EightBit {
		b.WriteString(" BODY=8BITMIME")
	}
	if p.UTF8 {
		if !caps.UTF8 {
			return "", permanent(553, "5.6.7", "the mail server has no SMTPUTF8")
		}
		b.WriteString(" SMTPUTF8")
	}
	if caps.DSN && p.Ret != "" {
		b.WriteString(" RET=" + p.Ret)
	}
	if caps.DSN && p.Envid != "" {
		b.Write(wire.AppendXtext([]byte(" ENVID="), p.Envid))
	}
	return b.String(), nil
}

func rcptLine(to, notify, orcpt string, caps Capabilities) string {
	line := "RCPT TO:<" + to + ">"
	if caps.DSN && notify != "" {
		line += " NOTIFY=" + notify
	}
	if caps.DSN && orcpt != "" {
		line += " ORCPT=" + orcpt
	}
	return line
}

func asciiOnly(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}
