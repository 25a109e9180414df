package index_test

import (
	"bytes"
	"testing"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

func TestClassesByHeaderAndPrefix(t *testing.T) {
	for _, tt := range []struct {
		name, header, prefix string
		want                 pgp.Class
		needs                bool
	}{
		{"text", "Subject: x\r\n\r\n", "hello", pgp.Plain, true},
		{"an armor block", "\r\n", "-----BEGIN PGP MESSAGE-----\r\n", pgp.Encrypted, true},
		{"an armor block after empty lines", "Content-Type: TEXT/plain; charset=utf-8\r\n\r\n", "\r\n \r\n-----BEGIN PGP MESSAGE-----\r\n", pgp.Encrypted, true},
		{"an armor block in base64", "Content-Transfer-Encoding: BASE64\r\n\r\n", "LS0tLS1CRUdJTiBQ\r\nR1AgTUVTU0FHRS0tLS0tCgo=", pgp.Encrypted, true},
		{"an armor block in quoted-printable", "Content-Transfer-Encoding: quoted-printable\r\n\r\n", "-----BEGIN=20PGP MESS=\r\nAGE-----\r\n", pgp.Encrypted, true},
		{"a clear-signed text", "\r\n", "-----BEGIN PGP SIGNED MESSAGE-----\r\n", pgp.Signed, true},
		{"multipart/encrypted", "Content-Type: multipart/encrypted; boundary=x\r\n\r\n", "", pgp.Encrypted, false},
		{"folded and commented", "content-type:\r\n multipart/encrypted (yes)\r\n\r\n", "", pgp.Encrypted, false},
		{"the second of two types does not count", "Content-Type: text/html\r\nContent-Type: multipart/encrypted\r\n\r\n", "", pgp.Plain, false},
		{"the first of two types counts", "Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\n", "-----BEGIN PGP MESSAGE-----\r\n", pgp.Encrypted, true},
		{"a malformed type is text", "Content-Type: nonsense\r\n\r\n", "-----BEGIN PGP MESSAGE-----\r\n", pgp.Encrypted, true},
		{"multipart/signed", "Content-Type: multipart/signed; protocol=\"application/pgp-signature\"\r\n\r\n", "", pgp.Signed, false},
		{"S/MIME", "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"\r\n\r\n", "", pgp.Plain, false},
		{"html", "Content-Type: text/html\r\n\r\n", "", pgp.Plain, false},
		{"PGP/MIME that Exchange took apart", "X-MS-Has-Attach: yes\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n",
			"--x\r\nContent-Type: text/plain\r\n\r\n\r\n--x\r\nContent-Type: Application/PGP-Encrypted\r\n", pgp.Encrypted, true},
		{"an attachment that went through Exchange", "Content-Type: multipart/mixed; boundary=x\r\nx-ms-exchange-id: yes\r\n\r\n", "--x\r\n\r\nHello", pgp.Plain, true},
		{"an attachment that didn't", "Content-Type: multipart/mixed; boundary=x\r\n\r\n", "--x\r\nContent-Type: application/pgp-encrypted\r\n", pgp.Plain, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := index.Classification{UID: 1, Header: []byte(tt.header), Prefix: []byte(tt.prefix)}
			if got := c.Class(); got != tt.want {
				t.Errorf("class %q, want %q", got, tt.want)
			}
			if got := index.NeedsPrefix(c.Header); got != tt.needs {
				t.Errorf("needs a prefix: %v", got)
			}
		})
	}
}

func FuzzClassify(f *testing.F) {
	f.Add([]byte("Content-Type: multipart/encrypted\r\n\r\n"), []byte(""))
	f.Add([]byte("Content-Transfer-Encoding: base64\r\n\r\n"), []byte("LS0tLS1CRUdJTiBQ\r\nR1AgTUVTU0FHRS0tLS0tCgo="))
	f.Add([]byte("Content-Type: text/plain\r\nContent-Type: x\r\n\r\n"), []byte(" -----BEGIN PGP MESSAGE-----"))
	f.Add([]byte("X-MS-Has-Attach: yes\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"), []byte("--x\r\nContent-Type: application/pgp-encrypted\r\n"))
	f.Fuzz(func(t *testing.T, head, prefix []byte) {
		got := index.Classification{Header: head, Prefix: prefix}.Class()
		// It is what opening would take it for.
		root, err := message.Parse(message.Bytes(append(bytes.Clone(head), prefix...)), message.Limits{})
		if err != nil || !bytes.Equal(root.Header.Raw, head) || len(prefix) > index.PrefixBytes {
			return
		}
		want, err := pgp.ClassOf(root, message.Bytes(append(bytes.Clone(head), prefix...)))
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("class %q, but opening would take it for %q", got, want)
		}
	})
}
