package server_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/keydir"
)

// BenchmarkPaced asks at a fixed rate, whatever the server does: each request has
// its time on a schedule, and its latency counts from that time, so that one
// which had to wait for another's answer on its connection is late too
// (coordinated omission). Of a server of its own it first finds out the highest
// rate, without pace, and then asks at half of it.
//
// With LETTERLOCK_LOAD, a base URL, it asks another process, such as the one that
// BenchmarkStart leaves running: for the hashes of the file LETTERLOCK_HASHES, at
// LETTERLOCK_RATE requests a second (half of what it can itself, if that is not
// given), for LETTERLOCK_SECONDS (2), on LETTERLOCK_CONNECTIONS (64).
func BenchmarkPaced(b *testing.B) {
	l := load{domain: "example.org", connections: number(b, "LETTERLOCK_CONNECTIONS", 64),
		span: time.Duration(number(b, "LETTERLOCK_SECONDS", 2)) * time.Second}
	if base := os.Getenv("LETTERLOCK_LOAD"); base != "" {
		u, err := url.Parse(base)
		if err != nil {
			b.Fatal(err)
		}
		l.addr, l.tls = u.Host, u.Scheme == "https"
		raw, err := os.ReadFile(os.Getenv("LETTERLOCK_HASHES"))
		if err != nil {
			b.Fatal(err)
		}
		l.hashes = bytes.Fields(raw)
	} else {
		d, _ := directory(b)
		if err := d.Fill(ctx, many(b), l.domain, noise); err != nil {
			b.Fatal(err)
		}
		for i := range many(b) {
			l.hashes = append(l.hashes, []byte(keydir.WKDHash(fmt.Sprintf("user%d", i))))
		}
		l.addr = serving(b, handler(d), nil)
	}
	l.rate = number(b, "LETTERLOCK_RATE", 0)
	if l.rate == 0 {
		free := l
		free.span = time.Second
		l.rate = int(float64(free.run(b).count)/free.span.Seconds()) / 2
	}
	for b.Loop() {
		f := l.run(b)
		b.ReportMetric(float64(l.rate), "asked/s")
		b.ReportMetric(float64(f.count)/l.span.Seconds(), "answered/s")
		for name, share := range map[string]float64{"p50-ms": 0.5, "p99-ms": 0.99, "p99.9-ms": 0.999} {
			b.ReportMetric(f.latency(share), name)
		}
		b.ReportMetric(f.own, "client-late-p99-ms")
	}
}

func number(b *testing.B, name string, otherwise int) int {
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		b.Fatalf("%s: %q is no number", name, v)
	}
	return n
}

// load is what is asked, where and how fast.
type load struct {
	addr, domain string
	tls          bool
	hashes       [][]byte
	connections  int
	rate         int // requests a second in all; 0: as fast as they are answered
	span         time.Duration
}

// figures are latencies in microseconds, sorted, and by how much the client
// itself was late where it waited for nothing but its schedule.
type figures struct {
	count   int
	answers []uint32
	own     float64 // ms, 99 of 100
}

func (f figures) latency(share float64) float64 {
	return percentile(f.answers, share)
}

func percentile(sorted []uint32, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]) / 1000
}

func (l load) run(t testing.TB) figures {
	t.Helper()
	var mu sync.Mutex // guards f and late
	var f figures
	var late []uint32
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	begin := time.Now().Add(50 * time.Millisecond)
	for i := range l.connections {
		all.Go(func() {
			answers, own, err := l.connection(i, begin)
			if err != nil {
				failed.Store(&err)
			}
			mu.Lock()
			defer mu.Unlock()
			f.answers, late = append(f.answers, answers...), append(late, own...)
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		t.Fatal(*err)
	}
	slices.Sort(f.answers)
	slices.Sort(late)
	f.count, f.own = len(f.answers), percentile(late, 0.99)
	return f
}

// connection is one of them; its requests are evenly between those of the others.
func (l load) connection(i int, begin time.Time) (answers, late []uint32, err error) {
	c, err := net.Dial("tcp", l.addr)
	if err != nil {
		return nil, nil, err
	}
	if l.tls {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true}) // a figure, and no secret
	}
	defer c.Close()
	r, rnd := bufio.NewReader(c), rand.New(rand.NewPCG(uint64(i), 2))
	var request []byte
	time.Sleep(time.Until(begin))
	for n := 0; ; n++ {
		due := time.Now()
		if l.rate > 0 {
			due = begin.Add(time.Duration(float64(n*l.connections+i) / float64(l.rate) * float64(time.Second)))
		}
		if due.Sub(begin) >= l.span {
			return answers, late, nil
		}
		if wait := time.Until(due); l.rate > 0 && wait > 0 {
			time.Sleep(wait)
			late = append(late, uint32(time.Since(due).Microseconds()))
		}
		request = append(request[:0], "GET /.well-known/openpgpkey/"...)
		request = append(append(append(request, l.domain...), "/hu/"...), l.hashes[rnd.IntN(len(l.hashes))]...)
		request = append(append(append(request, " HTTP/1.1\r\nHost: "...), l.addr...), "\r\n\r\n"...)
		if _, err := c.Write(request); err != nil {
			return answers, late, err
		}
		if err := skipAnswer(r); err != nil {
			return answers, late, err
		}
		answers = append(answers, uint32(time.Since(due).Microseconds()))
	}
}

// skipAnswer reads an answer that must be a certificate.
func skipAnswer(r *bufio.Reader) error {
	length, first := -1, true
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
			return fmt.Errorf("answered %q", line)
		}
		first = false
		if name, v, ok := bytes.Cut(line, []byte(":")); ok && strings.EqualFold(string(name), "Content-Length") {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(v))); err != nil {
				return err
			}
		}
		if len(bytes.TrimSpace(line)) == 0 {
			break
		}
	}
	if length <= 0 {
		return errors.New("an answer without length")
	}
	n, err := io.CopyN(io.Discard, r, int64(length))
	if err == nil && n != int64(length) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// The schedule is kept although the server stalls, and what waited counts.
func TestPacedLoadCountsFromTheSchedule(t *testing.T) {
	const stall = 300 * time.Millisecond
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		for n := 0; ; n++ {
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == "\r\n" {
					break
				}
			}
			if n == 0 {
				time.Sleep(stall)
			}
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx"); err != nil {
				return
			}
		}
	}()
	f := load{addr: l.Addr().String(), domain: "example.org", hashes: [][]byte{[]byte(joe)}, connections: 1, rate: 100, span: time.Second}.run(t)
	if f.count != 100 {
		t.Errorf("%d requests were made, want 100", f.count)
	}
	// 30 were due while the first one stalled: they count as late, and not only it.
	over := 0
	for _, a := range f.answers {
		if a > 100_000 {
			over++
		}
	}
	if over < 15 {
		t.Errorf("%d answers took more than 100 ms from their time, want about 20", over)
	}
}
