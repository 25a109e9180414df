// Package address parses, normalises and compares mail addresses.
//
// An [Address] that exists is well formed: [Parse] and [ParseList] are the only
// ways to one, and what they refuse can reach no envelope, no lookup and no log
// line. Domains are kept as A-labels in lower case; local parts as they were
// spelled, and compared without regard to case and to how letters are composed.
package address

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// ErrInvalid means that a string is not one mail address.
var ErrInvalid = errors.New("not a mail address")

// Lengths in bytes. RFC 5321, Section 4.5.3.1.1 has 64 for a local part and wants
// longer ones accepted where possible: bounce addresses that carry their recipient's
// (VERP), rewritten once or twice on their way (SRS), are longer than twice that.
const (
	maxLocal  = 255
	maxDomain = 255
)

// Address is one mail address (addr-spec), parsed. The zero value is no
// address. Addresses are comparable with ==, which compares their spelling;
// use Equal to ask whether two name the same mailbox.
type Address struct {
	// Local is the local part, unquoted, in its own spelling.
	Local string
	// Domain is the domain in lower case, as A-labels (RFC 5890), or an address
	// literal in brackets.
	Domain string
}

// Parse reads one addr-spec (RFC 5321, Section 4.1.2; RFC 6531 for UTF-8),
// without display name or angle brackets. CR, LF, NUL, spaces outside quotes
// and control characters are refused.
func Parse(s string) (Address, error) {
	if len(s) > 4*(maxLocal+maxDomain) { // quoting can at most double, U-labels take less
		return Address{}, fmt.Errorf("%w: too long", ErrInvalid)
	}
	local, rest, err := readLocal(s)
	if err != nil {
		return Address{}, err
	}
	if rest == "" || rest[0] != '@' {
		return Address{}, fmt.Errorf("%w: no domain", ErrInvalid)
	}
	return join(local, rest[1:])
}

// join makes an Address of an unquoted local part and a domain as written.
func join(local, domain string) (Address, error) {
	if err := checkLocal(local); err != nil {
		return Address{}, err
	}
	d, err := Domain(domain)
	if err != nil {
		return Address{}, err
	}
	return Address{local, d}, nil
}

func checkLocal(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: empty local part", ErrInvalid)
	case len(s) > maxLocal:
		return fmt.Errorf("%w: local part of more than %d bytes", ErrInvalid, maxLocal)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: local part is not UTF-8", ErrInvalid)
	}
	for _, r := range s {
		if !isText(r) {
			return fmt.Errorf("%w: control character in the local part", ErrInvalid)
		}
	}
	return nil
}

// isText tells whether r may stand in a local part, quoted if need be: no
// control, and nothing invisible that changes how an address reads.
func isText(r rune) bool {
	return r >= ' ' && r < 0x7f ||
		r >= 0x80 && r != utf8.RuneError && unicode.IsGraphic(r) && !unicode.IsSpace(r)
}

// lookup maps as IDNA2008 look-ups do (RFC 5891, Section 5; UTS 46 for case),
// lower case first. Underscores and the like are refused.
var lookup = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.VerifyDNSLength(true), idna.StrictDomainName(true), idna.Transitional(false))

// Domain normalises a domain: lower case, A-labels; an address literal (RFC
// 5321, Section 4.1.3) is kept in brackets. A final dot is refused, as it is
// in SMTP.
func Domain(s string) (string, error) {
	if literal, ok := strings.CutPrefix(s, "["); ok {
		return domainLiteral(literal)
	}
	if s == "" || len(s) > maxDomain || !utf8.ValidString(s) {
		return "", fmt.Errorf("%w: no domain, or too long a one", ErrInvalid)
	}
	if usualDomain(s) {
		return s, nil
	}
	for _, r := range s {
		if r <= ' ' || r == 0x7f || unicode.IsControl(r) || unicode.IsSpace(r) {
			return "", fmt.Errorf("%w: space or control character in the domain", ErrInvalid)
		}
	}
	d, err := lookup.ToASCII(s)
	if err != nil || d == "" || strings.HasSuffix(d, ".") {
		return "", fmt.Errorf("%w: malformed domain", ErrInvalid)
	}
	return d, nil
}

// usualDomain tells of a domain that is as it should be: what the look-up maps to
// itself. Labels with two hyphens in the third place may be A-labels, and are for
// it to judge (RFC 5891, Section 4.2.3.1).
func usualDomain(s string) bool {
	if len(s) > maxDomain-2 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		n := len(label)
		if n == 0 || n > 63 || label[0] == '-' || label[n-1] == '-' || n > 3 && label[2:4] == "--" {
			return false
		}
		for i := range n {
			if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}

// domainLiteral normalises "192.0.2.1]" and "IPv6:2001:db8::1]". General
// address literals are not used on any network and are refused.
func domainLiteral(s string) (string, error) {
	s, ok := strings.CutSuffix(s, "]")
	v6 := len(s) > 5 && strings.EqualFold(s[:5], "IPv6:")
	if v6 {
		s = s[5:]
	}
	ip, err := netip.ParseAddr(s)
	if !ok || err != nil || ip.Is6() != v6 || ip.Zone() != "" {
		return "", fmt.Errorf("%w: malformed address literal", ErrInvalid)
	}
	if v6 {
		return "[IPv6:" + ip.String() + "]", nil
	}
	return "[" + ip.String() + "]", nil
}

// String gives the address as it stands in an envelope, quoting the local
// part where it needs it. The zero Address is "".
func (a Address) String() string {
	if a.IsZero() {
		return ""
	}
	return quoteLocal(a.Local) + "@" + a.Domain
}

// IsZero tells whether a is no address.
func (a Address) IsZero() bool { return a == Address{} }

// IsASCII tells whether a can be sent without SMTPUTF8 (RFC 6531).
func (a Address) IsASCII() bool {
	for i := 0; i < len(a.Local); i++ {
		if a.Local[i] >= 0x80 {
			return false
		}
	}
	return true
}

// Key is the form under which addresses are stored and compared: the local part
// in lower case and composed (RFC 6532, Section 3.1: NFC), the domain as A-labels
// in lower case. Mail servers take spellings that differ so little for one mailbox,
// and what is known of a person must not be missed for it.
func (a Address) Key() string { return Address{compared(a.Local), a.Domain}.String() }

// Equal tells whether a and b have one Key.
func (a Address) Equal(b Address) bool {
	return a == b || a.Domain == b.Domain && compared(a.Local) == compared(b.Local)
}

// Untagged is the address without what stands behind the first "+" of its local part
// (RFC 5233, Section 4); ok tells whether there is such. That both are one mailbox is
// usual, and nothing but the domain's own word says so.
func (a Address) Untagged() (plain Address, ok bool) {
	local, _, tagged := strings.Cut(a.Local, "+")
	if !tagged || checkLocal(local) != nil {
		return Address{}, false
	}
	return Address{local, a.Domain}, true
}

// Match tells whether a matches pattern: "user@domain", "*@domain",
// "*@*.domain" or "*". Case is ignored; a domain in the pattern may be written
// with U-labels. "*.domain" is every domain below, not domain itself. The zero
// Address matches nothing.
func (a Address) Match(pattern string) bool {
	if a.IsZero() {
		return false
	}
	if pattern == "*" {
		return true
	}
	at := strings.LastIndexByte(pattern, '@')
	if at < 0 {
		return false
	}
	local, domain := pattern[:at], pattern[at+1:]
	if local != "*" {
		p, err := Parse(pattern)
		return err == nil && a.Equal(p)
	}
	parent, below := strings.CutPrefix(domain, "*.")
	d, err := Domain(parent)
	if err != nil {
		return false
	}
	if below {
		return strings.HasSuffix(a.Domain, "."+d)
	}
	return a.Domain == d
}
