package pgp

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
)

// maxAutocrypt is how long the field may be (Autocrypt Level 1, Section 2.1.1).
const maxAutocrypt = 10 << 10

// AutocryptField is the raw Autocrypt field, with its line end, that tells an
// address's correspondents its certificate: the one that Protect adds, for mail
// that goes out in clear. false where there is none to send (a certificate of
// version 6, one too large, one that doesn't name the address), which is no
// error: the field is a service to others.
func AutocryptField(c *Certificate, a address.Address, now time.Time) ([]byte, bool) {
	f, ok := autocryptField(c, a, now)
	if !ok {
		return nil, false
	}
	return f.append(nil), true
}

// autocryptMemo is the last field that was made of a certificate.
type autocryptMemo struct {
	address address.Address
	minute  int64 // the time of now for which it holds
	field   field
	ok      bool
}

func autocryptField(c *Certificate, a address.Address, now time.Time) (field, bool) {
	if a.IsZero() || c.Version() != 4 {
		return field{}, false
	}
	minute := now.Unix() / 60
	m := c.autocrypt.Load()
	if m == nil || m.address != a || m.minute != minute {
		f, ok := makeAutocryptField(c, a, now)
		m = &autocryptMemo{a, minute, f, ok}
		c.autocrypt.Store(m)
	}
	return m.field, m.ok
}

func makeAutocryptField(c *Certificate, a address.Address, now time.Time) (field, bool) {
	cert, err := c.minimal(a, now, func(p component, _ *userID) (out []rawPacket) {
		if s := successorMark(p, c.key, now); s != nil {
			out = append(out, s.raw) // so that who knows the former key follows
		}
		return out
	})
	if err != nil {
		return field{}, false
	}
	data := base64.StdEncoding.EncodeToString(cert.Bytes())
	var b strings.Builder
	fmt.Fprintf(&b, " addr=%s; prefer-encrypt=mutual; keydata=", a)
	for len(data) > 0 {
		n := min(72, len(data))
		b.WriteString("\r\n " + data[:n])
		data = data[n:]
	}
	return field{"Autocrypt", b.String()}, b.Len() <= maxAutocrypt
}
