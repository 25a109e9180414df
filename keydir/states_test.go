package keydir_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// entity is the engine's view of a key, to make states of it that pgp doesn't.
func entity(t *testing.T, k *pgp.Key) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.ReadEntity(packet.NewReader(bytes.NewReader(k.Marshal())))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func public(t *testing.T, e *openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := e.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func at(now time.Time) *packet.Config { return &packet.Config{Time: func() time.Time { return now }} }

func revoked(t *testing.T, k *pgp.Key, now time.Time) []byte {
	t.Helper()
	e := entity(t, k)
	if err := e.Revoke(packet.KeyCompromised, "", at(now)); err != nil {
		t.Fatal(err)
	}
	return public(t, e)
}

func TestRevoked(t *testing.T) {
	k, next := key(t, bob), key(t, bob)
	gone := revoked(t, k, start)

	w := newWorld(t)
	d := w.directory()
	d.set(200, k)
	w.find(bob)
	d.setBody(gone)
	w.pass(2 * day)
	w.finds("the revocation is merged", bob, keydir.Found, keydir.ProblemRevoked, pgp.Directory)
	d.set(200, k)
	w.pass(2 * day)
	w.finds("and isn't lost when the directory forgets it", bob, keydir.Found, keydir.ProblemRevoked, pgp.Directory)
	d.set(404)
	w.pass(2 * day)
	w.finds("revoked and withdrawn is not absent", bob, keydir.Found, keydir.ProblemRevoked, pgp.Directory)
	d.setBody(append(bytes.Clone(gone), next.Certificate().Bytes()...))
	w.pass(2 * day)
	w.finds("a successor, where the old one has no history", bob, keydir.Found, "", pgp.Directory, next)

	w = newWorld(t)
	d = w.directory()
	d.set(200, k)
	w.find(bob)
	w.signs(k, 2)
	d.setBody(append(bytes.Clone(gone), next.Certificate().Bytes()...))
	w.finds("a successor, where it has one, waits for a person", bob, keydir.Found, keydir.ProblemConflict, pgp.Conflict)

	w = newWorld(t)
	w.directory().setBody(gone)
	if f := w.finds("revoked at first contact", bob, keydir.Found, keydir.ProblemRevoked, pgp.Directory); !f.Known {
		t.Error("not known")
	}

	w = newWorld(t)
	w.sees(k)
	stripped := entity(t, k) // a directory may withdraw the user IDs and keep the revocation
	if err := stripped.Revoke(packet.KeyCompromised, "", at(start)); err != nil {
		t.Fatal(err)
	}
	clear(stripped.Identities)
	w.directory().setBody(public(t, stripped))
	w.finds("a revocation without user ID", bob, keydir.Unavailable, keydir.ProblemRevoked, pgp.FirstSeen)
}

// What one address taught of a certificate holds for every other.
func TestRevocationHoldsForEveryAddress(t *testing.T) {
	k := key(t, bob)
	all, err := pgp.ParseCertificates(revoked(t, k, start))
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.must(w.Import(ctx, all, address.Address{}, pgp.Unknown))
	w.directory().set(200, k)
	w.finds("revoked elsewhere", bob, keydir.Found, keydir.ProblemRevoked, pgp.Directory)
	// Taking the revocation out of the stored certificate is tampering, though
	// what remains is a certificate of that fingerprint.
	w.must(w.store.Update(ctx, func(tx store.Tx) error {
		_, err := tx.Exec(`UPDATE keydir_cert SET bytes = ?`, k.Certificate().Bytes())
		return err
	}))
	w.open()
	if f, err := w.Find(ctx, bob); !errors.Is(err, store.ErrTampered) || f.Problem != keydir.ProblemTampered {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := w.Issuer(ctx, k.Certificate().KeyIDs()[0]); !errors.Is(err, store.ErrTampered) {
		t.Errorf("Issuer: %v", err)
	}
}

func TestNewSubkeyIsSilent(t *testing.T) {
	k := key(t, bob)
	e := entity(t, k)
	if err := errors.Join(e.AddEncryptionSubkey(at(start)), e.AddSigningSubkey(at(start))); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	d := w.directory()
	d.set(200, k)
	w.find(bob)
	w.signs(k, 3)
	d.setBody(public(t, e))
	f := w.finds("merged", bob, keydir.Found, "", pgp.Directory, k)
	if got, want := len(f.Certificates[0].KeyIDs()), len(k.Certificate().KeyIDs())+2; got != want {
		t.Errorf("%d keys, want %d", got, want)
	}
	if got, err := w.Issuer(ctx, e.Subkeys[len(e.Subkeys)-1].PublicKey.KeyId); err != nil || len(got) != 1 {
		t.Errorf("the new subkey's certificate: %d, %v", len(got), err)
	}
	d.set(200, k)
	w.pass(2 * day)
	f = w.finds("an older state takes nothing away", bob, keydir.Found, "", pgp.Directory, k)
	if got, want := len(f.Certificates[0].KeyIDs()), len(k.Certificate().KeyIDs())+2; got != want {
		t.Errorf("%d keys, want %d", got, want)
	}
}

// Two versions of OpenPGP side by side, by one directory.
func TestVersionsSideBySide(t *testing.T) {
	old, next := key(t, bob), version6(t)
	both := append(bytes.Clone(old.Certificate().Bytes()), next.Bytes()...)
	fprs := func(f keydir.Finding) (n int) { return len(f.Certificates) }

	w := newWorld(t)
	w.directory().setBody(both)
	if n := fprs(w.find(bob)); n != 2 {
		t.Errorf("first contact: %d certificates, want both", n)
	}

	w = newWorld(t)
	d := w.directory()
	d.set(200, old)
	w.find(bob)
	d.setBody(both)
	w.pass(2 * day)
	if n := fprs(w.find(bob)); n != 2 {
		t.Errorf("a second beside the first: %d certificates, want both", n)
	}

	w = newWorld(t)
	d = w.directory()
	d.set(200, old)
	w.find(bob)
	w.signs(old, 2)
	d.setBody(both)
	w.finds("mail of a settled contact isn't sealed to more keys by a directory's word", bob, keydir.Found, "", pgp.Directory, old)
	w.must(w.Import(ctx, []*pgp.Certificate{old.Certificate(), next}, bob, pgp.Confirmed))
	if f := w.find(bob); fprs(f) != 2 || f.Identity != pgp.Confirmed {
		t.Errorf("imported together: %d certificates, %q", fprs(f), f.Identity)
	}
}

func version6(t *testing.T) *pgp.Certificate {
	t.Helper()
	config := at(start.Add(-day))
	config.V6Keys, config.Algorithm = true, packet.PubKeyAlgoEd25519
	e, err := openpgp.NewEntity("", "", bob.String(), config)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := pgp.ParseCertificates(public(t, e))
	if err != nil || !certs[0].Has(bob) || certs[0].Version() != 6 {
		t.Fatal(err)
	}
	return certs[0]
}
