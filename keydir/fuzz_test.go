package keydir_test

import (
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/keydir"
)

// What an Autocrypt field gives is one certificate for one address, or an error.
func FuzzAutocrypt(f *testing.F) {
	k := key(f, bob)
	f.Add(header(bob, k))
	f.Add("addr=bob@example.org; _x=1; keydata=AAAA;")
	f.Add("addr=a@b; addr=c@d; keydata=")
	f.Add(";;==;=;addr")
	f.Fuzz(func(t *testing.T, value string) {
		began := time.Now()
		a, c, err := keydir.ParseAutocrypt(value)
		if (err == nil) != (c != nil) || (c != nil) == a.IsZero() {
			t.Errorf("%v, certificate %v, %v", a, c, err)
		}
		if err == nil && (len(value) > 10<<10 || !strings.Contains(value, "keydata")) {
			t.Error("taken out of nothing")
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// What a directory answers is certificates that name the address, or unavailable.
func FuzzAnswer(f *testing.F) {
	f.Add(key(f, bob).Certificate().Bytes())
	f.Add([]byte(key(f, bob).Certificate().Armored()))
	f.Add(key(f, bob).Marshal())
	f.Add([]byte("\x99\x01\x0d\x04"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 64<<10 {
			return
		}
		outcome, certs := keydir.ParseAnswer(body, bob)
		if (outcome == keydir.Found) != (len(certs) > 0) || outcome != keydir.Found && outcome != keydir.Unavailable || len(certs) > 4 {
			t.Fatalf("%q with %d certificates", outcome, len(certs))
		}
		for _, c := range certs {
			if !c.Has(bob) {
				t.Error("a certificate of another address")
			}
		}
	})
}
