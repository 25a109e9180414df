package render_test

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/internal/message"
)

// agree checks that structure, sizes and sections of a message say one thing.
func agree(t *testing.T, raw []byte) {
	t.Helper()
	m, err := render.New(message.Bytes(raw), message.Limits{})
	if err != nil {
		return // over a limit
	}
	if m.Size() != int64(len(raw)) {
		t.Errorf("size %d of %d bytes", m.Size(), len(raw))
	}
	all := section(t, m, wire.Section{})
	if !bytes.Equal(all, raw) {
		t.Error("BODY[] is not the message")
	}
	if got := append(section(t, m, wire.Section{Kind: "HEADER"}), section(t, m, wire.Section{Kind: "TEXT"})...); !bytes.Equal(got, raw) {
		t.Error("HEADER and TEXT together are not the message")
	}
	if len(parse(t, m.Envelope()).([]any)) != 10 {
		t.Errorf("envelope %s has not 10 elements", m.Envelope())
	}
	parse(t, m.Body())
	checkStructure(t, m, parse(t, m.BodyStructure()).([]any), nil)
}

// checkStructure compares what a structure says of each part with the part.
func checkStructure(t *testing.T, m *render.Message, list []any, number []int) {
	t.Helper()
	if _, multi := list[0].([]any); multi {
		for i, child := range list {
			c, ok := child.([]any)
			if !ok {
				break
			}
			checkStructure(t, m, c, append(number[:len(number):len(number)], i+1))
		}
		return
	}
	if len(number) == 0 {
		number = []int{1}
	}
	body := section(t, m, wire.Section{Part: number})
	if want := list[6].(string); strconv.Itoa(len(body)) != want {
		t.Errorf("part %v has %d bytes, its structure says %s", number, len(body), want)
	}
	lines := -1
	switch {
	case list[0] == "text" && len(list) > 7:
		lines = 7
	case list[0] == "message" && list[1] == "rfc822":
		lines = 9
		inner := append(section(t, m, wire.Section{Part: number, Kind: "HEADER"}), section(t, m, wire.Section{Part: number, Kind: "TEXT"})...)
		if !bytes.Equal(inner, body) {
			t.Errorf("part %v: HEADER and TEXT of the message inside are not its body", number)
		}
		in := list[8].([]any)
		if _, multi := in[0].([]any); multi {
			checkStructure(t, m, in, number)
		} else {
			checkStructure(t, m, in, append(number[:len(number):len(number)], 1))
		}
	}
	if lines > 0 && strconv.Itoa(bytes.Count(body, []byte("\n"))) != list[lines] {
		t.Errorf("part %v has %d lines, its structure says %s", number, bytes.Count(body, []byte("\n")), list[lines])
	}
}

func section(t *testing.T, m *render.Message, s wire.Section) []byte {
	t.Helper()
	src, _ := m.Section(s)
	b, err := message.ReadAll(src, 100<<20)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestStructureAgreesWithTheBytes(t *testing.T) {
	for name, raw := range nasties() {
		t.Run(name, func(t *testing.T) { agree(t, raw) })
	}
	for name, raw := range corpusMessages(t) {
		t.Run(name, func(t *testing.T) { agree(t, raw) })
	}
}

// TestMutatedMessagesAgree cuts, repeats and mixes the nasty ones.
func TestMutatedMessagesAgree(t *testing.T) {
	var seeds [][]byte
	for _, raw := range nasties() {
		seeds = append(seeds, raw)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		a, b := seeds[r.IntN(len(seeds))], seeds[r.IntN(len(seeds))]
		x := append(bytes.Clone(a[:r.IntN(len(a)+1)]), b[r.IntN(len(b)+1):]...)
		agree(t, x)
		if t.Failed() {
			t.Fatalf("%q", x)
		}
	}
}

func FuzzRender(f *testing.F) {
	for _, raw := range nasties() {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) { agree(t, raw) })
}

func TestPartial(t *testing.T) {
	src := message.Bytes([]byte("0123456789"))
	for _, tt := range []struct {
		name          string
		offset, count int64
		want          string
	}{
		{"from the beginning", 0, 4, "0123"},
		{"in the middle", 3, 2, "34"},
		{"over the end", 8, 10, "89"},
		{"at the end", 10, 1, ""},
		{"beyond the end", 1 << 40, 1, ""},
		{"nothing", 0, 0, ""},
		{"more than there can be", 1, 1<<63 - 1, "123456789"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := message.ReadAll(render.Partial(src, tt.offset, tt.count), 100)
			if err != nil || string(b) != tt.want {
				t.Errorf("<%d.%d> = %q, %v, want %q", tt.offset, tt.count, b, err, tt.want)
			}
		})
	}
}

func TestImitationsAreMaskedInPlace(t *testing.T) {
	for _, tt := range []struct{ name, header, want string }{
		{"nothing of ours", "Subject: x\r\nFrom: a\r\n\r\n", "Subject: x\r\nFrom: a\r\n\r\n"},
		{"the first field", "Letterlock-Status: x\r\n\r\n", "XXXXXXXXXX-Status: x\r\n\r\n"},
		{"in another case, space before the colon", "A: b\r\nLETTERLOCK-status : x\r\n\r\n", "A: b\r\nXXXXXXXXXX-status : x\r\n\r\n"},
		{"folded", "A: b\r\nLetterlock-Status:\r\n x\r\n\r\n", "A: b\r\nXXXXXXXXXX-Status:\r\n x\r\n\r\n"},
		{"behind a bare CR", "A: b\rLetterlock-Status: x\r\n\r\n", "A: b\rXXXXXXXXXX-Status: x\r\n\r\n"},
		{"behind a bare LF", "A: b\nLetterlock-Status: x\r\n\r\n", "A: b\nXXXXXXXXXX-Status: x\r\n\r\n"},
		{"behind NUL, VT and FF", "A: b\x00letterlock-a: x\vletterlock-b: x\fletterlock-c: x\r\n", "A: b\x00XXXXXXXXXX-a: x\vXXXXXXXXXX-b: x\fXXXXXXXXXX-c: x\r\n"},
		{"twice", "Letterlock-A: x\r\nletterlock-b: y\r\n", "XXXXXXXXXX-A: x\r\nXXXXXXXXXX-b: y\r\n"},
		{"a continuation line may say it", "Subject: on\r\n Letterlock-Status: x\r\n\r\n", "Subject: on\r\n Letterlock-Status: x\r\n\r\n"},
		{"so may a value", "Subject: Letterlock-Status: x\r\n\r\n", "Subject: Letterlock-Status: x\r\n\r\n"},
		{"another name that begins alike", "Letterlocking: x\r\n\r\n", "Letterlocking: x\r\n\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ranges := render.Imitations([]byte(tt.header))
			b := []byte(tt.header)
			render.Mask(b, 0, ranges)
			if string(b) != tt.want {
				t.Errorf("masked %q, want %q", b, tt.want)
			}
			// Any chunk that a client may fetch is masked alike.
			for from := range tt.header {
				for to := from; to <= len(tt.header); to++ {
					chunk := []byte(tt.header[from:to])
					render.Mask(chunk, int64(from), ranges)
					if string(chunk) != tt.want[from:to] {
						t.Fatalf("chunk %d:%d masked %q, want %q", from, to, chunk, tt.want[from:to])
					}
				}
			}
		})
	}
}

// TestHostileAddressesCostLittle reads a field of a megabyte that is made to
// hurt.
func TestHostileAddressesCostLittle(t *testing.T) {
	for _, piece := range []string{"a,", "(", "<", "\"", "a:", "@", "((((", "\\", "[", "a <b@c>, "} {
		got := render.ParseAddresses(strings.Repeat(piece, 1<<20/len(piece)))
		if len(got) > 10001 {
			t.Errorf("%q gives %d addresses", piece, len(got))
		}
	}
}
