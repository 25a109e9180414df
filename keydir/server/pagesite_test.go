package server_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"letterlock.org/letterlock/keydir/server"
)

// Behind a proxy each visitor is one, and not the proxy.
func TestPagesCountVisitorsBehindAProxy(t *testing.T) {
	d, _ := directory(t)
	o := newSite(t, d)
	ask := func(method, path, remote, forwarded string) int {
		r := httptest.NewRequest(method, "https://keys.example.org"+path, strings.NewReader(url.Values{"address": {"x@example.org"}}.Encode()))
		r.RemoteAddr = remote
		r.Header.Set("X-Forwarded-For", forwarded)
		w := httptest.NewRecorder()
		o.h.ServeHTTP(w, r)
		return w.Code
	}
	allowed := func(method, path, remote, forwarded string) (n int) {
		for n = 0; n < 300; n++ {
			if ask(method, path, remote, forwarded) == 429 {
				break
			}
		}
		return n
	}
	for _, tt := range []struct {
		name, method, path, remote, forwarded string
		want                                  int
	}{
		{"a visitor's forms", "POST", "/remove", "127.0.0.1:9", "198.51.100.1, 192.0.2.1", 10},
		{"another one's", "POST", "/remove", "127.0.0.1:9", "198.51.100.1, 192.0.2.2", 10},
		{"the first one with a forged field in front", "POST", "/remove", "127.0.0.1:9", "203.0.113.9, 192.0.2.1", 0},
		{"a proxy that tells the port too", "POST", "/remove", "[::1]:9", "192.0.2.3:4711", 10},
		{"IPv6 with a port", "POST", "/remove", "[::1]:9", "[2001:db8::1]:4711", 10},
		{"a visitor who is no proxy", "POST", "/remove", "192.0.2.4:9", "192.0.2.5", 10},
		{"whom the field named", "POST", "/remove", "127.0.0.1:9", "192.0.2.5", 10},
		{"what can't be read is one visitor, and not the proxy", "POST", "/remove", "127.0.0.1:9", "unknown", 10},
		{"pages", "GET", "/", "127.0.0.1:9", "192.0.2.1", 100},
	} {
		if got := allowed(tt.method, tt.path, tt.remote, tt.forwarded); got != tt.want {
			t.Errorf("%s: %d were let through, want %d", tt.name, got, tt.want)
		}
	}
}

// Removals that were asked for before a stop are mailed after it.
func TestRemovalsOutliveAStop(t *testing.T) {
	d, st := directory(t)
	h := handler(d)
	in := func() (*server.Site, *server.Post, chan server.Mail) {
		sent := make(chan server.Mail, 10)
		post := server.NewPost(func(_ context.Context, m server.Mail) error { sent <- m; return nil }, nil)
		return server.NewSite(h, server.NewIntake(server.IntakeConfig{Directory: d, Domains: []string{"example.org"}, URL: "https://k",
			From: addr(t, "k@example.org"), Post: post, Next: h, Now: d.Now})), post, sent
	}
	site, _, _ := in()
	for i := range 5 {
		add(t, d, fmt.Sprintf("user%d@example.org", i))
		r := httptest.NewRequest("POST", "https://k/remove", strings.NewReader(url.Values{"address": {fmt.Sprintf("user%d@example.org", i)}}.Encode()))
		w := httptest.NewRecorder()
		if site.ServeHTTP(w, r); w.Code != 200 {
			t.Fatal(w.Code, w.Body)
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	site.Run(ended)
	if n := rows(t, st, "keydirserver_pending"); n != 5 {
		t.Fatalf("%d requests are kept", n)
	}
	_, post, sent := in()
	running, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { post.Run(running); close(done) }()
	defer func() { cancel(); <-done }()
	for range 5 {
		if m := receive(t, sent); !strings.Contains(string(m.Text), "https://k/withdraw/") {
			t.Errorf("%s", m.Text)
		}
	}
}

func TestAMailIsRefusedOnItsPage(t *testing.T) {
	d, _ := directory(t)
	o := newSite(t, d)
	add(t, d, "joe.doe@example.org")
	before := served(t, d)[0].Fingerprint()
	if status, _ := o.give("", cert(t, "joe.doe@example.org").Armored()); status != 200 {
		t.Fatal(status)
	}
	publish := o.link()
	o.removal("joe.doe@example.org")
	for _, path := range []string{publish, o.withdrawLink()} {
		if status, page := o.do("GET", path, "", ""); status != 200 || !strings.Contains(page, `name="refuse"`) {
			t.Errorf("%s: %d %s", path, status, page)
		}
		if status, page := o.do("POST", path, "application/x-www-form-urlencoded", "refuse=1"); status != 200 || !strings.Contains(page, "Forgotten") {
			t.Errorf("%s: %d %s", path, status, page)
		}
		for _, form := range []string{"refuse=1", ""} {
			if status, _ := o.do("POST", path, "application/x-www-form-urlencoded", form); status != 404 {
				t.Errorf("%s, again, %q: %d", path, form, status)
			}
		}
		if status, _ := o.do("POST", path, "application/x-www-form-urlencoded", "refuse=1", "Sec-Fetch-Site", "cross-site"); status == 200 {
			t.Errorf("%s: another site refused", path)
		}
	}
	if got := served(t, d); len(got) != 1 || got[0].Fingerprint() != before {
		t.Error("what was refused changed what is served")
	}
}
