package search

import (
	"bytes"
	"io"
	"strings"

	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/internal/message"
)

// What CalendarUIDs reads of a part, and how many UIDs it gives of a message.
const (
	maxCalendar = 1 << 20
	maxUIDs     = 100
)

// CalendarUIDs is the UID of each event in the calendar parts of a message, attached
// ones included (RFC 5545, Section 3.8.4.7): all that the answer to an invitation names.
func CalendarUIDs(m *render.Message) ([]string, error) {
	var uids []string
	for p := range m.Root.All() {
		if !p.Is("text/calendar") && !p.Is("application/ics") {
			continue
		}
		body := message.Reader(message.Section(m.Source, p.Body, p.End-p.Body))
		b, err := io.ReadAll(io.LimitReader(decode(p, body), maxCalendar))
		if err != nil {
			return nil, err
		}
		b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
		// RFC 5545, Section 3.1: a line that begins with white space goes on.
		b = bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\n "), nil), []byte("\n\t"), nil)
		for line := range strings.Lines(string(b)) {
			name, value, ok := strings.Cut(strings.TrimRight(line, "\n"), ":")
			name, _, _ = strings.Cut(name, ";")
			if ok && strings.EqualFold(name, "UID") && value != "" && len(uids) < maxUIDs {
				uids = append(uids, value)
			}
		}
	}
	return uids, nil
}
