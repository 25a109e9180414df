package keydir_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// Certificates of strangers that have somebody's key among their subkeys, which
// anybody can make, don't keep the one out that its signatures are verified by.
func TestIssuersAreNotCrowdedOut(t *testing.T) {
	w := newWorld(t, unhurried)
	k := key(t, bob)
	w.sees(k)
	primary := &packet.OpaquePacket{Tag: 14, Contents: k.Certificate().PrimaryKey()}
	id := k.Certificate().KeyIDs()[0]
	for i := range 20 {
		a := address.Address{Local: fmt.Sprintf("mallory%d", i), Domain: "example.org"}
		var m *pgp.Key
		for m == nil || m.Fingerprint() > k.Fingerprint() {
			m = key(t, a)
			if k.Fingerprint() < "1" { // unlucky: nobody gets below it soon
				break
			}
		}
		e := entity(t, m)
		sub := e.Subkeys[0]
		p, err := packet.Read(bytes.NewReader(serialized(t, primary)))
		if err != nil {
			t.Fatal(err)
		}
		stolen := p.(*packet.PublicKey)
		b := sub.Bindings[0].Packet
		life := uint32(86400 * 365)
		sig := &packet.Signature{Version: b.Version, CreationTime: start.Add(-time.Hour), SigType: packet.SigTypeSubkeyBinding, PubKeyAlgo: b.PubKeyAlgo, Hash: b.Hash,
			IssuerKeyId: b.IssuerKeyId, IssuerFingerprint: b.IssuerFingerprint, FlagsValid: true, FlagEncryptStorage: true, KeyLifetimeSecs: &life}
		if err := sig.SignKey(stolen, e.PrivateKey, at(start)); err != nil {
			t.Fatal(err)
		}
		var bound bytes.Buffer
		if err := sig.Serialize(&bound); err != nil {
			t.Fatal(err)
		}
		whole := slices.Concat(public(t, e), serialized(t, primary), bound.Bytes())
		value := "addr=" + a.String() + "; keydata=" + base64.StdEncoding.EncodeToString(whole)
		w.must(w.Observe(ctx, keydir.Observation{From: a, Autocrypt: []string{value}, Date: w.clock()}))
	}
	got, err := w.Issuer(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].Fingerprint() != k.Fingerprint() {
		t.Errorf("%d certificates are given for the key, the one that it is of among them: %v", len(got),
			slices.ContainsFunc(got, func(c *pgp.Certificate) bool { return c.Fingerprint() == k.Fingerprint() }))
	}
}

func serialized(t *testing.T, p *packet.OpaquePacket) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := p.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What a person declined stays so, however many other certificates come by mail in
// the same name.
func TestWhatWasDeclinedIsNotCrowdedOut(t *testing.T) {
	w := newWorld(t, unhurried)
	d := w.directory()
	k, other := key(t, bob), key(t, bob)
	d.set(200, k)
	w.find(bob)
	w.signs(k, 3)
	d.set(200, other)
	w.pass(2 * day)
	w.finds("the directory contradicts", bob, keydir.Found, keydir.ProblemConflict, pgp.Conflict)
	w.must(w.Accept(ctx, bob, k.Fingerprint()))
	w.pass(8 * day)
	w.finds("declined", bob, keydir.Found, "", pgp.Directory, k)
	for range 12 {
		w.pass(time.Hour)
		w.sees(key(t, bob))
	}
	w.pass(8 * day)
	w.finds("declined before", bob, keydir.Found, "", pgp.Directory, k)
}
