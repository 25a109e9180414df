package server_test

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// Pages of other origins may upload by VKS and HKP, and nothing else.
func TestOtherOriginsSubmit(t *testing.T) {
	d, _ := directory(t)
	o := newOffice(t, d)
	ask := func(method, path string) (status int, origin, methods, headers string) {
		r := httptest.NewRequest(method, "https://keys.example.org"+path, strings.NewReader("{}"))
		r.RemoteAddr = "203.0.113.9:1234"
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		o.h.ServeHTTP(w, r)
		h := w.Header()
		return w.Code, h.Get("Access-Control-Allow-Origin"), h.Get("Access-Control-Allow-Methods"), h.Get("Access-Control-Allow-Headers")
	}
	for path, open := range map[string]bool{"/vks/v1/upload": true, "/vks/v1/request-verify": true, "/pks/add": true,
		"/publish/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": false, "/.well-known/letterlock/put/joe@example.org": false} {
		for range 20 { // more than one client may submit at once
			status, origin, methods, headers := ask("OPTIONS", path)
			if open != (status == 204) || open != (methods == "POST" && headers == "Content-Type") || open && origin != "*" {
				t.Fatalf("%s: %d, origin %q, methods %q, headers %q", path, status, origin, methods, headers)
			}
		}
	}
	limited := false
	for range 20 { // a page is told why it is refused
		status, origin, _, _ := ask("POST", "/vks/v1/upload")
		if status < 400 || origin != "*" {
			t.Fatalf("%d, origin %q", status, origin)
		}
		limited = limited || status == 429
	}
	if !limited {
		t.Error("submissions are not limited")
	}
}
