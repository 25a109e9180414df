package pgp_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

func TestSubjectStandsOutsideOnlyWhereAsked(t *testing.T) {
	k := makeKey(t, "alice@example.org")
	src := message.Bytes([]byte("From: alice@example.org\r\nTo: bob@example.net\r\nSubject: a long and\r\n folded subject\r\nComments: more\r\n\r\ntext\r\n"))
	for _, outside := range []bool{false, true} {
		var out bytes.Buffer
		err := pgp.Protect(context.Background(), &out, src, pgp.Protection{Signer: k, Recipients: []*pgp.Certificate{k.Certificate()}, SubjectOutside: outside})
		if err != nil {
			t.Fatal(err)
		}
		head, _, _ := strings.Cut(out.String(), "\r\n\r\n")
		if got := strings.Contains(head, "Subject: a long and\r\n folded subject\r\n"); got != outside || strings.Contains(head, "[...]") == outside || strings.Contains(head, "more") {
			t.Errorf("asked for it: %v; the outer header is\n%s", outside, head)
		}
	}
}
