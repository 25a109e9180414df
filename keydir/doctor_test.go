package keydir_test

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
)

// tree is a directory as it should be, of which files can be spoilt.
type tree map[string]func(http.ResponseWriter, *http.Request)

func file(b []byte) func(http.ResponseWriter, *http.Request) {
	return func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/octet-stream")
		rw.Header().Set("Access-Control-Allow-Origin", "*")
		rw.Write(b)
	}
}

func (t tree) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	if f := t[req.URL.Path]; f != nil {
		f(rw, req)
		return
	}
	http.NotFound(rw, req)
}

const (
	advancedRoot = "/.well-known/openpgpkey/example.org/"
	directRoot   = "/.well-known/openpgpkey/"
)

func TestExamine(t *testing.T) {
	k := key(t, bob)
	hu := advancedRoot + "hu/" + keydir.WKDHash("bob")
	well := func() tree { return tree{advancedRoot + "policy": file(nil), hu: file(k.Certificate().Bytes())} }
	page := func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		rw.Write([]byte("<!doctype html>"))
	}
	for _, tt := range []struct {
		name             string
		spoil            func(w *world, d tree)
		check            string // name of the check
		want             keydir.Severity
		text             string
		faults, warnings int
	}{
		{"a directory that is well", func(*world, tree) {}, "advanced: certificate", keydir.Well, string(k.Fingerprint()), 0, 0},
		{"no policy file", func(_ *world, d tree) { delete(d, advancedRoot+"policy") }, "advanced: policy file", keydir.Warning, "404", 0, 1},
		{"a policy that is a page", func(_ *world, d tree) { d[advancedRoot+"policy"] = page }, "advanced: policy file", keydir.Warning, "web page", 0, 1},
		{"a submission address", func(_ *world, d tree) { d[advancedRoot+"submission-address"] = file([]byte("keys@example.org\n")) }, "advanced: submission address", keydir.Well, "keys@example.org", 0, 0},
		{"a submission address that is none", func(_ *world, d tree) { d[advancedRoot+"submission-address"] = file([]byte("hello")) }, "advanced: submission address", keydir.Warning, "no mail address", 0, 1},
		{"no certificate", func(_ *world, d tree) { delete(d, hu) }, "advanced: certificate", keydir.Fault, "has none", 1, 0},
		{"a page for everything", func(_ *world, d tree) {
			d[hu] = page
			d[advancedRoot+"hu/"+keydir.WKDHash("letterlock-doctor-asks-for-nobody")] = page
		}, "advanced: absent address", keydir.Fault, "as if anybody", 2, 0},
		{"an armored certificate", func(_ *world, d tree) { d[hu] = file([]byte(k.Certificate().Armored())) }, "advanced: certificate", keydir.Fault, "armored", 1, 0},
		{"a certificate of somebody else", func(_ *world, d tree) { d[hu] = file(key(t, carol).Certificate().Bytes()) }, "advanced: certificate", keydir.Fault, "no valid user ID", 1, 0},
		{"a secret key", func(_ *world, d tree) {
			b, err := k.Export(nil)
			if err != nil {
				t.Fatal(err)
			}
			d[hu] = file(b)
		}, "advanced: certificate", keydir.Fault, "SECRET KEY", 1, 0},
		{"nothing that is a certificate", func(_ *world, d tree) { d[hu] = file([]byte("hello")) }, "advanced: certificate", keydir.Fault, "no OpenPGP certificate", 1, 0},
		{"a certificate that expires soon", func(w *world, _ tree) { w.pass(2*365*24*time.Hour - 30*24*time.Hour) }, "advanced: certificate", keydir.Warning, "expires on", 0, 1},
		{"an expired certificate", func(w *world, _ tree) { w.pass(3 * 365 * 24 * time.Hour) }, "advanced: certificate", keydir.Fault, "has expired", 1, 0},
		{"two that could be used", func(_ *world, d tree) {
			d[hu] = file(append(append([]byte(nil), k.Certificate().Bytes()...), key(t, bob).Certificate().Bytes()...))
		}, "advanced: certificate", keydir.Warning, "2 certificates", 0, 1},
		{"another type", func(_ *world, d tree) {
			d[hu] = func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Content-Type", "application/pgp-keys")
				rw.Write(k.Certificate().Bytes())
			}
		}, "advanced: CORS", keydir.Warning, "browsers", 0, 2},
		{"an answer only with l", func(_ *world, d tree) {
			with := d[hu]
			d[hu] = func(rw http.ResponseWriter, req *http.Request) {
				if req.URL.RawQuery == "" {
					http.NotFound(rw, req)
					return
				}
				with(rw, req)
			}
		}, "advanced: without l=", keydir.Warning, "another one", 0, 1},
		{"no HEAD", func(_ *world, d tree) {
			with := d[hu]
			d[hu] = func(rw http.ResponseWriter, req *http.Request) {
				if req.Method == http.MethodHead {
					rw.WriteHeader(405)
					return
				}
				with(rw, req)
			}
		}, "advanced: HEAD", keydir.Warning, "405", 0, 1},
		{"a TLS certificate for another name", func(w *world, d tree) { w.web("openpgpkey.example.org", "example.org", d.ServeHTTP) }, "advanced: connection", keydir.Fault, "another name", 1, 0},
		{"a private address", func(w *world, _ tree) {
			w.name("openpgpkey.example.org", func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil })
		}, "DNS", keydir.Fault, "not public", 2, 0},
		{"no openpgpkey host and nothing else", func(w *world, _ tree) { w.name("openpgpkey.example.org", nil) }, "DNS", keydir.Fault, "no directory", 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			d := well()
			w.web("openpgpkey.example.org", "openpgpkey.example.org", d.ServeHTTP)
			tt.spoil(w, d)
			found, faults, warnings := false, 0, 0
			checks := w.Examine(context.Background(), bob)
			for _, c := range checks {
				found = found || c.Name == tt.check && c.Severity == tt.want && strings.Contains(c.Text, tt.text)
				switch c.Severity {
				case keydir.Fault:
					faults++
				case keydir.Warning:
					warnings++
				}
			}
			if !found || faults != tt.faults || warnings != tt.warnings {
				t.Errorf("%d faults, %d warnings; want %d, %d, and %s %q: %q in\n%+v", faults, warnings, tt.faults, tt.warnings, tt.check, tt.want, tt.text, checks)
			}
		})
	}
}

func TestExamineTheDirectMethod(t *testing.T) {
	w := newWorld(t)
	k := key(t, bob)
	w.web("example.org", "example.org", tree{directRoot + "policy": file(nil), directRoot + "hu/" + keydir.WKDHash("bob"): file(k.Certificate().Bytes())}.ServeHTTP)
	text := ""
	for _, c := range w.Examine(context.Background(), bob) {
		if c.Severity == keydir.Fault || c.Severity == keydir.Warning {
			t.Errorf("%+v", c)
		}
		text += c.Name + ": " + c.Text + "\n"
	}
	if !strings.Contains(text, "direct: certificate: "+string(k.Fingerprint())) {
		t.Errorf("got\n%s", text)
	}
	for _, c := range w.Examine(context.Background(), address.Address{Domain: "example.org"}) {
		if strings.Contains(c.Name, "certificate") {
			t.Errorf("of a domain alone: %+v", c)
		}
	}
}
