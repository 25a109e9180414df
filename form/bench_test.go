package form_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"letterlock.org/letterlock/form"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// withAttachment is a letter with an attachment of so many bytes.
func withAttachment(n int) string {
	line := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("CANARY-attached", 4)[:57])) + "\r\n"
	return strings.Replace(letter, "Q0FOQVJZLWRhdGE=\r\n", strings.Repeat(line, n/57+1), 1)
}

func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{10 << 10, 10 << 20} {
		for _, noOpenPGP := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d KB, without OpenPGP %v", size>>10, noOpenPGP), func(b *testing.B) {
				src, password := message.Bytes([]byte(withAttachment(size))), form.NewPassword()
				b.ReportAllocs()
				var n counter
				for b.Loop() {
					n = 0
					if err := form.Write(context.Background(), &n, src, form.Options{Password: password, NoOpenPGP: noOpenPGP}); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(n)/float64(src.Size()), "mail/message")
			})
		}
	}
}

type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

// watcher looks around at each write: how much memory is in use, and what lies
// in the temporary files that the process has open.
type watcher struct {
	t    *testing.T
	dir  string
	n    int
	heap uint64
	seen int // files
}

func (w *watcher) Write(p []byte) (int, error) {
	if w.n++; w.n%1000 == 1 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		w.heap = max(w.heap, m.HeapAlloc)
		w.files()
	}
	return len(p), nil
}

func (w *watcher) files() {
	open, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		w.t.Error(err)
	}
	for _, f := range open {
		if to, err := os.Readlink(f); err != nil || !strings.HasPrefix(to, w.dir) {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			w.t.Error(err)
		}
		if w.seen++; strings.Contains(string(b), "CANARY") || strings.Contains(string(b), "figures") {
			w.t.Error("a temporary file has content in clear")
		}
	}
}

func TestALargeMessageNeedsLittleMemoryAndLeavesNothingInClear(t *testing.T) {
	dir := t.TempDir()
	w := &watcher{t: t, dir: dir}
	spool := message.SpoolOptions{Dir: dir, Memory: 64 << 10}
	src := message.NewSpool(message.SpoolOptions{Memory: 1}) // so that it doesn't count
	defer src.Close()
	if _, err := io.WriteString(src, withAttachment(16<<20)); err != nil {
		t.Fatal(err)
	}
	err := form.Write(context.Background(), w, src, form.Options{Password: form.NewPassword(), Protection: pgp.Protection{Spool: spool}})
	if err != nil {
		t.Fatal(err)
	}
	// Two chunks, and the 64 MiB of Argon2 where they are not yet collected.
	if w.heap > 90<<20 {
		t.Errorf("%d MiB of heap for a message of %d MiB", w.heap>>20, src.Size()>>20)
	}
	if _, err := os.Stat("/proc/self/fd"); err == nil && w.seen == 0 {
		t.Error("no temporary file was seen: this test can't fail")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	t.Logf("heap at most %d MiB", w.heap>>20)
}
