package render_test

import (
	"runtime"
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/internal/message"
)

// TestAddressesCostWhatTheyAreLong: nothing is copied again for each piece that follows.
func TestAddressesCostWhatTheyAreLong(t *testing.T) {
	const size = 64 << 10
	for _, piece := range []string{"@a,", "(", "(a)", "\"", "\"a\"", "<", "<a", "a<", "a:", ":", "a:;", "@", "a@", "a.", ",", "a,", ";", "[", "[]", "\\", "a ", ">", "<>", "<@a:", "<@a,"} {
		for _, before := range []string{"", "<", "a:", "\"", "("} {
			h := message.ParseHeader([]byte("From: " + before + strings.Repeat(piece, size/len(piece)) + ":x@y>\r\n\r\n"))
			var was, is runtime.MemStats
			runtime.ReadMemStats(&was)
			render.Envelope(h)
			runtime.ReadMemStats(&is)
			if n := is.TotalAlloc - was.TotalAlloc; n > 512*size {
				t.Errorf("%s, then %q again and again, took %d times its length", before, piece, n/size)
			}
		}
	}
}
