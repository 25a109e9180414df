package search

import (
	"net/mail"
	"strings"
	"time"
)

// sentDay is the calendar day that a Date field names, in its own time zone.
func sentDay(date string) (time.Time, bool) {
	t, err := mail.ParseDate(date)
	if err != nil {
		// What follows the day may be nonsense; the day still counts.
		fields := strings.Fields(strings.ReplaceAll(date, ",", " "))
		for i := 0; i+3 <= len(fields) && i < 2; i++ {
			if t, err = time.Parse("2 Jan 2006", strings.Join(fields[i:i+3], " ")); err == nil {
				break
			}
		}
		if err != nil {
			return time.Time{}, false
		}
	}
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC), true
}

// parseDay reads the date of a search key: 1-Feb-1994, quoted or not.
func parseDay(s string) (time.Time, error) { return time.Parse("2-Jan-2006", titleMonth(s)) }

// titleMonth spells the month as time.Parse wants it.
func titleMonth(s string) string {
	day, rest, ok := strings.Cut(s, "-")
	if !ok || len(rest) < 3 {
		return s
	}
	return day + "-" + strings.ToUpper(rest[:1]) + strings.ToLower(rest[1:])
}
