package server_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir/server"
)

// Who has a whole /48 of IPv6, which is given away free, is not as many people as
// there are networks in it.
func TestANetworkOfNetworksIsBounded(t *testing.T) {
	for _, tt := range []struct {
		way       server.Way
		ofNetwork int // what one client may
	}{{server.ByUpload, 50}, {server.ByLink, 100}} {
		d, st := directory(t)
		c := cert(t, "joe.doe@example.org")
		asked := 0
		ask := func(site, network int) bool {
			t.Helper()
			asked++
			var a address.Address
			if tt.way != server.ByUpload {
				a = addr(t, fmt.Sprintf("user%d@example.org", asked))
			}
			err := d.BeginFrom(ctx, tt.way, a, c, fmt.Sprintf("[2001:db8:%x:%x::1]:1", site, network))
			if err != nil && !errors.Is(err, server.ErrLimited) {
				t.Fatal(err)
			}
			return err == nil
		}
		for network := range 10 {
			if !ask(1, network) {
				t.Fatalf("%s: the first of network %d is refused", tt.way, network)
			}
		}
		// Each network of the site asks as often as it may, but for two times.
		err := st.Update(ctx, func(tx store.Tx) error {
			_, err := tx.Exec(`INSERT INTO keydirserver_pending (token, way, address, spelling, fingerprint, certificate, made, ends, used, mac, client)
				WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
				SELECT randomblob(32), way, i || address, spelling, fingerprint, certificate, made, ends, used, mac, client FROM keydirserver_pending, n`, tt.ofNetwork-3)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for network := range 30 { // and twenty more ask once
			if ask(1, network) {
				n++
			}
		}
		if n != 20 {
			t.Errorf("%s: %d more for one site, want 20", tt.way, n)
		}
		if !ask(2, 1) {
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
