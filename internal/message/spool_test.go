package message_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"letterlock.org/letterlock/internal/message"
)

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestSpoolKeepsWhatWasWritten(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{0, 1, 1000, 1<<20 - 1, 1 << 20, 1<<20 + 1, 3<<20 + 17} {
		want := randomBytes(r, size)
		s := message.NewSpool(message.SpoolOptions{Dir: t.TempDir()})
		for at := 0; at < size; {
			n := min(1+r.IntN(100_000), size-at)
			if k, err := s.Write(want[at : at+n]); k != n || err != nil {
				t.Fatal(k, err)
			}
			at += n
		}
		if s.Size() != int64(size) {
			t.Errorf("Size() = %d, want %d", s.Size(), size)
		}
		got, err := message.ReadAll(s, 1<<30)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes read back differ: %v", size, err)
		}
		for range 200 {
			off := r.IntN(size + 10)
			p := make([]byte, r.IntN(100_000))
			n, err := s.ReadAt(p, int64(off))
			wantN := max(min(len(p), size-off), 0)
			if n != wantN || (n < len(p)) != (err == io.EOF) {
				t.Fatalf("ReadAt(%d bytes, %d) of %d = %d, %v", len(p), off, size, n, err)
			}
			if n > 0 && !bytes.Equal(p[:n], want[off:off+n]) {
				t.Fatalf("ReadAt(%d, %d) differs", len(p), off)
			}
		}
		s.Close()
	}
}

func TestSpoolIsASource(t *testing.T) {
	s := message.NewSpool(message.SpoolOptions{Dir: t.TempDir(), Memory: 100})
	defer s.Close()
	want := bytes.Repeat([]byte("0123456789"), 50)
	if _, err := message.Copy(s, bytes.NewReader(want)); err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(message.Reader(s), want); err != nil {
		t.Error(err)
	}
}

func TestSpoolLimit(t *testing.T) {
	s := message.NewSpool(message.SpoolOptions{Dir: t.TempDir(), Memory: 10, Limit: 20})
	defer s.Close()
	if _, err := s.Write(make([]byte, 20)); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Write([]byte("x")); n != 0 || !errors.Is(err, message.ErrTooLarge) {
		t.Errorf("writing past the limit: %d, %v", n, err)
	}
	if _, err := message.Copy(s, strings.NewReader("x")); !errors.Is(err, message.ErrTooLarge) {
		t.Errorf("copying past the limit: %v", err)
	}
}

func TestSpoolLeavesNoNameAndNoPlaintext(t *testing.T) {
	dir := t.TempDir()
	s := message.NewSpool(message.SpoolOptions{Dir: dir, Memory: 1000})
	defer s.Close()
	marker := bytes.Repeat([]byte("canary-in-the-spool "), 20_000)
	if _, err := s.Write(marker); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) > 0 {
		t.Errorf("left in the directory: %v, %v", names, err)
	}
	on := openSpoolFile(t, dir)
	if len(on) < 300_000 {
		t.Fatalf("the file holds %d bytes only", len(on))
	}
	if bytes.Contains(on, []byte("canary")) {
		t.Error("plaintext in the spool file")
	}
}

// openSpoolFile reads our own unlinked file in dir through /proc.
func openSpoolFile(t *testing.T, dir string) []byte {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("needs /proc: ", err)
	}
	for _, fd := range fds {
		name := "/proc/self/fd/" + fd.Name()
		if to, err := os.Readlink(name); err == nil && strings.HasPrefix(to, dir) {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	t.Fatal("the spool has no file open")
	return nil
}

func TestSpoolClosed(t *testing.T) {
	for _, memory := range []int64{1, 100} {
		s := message.NewSpool(message.SpoolOptions{Dir: t.TempDir(), Memory: memory})
		if _, err := s.Write([]byte("secret")); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.ReadAt(make([]byte, 1), 0); !errors.Is(err, message.ErrClosed) {
			t.Errorf("reading after Close: %v", err)
		}
		if _, err := s.Write([]byte("x")); !errors.Is(err, message.ErrClosed) {
			t.Errorf("writing after Close: %v", err)
		}
	}
}

func TestSpoolReadsWhileItIsWritten(t *testing.T) {
	want := randomBytes(rand.New(rand.NewPCG(3, 4)), 2<<20)
	s := message.NewSpool(message.SpoolOptions{Dir: t.TempDir(), Memory: 100_000})
	defer s.Close()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 9))
			p := make([]byte, 5000)
			for s.Size() < int64(len(want)) {
				off := r.Int64N(s.Size() + 1)
				n, err := s.ReadAt(p, off)
				if err != nil && err != io.EOF || !bytes.Equal(p[:n], want[off:off+int64(n)]) {
					t.Errorf("ReadAt(%d) = %d, %v or differs", off, n, err)
					return
				}
			}
		})
	}
	if _, err := message.Copy(s, bytes.NewReader(want)); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

func TestSpoolDirectoryMissing(t *testing.T) {
	s := message.NewSpool(message.SpoolOptions{Dir: t.TempDir() + "/none", Memory: 1})
	defer s.Close()
	if n, err := s.Write([]byte("abc")); n != 0 || err == nil {
		t.Errorf("Write = %d, %v; want an error", n, err)
	}
}

func BenchmarkSpool(b *testing.B) {
	data := make([]byte, 50<<20)
	b.SetBytes(int64(len(data)))
	p := make([]byte, 64<<10)
	for b.Loop() {
		s := message.NewSpool(message.SpoolOptions{Dir: b.TempDir()})
		if _, err := message.Copy(s, bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
		for off := int64(0); off < s.Size(); off += int64(len(p)) {
			if _, err := s.ReadAt(p, off); err != nil {
				b.Fatal(err)
			}
		}
		s.Close()
	}
}
