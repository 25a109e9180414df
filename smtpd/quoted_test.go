package smtpd_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"letterlock.org/letterlock/smtpd"
)

func TestQuotesHeader(t *testing.T) {
	pieces := []string{"message", "Message", "-", "--", "ID", "id", "i", "letterlock", "LetterLock", "status", "STATUS", "statu", "e", " ", "\n", "a"}
	rnd := rand.New(rand.NewPCG(1, 3))
	for range 100_000 {
		var b strings.Builder
		for range rnd.IntN(8) {
			b.WriteString(pieces[rnd.IntN(len(pieces))])
		}
		low := strings.ToLower(b.String())
		if got, want := smtpd.QuotesHeader([]byte(b.String())), strings.Contains(low, "message-id") || strings.Contains(low, "letterlock-status"); got != want {
			t.Fatalf("%q: got %v", b.String(), got)
		}
	}
}
