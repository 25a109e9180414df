package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// addressArg is a mail address of the command line.
type addressArg struct{ address.Address }

func (a *addressArg) UnmarshalText(b []byte) (err error) {
	a.Address, err = address.Parse(string(b))
	if err != nil {
		return fmt.Errorf("%q is no mail address", b)
	}
	return nil
}

// fingerprintArg is a fingerprint as people write it: with spaces, colons, in
// lower case.
type fingerprintArg pgp.Fingerprint

func (f *fingerprintArg) UnmarshalText(b []byte) error {
	s := strings.ToUpper(strings.NewReplacer(" ", "", ":", "").Replace(string(b)))
	s = strings.TrimPrefix(s, "0X")
	if (len(s) != 40 && len(s) != 64) || strings.Trim(s, "0123456789ABCDEF") != "" {
		return fmt.Errorf("%q is no fingerprint; it has 40 or 64 hex digits", b)
	}
	*f = fingerprintArg(s)
	return nil
}

// grouped shows a fingerprint in blocks of four, to be compared by eye.
func grouped(f pgp.Fingerprint) string {
	var b strings.Builder
	for i, c := range string(f) {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// day is a date for a person; the zero time is "never" or what else it means.
func day(t time.Time, zero string) string {
	if t.IsZero() {
		return zero
	}
	return t.Format(time.DateOnly)
}

// certificateJSON is what scripts get of a certificate.
type certificateJSON struct {
	Fingerprint pgp.Fingerprint `json:"fingerprint"`
	Algorithm   string          `json:"algorithm"`
	Created     time.Time       `json:"created"`
	Expires     *time.Time      `json:"expires"` // null: never
	UserIDs     []string        `json:"user_ids"`
	Usable      string          `json:"usable"` // "yes", or why not
}

func describeCertificate(c *pgp.Certificate, now time.Time) certificateJSON {
	j := certificateJSON{Fingerprint: c.Fingerprint(), Algorithm: c.Algorithm(), Created: c.Created().UTC(), UserIDs: c.UserIDs(), Usable: "yes"}
	if e := c.Expires(); !e.IsZero() {
		e = e.UTC()
		j.Expires = &e
	}
	if err := c.CheckEncrypt(now); err != nil {
		j.Usable = err.Error()
	}
	return j
}

func (j certificateJSON) expiry() string {
	if j.Expires == nil {
		return "never"
	}
	return day(*j.Expires, "never")
}

// print shows a certificate to a person.
func (j certificateJSON) print(e *env) {
	e.printf("  fingerprint  %s\n", grouped(j.Fingerprint))
	e.printf("  algorithm    %s\n", j.Algorithm)
	e.printf("  created      %s, expires %s\n", day(j.Created, "-"), j.expiry())
	e.printf("  user IDs     %s\n", cmp.Or(strings.Join(j.UserIDs, ", "), "none that is valid"))
	if j.Usable != "yes" {
		e.printf("  not usable   %s\n", j.Usable)
	}
}

// addressesOf are the mail addresses that a certificate's user IDs name.
func addressesOf(c *pgp.Certificate) (out []address.Address) {
	seen := map[string]bool{}
	for _, id := range c.UserIDs() {
		s := id
		if i, j := strings.LastIndex(id, "<"), strings.LastIndex(id, ">"); i >= 0 && i < j {
			s = id[i+1 : j]
		}
		a, err := address.Parse(strings.TrimSpace(s))
		if err == nil && c.Has(a) && !seen[a.Key()] {
			seen[a.Key()] = true
			out = append(out, a)
		}
	}
	return out
}
