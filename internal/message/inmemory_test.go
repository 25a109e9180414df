package message_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/message"
)

// apart is a source that doesn't lie in memory in one piece.
type apart struct{ message.Source }

// What lies in memory is parsed another way than what doesn't.
func TestParseIsTheSameInMemory(t *testing.T) {
	pieces := []string{"Subject: x\r\n", "Content-Type: multipart/mixed; boundary=b\r\n", "Content-Type: multipart/mixed; boundary=c\n",
		"Content-Type: message/rfc822\r\n", "\r\n", "\r\n", "\n", "\r", "--b\r\n", "--b--\r\n", "--c\n", "--c--", "text", "text\r\n", "\r\n\r\n", "x: y\n\n"}
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 30_000 {
		var mail strings.Builder
		for range rnd.IntN(20) {
			mail.WriteString(pieces[rnd.IntN(len(pieces))])
		}
		src := message.Bytes([]byte(mail.String()))
		want, err := message.Parse(apart{src}, message.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := message.Parse(src, message.Limits{})
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: %v\nin memory %+v\nelsewhere %+v", mail.String(), err, got, want)
		}
	}
}

func TestInMemory(t *testing.T) {
	text := bytes.Repeat([]byte("0123456789"), 10)
	short, long := message.NewSpool(message.SpoolOptions{}), message.NewSpool(message.SpoolOptions{Memory: 10, Dir: t.TempDir()})
	closed := message.NewSpool(message.SpoolOptions{})
	for _, s := range []*message.Spool{short, long, closed} {
		if _, err := s.Write(text); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	closed.Close()
	tests := []struct {
		name     string
		src      message.Source
		off, end int64
		done     bool
		err      error
	}{
		{"bytes", message.Bytes(text), 3, 50, true, nil},
		{"a short spool", short, 3, 50, true, nil},
		{"nothing of one", short, 100, 100, true, nil},
		{"a section of one", message.Section(short, 20, 60), 3, 50, true, nil},
		{"behind the end of a section", message.Section(short, 20, 60), 3, 61, true, io.ErrUnexpectedEOF},
		{"behind the end", message.Bytes(text), 3, 101, true, io.ErrUnexpectedEOF},
		{"before the beginning", message.Section(short, 20, 60), -1, 10, true, io.ErrUnexpectedEOF},
		{"a spool with a file", long, 3, 50, false, nil},
		{"a spool that is closed", closed, 3, 50, false, nil},
		{"pieces", message.Concat(short, message.Bytes(text)), 3, 50, false, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			called := false
			done, err := message.InMemory(tt.src, tt.off, tt.end, func(b []byte) error {
				called = true
				want := make([]byte, tt.end-tt.off)
				if _, err := tt.src.ReadAt(want, tt.off); err != nil && err != io.EOF || !bytes.Equal(b, want) {
					t.Errorf("got %q, want %q (%v)", b, want, err)
				}
				return nil
			})
			if done != tt.done || err != tt.err || called != (tt.done && tt.err == nil) {
				t.Errorf("got %v, %v, called %v", done, err, called)
			}
		})
	}
}
