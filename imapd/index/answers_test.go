package index_test

import (
	"runtime"
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/internal/message"
)

// TestManySendersAndSubjects: a header may name thousands of both, and not each of
// one is put to each of the other.
func TestManySendersAndSubjects(t *testing.T) {
	head := "From: " + strings.Repeat("a@b.example, ", 9000) + "a@b.example\r\n" + strings.Repeat("Subject: ...\r\n", 1000) + "Subject: Dinner\r\n\r\n"
	m, err := render.New(message.Bytes([]byte(head)), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ids, err := index.RepliedTo(m)
	runtime.ReadMemStats(&after)
	if err != nil || len(ids) == 0 || len(ids) > 8 || ids[0] != "letter:a@b.example dinner" {
		t.Errorf("got %q, %v", ids, err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > uint64(2000*len(head)) {
		t.Errorf("a header of %d bytes took %d", len(head), n)
	}
}
