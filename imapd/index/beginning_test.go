package index_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// FuzzReadBeginning: whatever is told by a beginning is what the whole message
// tells, however much of it came.
func FuzzReadBeginning(f *testing.F) {
	f.Add([]byte("Content-Type: multipart/encrypted\r\n\r\nx"), 5)
	f.Add([]byte("Subject: x\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n"), 20)
	f.Add([]byte("Subject: x\r\n\r\n"+strings.Repeat(" ", 490)+"-----BEGIN PGP MESSAGE-----\r\n"), 520)
	f.Add([]byte("A: x\rLetterlock-Status: y\r\n\r\n"), 30)
	f.Add([]byte("no header at all"), 16)
	f.Add([]byte("Content-Transfer-Encoding: quoted-printable\r\n\r\n=2D----BEGIN PGP MESSAGE-----\r\n"), 60)
	f.Add([]byte("Content-Transfer-Encoding: base64\r\n\r\nLS0tLS1CRUdJTiBQR1AgTUVTU0FHRS0tLS0tCg==\r\n"), 60)
	f.Add([]byte("content-type: text/plain\r\nCONTENT-TYPE: text/html\r\n\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\n"), 80)
	f.Add([]byte("Content-Type: multipart/encrypted;\r\n boundary=x\r\nLetterlock-Status: x\r\nAutocrypt: y\r\n\r\n"), 80)
	f.Add([]byte("X-MS-Has-Attach: yes\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: application/pgp-encrypted\r\n"), 100)
	f.Fuzz(func(t *testing.T, raw []byte, n int) {
		n = min(max(n, 0), len(raw))
		root, text, ok := index.ReadBeginning(raw[:n], n == len(raw))
		if !ok {
			if n == len(raw) {
				t.Fatal("a whole message doesn't suffice")
			}
			return
		}
		head := message.ParseHeader(raw).Raw
		body := raw[len(head):]
		want := pgp.Class(pgp.Plain)
		if m, err := message.Parse(message.Bytes(raw), message.Limits{}); err != nil {
			return // over a limit
		} else if want, err = pgp.ClassOf(m, message.Bytes(raw)); err != nil {
			t.Fatal(err)
		}
		if got := root.Classified(1, text).Class; got != want {
			t.Errorf("the first %d bytes tell %v, the message %v", n, got, want)
		}
		if got, want := root.Masks().Ranges, render.Imitations(head); !slices.Equal(got, want) {
			t.Errorf("the first %d bytes tell of imitations at %v, the header has them at %v", n, got, want)
		}
		if root.Masks().Header != int64(len(head)) || !bytes.HasPrefix(body, text) {
			t.Errorf("a header of %d bytes, want %d; text %q", root.Masks().Header, len(head), text)
		}
	})
}

func TestBeginningFollowsTheMail(t *testing.T) {
	f := newFixture(t)
	m := f.mailbox("INBOX", 1)
	next := uint32(1)
	see := func(n, header int) {
		t.Helper()
		var some []index.Classification
		for range n {
			some = append(some, index.Classification{UID: next, Header: []byte("Content-Type: text/html\r\nX: " + strings.Repeat("x", header) + "\r\n\r\n")})
			next++
		}
		if err := m.Classify(context.Background(), some); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name      string
		n, header int
		bytes     int
		known     bool
	}{
		{"nothing is known at first", 0, 0, 0, false},
		{"nor after a few", 15, 100, 0, false},
		{"short headers", 50, 100, 512, true},
		{"one longer doesn't change that", 1, 1500, 512, true},
		{"many longer ones do", 30, 1500, 2 << 10, true},
		{"headers that no beginning holds", 250, 9000, 0, true},
		{"what was long ago doesn't count", 256, 3000, 4 << 10, true},
	} {
		see(tt.n, tt.header)
		if n, known := m.Beginning(); n != tt.bytes || known != tt.known {
			t.Errorf("%s: %d, %v; want %d, %v", tt.name, n, known, tt.bytes, tt.known)
		}
	}
}
