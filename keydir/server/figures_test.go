package server_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/keydir/server"
)

// many is how many certificates the figures are taken with.
func many(b *testing.B) int {
	n, err := strconv.Atoi(os.Getenv("LETTERLOCK_CERTIFICATES"))
	if err != nil {
		n = 20_000
	}
	return n
}

func noise(i int) []byte {
	rnd := rand.New(rand.NewPCG(uint64(i), 1))
	b := make([]byte, 640)
	for j := range b {
		b[j] = byte(rnd.Uint32())
	}
	return b
}

// BenchmarkStart is the time from an opened store to the first answer, with as
// many certificates as LETTERLOCK_CERTIFICATES says. With LETTERLOCK_SERVE set to
// a file it then writes the hashes there and serves at 127.0.0.1:28083 until it
// is killed, for a load generator; with the certificate and key that LETTERLOCK_TLS
// names, "cert.pem,key.pem". LETTERLOCK_STORE keeps the store in that file, which
// another run then finds filled: the peak of memory is that of reading only there.
func BenchmarkStart(b *testing.B) {
	n := many(b)
	path := os.Getenv("LETTERLOCK_STORE")
	if path == "" {
		path = filepath.Join(b.TempDir(), "store.db")
	}
	if _, err := os.Stat(path); err != nil {
		fill(b, path, n)
	}
	for b.Loop() {
		start := time.Now()
		st, err := store.Open(path, [32]byte{1}, server.Schema)
		if err != nil {
			b.Fatal(err)
		}
		d := server.NewDirectory(st)
		r := get(handler(d), "GET", advanced+"hu/"+keydir.WKDHash("user7"))
		if r.StatusCode != 200 {
			b.Fatal(r.Status)
		}
		b.Logf("first answer after %v", time.Since(start))
		logMemory(b, n)
		if out := os.Getenv("LETTERLOCK_SERVE"); out != "" {
			serveFigures(b, d, n, out)
		}
		d.Close()
		st.Close()
	}
	b.ReportMetric(float64(n), "certificates")
}

func fill(b *testing.B, path string, n int) {
	st, err := store.Open(path, [32]byte{1}, server.Schema)
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	filled := server.NewDirectory(st)
	if err := filled.Fill(ctx, n, "example.org", noise); err != nil {
		b.Fatal(err)
	}
	filled.Close()
	b.Logf("written: %.0f rows/s", float64(n)/time.Since(start).Seconds())
	st.Close()
	runtime.GC()
}

// logMemory tells what the process has and had in memory, beside the certificates
// alone, where the system says so.
func logMemory(b *testing.B, n int) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return
	}
	raw := float64(n * len(noise(0)))
	for line := range strings.Lines(string(status)) {
		name, v, _ := strings.Cut(line, ":")
		if kB, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB"))); err == nil && (name == "VmHWM" || name == "VmRSS") {
			b.Logf("%s: %d MB, %.2f of the certificates", name, kB>>10, float64(kB)*1024/raw)
		}
	}
}

func serveFigures(b *testing.B, d *server.Directory, n int, out string) {
	f, err := os.Create(out)
	if err != nil {
		b.Fatal(err)
	}
	list := bufio.NewWriter(f) // not in memory, which is a figure here
	for i := range n {
		fmt.Fprintln(list, keydir.WKDHash(fmt.Sprintf("user%d", i)))
	}
	if err := errors.Join(list.Flush(), f.Close()); err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:28083")
	if err != nil {
		b.Fatal(err)
	}
	if cert, key, ok := strings.Cut(os.Getenv("LETTERLOCK_TLS"), ","); ok {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			b.Fatal(err)
		}
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}})
	}
	runtime.GC()
	logMemory(b, n)
	b.Log(handler(d).Serve(ctx, l, nil, time.Second))
}

// BenchmarkGet is one look-up on a kept connection.
func BenchmarkGet(b *testing.B) {
	d, _ := directory(b)
	add(b, d, "joe.doe@example.org")
	c, err := net.Dial("tcp", serving(b, handler(d), nil))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	b.ReportAllocs()
	for b.Loop() {
		fmt.Fprintf(c, "GET /.well-known/openpgpkey/example.org/hu/%s HTTP/1.1\r\nHost: h\r\n\r\n", joe)
		length := 0
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				b.Fatal(err)
			}
			if v, ok := strings.CutPrefix(line, "Content-Length: "); ok {
				length, _ = strconv.Atoi(strings.TrimSpace(v))
			}
			if line == "\r\n" {
				break
			}
		}
		if _, err := r.Discard(length); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkImport publishes a folder of certificates, a tenth of the number of
// BenchmarkStart.
func BenchmarkImport(b *testing.B) {
	n := many(b) / 10
	dir := b.TempDir()
	for i := range n {
		c := cert(b, fmt.Sprintf("user%d@example.org", i))
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i, ".pgp")), c.Bytes(), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		st, err := store.Open(filepath.Join(b.TempDir(), "store.db"), [32]byte{1}, server.Schema)
		if err != nil {
			b.Fatal(err)
		}
		d := reopened(st)
		added, skipped, err := d.Import(ctx, dir, "example.org")
		if err != nil || len(added) != n {
			b.Fatal(len(added), skipped, err)
		}
		d.Close()
		st.Close()
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "certificates/s")
}
