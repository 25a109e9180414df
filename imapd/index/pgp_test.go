package index_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// person is somebody with a key.
type person struct {
	address address.Address
	key     *pgp.Key
}

func newPerson(t testing.TB, s string) person {
	t.Helper()
	a, err := address.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	k, err := pgp.GenerateKey(a, pgp.DefaultProfile, time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return person{a, k}
}

// known is a pgp.CertificateStore of what it is made of.
type known []person

func (k known) Issuer(_ context.Context, id uint64) ([]*pgp.Certificate, error) {
	var found []*pgp.Certificate
	for _, p := range k {
		for _, have := range p.key.Certificate().KeyIDs() {
			if have == id {
				found = append(found, p.key.Certificate())
				break
			}
		}
	}
	return found, nil
}

func (k known) Identity(_ context.Context, a address.Address, f pgp.Fingerprint) (pgp.Identity, error) {
	for _, p := range k {
		if p.address.Equal(a) && p.key.Fingerprint() == f {
			return pgp.Directory, nil
		}
	}
	return pgp.Unknown, nil
}

// send is what from's bridge sends to.
func send(t testing.TB, from, to person, letter string) []byte {
	t.Helper()
	var b bytes.Buffer
	err := pgp.Protect(context.Background(), &b, message.Bytes([]byte(strings.ReplaceAll(letter, "\n", "\r\n"))), pgp.Protection{
		Signer: from.key, Recipients: []*pgp.Certificate{to.key.Certificate()}, Autocrypt: from.key.Certificate(), From: from.address, Now: time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func realLibrary(t testing.TB, st store.Store, me person, others ...person) *index.Library {
	t.Helper()
	lib, err := index.New(index.Config{
		Store: st, Account: me.address.Key(), Own: []address.Address{me.address}, Certificates: known(append(others, me)),
		Keys:  func(context.Context) (pgp.Decrypter, error) { return pgp.Keys(me.key), nil },
		Spool: message.SpoolOptions{Dir: t.TempDir()},
	})
	if err != nil {
		t.Fatal(err)
	}
	return lib
}

func letterOf(i int, body string) string {
	return fmt.Sprintf("From: Alice <alice@example.test>\nTo: bob@example.test\nSubject: canary-subject %d\nDate: Mon, 1 Jan 2024 10:00:00 +0000\nMessage-ID: <%d@example.test>\nContent-Type: text/plain; charset=utf-8\n\n%s\n", i, i, body)
}

// TestLosingTheIndexGivesTheSameBytes opens real messages twice, with nothing
// left of the first time.
func TestLosingTheIndexGivesTheSameBytes(t *testing.T) {
	alice, bob := newPerson(t, "alice@example.test"), newPerson(t, "bob@example.test")
	raw := send(t, alice, bob, letterOf(1, "canary-body"))
	var first []byte
	for i := range 3 {
		st, err := store.OpenMemory(index.Schema)
		if err != nil {
			t.Fatal(err)
		}
		m, err := realLibrary(t, st, bob, alice).Mailbox(context.Background(), "INBOX", 1)
		if err != nil {
			t.Fatal(err)
		}
		r, err := m.Open(context.Background(), 7, message.Bytes(raw))
		if err != nil || r.Class != pgp.Encrypted {
			t.Fatalf("%+v, %v", r, err)
		}
		got, err := message.ReadAll(r.Message.Source, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		got = append(append(append(got, r.Row.Envelope...), r.Row.BodyStructure...), fmt.Sprint(m.Keywords(7))...)
		if i == 0 {
			first = got
		} else if !bytes.Equal(got, first) {
			t.Errorf("opening %d:\n%s\nthe first:\n%s", i, got, first)
		}
		r.Close()
		st.Close()
	}
	for _, want := range []string{"canary-body", "canary-subject 1", "signature=valid; identity=directory", index.KeywordSigned} {
		if !bytes.Contains(first, []byte(want)) {
			t.Errorf("%q is not shown in\n%s", want, first)
		}
	}
}

// TestNothingReadableOnDisk looks for what a message says in every file.
func TestNothingReadableOnDisk(t *testing.T) {
	alice, bob := newPerson(t, "alice@example.test"), newPerson(t, "bob@example.test")
	dir := t.TempDir()
	st, err := store.Open(filepath.Join(dir, "store.db"), [32]byte{1, 2, 3}, index.Schema)
	if err != nil {
		t.Fatal(err)
	}
	lib := realLibrary(t, st, bob, alice)
	m, err := lib.Mailbox(context.Background(), "INBOX", 1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		raw := send(t, alice, bob, letterOf(i, strings.Repeat("canary-body CANARY-BODY ", 1+i*10000)))
		r, err := m.Open(context.Background(), uint32(i+1), message.Bytes(raw))
		if err != nil || r.Class != pgp.Encrypted {
			t.Fatalf("%+v, %v", r, err)
		}
		defer r.Close()
	}
	files := 0
	look := func() {
		err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			files++
			b, err := os.ReadFile(path)
			for _, word := range []string{"canary", "CANARY", "alice@example", "INBOX", "index_row"} {
				if bytes.Contains(b, []byte(word)) {
					t.Errorf("%q stands in %s", word, e.Name())
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	look()
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	look()
	if files < 2 {
		t.Errorf("looked at %d files", files)
	}
}

// TestSealedMailAgrees uploads, and compares what the row says of the copy with
// what was uploaded.
func TestSealedMailAgrees(t *testing.T) {
	bob := newPerson(t, "bob@example.test")
	st, err := store.OpenMemory(index.Schema)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	m, err := realLibrary(t, st, bob).Mailbox(context.Background(), "Drafts", 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, upload := range []string{
		letterOf(1, "draft"),
		"From: bob@example.test\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\nContent-Type: message/rfc822\n\nSubject: in\n\nx\n--b--\n",
		"From: bob@example.test\n\nLetterlock-Status: none\n",
	} {
		raw := []byte(strings.ReplaceAll(upload, "\n", "\r\n"))
		var sealed bytes.Buffer
		err := pgp.Seal(context.Background(), &sealed, message.Bytes(raw), pgp.Sealing{Signer: bob.key, Storage: bob.key.Certificate(), From: bob.address, Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		uid := uint32(i + 1)
		r, err := m.Open(context.Background(), uid, message.Bytes(sealed.Bytes()))
		if err != nil || r.Class != pgp.Encrypted {
			t.Fatalf("%+v, %v", r, err)
		}
		got, err := message.ReadAll(r.Message.Source, 1<<20)
		if err != nil || !bytes.Equal(got, raw) {
			t.Errorf("opened %q, %v, uploaded %q", got, err, raw)
		}
		plain, err := render.New(message.Bytes(raw), message.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if r.Row.Size != int64(len(raw)) || !bytes.Equal(r.Row.BodyStructure, plain.BodyStructure()) || !bytes.Equal(r.Row.Envelope, plain.Envelope()) {
			t.Errorf("row says %d %s %s", r.Row.Size, r.Row.BodyStructure, r.Row.Envelope)
		}
		r.Close()
	}
}
