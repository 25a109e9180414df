package server_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir/server"
)

// Who has a whole /48 of IPv6, which is given away free, is not as many people as
// there are networks in it.
func TestANetworkOfNetworksIsBounded(t *testing.T) {
	d, _ := directory(t)
	c := cert(t, "joe.doe@example.org")
	asked := 0
	ask := func(way server.Way, site, network int) bool {
		t.Helper()
		asked++
		var a address.Address
		if way != server.ByUpload {
			a = addr(t, fmt.Sprintf("user%d@example.org", asked))
		}
		err := d.BeginFrom(ctx, way, a, c, fmt.Sprintf("[2001:db8:%x:%x::1]:1", site, network))
		if err != nil && !errors.Is(err, server.ErrLimited) {
			t.Fatal(err)
		}
		return err == nil
	}
	for _, tt := range []struct {
		way                 server.Way
		perNetwork, perSite int
	}{{server.ByUpload, 50, 500}, {server.ByLink, 100, 1000}} {
		n := 0
		for network := range 12 {
			for range tt.perNetwork {
				if ask(tt.way, 1, network) {
					n++
				}
			}
		}
		if n != tt.perSite {
			t.Errorf("%s: %d for one site, want %d", tt.way, n, tt.perSite)
		}
		if !ask(tt.way, 2, 1) {
			t.Errorf("%s: another site is kept out", tt.way)
		}
	}
}

func TestANetworkOfNetworksIsSlowedDown(t *testing.T) {
	d, _ := directory(t)
	in := server.NewIntake(server.IntakeConfig{Directory: d, Domains: []string{"example.org"}, Next: http.NotFoundHandler(), Now: d.Now})
	through := func(site int) (n int) {
		for network := range 40 {
			for range 10 {
				r := httptest.NewRequest("POST", "/vks/v1/upload", strings.NewReader("x"))
				r.RemoteAddr = fmt.Sprintf("[2001:db8:%x:%x::1]:1", site, network)
				w := httptest.NewRecorder()
				in.ServeHTTP(w, r)
				if w.Code != http.StatusTooManyRequests {
					n++
				}
			}
		}
		return n
	}
	for site := range 2 {
		if n := through(site); n != 100 {
			t.Errorf("site %d: %d requests at once are let through, want 100", site, n)
		}
	}
}

// BenchmarkBeginBesideUploads is what a request costs where others left as much as
// they may.
func BenchmarkBeginBesideUploads(b *testing.B) {
	d, _ := directory(b)
	c := cert(b, "joe.doe@example.org")
	for range 4_000 {
		if _, err := d.Begin(ctx, server.ByUpload, address.Address{}, c); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if err := d.BeginFrom(ctx, server.ByUpload, address.Address{}, c, "192.0.2.1:1"); err != nil && !errors.Is(err, server.ErrLimited) {
			b.Fatal(err)
		}
	}
}
