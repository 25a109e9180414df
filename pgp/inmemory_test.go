package pgp_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// apart is a source that doesn't lie in memory in one piece.
type apart struct{ message.Source }

// What lies in memory is read another way than what doesn't.
func TestMemoryMakesNoDifference(t *testing.T) {
	alice := makeKey(t, "alice@example.org")
	pieces := []string{"a", " ", "\t", "\r\n", "\r\n", "\n", "\r", "\x00", "\xc3\xa4", "From ", "=20", "abcdefghijkl"}
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range 3000 {
		var mail bytes.Buffer
		fmt.Fprintf(&mail, "From: alice@example.org\r\nDate: Mon, 01 Jun 2026 10:00:00 +0200\r\nMessage-ID: <%d@example.org>\r\n\r\n", i)
		for range rnd.IntN(12) {
			piece := pieces[rnd.IntN(len(pieces))]
			for range 1 + rnd.IntN(2)*rnd.IntN(200) {
				mail.WriteString(piece)
			}
		}
		var got [2]bytes.Buffer
		for n, src := range []message.Source{message.Bytes(mail.Bytes()), apart{message.Bytes(mail.Bytes())}} {
			if err := pgp.Payload(context.Background(), &got[n], src, pgp.Protection{Signer: alice, From: addr(t, "alice@example.org"), Now: testNow}); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got[0].Bytes(), got[1].Bytes()) {
			t.Fatalf("of %q\nin memory %q\nelsewhere %q", mail.Bytes(), got[0].Bytes(), got[1].Bytes())
		}
	}
}

// Of a message that is known to be plain the bodies aren't read for what to do.
func TestPlainMakesNoDifference(t *testing.T) {
	bob := makeKey(t, "bob@example.net")
	pieces := []string{"a", " ", "\t", "\r\n", "\r\n", "From ", "=20", "--b\r\n", "\r\n--b\r\nContent-Type: application/x\r\n\r\n", "--b--\r\n",
		"\r\n--b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n", "\r\n--b\r\nContent-Transfer-Encoding: binary\r\n\r\n", "\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"}
	rnd := rand.New(rand.NewPCG(7, 8))
	for i := range 3000 {
		var mail bytes.Buffer
		fmt.Fprintf(&mail, "From: alice@example.org\r\nDate: Mon, 01 Jun 2026 10:00:00 +0200\r\nMessage-ID: <%d@example.org>\r\n", i)
		mail.WriteString("Content-Type: multipart/mixed; boundary=b\r\n\r\n")
		for range rnd.IntN(30) {
			mail.WriteString(pieces[rnd.IntN(len(pieces))])
		}
		mail.WriteString("\r\n")
		var got [2]bytes.Buffer
		for n := range got {
			if err := pgp.Payload(context.Background(), &got[n], message.Bytes(mail.Bytes()), pgp.Protection{Recipients: []*pgp.Certificate{bob.Certificate()},
				From: addr(t, "alice@example.org"), Now: testNow, Plain: n == 1}); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got[0].Bytes(), got[1].Bytes()) {
			t.Fatalf("of %q\nread %q\nplain %q", mail.Bytes(), got[0].Bytes(), got[1].Bytes())
		}
	}
}

// A key and a certificate serve many at one time and at different times, and
// what has expired meanwhile is not used.
func TestKeysServeManyAtOnce(t *testing.T) {
	alice, bob := makeKey(t, "alice@example.org"), makeKey(t, "bob@example.net")
	mail := message.Bytes([]byte("From: alice@example.org\r\n\r\nhi\r\n"))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 20 {
				now, late := testNow, (i+n)%3 == 0
				if late {
					now = testNow.Add(50 * 365 * 24 * time.Hour)
				}
				err := pgp.Protect(context.Background(), &bytes.Buffer{}, mail, pgp.Protection{Signer: alice, Autocrypt: alice.Certificate(),
					Recipients: []*pgp.Certificate{bob.Certificate()}, From: addr(t, "alice@example.org"), Now: now})
				if late != (err != nil) {
					t.Errorf("late %v: %v", late, err)
				}
			}
		})
	}
	all.Wait()
	alice.Wipe()
	if err := alice.CheckSign(testNow); err == nil {
		t.Error("a wiped key can sign")
	}
}
