package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/keydir/server"
	"letterlock.org/letterlock/pgp"
)

var (
	ctx   = context.Background()
	today = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
)

func addr(t testing.TB, s string) address.Address {
	t.Helper()
	a, err := address.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func cert(t testing.TB, s string) *pgp.Certificate {
	t.Helper()
	k, err := pgp.GenerateKey(addr(t, s), pgp.DefaultProfile, today)
	if err != nil {
		t.Fatal(err)
	}
	return k.Certificate()
}

func directory(t testing.TB) (*server.Directory, store.Store) {
	t.Helper()
	st, err := store.OpenMemory(server.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return reopened(st), st
}

// reopened is a Directory that has read nothing yet.
func reopened(st store.Store) *server.Directory {
	d := server.NewDirectory(st)
	d.Now = func() time.Time { return today }
	return d
}

func add(t testing.TB, d *server.Directory, s string) *pgp.Certificate {
	t.Helper()
	c := cert(t, s)
	if err := d.Add(ctx, addr(t, s), c); err != nil {
		t.Fatal(err)
	}
	return c
}

func handler(d *server.Directory) *server.Handler {
	return server.New(server.Config{Directory: d, Domains: []string{"example.org", "Example.NET", "bücher.example"}})
}

func get(h http.Handler, method, url string, header ...string) *http.Response {
	r := httptest.NewRequest(method, url, nil)
	r.RemoteAddr = "127.0.0.1:1234"
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t testing.TB, r *http.Response) []byte {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	advanced = "http://openpgpkey.example.org/.well-known/openpgpkey/example.org/"
	direct   = "http://example.org/.well-known/openpgpkey/"
	joe      = "iy9q119eutrkn8s1mk4r39qejnbu3n5q" // the draft's example
)

func TestLookup(t *testing.T) {
	d, _ := directory(t)
	h := handler(d)
	c := add(t, d, "Joe.Doe@example.org")
	add(t, d, "x@bücher.example")
	add(t, d, "joe.doe@other.example")
	tests := []struct {
		name, url string
		status    int
	}{
		{"the advanced method", advanced + "hu/" + joe + "?l=Joe.Doe", 200},
		{"the direct method", direct + "hu/" + joe + "?l=Joe.Doe", 200},
		{"without l", advanced + "hu/" + joe, 200},
		{"l in another case", advanced + "hu/" + joe + "?l=joe.doe", 200},
		{"other parameters", advanced + "hu/" + joe + "?x=y", 200},
		{"a Host with port and final dot", "http://EXAMPLE.org.:8080/.well-known/openpgpkey/hu/" + joe, 200},
		{"the advanced method under another Host", "http://127.0.0.1:8080/.well-known/openpgpkey/example.org/hu/" + joe, 200},
		{"policy, advanced", advanced + "policy", 200},
		{"policy, direct", direct + "policy", 200},
		{"a domain with U-labels", "http://h/.well-known/openpgpkey/xn--bcher-kva.example/hu/" + keydir.WKDHash("x"), 200},
		{"l of another address", advanced + "hu/" + joe + "?l=Bob", 404},
		{"two l, one of another address", advanced + "hu/" + joe + "?l=joe.doe&l=bob", 404},
		{"empty l", advanced + "hu/" + joe + "?l=", 404},
		{"a malformed query", advanced + "hu/" + joe + "?l=%zz", 404},
		{"a long query", advanced + "hu/" + joe + "?" + strings.Repeat("x", 2000), 404},
		{"an unknown address", advanced + "hu/" + keydir.WKDHash("bob"), 404},
		{"no hash", advanced + "hu/", 404},
		{"a short hash", advanced + "hu/" + joe[1:], 404},
		{"a long hash", advanced + "hu/" + joe + "y", 404},
		{"a hash in upper case", advanced + "hu/" + strings.ToUpper(joe), 404},
		{"a hash of other letters", advanced + "hu/" + "l" + joe[1:], 404},
		{"a hash with a line end", advanced + "hu/" + joe[:31] + "%0a", 404},
		{"a path outside", advanced + "hu/../hu/" + joe, 404},
		{"more path", advanced + "hu/" + joe + "/", 404},
		{"a domain that is published and not ours", "http://openpgpkey.other.example/.well-known/openpgpkey/other.example/hu/" + joe, 404},
		{"one of our domains without certificates", "http://h/.well-known/openpgpkey/example.net/hu/" + joe, 404},
		{"the direct method under another Host", "http://127.0.0.1/.well-known/openpgpkey/hu/" + joe, 404},
		{"the direct method at the host of the advanced one", "http://openpgpkey.example.org/.well-known/openpgpkey/hu/" + joe, 404},
		{"policy of another domain", "http://h/.well-known/openpgpkey/other.example/policy", 404},
		{"the root", "http://example.org/", 404},
		{"no listing", advanced, 404},
		{"no listing of hu", direct + "hu", 404},
	}
	notFound := ""
	for _, tt := range tests {
		r := get(h, "GET", tt.url)
		b := body(t, r)
		if r.StatusCode != tt.status {
			t.Errorf("%s: status %d, want %d", tt.name, r.StatusCode, tt.status)
		}
		if r.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: no Access-Control-Allow-Origin", tt.name)
		}
		if r.StatusCode == 404 {
			whole := fmt.Sprint(r.Header, string(b))
			if notFound == "" {
				notFound = whole
			}
			if whole != notFound {
				t.Errorf("%s: %s, others got %s", tt.name, whole, notFound)
			}
		}
		if r.StatusCode == 200 && strings.Contains(tt.url, joe) {
			minimal, err := c.Minimal(addr(t, "joe.doe@example.org"), today)
			if err != nil || !bytes.Equal(b, minimal.Bytes()) {
				t.Errorf("%s: another body, %v", tt.name, err)
			}
			if ct := r.Header.Get("Content-Type"); ct != "application/octet-stream" {
				t.Errorf("%s: type %s", tt.name, ct)
			}
		}
	}
}

func TestHEADAndETag(t *testing.T) {
	d, _ := directory(t)
	h := handler(d)
	add(t, d, "joe.doe@example.org")
	url := advanced + "hu/" + joe
	full := get(h, "GET", url)
	want := body(t, full)
	head := get(h, "HEAD", url)
	if len(body(t, head)) != 0 || head.Header.Get("Content-Length") != fmt.Sprint(len(want)) {
		t.Errorf("HEAD: %v", head.Header)
	}
	etag := full.Header.Get("ETag")
	for _, tt := range []struct {
		field  string
		status int
	}{{etag, 304}, {`"x", W/` + etag, 304}, {"*", 304}, {`"x"`, 200}} {
		if r := get(h, "GET", url, "If-None-Match", tt.field); r.StatusCode != tt.status {
			t.Errorf("If-None-Match %s: status %d, want %d", tt.field, r.StatusCode, tt.status)
		}
	}
	add(t, d, "joe.doe@example.org")
	if r := get(h, "GET", url, "If-None-Match", etag); r.StatusCode != 200 || bytes.Equal(body(t, r), want) {
		t.Errorf("after a change: status %d", r.StatusCode)
	}
	if r := get(h, "POST", url); r.StatusCode != 405 || r.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: status %d, %v", r.StatusCode, r.Header)
	}
}

func TestAddRemoveList(t *testing.T) {
	d, st := directory(t)
	h := handler(d)
	status := func() int { return get(h, "GET", advanced+"hu/"+joe).StatusCode }
	if got := status(); got != 404 {
		t.Errorf("before: %d", got)
	}
	a := addr(t, "Joe.Doe@example.org")
	first := add(t, d, "joe.doe@example.org")
	second := cert(t, "joe.doe@example.org")
	if err := d.Add(ctx, a, second); err != nil {
		t.Fatal(err)
	}
	other := add(t, d, "amy@example.org")
	if got := status(); got != 200 {
		t.Errorf("after adding: %d", got)
	}
	for _, d := range []*server.Directory{d, reopened(st)} {
		list, err := d.List(ctx)
		if err != nil || len(list) != 2 || list[0].Certificate.Fingerprint() != other.Fingerprint() ||
			list[1].Address != a || list[1].Certificate.Fingerprint() != second.Fingerprint() || !list[1].Added.Equal(today) {
			t.Errorf("list %v, %v", list, err)
		}
		got, err := d.Certificate(ctx, a)
		if err != nil || !bytes.Equal(got.Bytes(), second.Bytes()) || got.Fingerprint() == first.Fingerprint() {
			t.Errorf("Certificate: %v", err)
		}
	}
	if err := d.Remove(ctx, a); err != nil {
		t.Fatal(err)
	}
	if got := status(); got != 404 {
		t.Errorf("after removing: %d", got)
	}
	if err := d.Remove(ctx, a); !errors.Is(err, store.ErrNoRow) {
		t.Errorf("removing twice: %v", err)
	}
	if _, err := d.Certificate(ctx, a); !errors.Is(err, store.ErrNoRow) {
		t.Errorf("asking for it: %v", err)
	}
	if err := d.Add(ctx, addr(t, "eve@example.org"), second); !errors.Is(err, server.ErrUserID) {
		t.Errorf("publishing for an address that is not in it: %v", err)
	}
}

func TestTamperedRowsAreNotServed(t *testing.T) {
	for column, value := range map[string]string{
		"certificate": "x'99'", "body": "x'99'", "spelling": "'amy@example.org'", "added": "added + 1", "address": "'eve@example.org'",
	} {
		d, st := directory(t)
		add(t, d, "joe.doe@example.org")
		add(t, d, "amy@example.org")
		err := st.Update(ctx, func(tx store.Tx) error {
			_, err := tx.Exec("UPDATE keydirserver_cert SET " + column + " = " + value + " WHERE address = 'joe.doe@example.org'")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		d = reopened(st)
		var log bytes.Buffer
		h := server.New(server.Config{Directory: d, Domains: []string{"example.org"}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		for range 2 {
			if r := get(h, "GET", advanced+"hu/"+joe); r.StatusCode != 404 {
				t.Errorf("%s: status %d", column, r.StatusCode)
			}
		}
		if r := get(h, "GET", advanced+"hu/"+keydir.WKDHash("amy")); r.StatusCode != 200 {
			t.Errorf("%s: the other is not served: %d", column, r.StatusCode)
		}
		if n := strings.Count(log.String(), "not served"); n != 1 {
			t.Errorf("%s: told %d times in the log", column, n)
		}
		if _, err := d.List(ctx); !errors.Is(err, store.ErrTampered) {
			t.Errorf("%s: List: %v", column, err)
		}
		if _, err := d.Export(ctx, t.TempDir(), "example.org"); !errors.Is(err, store.ErrTampered) {
			t.Errorf("%s: Export: %v", column, err)
		}
	}
}

func TestStoreFailing(t *testing.T) {
	d, st := directory(t)
	add(t, d, "joe.doe@example.org")
	st.Close()
	if r := get(handler(reopened(st)), "GET", advanced+"hu/"+joe); r.StatusCode != 503 {
		t.Errorf("status %d: a store that fails must not look like an address without certificate", r.StatusCode)
	}
	if r := get(handler(d), "GET", advanced+"hu/"+joe); r.StatusCode != 200 {
		t.Errorf("status %d: what is in memory needs no store", r.StatusCode)
	}
}

func TestExportIsWhatTheHandlerAnswers(t *testing.T) {
	d, _ := directory(t)
	for _, s := range []string{"joe.doe@example.org", "amy@example.org", "amy@example.net"} {
		add(t, d, s)
	}
	dir := t.TempDir()
	n, err := d.Export(ctx, dir, "example.org")
	if err != nil || n != 2 {
		t.Fatalf("%d, %v", n, err)
	}
	files := 0
	h := handler(d)
	walk := func() error {
		return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			files++
			rel, _ := filepath.Rel(dir, path)
			r := get(h, "GET", "http://example.org/"+filepath.ToSlash(rel))
			got, err := os.ReadFile(path)
			if err != nil || r.StatusCode != 200 || !bytes.Equal(got, body(t, r)) {
				t.Errorf("%s: status %d, %v, or it differs", rel, r.StatusCode, err)
			}
			return nil
		})
	}
	if err := walk(); err != nil || files != 6 {
		t.Errorf("%d files, want 6; %v", files, err)
	}
	if err := d.Remove(ctx, addr(t, "joe.doe@example.org")); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(dir+"/index.html", nil, 0o644)
	if _, err := d.Export(ctx, dir, "example.org"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir + "/index.html"); err != nil {
		t.Error("another's file did not stay:", err)
	}
	files = 0
	if err := walk(); err != nil || files != 4 {
		t.Errorf("after a removal: %d files, want 4; %v", files, err)
	}

	other, _ := directory(t)
	added, skipped, err := other.Import(ctx, dir)
	if err != nil || len(skipped) > 0 || !slices.Contains(added, addr(t, "amy@example.org")) {
		t.Errorf("import: %v, %v, %v", added, skipped, err)
	}
	url := advanced + "hu/" + keydir.WKDHash("amy")
	if a, b := body(t, get(h, "GET", url)), body(t, get(handler(other), "GET", url)); !bytes.Equal(a, b) {
		t.Error("what was exported and imported differs")
	}
}

func TestImport(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) {
		t.Helper()
		os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	amy, bob := cert(t, "amy@example.org"), cert(t, "bob@example.net")
	write("keys/amy.asc", []byte(amy.Armored()))
	write("keys/two.gpg", append(slices.Clone(bob.Bytes()), cert(t, "cat@example.org").Bytes()...))
	write("keys/readme.txt", []byte("hello"))
	write("keys/broken.asc", []byte("hello"))
	write("keys/large.asc", bytes.Repeat([]byte("x"), 1<<20))
	write("hu/"+joe, cert(t, "joe.doe@example.org").Bytes())
	write("hu/"+keydir.WKDHash("dan"), cert(t, "eve@example.org").Bytes()) // named for somebody else
	d, _ := directory(t)
	added, skipped, err := d.Import(ctx, dir, "EXAMPLE.org")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range added {
		got = append(got, a.String())
	}
	slices.Sort(got)
	if want := []string{"amy@example.org", "cat@example.org", "joe.doe@example.org"}; !slices.Equal(got, want) {
		t.Errorf("added %v, want %v", got, want)
	}
	if len(skipped) != 3 {
		t.Errorf("skipped %v, want 3", skipped)
	}
	if _, _, err := d.Import(ctx, dir+"/none"); err == nil {
		t.Error("a missing directory was imported")
	}
}

func TestRateLimit(t *testing.T) {
	d, _ := directory(t)
	now := today
	h := server.New(server.Config{Directory: d, Domains: []string{"example.org"}, Rate: 1, Now: func() time.Time { return now }})
	ask := func(remote string) int {
		r := httptest.NewRequest("GET", direct+"policy", nil)
		r.RemoteAddr = remote
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	for range 5 {
		if ask("192.0.2.1:1") != 200 {
			t.Fatal("limited too early")
		}
	}
	if ask("192.0.2.1:2") != 429 {
		t.Error("no limit")
	}
	if ask("192.0.2.2:1") != 200 || ask("[2001:db8::1]:1") != 200 {
		t.Error("one client limits another")
	}
	for range 4 {
		ask("[2001:db8::2]:1")
	}
	if ask("[2001:db8::3]:1") != 429 {
		t.Error("a /64 is one client")
	}
	for range 20 {
		if ask("127.0.0.1:1") != 200 || ask("@") != 200 {
			t.Fatal("a reverse proxy is limited")
		}
	}
	now = now.Add(2 * time.Second)
	for i, want := range []int{200, 200, 429} {
		if got := ask("192.0.2.1:1"); got != want {
			t.Errorf("request %d after two seconds: got %d, want %d", i+1, got, want)
		}
	}
	for i := range 12_000 {
		ask(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255))
	}
}

func TestConcurrentUse(t *testing.T) {
	d, _ := directory(t)
	h := handler(d)
	certs := []*pgp.Certificate{cert(t, "joe.doe@example.org"), cert(t, "joe.doe@example.org")}
	a := addr(t, "joe.doe@example.org")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 20 {
				var err error
				if (i+j)%3 == 0 {
					err = d.Remove(ctx, a)
				} else {
					err = d.Add(ctx, a, certs[j%2])
				}
				if err != nil && !errors.Is(err, store.ErrNoRow) {
					t.Error(err)
				}
				if r := get(h, "GET", advanced+"hu/"+joe); r.StatusCode != 200 && r.StatusCode != 404 {
					t.Errorf("status %d", r.StatusCode)
				}
			}
		})
	}
	wg.Wait()
	if err := d.Add(ctx, a, certs[1]); err != nil {
		t.Fatal(err)
	}
	want, _ := certs[1].Minimal(a, today)
	if got := body(t, get(h, "GET", advanced+"hu/"+joe)); !bytes.Equal(got, want.Bytes()) {
		t.Error("the last one added is not what is served")
	}
}

func FuzzLookup(f *testing.F) {
	d, _ := directory(f)
	add(f, d, "joe.doe@example.org")
	h := handler(d)
	f.Add("/.well-known/openpgpkey/example.org/hu/"+joe, "l=joe.doe", "example.org")
	f.Add("/.well-known/openpgpkey/hu/"+joe, "", "example.org:80")
	f.Add("/.well-known/openpgpkey/policy", "%", "[::1]")
	f.Fuzz(func(t *testing.T, path, query, host string) {
		r := httptest.NewRequest("GET", "http://h/", nil)
		r.URL.Path, r.URL.RawQuery, r.Host = path, query, host
		r.RemoteAddr = "127.0.0.1:1"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code == 200 && !strings.HasSuffix(path, "/hu/"+joe) && !strings.HasSuffix(path, "/policy") {
			t.Fatalf("%q was found", path)
		}
		if w.Code != 200 && w.Code != 404 {
			t.Fatalf("status %d", w.Code)
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	d, _ := directory(b)
	add(b, d, "joe.doe@example.org")
	h := handler(d)
	for b.Loop() {
		get(h, "GET", advanced+"hu/"+joe+"?l=joe.doe")
	}
}
