package index_test

import (
	"context"
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd/index"
)

// TestHostileHeaders: what a sender writes into a header costs a bounded amount of
// memory for as long as the message is there.
func TestHostileHeaders(t *testing.T) {
	f := newFixture(t)
	m := f.mailbox("INBOX", 1)
	const from = "From: Alice <alice@example.test>\r\n"
	for uid, header := range []string{
		1: from + strings.Repeat("Letterlock-A: b\r\n", 50_000) + "\r\n",
		2: from + "Autocrypt: addr=alice@example.test; keydata=" + strings.Repeat("A", 200_000) + "\r\n\r\n",
		3: from + strings.Repeat("Autocrypt: addr=alice@example.test; keydata=AAAA\r\n", 5000) + "\r\n",
		4: from + "Autocrypt: addr=alice@example.test; keydata=" + strings.Repeat("A", 20_000) + "\r\n\r\n",
	} {
		if header == "" {
			continue
		}
		if err := m.Classify(context.Background(), []index.Classification{{UID: uint32(uid), Header: []byte(header), Prefix: []byte("text")}}); err != nil {
			t.Fatal(err)
		}
	}
	if masks, _ := m.Masks(1); len(masks.Ranges) != index.MaxRanges || masks.Header != int64(len(from)+50_000*17+2) {
		t.Errorf("%d ranges are kept of a header of %d bytes", len(masks.Ranges), masks.Header)
	}
	f.lib.Close() // waits until all is told
	if len(f.seen) != 1 || len(f.seen[0].Autocrypt) != 1 || len(f.seen[0].Autocrypt[0]) < 20_000 {
		t.Errorf("%d certificates are looked at, want that of the fourth only", len(f.seen))
	}
}
