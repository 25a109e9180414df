package pgp_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// diskSource is a message on disk, so that measuring Open's memory does not
// count the test's.
type diskSource struct {
	*os.File
	size int64
}

func (d diskSource) Size() int64 { return d.size }

// bigMail writes a signed and encrypted mail of that many bytes inside to disk.
func bigMail(t testing.TB, c *couple, size int) diskSource {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "mail"))
	must(t, err)
	t.Cleanup(func() { f.Close() })
	out := bufio.NewWriterSize(f, 1<<20)
	head, tail, _ := strings.Cut(mime(outside, nil), "-----BEGIN PGP MESSAGE-----\r\n\r\n")
	_, end, _ := strings.Cut(tail, "-----END")
	io.WriteString(out, head+"-----BEGIN PGP MESSAGE-----\r\n\r\n")
	enc := base64.NewEncoder(base64.StdEncoding, &lineBreaker{w: out})
	w, err := openpgp.EncryptWithParams(enc, []*openpgp.Entity{engineOf(t, c.bob)}, nil,
		&openpgp.EncryptParams{Signers: []*openpgp.Entity{engineOf(t, c.alice)}, Config: at(testNow)})
	must(t, err)
	_, err = io.WriteString(w, payloadOf("From: alice@example.org\r\nSubject: big\r\n"))
	must(t, err)
	line := []byte(strings.Repeat("0123456789abcdef", 4) + "\r\n")
	for n := 0; n < size; n += len(line) {
		_, err = w.Write(line)
		must(t, err)
	}
	must(t, w.Close())
	must(t, enc.Close())
	io.WriteString(out, "\r\n-----END"+end)
	must(t, out.Flush())
	n, err := f.Seek(0, io.SeekEnd)
	must(t, err)
	return diskSource{f, n}
}

// lineBreaker breaks lines after 64 bytes.
type lineBreaker struct {
	w io.Writer
	n int
}

func (l *lineBreaker) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		k := min(64-l.n, len(p))
		if _, err := l.w.Write(p[:k]); err != nil {
			return 0, err
		}
		if l.n += k; l.n == 64 {
			io.WriteString(l.w, "\r\n")
			l.n = 0
		}
		p = p[k:]
	}
	return total, nil
}

// peakHeap samples the heap in use while f runs and gives its growth in bytes.
func peakHeap(f func()) uint64 {
	runtime.GC()
	var before, m runtime.MemStats
	runtime.ReadMemStats(&before)
	peak, stop, done := before.HeapInuse, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapInuse)
			}
		}
	}()
	f()
	close(stop)
	<-done
	return peak - before.HeapInuse
}

func TestOpenBigInLittleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	c := newCouple(t)
	src := bigMail(t, c, bigMessage)
	o := c.opening()
	o.Spool.Dir = t.TempDir()
	var got *pgp.Opened
	var err error
	start := time.Now()
	grown := peakHeap(func() { got, err = pgp.Open(context.Background(), src, o) })
	must(t, err)
	defer got.Rendering.Close()
	t.Logf("%d MB in %s, heap grew by %d KiB", src.size>>20, time.Since(start), grown>>10)
	if summary(got) != "encrypted valid" || got.Rendering.Size() < bigMessage {
		t.Errorf("got %q of %d bytes (%s)", summary(got), got.Rendering.Size(), got.Reason)
	}
	if grown > min(24<<20, bigMessage*3/4) {
		t.Errorf("the heap grew by %d MiB, want at most %d", grown>>20, min(24, bigMessage*3/4>>20))
	}
}

func benchmarkOpen(b *testing.B, size int) {
	c := newCouple(b)
	src := bigMail(b, c, size)
	text, err := io.ReadAll(message.Reader(src))
	must(b, err)
	o := c.opening()
	o.Spool.Dir = b.TempDir()
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		got, err := pgp.Open(context.Background(), message.Bytes(text), o)
		if err != nil || got.Class != pgp.Encrypted {
			b.Fatal(fmt.Sprint(err, got))
		}
		got.Rendering.Close()
	}
}

func BenchmarkOpen10K(b *testing.B)  { benchmarkOpen(b, 10<<10) }
func BenchmarkOpen10MB(b *testing.B) { benchmarkOpen(b, 10<<20) }
