package form

import (
	"net/mail"
	"time"
)

// dateOf reads a Date field (RFC 5322, Section 3.3); zero if it is none. The
// page shows it in the reader's own zone.
func dateOf(value string) time.Time {
	t, err := mail.ParseDate(value)
	if err != nil || t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}
