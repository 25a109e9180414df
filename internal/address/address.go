// Package address parses, normalises and compares mail addresses.
package address

import "errors"

// ErrInvalid means that a string is not one mail address.
var ErrInvalid = errors.New("not a mail address")

// Address is one mail address (addr-spec), parsed. The zero value is no
// address. Addresses are comparable with ==, which compares their spelling;
// use Equal to ask whether two name the same mailbox.
type Address struct {
	// Local is the local part, unquoted, in its own spelling.
	Local string
	// Domain is the domain in lower case, as A-labels (RFC 5890).
	Domain string
}

// Parse reads one addr-spec (RFC 5321, Section 4.1.2; RFC 6531 for UTF-8),
// without display name or angle brackets. CR, LF, NUL, spaces outside quotes
// and control characters are refused.
func Parse(s string) (Address, error) { panic("not built yet") }

// String gives the address as it stands in an envelope, quoting the local
// part where it needs it.
func (a Address) String() string { panic("not built yet") }

// IsZero tells whether a is no address.
func (a Address) IsZero() bool { return a == Address{} }

// Key is the form under which addresses are stored and compared: ASCII letters
// of the local part in lower case, the domain as A-labels in lower case.
func (a Address) Key() string { panic("not built yet") }

// Equal tells whether a and b have one Key.
func (a Address) Equal(b Address) bool { return a.Key() == b.Key() }

// Match tells whether a matches pattern: "user@domain", "*@domain",
// "*@*.domain" or "*". Case is ignored.
func (a Address) Match(pattern string) bool { panic("not built yet") }

// Mailbox is one entry of an address list: a display name and an address.
type Mailbox struct {
	Name    string // decoded (RFC 2047), without CR, LF, NUL and control characters
	Address Address
}

// ParseList reads the value of a From, To, Cc, Reply-To… header field: groups
// are flattened. Malformed lists are an error, never a partial answer.
func ParseList(value string) ([]Mailbox, error) { panic("not built yet") }
