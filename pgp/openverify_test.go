package pgp_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/pgp"
)

// variant is Alice's certificate after a change of its entity.
func variant(t testing.TB, k *pgp.Key, change func(e *openpgp.Entity)) *pgp.Certificate {
	t.Helper()
	e := engineOf(t, k)
	change(e)
	return one(t, public(t, e))
}

// resigned changes the newest self-signature.
func resigned(t testing.TB, e *openpgp.Entity, change func(s *packet.Signature)) {
	t.Helper()
	for _, id := range e.Identities {
		s := id.SelfCertifications[0].Packet
		change(s)
		must(t, s.SignUserId(id.Name, e.PrimaryKey, e.PrivateKey, at(testNow)))
	}
}

func TestSignatureStates(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	later := testNow.Add(30 * time.Minute)
	signed := []byte(mime(outside, written(t, payload, c.alice, &openpgp.EncryptParams{Config: at(later)}, c.bob)))
	critical := at(later)
	critical.SignatureNotations = []*packet.Notation{{Name: "x@example.org", Value: []byte("1"), IsCritical: true, IsHumanReadable: true}}
	noted := []byte(mime(outside, written(t, payload, c.alice, &openpgp.EncryptParams{Config: critical}, c.bob)))
	short := at(later)
	short.SigLifetimeSecs = 60
	brief := []byte(mime(outside, written(t, payload, c.alice, &openpgp.EncryptParams{Config: short}, c.bob)))
	text := "CANARY"
	weakSig := weakSignature(t, engineOf(t, c.alice), 1, []byte(text), later)
	weak := []byte(outside + "\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA1\r\n\r\n" + text + "\r\n" +
		strings.ReplaceAll(pgpMessage(weakSig), "PGP MESSAGE", "PGP SIGNATURE"))

	own := c.alice.Certificate()
	_, mallory := cut(t, c.mallory.Certificate().Bytes())
	_, alice := cut(t, own.Bytes())
	claimed := one(t, bytes.Join([][]byte{mallory[0], mallory[1], mallory[2], retag(alice[0], 14), mallory[4]}, nil))
	bare := one(t, alice[0])

	tests := []struct {
		name  string
		mail  []byte
		certs []*pgp.Certificate
		want  string
	}{
		{"a live key's is valid", signed, []*pgp.Certificate{own}, "encrypted valid"},
		{"without certificate it is unknown", signed, nil, "encrypted unknown"},
		{"a key that had expired", signed, []*pgp.Certificate{variant(t, c.alice, func(e *openpgp.Entity) {
			resigned(t, e, func(s *packet.Signature) { secs := uint32(600); s.KeyLifetimeSecs = &secs })
		})}, "encrypted expired"},
		{"a key that expired later", signed, []*pgp.Certificate{variant(t, c.alice, func(e *openpgp.Entity) {
			resigned(t, e, func(s *packet.Signature) { secs := uint32(1860); s.KeyLifetimeSecs = &secs })
		})}, "encrypted valid"},
		{"a compromised key", signed, []*pgp.Certificate{variant(t, c.alice, func(e *openpgp.Entity) {
			must(t, e.Revoke(packet.KeyCompromised, "", at(later.Add(time.Hour))))
		})}, "encrypted bad revoked"},
		{"a key retired later", signed, []*pgp.Certificate{variant(t, c.alice, func(e *openpgp.Entity) {
			must(t, e.Revoke(packet.KeyRetired, "", at(later.Add(time.Hour))))
		})}, "encrypted valid"},
		{"a key with a SHA-1 self-signature", signed, []*pgp.Certificate{one(t, weakSelf(t, engineOf(t, c.alice)))}, "encrypted weak"},
		{"a signature with SHA-1", weak, []*pgp.Certificate{own}, "signed weak"},
		{"a critical notation that nobody knows", noted, []*pgp.Certificate{own}, "encrypted bad"},
		{"a signature that has expired", brief, []*pgp.Certificate{own}, "encrypted expired"},
		{"another certificate that claims the key does not shadow it", signed, []*pgp.Certificate{claimed, own}, "encrypted valid"},
		{"the certificate that only claims the key makes nothing good", signed, []*pgp.Certificate{claimed}, "encrypted unknown"},
		{"a key without user ID binds nobody", signed, []*pgp.Certificate{bare}, "encrypted unknown"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := c.opening()
			o.Now = later.Add(10 * time.Minute)
			o.Certificates = &shelf{certs: tt.certs}
			got := openBytes(t, tt.mail, o)
			if s := summary(got); s != tt.want {
				t.Errorf("got %q (%s), want %q", s, got.Reason, tt.want)
			}
		})
	}
}

func TestClearSigned(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	e := engineOf(t, c.alice)
	mail := func(text, signed string) string {
		var sig bytes.Buffer
		must(t, openpgp.DetachSignWithParams(&sig, []*openpgp.Entity{e}, strings.NewReader(signed), &openpgp.SignParams{Config: at(testNow), TextSig: true}))
		return outside + "\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA256\r\n\r\n" + text + "\r\n" +
			strings.ReplaceAll(pgpMessage(sig.Bytes()), "PGP MESSAGE", "PGP SIGNATURE")
	}
	tests := []struct{ name, mail, want string }{
		{"text as signed", mail("a\r\nb", "a\r\nb"), "signed valid"},
		{"trailing spaces don't count", mail("a  \r\nb\t", "a\r\nb"), "signed valid"},
		{"dashes are escaped", mail("- -- \r\n- From", "--\r\nFrom"), "signed valid"},
		{"a dash that is not escaped", mail("-- \r\nb", "--\r\nb"), "plain"},
		{"other text", mail("a\r\nc", "a\r\nb"), "signed bad"},
		{"text before it", strings.Replace(mail("a", "a"), "\r\n\r\n", "\r\n\r\nHello\r\n", 1), "plain"},
		{"text after it", mail("a", "a") + "Bye\r\n", "plain"},
		{"a header that isn't Hash", strings.Replace(mail("a", "a"), "Hash: SHA256", "Text: b", 1), "plain"},
	}
	for _, tt := range tests {
		if got := openBytes(t, []byte(tt.mail), c.opening()); summary(got) != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, summary(got), tt.want)
		}
	}
}

func TestEncapsulatedSignature(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	part := "Content-Type: text/plain; hp=\"cipher\"\r\nFrom: alice@example.org\r\nSubject: inside\r\n\r\nCANARY\r\n"
	var sig bytes.Buffer
	must(t, openpgp.DetachSignWithParams(&sig, []*openpgp.Entity{engineOf(t, c.alice)}, strings.NewReader(part), &openpgp.SignParams{Config: at(testNow)}))
	inner := "Content-Type: multipart/signed; protocol=\"application/pgp-signature\"; micalg=pgp-sha256; boundary=ss\r\n\r\n--ss\r\n" + part +
		"\r\n--ss\r\nContent-Type: application/pgp-signature\r\n\r\n" + strings.ReplaceAll(pgpMessage(sig.Bytes()), "PGP MESSAGE", "PGP SIGNATURE") + "\r\n--ss--\r\n"
	mixed := "Content-Type: multipart/mixed; boundary=mm\r\n\r\n--mm\r\n" + inner + "\r\n--mm\r\n\r\nMallory's words\r\n--mm--\r\n"
	tests := []struct{ name, payload, want string }{
		{"a signed part that is all there is", inner, "encrypted valid"},
		{"its line ends made LF", strings.ReplaceAll(inner, "\r\n", "\n"), "encrypted valid"},
		{"changed", strings.Replace(inner, "CANARY", "CANARZ", 1), "encrypted bad"},
		{"a signed part beside another counts for nothing", mixed, "encrypted none"},
	}
	for _, tt := range tests {
		k, d := locked(t, literal(t, tt.payload), c.bob)
		got := openBytes(t, []byte(mime(outside, append(k, d...))), c.opening())
		if summary(got) != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, summary(got), tt.want)
		}
		if strings.HasSuffix(tt.want, " valid") && !strings.Contains(string(all(t, got.Rendering)), "Subject: inside\r\n") {
			t.Errorf("%s: the subject inside is not shown", tt.name)
		}
	}
}

// TestSignedReading: what isn't signed around a signed part decides what mail
// programs show of it.
func TestSignedReading(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	mail := func(head, partHead string) string {
		part := "Content-Type: text/plain" + partHead + "\r\n\r\nCANARY\r\n"
		var sig bytes.Buffer
		must(t, openpgp.DetachSignWithParams(&sig, []*openpgp.Entity{engineOf(t, c.alice)}, strings.NewReader(part), &openpgp.SignParams{Config: at(testNow)}))
		preamble := "This is an OpenPGP/MIME signed message\r\n\r\n"
		if strings.Contains(head, "s2") || strings.Contains(head, "=2") {
			preamble = "--s2\r\n\r\nMallory's words\r\n--s2--\r\n"
		}
		return outside + head + "\r\n\r\n" + preamble + "--ss\r\n" + part +
			"\r\n--ss\r\nContent-Type: application/pgp-signature\r\n\r\n" + strings.ReplaceAll(pgpMessage(sig.Bytes()), "PGP MESSAGE", "PGP SIGNATURE") + "\r\n--ss--\r\n"
	}
	with := func(field, mail string) string { return field + mail }
	const signed = `Content-Type: multipart/signed; protocol="application/pgp-signature"; micalg=pgp-sha512; boundary=ss`
	tests := []struct{ name, mail, want string }{
		{"one structure", mail(signed, ""), "signed valid"},
		{"a second boundary", mail(signed+"; boundary=s2", ""), "plain"},
		{"a second boundary in pieces", mail(signed+"; boundary*0=s; boundary*1=2", ""), "plain"},
		{"a second boundary, encoded", mail(signed+"; boundary*=us-ascii''s2", ""), "plain"},
		{"a second Content-Type", mail(signed+"\r\nContent-Type: text/html", ""), "plain"},
		{"another Content-Type behind a bare CR", mail("X: y\rContent-Type: text/html\r\n"+signed, ""), "plain"},
		{"a line that ends the header for some", mail("no field\r\n"+signed, ""), "plain"},
		{"NUL in the header", mail("X: \x00\r\n"+signed, ""), "plain"},
		{"an encoding of the whole", mail(signed+"\r\nContent-Transfer-Encoding: base64", ""), "plain"},
		{"two encodings of the whole", mail(signed+"\r\nContent-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: 7bit", ""), "plain"},
		{"the subject that is signed", mail(signed, "; hp=\"clear\"\r\nReply-To: mallory@example.net\r\nSubject: =?utf-8?q?=5B...?=]"), "signed valid"},
		{"another subject than the signed one", mail(signed, "; hp=\"clear\"\r\nSubject: inside"), "signed mismatch"},
		{"the signed subject with an override of its direction", strings.Replace(mail(signed, "; hp=\"clear\"\r\nSubject: pay 001"), "Subject: [...]", "Subject: =?utf-8?q?pay_=E2=80=AE001?=", 1), "signed mismatch"},
		{"the signed subject, folded and encoded", strings.Replace(mail(signed, "; protected-headers=\"v1\"\r\nSubject: pay 001"), "Subject: [...]", "Subject: =?utf-8?q?pay?=\r\n 001", 1), "signed valid"},
		{"the signed addresses and date, written anew", with("Date: "+testNow.UTC().Format(time.RFC1123Z)+"\r\n", mail(signed, "; hp=\"clear\"\r\nTo: Bob <bob@EXAMPLE.org>\r\nReply-To: Mallory <mallory@example.net>\r\nSubject: [...]\r\nDate: "+testNow.In(time.FixedZone("", 7200)).Format(time.RFC1123Z))), "signed valid"},
		{"another date than the signed one", with("Date: "+testNow.Add(time.Minute).Format(time.RFC1123Z)+"\r\n", mail(signed, "; protected-headers=\"v1\"\r\nDate: "+testNow.Format(time.RFC1123Z))), "signed mismatch"},
		{"another recipient than the signed one", mail(signed, "; protected-headers=\"v1\"\r\nTo: carol@example.org"), "signed mismatch"},
		{"no recipient, written anew", strings.Replace(mail(signed, "; hp=\"clear\"\r\nReply-To: mallory@example.net\r\nSubject: [...]\r\nTo: undisclosed-recipients: ;"), "To: bob@example.org", "To: Undisclosed-Recipients:;", 1), "signed valid"},
		{"no recipient, and one outside", mail(signed, "; hp=\"clear\"\r\nReply-To: mallory@example.net\r\nSubject: [...]\r\nTo: undisclosed-recipients: ;"), "signed mismatch"},
		{"a further recipient", with("Cc: carol@example.org\r\n", mail(signed, "; hp=\"clear\"\r\nCc: bob@example.org")), "signed mismatch"},
		{"answers elsewhere than the signed part says", mail(signed, "; hp=\"clear\"\r\nReply-To: alice@example.org"), "signed mismatch"},
		{"answers elsewhere, which a part that protects every field doesn't say", mail(signed, "; hp=\"clear\"\r\nSubject: [...]"), "signed mismatch"},
		{"answers elsewhere, which a part that protects some fields doesn't say", mail(signed, "; protected-headers=\"v1\"\r\nSubject: [...]"), "signed valid"},
		{"a subject, which a part that protects every field doesn't have", strings.Replace(mail(signed, "; hp=\"clear\"\r\nReply-To: mallory@example.net"), "Subject: [...]", "Subject: I resign", 1), "signed mismatch"},
		{"an empty subject, where there was none", strings.Replace(mail(signed, "; hp=\"clear\"\r\nReply-To: mallory@example.net"), "Subject: [...]", "Subject: ", 1), "signed valid"},
		{"no subject at all", strings.Replace(mail(signed, "; hp=\"clear\"\r\nReply-To: mallory@example.net"), "Subject: [...]\r\n", "", 1), "signed valid"},
		{"another subject, by the older mark", mail(signed, "; protected-headers=\"v1\"\r\nSubject: inside"), "signed mismatch"},
		{"another author's name than the signed one", mail(signed, "; hp=\"clear\"\r\nFrom: Mr <alice@example.org>"), "signed mismatch"},
		{"a subject in a part that protects no header", mail(signed, "\r\nSubject: inside"), "signed valid"},
	}
	for _, tt := range tests {
		if got := openBytes(t, []byte(tt.mail), c.opening()); summary(got) != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, summary(got), tt.want)
		}
	}
}

func TestIdentityOfTheSigner(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	fromBob := strings.Replace(outside, "Alice <alice@example.org>", "bob@example.org", 1)
	byAlice := mime(outside, written(t, payload, c.alice, nil, c.bob))
	tests := []struct {
		name, mail string
		ids        map[string]pgp.Identity
		want       string
		identity   pgp.Identity
	}{
		{"what the store says", byAlice, map[string]pgp.Identity{"alice@example.org": pgp.Organisation}, "encrypted valid", pgp.Organisation},
		{"a conflict is told", byAlice, map[string]pgp.Identity{"alice@example.org": pgp.Conflict}, "encrypted valid conflict", pgp.Conflict},
		{"not bound is a mismatch", byAlice, map[string]pgp.Identity{"alice@example.org": pgp.Unknown}, "encrypted mismatch", pgp.Unknown},
		{"our own key is ours", mime(fromBob, written(t, payload, c.bob, nil, c.bob)), nil, "encrypted valid", pgp.Confirmed},
		{"our own key is not everybody's", mime(outside, written(t, payload, c.bob, nil, c.bob)), nil, "encrypted mismatch", pgp.Unknown},
		{"a conflict binds no From inside", mime(strings.Replace(outside, "alice@", "eve@", 1), written(t, payloadOf("From: alice@example.org\r\n"), c.alice, nil, c.bob)),
			map[string]pgp.Identity{"alice@example.org": pgp.Conflict}, "encrypted valid conflict,from-mismatch", pgp.Conflict},
	}
	for _, tt := range tests {
		o := c.opening()
		o.Certificates = &shelf{certs: []*pgp.Certificate{c.alice.Certificate()}, ids: tt.ids}
		got := openBytes(t, []byte(tt.mail), o)
		if summary(got) != tt.want || got.Verdict.Identity != tt.identity {
			t.Errorf("%s: got %q %q, want %q %q", tt.name, summary(got), got.Verdict.Identity, tt.want, tt.identity)
		}
	}
}

func TestIdentityOrder(t *testing.T) {
	t.Parallel()
	order := []pgp.Identity{pgp.FirstSeen, pgp.Directory, pgp.Organisation, pgp.Confirmed}
	for i, a := range order {
		for j, b := range order {
			if got := a.AtLeast(b); got != (i >= j) {
				t.Errorf("%s.AtLeast(%s) = %v", a, b, got)
			}
		}
		for _, none := range []pgp.Identity{pgp.Unknown, pgp.Conflict} {
			if none.AtLeast(a) || none.AtLeast(none) {
				t.Errorf("%q is at least something", none)
			}
		}
	}
}
