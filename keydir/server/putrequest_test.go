package server_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// putting is an authenticated PUT, to be spoilt by tests.
type putting struct {
	keydir.PutRequest
	signer, former *pgp.Key
	invite         string
	path, host     string
}

func (o *office) put(p putting) (int, string) {
	o.t.Helper()
	fields := []string{keydir.FieldDate, p.Date.UTC().Format(time.RFC3339), keydir.FieldNonce, p.Nonce, keydir.FieldInvite, p.invite}
	for field, k := range map[string]*pgp.Key{keydir.FieldSignature: p.signer, keydir.FieldFormer: p.former} {
		if k == nil {
			continue
		}
		sig, _, err := pgp.SignData(ctx, k, p.Canonical(), o.d.Now())
		if err != nil {
			o.t.Fatal(err)
		}
		fields = append(fields, field, base64.StdEncoding.EncodeToString([]byte(sig)))
	}
	if p.host != "" {
		fields = append(fields, "Host", p.host)
	}
	return o.do("PUT", "/letterlock/v1/"+p.path, "application/octet-stream", string(p.Body), fields...)
}

func TestAuthenticatedPut(t *testing.T) {
	d, _ := directory(t)
	now := today.Add(time.Hour)
	d.Now = func() time.Time { return now }
	o := newOffice(t, d)
	a := addr(t, "joe.doe@example.org")
	first, second, third := key(t, "joe.doe@example.org"), key(t, "joe.doe@example.org"), key(t, "joe.doe@example.org")
	nonces := 0
	request := func(k *pgp.Key) putting {
		nonces++
		return putting{PutRequest: keydir.PutRequest{Host: "keys.example.org", Address: a, Date: now,
			Nonce: strings.Repeat("y", 31) + string("ybndrfg8ejkmcpqxot1uwisza345h769"[nonces]), Body: k.Certificate().Bytes()}, signer: k, path: "joe.doe@example.org"}
	}
	invite := func(s string) string {
		token, err := d.Invite(ctx, addr(t, s))
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	own, bobs := invite("joe.doe@example.org"), invite("bob@example.org")
	var replayed putting
	for _, tt := range []struct {
		name   string
		k      *pgp.Key
		spoil  func(p *putting)
		status int
		then   *pgp.Key // who is published afterwards
	}{
		{"without proof", first, nil, 403, nil},
		{"invited for another address", first, func(p *putting) { p.invite = bobs }, 403, nil},
		{"invited, but not signed", first, func(p *putting) { p.invite, p.signer = own, nil }, 403, nil},
		{"invited, and signed by another key", first, func(p *putting) { p.invite, p.signer = own, second }, 403, nil},
		{"invited, a day old", first, func(p *putting) { p.invite, p.Date = own, now.Add(-24*time.Hour) }, 403, nil},
		{"invited, of tomorrow", first, func(p *putting) { p.invite, p.Date = own, now.Add(24*time.Hour) }, 403, nil},
		{"invited, signed for another host", first, func(p *putting) { p.invite, p.Host = own, "evil.example" }, 403, nil},
		{"invited, passed on by the host that it was signed for", first, func(p *putting) { p.invite, p.Host, p.host = own, "evil.example", "evil.example" }, 403, nil},
		{"invited, without nonce", first, func(p *putting) { p.invite, p.Nonce = own, "" }, 400, nil},
		{"invited, for another path", first, func(p *putting) { p.invite, p.path = own, "bob@example.org" }, 400, nil},
		{"of another domain", first, func(p *putting) { p.invite, p.path = own, "bob@example.com" }, 400, nil},
		{"invited", first, func(p *putting) { p.invite = own; replayed = *p }, 204, first},
		{"the same again", first, func(p *putting) { *p = replayed }, 403, first},
		{"published already, signed by itself", first, nil, 204, first},
		{"another key with the used invitation", second, func(p *putting) { p.invite = own }, 403, first},
		{"another key alone", second, nil, 403, first},
		{"another key, signed by a third", second, func(p *putting) { p.former = third }, 403, first},
		{"another key, signed by the published one", second, func(p *putting) { p.former = first }, 204, second},
		{"the old one again", first, nil, 403, second},
		{"a secret key", second, func(p *putting) { p.Body = second.Marshal() }, 400, second},
	} {
		p := request(tt.k)
		if tt.spoil != nil {
			tt.spoil(&p)
		}
		status, body := o.put(p)
		if status != tt.status {
			t.Errorf("%s: %d %q, want %d", tt.name, status, body, tt.status)
		}
		got := served(t, d)
		if tt.then == nil && got != nil || tt.then != nil && (len(got) == 0 || got[0].Fingerprint() != tt.then.Fingerprint()) {
			t.Fatalf("%s: %d certificates are published, or another", tt.name, len(got))
		}
	}
}
