package pgp_test

import (
	"strings"
	"testing"
)

// TestSignedAsProgramsWriteIt: whatever is asked of the frame of a signed letter, the
// frames that mail programs write have it, with the nesting that they use.
func TestSignedAsProgramsWriteIt(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	tests := []struct{ name, typ, root, boundary, inner, preamble, box string }{
		{"Apple Mail", "multipart/signed;\r\n\tboundary=\"B\";\r\n\tprotocol=\"application/pgp-signature\";\r\n\tmicalg=pgp-sha512", "", "Apple-Mail=_0A1B2C3D-4E5F-6071-8293-A4B5C6D7E8F9", "Apple-Mail=_FFFFFFFF-4E5F-6071-8293-A4B5C6D7E8F9",
			"\r\n", "Content-Transfer-Encoding: 7bit\r\nContent-Disposition: attachment;\r\n\tfilename=signature.asc\r\nContent-Type: application/pgp-signature;\r\n\tname=signature.asc\r\nContent-Description: Message signed with OpenPGP\r\n"},
		{"mutt", "multipart/signed; micalg=pgp-sha256;\r\n\tprotocol=\"application/pgp-signature\"; boundary=\"B\"", "Content-Disposition: inline\r\n", "7JfCtLOvnd9MIVvH", "k+w/mQv8wyuph6w0", "\r\n",
			"Content-Type: application/pgp-signature; name=\"signature.asc\"\r\n"},
		{"KMail", "multipart/signed; boundary=\"B\"; micalg=\"pgp-sha512\"; protocol=\"application/pgp-signature\"", "Content-Transfer-Encoding: 7Bit\r\n", "nextPart1879203.aBcDeF12gH", "nextPart3415532.xYz", "",
			"Content-Type: application/pgp-signature; name=\"signature.asc\"\r\nContent-Description: This is a digitally signed message part.\r\nContent-Transfer-Encoding: 7Bit\r\n"},
		{"Evolution", "multipart/signed; micalg=\"pgp-sha512\";\r\n\tprotocol=\"application/pgp-signature\"; boundary=\"B\"", "", "=-Wq9/3dGh+P0s==", "=-Ka1l2m3n4o5p6q7r8s9t", "\r\n\r\n",
			"Content-Type: application/pgp-signature; name=\"signature.asc\"\r\nContent-Description: This is a digitally signed message part\r\n"},
		{"Gnus", "multipart/signed; boundary=\"B\";\r\n\tmicalg=pgp-sha256; protocol=\"application/pgp-signature\"", "", "==-=-=", "=-=-=", "", "Content-Type: application/pgp-signature; name=\"signature.asc\"\r\n"},
		{"Claws Mail", "multipart/signed; boundary=\"B\";\r\n protocol=\"application/pgp-signature\"; micalg=pgp-sha512", "", "Sig_/aB3.cD4+eF5=gH6'iJ", "MP_/0.aB3cD4eF5", "", "Content-Type: application/pgp-signature\r\nContent-Description: Digitale Signatur von OpenPGP\r\n"},
		{"Sylpheed", "multipart/signed; protocol=\"application/pgp-signature\";\r\n micalg=\"PGP-SHA1\";\r\n boundary=\"B\"", "", "Signature=_Mon__1_Jan_2026_21_14_07_+0900_aB3cD4eF5=.", "Multipart=_Mon__1_Jan_2026_21_14_07_+0900_gH6", "", "Content-Type: application/pgp-signature\r\n"},
		{"Thunderbird", "multipart/signed; micalg=pgp-sha256;\r\n protocol=\"application/pgp-signature\";\r\n boundary=\"B\"", "", "------------0aB1cD2eF3gH4iJ5kL6mN7oP", "------------9xY8wV7uT6sR5qP4oN3mL2kJ", "This is an OpenPGP/MIME signed message (RFC 4880 and 3156)\r\n",
			"Content-Type: application/pgp-signature; name=\"OpenPGP_signature.asc\"\r\nContent-Description: OpenPGP digital signature\r\nContent-Disposition: attachment; filename=\"OpenPGP_signature\"\r\n"},
		{"a webmail", "multipart/signed; protocol=\"application/pgp-signature\";\r\n micalg=pgp-sha1; boundary=\"B\"", "Content-Disposition: inline\r\n", "=_aB3cD4eF5gH6iJ7kL8mN9o", "=_zY9xW8vU7tS6rQ5pO4nM3l", "This message is in MIME format and has been PGP signed.\r\n\r\n", "Content-Type: application/pgp-signature\r\nContent-Description: PGP Digital Signature\r\nContent-Disposition: inline\r\nContent-Transfer-Encoding: 7bit\r\n"},
		{"PGP Universal", "multipart/signed;\r\n\tboundary=\"B\"; protocol=\"application/pgp-signature\"; micalg=pgp-sha256;\r\n\tcharset=\"us-ascii\"", "", "PGP_Universal_0A1B2C3D_4E5F6071_8293A4B5_C6D7E8F9", "----=_NextPart_000_0001", "", "Content-Type: application/pgp-signature; x-mac-type=70674453;\r\n\tname=PGP.sig\r\nContent-Transfer-Encoding: 7BIT\r\nContent-Disposition: attachment; filename=PGP.sig\r\n"},
	}
	for _, tt := range tests {
		part := "Content-Type: multipart/mixed; boundary=\"" + tt.inner + "\"\r\n\r\n--" + tt.inner + "\r\nContent-Type: text/plain; charset=utf-8; format=flowed\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nCANARY\r\n-- =20\r\nAlice\r\n--" +
			tt.inner + "\r\nContent-Type: text/x-patch; name=\"a.patch\"\r\n\r\n--- a\r\n+++ b\r\n@@ -1 +1 @@\r\n\r\n--" + tt.inner + "--\r\n"
		body := tt.root + "Content-Type: " + strings.Replace(tt.typ, "\"B\"", "\""+tt.boundary+"\"", 1) + "\r\n\r\n" + tt.preamble + "--" + tt.boundary + "\r\n" + part +
			"\r\n--" + tt.boundary + "\r\n" + tt.box + "\r\n" + detachedBy(t, c.alice, part, false) + "\r\n--" + tt.boundary + "--\r\n"
		mail := outside + "MIME-Version: 1.0\r\n" + body
		if got := openBytes(t, []byte(mail), c.opening()); summary(got) != "signed valid" {
			t.Errorf("%s: got %q", tt.name, summary(got))
		}
		if got := openBytes(t, []byte(strings.ReplaceAll(mail, "\r\n", "\n")), c.opening()); summary(got) != "signed valid" {
			t.Errorf("%s, in a mailbox with line ends of LF: got %q", tt.name, summary(got))
		}
		k, d := locked(t, literal(t, body), c.bob)
		if got := openBytes(t, []byte(mime(outside, append(k, d...))), c.opening()); summary(got) != "encrypted valid" {
			t.Errorf("%s, encrypted: got %q", tt.name, summary(got))
		}
	}
}
