package keydir_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// What a server writes that is no answer of HTTP never reads as the domain's word
// that nobody has a certificate, nor as a host without directory: mail goes in
// clear after that.
func TestOddAnswersAreNeverAbsence(t *testing.T) {
	k := key(t, bob)
	cert := string(k.Certificate().Bytes())
	ok := "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
	for _, tt := range []struct{ name, raw string }{
		{"nothing", ""},
		{"a status without its line end", "HTTP/1.1 404 Not Found"},
		{"a status without header end", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n"},
		{"half a status", "HTTP/1.1 40"},
		{"a status of four digits", "HTTP/1.1 4040 x\r\n\r\n"},
		{"a status with a sign", "HTTP/1.1 +404 x\r\n\r\n"},
		{"another protocol", "ICY 404 x\r\n\r\n"},
		{"a mail server", "220 mx.example.org ESMTP\r\n"},
		{"an HTTP/2 frame", "\x00\x00\x00\x04\x00\x00\x00\x00\x00"},
		{"informational answers without end", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 2000) + "HTTP/1.1 404 Not Found\r\n\r\n"},
		{"a switch of protocols", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"},
		{"a NUL in a field", "HTTP/1.1 404 Not Found\r\nX: a\x00b\r\n\r\n"},
		{"a field without a name", "HTTP/1.1 404 Not Found\r\n: x\r\n\r\n"},
		{"a length that is none", "HTTP/1.1 404 Not Found\r\nContent-Length: x\r\n\r\n"},
		{"two lengths", ok + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + cert},
		{"a shorter length than the certificate", ok + "Content-Length: 20\r\n\r\n" + cert},
		{"a longer one", ok + "Content-Length: 60000\r\n\r\n" + cert},
		{"an enormous one", ok + "Content-Length: 99999999999999999999\r\n\r\n" + cert},
		{"a negative one", ok + "Content-Length: -5\r\n\r\n" + cert},
		{"chunks that break off", ok + "Transfer-Encoding: chunked\r\n\r\n10\r\nabc"},
		{"a chunk without size", ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\n"},
		{"chunks and a length", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"another transfer coding", ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
		{"compressed", ok + "Content-Encoding: br\r\nContent-Length: 3\r\n\r\nabc"},
		{"a range", "HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\n\r\nabc"},
		{"nothing at all in it", ok + "Content-Length: 0\r\n\r\n"},
		{"a redirect to nowhere", "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"},
		{"a redirect to what is no address", "HTTP/1.1 302 Found\r\nLocation: http://[::1%25\r\nContent-Length: 0\r\n\r\n"},
		{"zeros", strings.Repeat("\x00", 1<<20)},
		{"line ends", strings.Repeat("\r\n", 1<<19)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.web(advanced, advanced, func(rw http.ResponseWriter, _ *http.Request) {
				c, _, err := rw.(http.Hijacker).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				_, _ = io.WriteString(c, tt.raw)
			})
			f := w.find(bob)
			if f.Outcome != keydir.Unavailable || len(f.Certificates) > 0 {
				t.Errorf("%q (%s) with %d certificates, want unavailable", f.Outcome, f.Detail, len(f.Certificates))
			}
		})
	}
}

// A directory that sends a byte now and then is late, however long it goes on;
// who has a certificate already goes on with it.
func TestADrippingDirectoryIsLate(t *testing.T) {
	k := key(t, bob)
	for _, tt := range []struct {
		name  string
		known bool
		raw   string
	}{
		{"in the header, a stranger", false, "HTTP/1.1 404 Not Found\r\nX-Long: " + strings.Repeat("x", 1<<10)},
		{"in the body, a stranger", false, "HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n" + strings.Repeat("\x99", 3000)},
		{"in the header, somebody known", true, "HTTP/1.1 404 Not Found\r\nX-Long: " + strings.Repeat("x", 1<<10)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, func(c *keydir.Config) { c.Network.Timeout, c.Network.Refetch = 3*time.Second, 3*time.Second })
			want, certs := keydir.Unavailable, 0
			if tt.known {
				w.must(w.Import(ctx, []*pgp.Certificate{k.Certificate()}, bob, pgp.Directory))
				w.pass(2 * day)
				want, certs = keydir.Found, 1
			}
			ended := make(chan struct{})
			w.web(advanced, advanced, func(rw http.ResponseWriter, _ *http.Request) {
				defer close(ended)
				c, _, err := rw.(http.Hijacker).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				for i := range tt.raw {
					if _, err := io.WriteString(c, tt.raw[i:i+1]); err != nil {
						return
					}
					time.Sleep(20 * time.Millisecond)
				}
			})
			f := w.find(bob)
			if f.Outcome != want || len(f.Certificates) != certs {
				t.Errorf("%q (%s) with %d certificates", f.Outcome, f.Detail, len(f.Certificates))
			}
			select {
			case <-ended: // the connection was given up
			case <-time.After(time.Minute):
				t.Error("the connection is open still, or was never made")
			}
		})
	}
}
