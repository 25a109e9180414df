package peer_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

// The island has names, addresses, ports and an authority of its own, and only
// those.
func TestIsland(t *testing.T) {
	outside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	if os.Getenv("OUTSIDE") == "" {
		os.Setenv("OUTSIDE", outside.Addr().String()) // of the process: a parallel test has no environment of its own
		defer os.Unsetenv("OUTSIDE")
	}
	peer.OnIsland(t, func(i *peer.Island) {
		if c, err := net.Dial("tcp", os.Getenv("OUTSIDE")); err == nil {
			c.Close()
			t.Error("the machine that it runs on can be reached")
		}
		if os.Getpid() != 1 {
			t.Error("processes would outlive it")
		}
		i.Resolve(map[string]string{"there.example": "203.0.113.7"})
		for name, want := range map[string]string{"there.example": "203.0.113.7", "nowhere.example": ""} {
			got, err := net.DefaultResolver.LookupHost(context.Background(), name)
			var none *net.DNSError
			if strings.Join(got, " ") != want || want == "" && !(errors.As(err, &none) && none.IsNotFound) {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		}
		cert, key := i.Certificate("there.example")
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		l, err := tls.Listen("tcp", "203.0.113.7:443", &tls.Config{Certificates: []tls.Certificate{pair}})
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.NotFoundHandler()}
		go s.Serve(l)
		defer s.Close()
		r, err := http.Get("https://there.example/")
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
	}, "203.0.113.7")
}
