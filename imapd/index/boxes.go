package index

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"

	"encoding/base64"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// box is a mailbox that can be selected.
type box struct {
	display string // decoded, as imapclient has it
	name    string // as the upstream spells it
	rank    int    // what is indexed first
}

// maxBoxes bounds the mailboxes of an account that are indexed.
const maxBoxes = 10000

// listBoxes gives the mailboxes in the order in which people look at them: INBOX,
// then what has no special use, then Junk, Trash and, last, All (where one
// server has every message a second time).
func listBoxes(c *imapclient.Client) ([]box, error) {
	cmd := c.List("", "*", nil)
	var boxes []box
	for data := cmd.Next(); data != nil; data = cmd.Next() {
		b := box{display: data.Mailbox, name: encodeUTF7(data.Mailbox), rank: 1}
		if strings.EqualFold(data.Mailbox, "INBOX") {
			b.rank = 0
		}
		selectable := true
		for _, a := range data.Attrs {
			switch strings.ToLower(string(a)) {
			case "\\noselect", "\\nonexistent":
				selectable = false
			case "\\junk", "\\trash":
				b.rank = 2
			case "\\all", "\\flagged", "\\important":
				b.rank = 3
			}
		}
		if selectable && len(boxes) < maxBoxes {
			boxes = append(boxes, b)
		}
	}
	if err := cmd.Close(); err != nil {
		return nil, fmt.Errorf("listing mailboxes: %w", err)
	}
	slices.SortStableFunc(boxes, func(a, b box) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), strings.Compare(a.name, b.name))
	})
	return boxes, nil
}

// encodeUTF7 spells a mailbox name as it goes over the wire (RFC 3501, Section
// 5.1.3): imapclient gives it decoded, sessions know it undecoded.
func encodeUTF7(name string) string {
	var b strings.Builder
	var run []uint16
	flush := func() {
		if len(run) == 0 {
			return
		}
		var raw []byte
		for _, u := range run {
			raw = append(raw, byte(u>>8), byte(u))
		}
		b.WriteString("&" + strings.ReplaceAll(base64.RawStdEncoding.EncodeToString(raw), "/", ",") + "-")
		run = run[:0]
	}
	for _, r := range name {
		if r < ' ' || r > '~' {
			run = utf16.AppendRune(run, r)
			continue
		}
		flush()
		b.WriteRune(r)
		if r == '&' {
			b.WriteByte('-')
		}
	}
	flush()
	return b.String()
}

// uids is the UIDs of a search, ascending. It does not believe more than the
// mailbox has: a set is short to write and long to list.
func uids(found imap.UIDSet, messages uint32) ([]uint32, error) {
	var all []uint32
	for _, r := range found {
		if r.Start == 0 || r.Stop < r.Start || uint64(r.Stop-r.Start) >= uint64(messages)+1000 ||
			uint64(len(all)) > uint64(messages)+1000 {
			return nil, fmt.Errorf("upstream lists more messages than the %d it says it has", messages)
		}
		for uid := r.Start; ; uid++ {
			all = append(all, uint32(uid))
			if uid == r.Stop {
				break
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}
