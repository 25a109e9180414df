package pgp_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// armored encrypts with the engine, as a mail program would.
func armored(t testing.TB, to, hidden []*pgp.Key) string {
	t.Helper()
	entities := func(keys []*pgp.Key) (all []*openpgp.Entity) {
		for _, k := range keys {
			e, err := openpgp.ReadKeyRing(bytes.NewReader(k.Certificate().Bytes()))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, e...)
		}
		return all
	}
	var out bytes.Buffer
	a, _ := armor.Encode(&out, "PGP MESSAGE", map[string]string{"Version": "x"})
	w, err := openpgp.EncryptWithParams(a, entities(to), entities(hidden), &openpgp.EncryptParams{Config: &packet.Config{}})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write([]byte("hello"))
	_ = w.Close()
	_ = a.Close()
	return strings.ReplaceAll(out.String(), "\n", "\r\n") + "\r\n"
}

// TestIsSealedSubmission: kind and recipients of what is encrypted, and nothing
// for what only says so.
func TestIsSealedSubmission(t *testing.T) {
	t.Parallel()
	bob, carol := makeKey(t, "bob@example.net"), makeKey(t, "carol@example.net")
	text := armored(t, []*pgp.Key{bob}, []*pgp.Key{carol})
	mime := func(body string) string {
		return crlf("From: a@example.org\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=b\n\n"+
			"--b\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n--b\nContent-Type: application/octet-stream\n\n") + body + "--b--\r\n"
	}
	smime := func(kind, body string) string {
		return "Content-Type: application/pkcs7-mime; smime-type=" + kind + "\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString([]byte(body)) + "\r\n"
	}
	plain := "-----BEGIN PGP MESSAGE-----\r\n\r\n" + base64.StdEncoding.EncodeToString([]byte("\xcb\x0bb\x00\x00\x00\x00\x00hello")) +
		"\r\n-----END PGP MESSAGE-----\r\n"
	tests := []struct {
		name, mail string
		kind       pgp.SealKind
		bob        bool
		ids        int
	}{
		{"PGP/MIME with one hidden recipient", mime(text), pgp.PGPMIME, true, 2},
		{"PGP/MIME around a literal", mime(plain), pgp.NotSealed, false, 0},
		{"PGP/MIME around nothing", mime("hello\r\n"), pgp.NotSealed, false, 0},
		{"PGP/MIME cut within the packets", mime(text[:160]), pgp.NotSealed, false, 0},
		{"inline", "From: a@example.org\r\n\r\n" + text, pgp.InlinePGP, true, 2},
		{"inline in base64", "From: a@example.org\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString([]byte(text)), pgp.InlinePGP, true, 2},
		{"inline after empty lines", "From: a@example.org\r\n\r\n\r\n \r\n" + text, pgp.InlinePGP, true, 2},
		{"text before armor", "From: a@example.org\r\n\r\nhello\r\n" + text, pgp.NotSealed, false, 0},
		{"text behind armor", "From: a@example.org\r\n\r\n" + text + "PS: the code is 1234\r\n", pgp.NotSealed, false, 0},
		{"text behind the armor of PGP/MIME", mime(text + "PS: the code is 1234\r\n"), pgp.NotSealed, false, 0},
		{"text before the armor of PGP/MIME", mime("PS: the code is 1234\r\n" + text), pgp.NotSealed, false, 0},
		{"two blocks", "From: a@example.org\r\n\r\n" + text + text, pgp.NotSealed, false, 0},
		{"cut off behind the packets", "From: a@example.org\r\n\r\n" + text[:len(text)-40], pgp.NotSealed, false, 0},
		{"plain", "From: a@example.org\r\n\r\nhello\r\n", pgp.NotSealed, false, 0},
		{"text in the first part of PGP/MIME", strings.Replace(mime(text), "Version: 1", "Version: 1\r\nPS: the code is 1234", 1), pgp.NotSealed, false, 0},
		{"text behind the end of PGP/MIME", mime(text) + "PS: the code is 1234\r\n", pgp.NotSealed, false, 0},
		{"empty lines behind the end of PGP/MIME", mime(text) + "\r\n \r\n", pgp.PGPMIME, true, 2},
		{"PGP/MIME without end", strings.TrimSuffix(mime(text), "--b--\r\n"), pgp.PGPMIME, true, 2},
		{"a note for others before PGP/MIME", strings.Replace(mime(text), "\r\n\r\n--b", "\r\n\r\nThis is an OpenPGP message\r\n--b", 1), pgp.PGPMIME, true, 2},
		{"S/MIME enveloped", smime("enveloped-data", "\x30\x82\x01\x00\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03\xa0"), pgp.SMIME, false, 0},
		{"S/MIME enveloped, of unknown length", smime("enveloped-data", "\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03\xa0\x80"), pgp.SMIME, false, 0},
		{"S/MIME enveloped and authenticated", smime("authEnveloped-data", "\x30\x20\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x17\xa0"), pgp.SMIME, false, 0},
		{"S/MIME signed that says enveloped", smime("enveloped-data", "\x30\x82\x01\x00\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0"), pgp.NotSealed, false, 0},
		{"text that says it is S/MIME enveloped", smime("enveloped-data", "the code is 1234"), pgp.NotSealed, false, 0},
		{"S/MIME enveloped and empty", smime("enveloped-data", ""), pgp.NotSealed, false, 0},
		{"S/MIME signed", "Content-Type: application/pkcs7-mime; smime-type=signed-data\r\n\r\nx", pgp.NotSealed, false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := pgp.IsSealedSubmission(parseMail(t, tt.mail), message.Bytes([]byte(tt.mail)))
			if err != nil || s.Kind != tt.kind || len(s.KeyIDs) != tt.ids {
				t.Fatalf("got %+v, %v", s, err)
			}
			if got := pgp.Covers(s.KeyIDs, bob.Certificate()); got != tt.bob {
				t.Errorf("covers bob: %v", got)
			}
			if pgp.Covers(s.KeyIDs, carol.Certificate()) {
				t.Error("covers one who is hidden")
			}
		})
	}
}

func FuzzIsSealedSubmission(f *testing.F) {
	f.Add("From: a@example.org\r\n\r\n" + armored(f, []*pgp.Key{makeKey(f, "bob@example.net")}, nil))
	f.Fuzz(func(t *testing.T, mail string) {
		root, err := message.Parse(message.Bytes([]byte(mail)), message.Limits{})
		if err != nil {
			return
		}
		if s, err := pgp.IsSealedSubmission(root, message.Bytes([]byte(mail))); err != nil {
			t.Errorf("IsSealedSubmission = %+v, %v", s, err)
		}
	})
}
