package message_test

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/message"
)

// A message in pieces has the structure that it has as a whole.
func TestParserInPieces(t *testing.T) {
	pieces := []string{"Subject: x\r\n", "Content-Type: multipart/mixed; boundary=b\r\n", "Content-Type: multipart/mixed; boundary=\"b--\"\n",
		"Content-Type: message/rfc822\r\n", "\r\n", "\r\n", "\n", "\r", "--b\r\n", "--b--\r\n", "--b----\n", "--b", "text", "text\r\n", "\r\n\r\n", "x: y\n\n",
		strings.Repeat("long", 20_000), "Content-Type: text/html;\r\n charset=x\r\n"}
	rnd := rand.New(rand.NewPCG(9, 10))
	for i := range 20_000 {
		var text strings.Builder
		for range rnd.IntN(20) {
			if n := rnd.IntN(len(pieces)); i%20 == 0 || len(pieces[n]) < 1000 {
				text.WriteString(pieces[n])
			}
		}
		mail, limits := text.String(), message.Limits{Parts: 6, Depth: 3}
		want, wantErr := message.Parse(apart{message.Bytes([]byte(mail))}, limits)
		p := message.NewParser(limits)
		for rest, most := []byte(mail), 1+rnd.IntN(1<<(1+rnd.IntN(17))); len(rest) > 0; {
			n := min(len(rest), 1+rnd.IntN(most))
			piece := append([]byte(nil), rest[:n]...)
			p.Write(piece)
			clear(piece) // it is not kept
			rest = rest[n:]
		}
		got, err := p.End()
		if errors.Is(err, message.ErrLimit) != errors.Is(wantErr, message.ErrLimit) || wantErr == nil && !reflect.DeepEqual(got, want) {
			t.Fatalf("%.3000q\nin pieces %+v, %v\nwhole %+v, %v", mail, got, err, want, wantErr)
		}
	}
}

func FuzzParser(f *testing.F) {
	f.Add("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b--\r\n", 30)
	f.Fuzz(func(t *testing.T, mail string, at int) {
		want, wantErr := message.Parse(apart{message.Bytes([]byte(mail))}, message.Limits{})
		p := message.NewParser(message.Limits{})
		at = max(0, min(at, len(mail)))
		p.Write([]byte(mail[:at]))
		p.Write([]byte(mail[at:]))
		if got, err := p.End(); (err == nil) != (wantErr == nil) || err == nil && !reflect.DeepEqual(got, want) {
			t.Fatalf("in pieces %+v, %v\nwhole %+v, %v", got, err, want, wantErr)
		}
	})
}
