package wire

import (
	"fmt"
	"strconv"
	"strings"
)

// Body is the BODY parameter of MAIL, RFC 6152.
type Body string

const (
	Body7Bit Body = "7BIT"
	Body8Bit Body = "8BITMIME"
)

// MailParams are the parameters of MAIL. Zero values were not given.
type MailParams struct {
	Size       int64  // RFC 1870; announced, not counted
	Body       Body   // RFC 6152
	UTF8       bool   // SMTPUTF8, RFC 6531
	Return     string // RET of RFC 3461: FULL or HDRS
	EnvelopeID string // ENVID of RFC 3461, decoded
	Auth       string // RFC 4954, Section 5, decoded; what it says is not checked
}

// RcptParams are the parameters of RCPT (RFC 3461).
type RcptParams struct {
	Notify string // NEVER, or some of SUCCESS, FAILURE and DELAY with commas
	// ORCPT is the original recipient as it was written, its type included; its
	// form was checked.
	ORCPT string
}

// param is one of the parameters of RFC 5321, Section 4.1.2 (esmtp-param).
type param struct {
	name, value string // name in upper case
	has         bool   // a value, maybe an empty one
}

// maxParams is more than all extensions have together.
const maxParams = 16

func parseParams(s string) ([]param, error) {
	var ps []param
	for word := range strings.FieldsSeq(s) {
		var p param
		p.name, p.value, p.has = strings.Cut(word, "=")
		p.name = strings.ToUpper(p.name)
		if !keyword(p.name) || p.has && p.value == "" || len(ps) == maxParams {
			return nil, ErrSyntax
		}
		for _, o := range ps {
			if o.name == p.name {
				return nil, fmt.Errorf("%s twice: %w", p.name, ErrSyntax)
			}
		}
		ps = append(ps, p)
	}
	return ps, nil
}

func keyword(s string) bool {
	for i := range len(s) {
		if c := s[i]; !('A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' && i > 0) {
			return false
		}
	}
	return s != ""
}

// ParseMailParams reads the parameters of MAIL.
func ParseMailParams(s string) (m MailParams, err error) {
	ps, err := parseParams(s)
	if err != nil {
		return m, err
	}
	for _, p := range ps {
		ok := true
		switch p.name {
		case "SIZE":
			ok = p.value != "" && len(p.value) <= 20 && strings.Trim(p.value, "0123456789") == ""
			if m.Size, err = strconv.ParseInt(p.value, 10, 64); err != nil {
				m.Size = 1<<63 - 1 // 20 digits may be more than we can count
			}
		case "BODY":
			m.Body = Body(strings.ToUpper(p.value))
			ok = m.Body == Body7Bit || m.Body == Body8Bit
		case "SMTPUTF8":
			m.UTF8, ok = true, !p.has
		case "RET":
			m.Return = strings.ToUpper(p.value)
			ok = m.Return == "FULL" || m.Return == "HDRS"
		case "ENVID":
			m.EnvelopeID, ok = ParseXtext(p.value)
			ok = ok && p.has && len(p.value) <= 100
		case "AUTH":
			m.Auth, ok = ParseXtext(p.value)
			ok = ok && p.has && len(p.value) <= 500
		default:
			return m, ErrParameter
		}
		if !ok {
			return m, fmt.Errorf("%s: %w", p.name, ErrSyntax)
		}
	}
	return m, nil
}

// ParseRcptParams reads the parameters of RCPT.
func ParseRcptParams(s string) (r RcptParams, err error) {
	ps, err := parseParams(s)
	if err != nil {
		return r, err
	}
	for _, p := range ps {
		ok := true
		switch p.name {
		case "NOTIFY":
			r.Notify = strings.ToUpper(p.value)
			ok = isNotify(r.Notify)
		case "ORCPT":
			r.ORCPT = p.value
			ok = isORCPT(p.value)
		default:
			return r, ErrParameter
		}
		if !ok {
			return r, fmt.Errorf("%s: %w", p.name, ErrSyntax)
		}
	}
	return r, nil
}

// isNotify checks NOTIFY: RFC 3461, Section 4.1.
func isNotify(s string) bool {
	if s == "NEVER" {
		return true
	}
	seen := map[string]bool{}
	for w := range strings.SplitSeq(s, ",") {
		if w != "SUCCESS" && w != "FAILURE" && w != "DELAY" || seen[w] {
			return false
		}
		seen[w] = true
	}
	return true
}

// isORCPT checks ORCPT: RFC 3461, Section 4.2, and RFC 6533, Section 3, whose
// utf-8 form may have letters beyond ASCII.
func isORCPT(s string) bool {
	kind, addr, ok := strings.Cut(s, ";")
	if !ok || len(s) > 500 || !keyword(strings.ToUpper(kind)) || addr == "" || !printable(addr) {
		return false
	}
	if strings.EqualFold(kind, "utf-8") {
		return !strings.ContainsAny(addr, " =")
	}
	_, ok = ParseXtext(addr)
	return ok
}
