package server_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/keydir/server"
)

// counting counts what is asked of a store.
type counting struct {
	store.Store
	views, updates, statements atomic.Int64
}

func (c *counting) View(ctx context.Context, f func(store.Tx) error) error {
	c.views.Add(1)
	return c.Store.View(ctx, func(tx store.Tx) error { return f(countingTx{tx, c}) })
}

func (c *counting) Update(ctx context.Context, f func(store.Tx) error) error {
	c.updates.Add(1)
	return c.Store.Update(ctx, func(tx store.Tx) error { return f(countingTx{tx, c}) })
}

func (c *counting) work() string {
	return fmt.Sprintf("%d views, %d updates, %d statements", c.views.Swap(0), c.updates.Swap(0), c.statements.Swap(0))
}

type countingTx struct {
	store.Tx
	c *counting
}

func (t countingTx) Exec(q string, args ...any) (int64, error) {
	t.c.statements.Add(1)
	return t.Tx.Exec(q, args...)
}

func (t countingTx) Row(q string, args []any, dest ...any) error {
	t.c.statements.Add(1)
	return t.Tx.Row(q, args, dest...)
}

func (t countingTx) Rows(q string, args []any, each func(func(...any) error) error) error {
	t.c.statements.Add(1)
	return t.Tx.Rows(q, args, each)
}

// Present and absent cost the same work, which is what their times come from: a
// time itself can't be tested without now and then being wrong.
func TestPresentAndAbsentCostTheSame(t *testing.T) {
	st, err := store.OpenMemory(server.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	c := &counting{Store: st}
	d := reopened(c)
	add(t, d, "has@example.org")
	o := &office{t: t, d: d}
	o.h = server.NewIntake(server.IntakeConfig{Directory: d, Domains: []string{"example.org"}, URL: "https://k", From: addr(t, "k@example.org"),
		Post: server.NewPost(nil, nil), Next: handler(d), Now: d.Now}) // nothing runs: mails are made beside
	lookup := func(local string) {
		get(handler(d), "GET", advanced+"hu/"+keydir.WKDHash(local)+"?l="+local)
	}
	lookup("has")
	c.work()
	work := func(f func()) string { f(); return c.work() }
	for _, tt := range []struct {
		name string
		f    func(local string)
	}{
		{"a look-up", lookup},
		{"a look-up by HKP", func(local string) { get(handler(d), "GET", "http://h/pks/lookup?op=get&search="+local+"@example.org") }},
		{"a look-up by VKS", func(local string) { get(handler(d), "GET", "http://h/vks/v1/by-email/"+local+"@example.org") }},
		{"an upload of a stranger's certificate", func(local string) {
			o.do("POST", "/vks/v1/upload", "application/octet-stream", string(cert(t, local+"@example.org").Bytes()))
		}},
		{"a link that never was", func(local string) { o.do("POST", "/publish/"+strings.Repeat(local[:1], 32), "", "") }},
	} {
		if has, hasNot := work(func() { tt.f("has") }), work(func() { tt.f("not") }); has != hasNot {
			t.Errorf("%s: with a certificate %s, without %s", tt.name, has, hasNot)
		}
	}
	if got := work(func() { lookup("has"); lookup("not") }); got != "0 views, 0 updates, 0 statements" {
		t.Errorf("look-ups ask the store: %s", got)
	}
}

// 100,000 absent addresses from 100,000 clients leave nothing behind.
func TestAbsentAddressesCostNoMemory(t *testing.T) {
	d, _ := directory(t)
	add(t, d, "has@example.org")
	h := server.New(server.Config{Directory: d, Domains: []string{"example.org"}, Now: d.Now})
	ask := func(i int) int {
		r := httptest.NewRequest("GET", advanced+"hu/"+keydir.WKDHash(fmt.Sprint(i)), nil)
		r.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:1", i>>16&255, i>>8&255, i&255)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for i := range 20_000 {
		ask(i) // fills what is bounded
	}
	before := heap()
	for i := range 100_000 {
		if got := ask(20_000 + i); got != http.StatusNotFound {
			t.Fatalf("request %d: %d", i, got)
		}
	}
	if grown := heap() - before; grown > 8<<20 {
		t.Errorf("100,000 absent addresses left %d KiB behind", grown>>10)
	}
}
