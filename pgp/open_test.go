package pgp_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	netmail "net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// couple is Alice, who writes, and Bob, who opens; Mallory is known too.
type couple struct{ alice, bob, mallory *pgp.Key }

func newCouple(t testing.TB) *couple {
	t.Helper()
	return &couple{makeKey(t, "alice@example.org"), makeKey(t, "bob@example.org"), makeKey(t, "mallory@example.net")}
}

// opening is Bob's.
func (c *couple) opening() pgp.Opening {
	return pgp.Opening{Keys: pgp.Keys(c.bob), Own: []address.Address{{Local: "bob", Domain: "example.org"}}, Now: testNow.Add(time.Minute),
		Certificates: &shelf{certs: []*pgp.Certificate{c.alice.Certificate(), c.mallory.Certificate()},
			ids: map[string]pgp.Identity{"alice@example.org": pgp.Directory}}}
}

// engineOf is a key as the engine has it.
func engineOf(t testing.TB, k *pgp.Key) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.ReadEntity(packet.NewReader(bytes.NewReader(k.Marshal())))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type nopClose struct{ io.Writer }

func (nopClose) Close() error { return nil }

// literal is text as a literal data packet.
func literal(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := packet.SerializeLiteral(nopClose{&b}, true, "", 0)
	must(t, err)
	_, err = io.WriteString(w, text)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}

// locked encrypts packets, whatever they are, with SEIPDv1.
func locked(t testing.TB, inner []byte, to *pgp.Key) (keys, data []byte) {
	t.Helper()
	session := make([]byte, 32)
	_, err := rand.Read(session)
	must(t, err)
	cfg := &packet.Config{DefaultCipher: packet.CipherAES256}
	e := engineOf(t, to)
	var pkesk, sealed bytes.Buffer
	must(t, packet.SerializeEncryptedKey(&pkesk, e.Subkeys[0].PublicKey, packet.CipherAES256, session, cfg))
	w, err := packet.SerializeSymmetricallyEncrypted(&sealed, packet.CipherAES256, false, packet.CipherSuite{}, session, cfg)
	must(t, err)
	_, err = w.Write(inner)
	must(t, err)
	must(t, w.Close())
	return pkesk.Bytes(), sealed.Bytes()
}

// written encrypts text as an ordinary program does, signed if signer isn't nil.
func written(t testing.TB, text string, signer *pgp.Key, p *openpgp.EncryptParams, to ...*pgp.Key) []byte {
	t.Helper()
	if p == nil {
		p = &openpgp.EncryptParams{}
	}
	if p.Config == nil {
		p.Config = at(testNow)
	}
	if signer != nil {
		p.Signers = []*openpgp.Entity{engineOf(t, signer)}
	}
	var ring []*openpgp.Entity
	for _, k := range to {
		ring = append(ring, engineOf(t, k))
	}
	var b bytes.Buffer
	w, err := openpgp.EncryptWithParams(&b, ring, nil, p)
	must(t, err)
	_, err = io.WriteString(w, text)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}

func pgpMessage(b []byte) string {
	var s strings.Builder
	s.WriteString("-----BEGIN PGP MESSAGE-----\r\n\r\n")
	for enc := base64.StdEncoding.EncodeToString(b); ; enc = enc[64:] {
		if len(enc) <= 64 {
			s.WriteString(enc + "\r\n-----END PGP MESSAGE-----\r\n")
			return s.String()
		}
		s.WriteString(enc[:64] + "\r\n")
	}
}

const outside = "Received: from a by b; Thu, 1 Jan 2026 00:00:00 +0000\r\nFrom: Alice <alice@example.org>\r\nTo: bob@example.org\r\n" +
	"Subject: [...]\r\nMessage-ID: <1@example.org>\r\nReply-To: mallory@example.net\r\n"

// mime makes a PGP/MIME mail of an OpenPGP message.
func mime(head string, b []byte) string {
	return head + "MIME-Version: 1.0\r\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=bb\r\n\r\n" +
		"--bb\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--bb\r\nContent-Type: application/octet-stream\r\n\r\n" +
		pgpMessage(b) + "\r\n--bb--\r\n"
}

const payload = "Content-Type: text/plain; charset=utf-8\r\n\r\nCANARY, the text\r\n"

// payloadOf is a protected payload with more header fields.
func payloadOf(fields string) string {
	return fields + "Content-Type: text/plain; charset=utf-8; hp=\"cipher\"\r\n\r\nCANARY, the text\r\n"
}

func TestOpenShowsWhatWasWritten(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	mail := mime(outside, written(t, payloadOf("From: Alice <alice@example.org>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nHP-Outer: Subject: [...]\r\n"+
		"Message-ID: <1@example.org>\r\nAutocrypt: addr=alice@example.org; keydata=AA\r\nAutocrypt-Gossip: addr=carol@example.org; keydata=BB\r\nBcc: carol@example.org\r\n"), c.alice, nil, c.bob))
	got := openBytes(t, []byte(mail), c.opening())
	if s := summary(got); s != "encrypted valid" {
		t.Fatalf("got %q %s", s, got.Reason)
	}
	want := "Received: from a by b; Thu, 1 Jan 2026 00:00:00 +0000\r\n" +
		"From: Alice <alice@example.org>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <1@example.org>\r\n" +
		"Autocrypt: addr=alice@example.org; keydata=AA\r\nAutocrypt-Gossip: addr=carol@example.org; keydata=BB\r\n" +
		fmt.Sprintf("%-144s\r\n", "Letterlock-Status: encrypted; signature=valid; identity=directory; signer="+string(c.alice.Fingerprint())) +
		"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8; hp=\"cipher\"\r\n\r\nCANARY, the text\r\n"
	if text := string(all(t, got.Rendering)); text != want {
		t.Errorf("got rendering\n%s\nwant\n%s", text, want)
	}
	if got.From.String() != "alice@example.org" || got.MessageID != "<1@example.org>" || len(got.Autocrypt) != 1 || len(got.Gossip) != 1 {
		t.Errorf("from %s, Message-ID %s, Autocrypt %v, gossip %v", got.From, got.MessageID, got.Autocrypt, got.Gossip)
	}
}

func TestOpenWhatProtectMade(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	src := crlf("From: Alice <alice@example.org>\nTo: bob@example.org\nSubject: secret\nDate: " + testNow.Format(time.RFC1123Z) + "\nMessage-ID: <p@example.org>\n\nCANARY\n")
	mail := protect(t, src, pgp.Protection{Signer: c.alice, Recipients: []*pgp.Certificate{c.bob.Certificate()}})
	got := openBytes(t, []byte(mail), c.opening())
	if s := summary(got); s != "encrypted valid" {
		t.Fatalf("got %q %s", s, got.Reason)
	}
	text := string(all(t, got.Rendering))
	if strings.Count(text, "Subject: secret\r\n") != 1 || strings.Contains(text, "[...]") || !strings.HasSuffix(text, "\r\n\r\nCANARY\r\n") {
		t.Errorf("rendering\n%s", text)
	}
	if got.Verdict.Identity != pgp.Directory || got.Verdict.Signer != c.alice.Fingerprint() {
		t.Errorf("verdict %+v", got.Verdict)
	}
	signed := protect(t, src, pgp.Protection{Signer: c.alice})
	if got := openBytes(t, []byte(signed), c.opening()); summary(got) != "signed valid" {
		t.Errorf("signed only: got %q", summary(got))
	}
	damaged := strings.Replace(signed, "CANARY", "CANARZ", 1)
	if got := openBytes(t, []byte(damaged), c.opening()); summary(got) != "signed bad" {
		t.Errorf("signed and changed: got %q", summary(got))
	}
}

// hostile are mails and what becomes of them.
func hostile(t testing.TB, c *couple) []struct{ name, mail, want string } {
	sign := func(text string) []byte { return written(t, text, c.alice, nil, c.bob) }
	keys, data := locked(t, literal(t, payload), c.bob)
	lit := literal(t, payload)
	inner := written(t, payload, c.alice, nil, c.bob)
	wrap := func(b []byte) []byte {
		k, d := locked(t, b, c.bob)
		return append(k, d...)
	}
	inline := func(head, body string) string { return outside + head + "\r\n" + body }
	text := pgpMessage(sign("CANARY"))
	from := func(f string) string {
		return strings.Replace(outside, "From: Alice <alice@example.org>\r\n", f, 1)
	}
	many := bytes.Repeat(keys, 200)
	noMDC := append([]byte{0xc9, 30}, make([]byte, 30)...)
	qp := strings.NewReplacer("=", "=3D").Replace(text)
	return []struct{ name, mail, want string }{
		{"an ordinary mail opens", mime(outside, sign(payload)), "encrypted valid"},
		{"one without signature opens", mime(outside, wrap(lit)), "encrypted none"},
		{"by a stranger's key it is unknown", mime(outside, written(t, payload, makeKey(t, "alice@example.org"), nil, c.bob)), "encrypted unknown"},
		{"by another known key it is a mismatch", mime(outside, written(t, payload, c.mallory, nil, c.bob)), "encrypted mismatch"},
		{"for somebody else it stays closed", mime(outside, written(t, payload, c.alice, nil, c.mallory)), "opaque"},
		{"a literal in the place of the ciphertext is not encrypted", mime(outside, lit), "opaque"},
		{"concatenated messages", mime(outside, append(sign(payload), sign(payload)...)), "opaque"},
		{"a literal after the ciphertext", mime(outside, append(append(bytes.Clone(keys), data...), lit...)), "opaque"},
		{"a literal before the ciphertext", mime(outside, append(append(bytes.Clone(keys), lit...), data...)), "opaque"},
		{"two literals inside", mime(outside, wrap(append(bytes.Clone(lit), lit...))), "opaque"},
		{"no literal inside", mime(outside, wrap(nil)), "opaque"},
		{"an encrypted message inside an encrypted one", mime(outside, wrap(inner)), "opaque"},
		{"encryption without integrity protection", mime(outside, append(bytes.Clone(keys), noMDC...)), "opaque"},
		{"the tag of the data changed to that without protection", mime(outside, append(bytes.Clone(keys), retag(data, 9)...)), "opaque"},
		{"its check of integrity stripped", mime(outside, append(bytes.Clone(keys), stripped(t, data)...)), "opaque"},
		{"100,000 announced signatures", mime(outside, wrap(append(bytes.Repeat(announcement(t), 100_000), lit...))), "opaque"},
		{"five layers of compression", mime(outside, wrap(pressed(t, lit, packet.CompressionZIP, 5))), "opaque"},
		{"compression opens", mime(outside, wrap(pressed(t, lit, packet.CompressionZLIB, 1))), "encrypted none"},
		{"200 session key packets", mime(outside, append(many, data...)), "opaque"},
		{"cut in the middle", mime(outside, append(bytes.Clone(keys), data[:len(data)/2]...)), "opaque"},
		{"encrypted with a password only", mime(outside, password(t, payload)), "opaque"},
		{"as a part of a mixed one it stays as it is", outside + "Content-Type: multipart/mixed; boundary=cc\r\n\r\n--cc\r\n" + strings.TrimPrefix(mime("", sign(payload)), "MIME-Version: 1.0\r\n") + "\r\n--cc--\r\n", "plain"},
		{"with a third part", strings.Replace(mime(outside, sign(payload)), "--bb--", "--bb\r\n\r\nmore\r\n--bb--", 1), "opaque"},
		{"without its protocol", strings.Replace(mime(outside, sign(payload)), "protocol=\"application/pgp-encrypted\"; ", "", 1), "opaque"},
		{"of another version", strings.Replace(mime(outside, sign(payload)), "\r\nVersion: 1\r\n", "\r\nVersion: 2\r\n", 1), "opaque"},
		{"with text after the armor", strings.Replace(mime(outside, sign(payload)), "-----END PGP MESSAGE-----", "-----END PGP MESSAGE-----\r\nmore", 1), "opaque"},
		{"inline opens", inline("", text), "encrypted valid"},
		{"inline in quoted-printable opens", inline("Content-Transfer-Encoding: quoted-printable\r\n", qp), "encrypted valid"},
		{"inline in base64 opens", inline("Content-Transfer-Encoding: base64\r\n", wrapped64(text)), "encrypted valid"},
		{"inline with text before it stays as it is", inline("", "Hello\r\n"+text), "plain"},
		{"inline with text after it stays as it is", inline("", text+"Bye\r\n"), "plain"},
		{"two blocks inline stay as they are", inline("", text+text), "plain"},
		{"inline in HTML stays as it is", inline("Content-Type: text/html\r\n", text), "plain"},
		{"two From fields outside", mime(from("From: alice@example.org\r\nFrom: mallory@example.net\r\n"), sign(payload)), "encrypted mismatch"},
		{"two addresses in From", mime(from("From: alice@example.org, mallory@example.net\r\n"), sign(payload)), "encrypted mismatch"},
		{"a group in From", mime(from("From: friends: alice@example.org;\r\n"), sign(payload)), "encrypted mismatch"},
		{"an encoded address in From's name", mime(from("From: =?utf-8?q?alice=40example=2Eorg?= <mallory@example.net>\r\n"), sign(payload)), "encrypted mismatch"},
		{"an encoded address as From", mime(from("From: =?utf-8?q?alice=40example=2Eorg?=\r\n"), sign(payload)), "encrypted mismatch"},
		{"From inside is signed for and another one outside", mime(from("From: mallory@example.net\r\n"), sign(payloadOf("From: alice@example.org\r\n"))), "encrypted valid"},
		{"From inside is not signed for", mime(from("From: mallory@example.net\r\n"), wrap(literal(t, payloadOf("From: alice@example.org\r\n")))), "encrypted none from-mismatch"},
		{"From inside is signed by another", mime(from("From: mallory@example.net\r\n"), written(t, payloadOf("From: alice@example.org\r\n"), c.mallory, nil, c.bob)), "encrypted mismatch from-mismatch"},
		{"two From inside", mime(outside, sign(payloadOf("From: alice@example.org\r\nFrom: mallory@example.net\r\n"))), "encrypted mismatch from-mismatch"},
		{"signed years before its date", mime(outside+"Date: Thu, 1 Jan 2015 00:00:00 +0000\r\n", sign(payload)), "encrypted valid date"},
		{"for us and others", mime(outside, written(t, payload, c.alice, nil, c.mallory, c.bob)), "encrypted valid"},
		{"signed for Mallory, who encrypted it to us", mime(outside, forwarded(t, c)), "encrypted valid not-for-us"},
	}
}

// forwarded is what Mallory makes of Alice's signed text to her: the same
// signature, encrypted to Bob.
func forwarded(t testing.TB, c *couple) []byte {
	t.Helper()
	keys, data := locked(t, forwardedInside(t, c), c.bob)
	return append(keys, data...)
}

func forwardedInside(t testing.TB, c *couple) []byte {
	t.Helper()
	md, err := openpgp.ReadMessage(bytes.NewReader(written(t, payload, c.alice, nil, c.mallory)),
		openpgp.EntityList{engineOf(t, c.mallory), engineOf(t, c.alice)}, nil, &packet.Config{CacheSessionKey: true})
	must(t, err)
	_, err = io.ReadAll(md.UnverifiedBody)
	must(t, err)
	sig := md.SignatureCandidates[0].CorrespondingSig
	var inner bytes.Buffer
	must(t, (&packet.OnePassSignature{Version: 3, SigType: sig.SigType, Hash: sig.Hash, PubKeyAlgo: sig.PubKeyAlgo, KeyId: *sig.IssuerKeyId, IsLast: true}).Serialize(&inner))
	inner.Write(literal(t, payload))
	must(t, sig.Serialize(&inner))
	return inner.Bytes()
}

// announcement is a one-pass signature packet that is not the last.
func announcement(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, (&packet.OnePassSignature{Version: 3, Hash: crypto.SHA512, PubKeyAlgo: packet.PubKeyAlgoEdDSA, KeyId: 1}).Serialize(&b))
	return b.Bytes()
}

// pressed compresses packets, again and again.
func pressed(t testing.TB, b []byte, algo packet.CompressionAlgo, layers int) []byte {
	t.Helper()
	for range layers {
		var out bytes.Buffer
		w, err := packet.SerializeCompressed(nopClose{&out}, algo, nil)
		must(t, err)
		_, err = w.Write(b)
		must(t, err)
		must(t, w.Close())
		b = out.Bytes()
	}
	return b
}

// retag gives a packet another type.
func retag(b []byte, tag byte) []byte {
	b = bytes.Clone(b)
	b[0] = 0xc0 | tag
	return b
}

func password(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := openpgp.SymmetricallyEncryptWithParams([]byte("1234"), &b, &openpgp.EncryptParams{Config: at(testNow)})
	must(t, err)
	_, err = io.WriteString(w, text)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}

func wrapped64(s string) string {
	enc, out := base64.StdEncoding.EncodeToString([]byte(s)), ""
	for len(enc) > 76 {
		out, enc = out+enc[:76]+"\r\n", enc[76:]
	}
	return out + enc + "\r\n"
}

func TestOpenHostileMails(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	for _, tt := range hostile(t, c) {
		t.Run(tt.name, func(t *testing.T) {
			got := openBytes(t, []byte(tt.mail), c.opening())
			if s := summary(got); s != tt.want {
				t.Errorf("got %q (%s), want %q", s, got.Reason, tt.want)
			}
			if got.Rendering != nil {
				return
			}
			if strings.Contains(got.Reason, "CANARY") {
				t.Error("the reason tells the text")
			}
		})
	}
}

func TestFromOutsideIsShownWhereNothingBindsTheOneInside(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	head := strings.Replace(outside, "From: Alice <alice@example.org>", "From: mallory@example.net", 1)
	k, d := locked(t, literal(t, payloadOf("From: alice@example.org\r\nReply-To: alice@example.org\r\nSubject: hi\r\n")), c.bob)
	got := openBytes(t, []byte(mime(head, append(k, d...))), c.opening())
	text := string(all(t, got.Rendering))
	if !strings.Contains(text, "From: mallory@example.net\r\n") || strings.Contains(text, "alice@example.org") || strings.Contains(text, "Reply-To") {
		t.Errorf("rendering\n%s", text)
	}
	if got.From.String() != "mallory@example.net" || len(got.Autocrypt) != 0 {
		t.Errorf("From %s, Autocrypt %v", got.From, got.Autocrypt)
	}
}

func TestTamperedCiphertextReleasesNothing(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	big := payload + strings.Repeat("CANARY line of text that goes on\r\n", 1000)
	whole := written(t, big, c.alice, nil, c.bob)
	for at := 0; at < len(whole); at += 997 {
		changed := bytes.Clone(whole)
		changed[at] ^= 1
		for name, b := range map[string][]byte{"changed": changed, "cut": whole[:at]} {
			o := c.opening()
			o.Replayed = func(context.Context, [32]byte, string, string) (bool, error) {
				t.Errorf("%s at %d: believed to be decrypted", name, at)
				return false, nil
			}
			got, err := pgp.Open(context.Background(), message.Bytes([]byte(mime(outside, b))), o)
			if err != nil {
				t.Fatal(err)
			}
			if got.Class != pgp.Opaque || got.Rendering != nil {
				t.Errorf("%s at %d: class %s", name, at, got.Class)
			}
		}
	}
}

// bzipBomb is half a gigabyte of zeros in a literal packet, compressed twice with
// bzip2 (made with Python's bz2).
const bzipBomb = "QlpoOTFBWSZTWQllBwEAALf//3pwUiFhkGJgempaNAVAEAVCCAsxDfQCAHpACBwQATAAuVDKoGg0AAaNABoANNNqbU0AG0hzAEYJiAYBME0ZDQwCYIxMIqhQyBpp" +
	"mSDTRoMQyZGmJtIaNH6hBIJRjE8JI+IT4jUpxGypoEmEkE5csMcvXBTywice/nzZ+YTVThzwtiT2dpSyYrncJ8iaensEnELkhLG/ZmWghRl8kiqpDdhxLrYIeJEg" +
	"kJfR4BHR6KspwZVIrgmiL3Etw04RLCn3rk1Ca4TV6s8IeMqkf6CFK0MQKXh/i7kinChIBLKDgIA="

func TestBombsStayClosed(t *testing.T) {
	c := newCouple(t)
	zeros := literal(t, strings.Repeat("\x00", 32<<20))
	bzip, err := base64.StdEncoding.DecodeString(bzipBomb)
	must(t, err)
	for name, bomb := range map[string][]byte{
		"ZIP":   pressed(t, zeros, packet.CompressionZIP, 2),
		"ZLIB":  pressed(t, zeros, packet.CompressionZLIB, 2),
		"BZip2": append([]byte{0xa3, 3}, bzip...), // RFC 9580, Section 5.6; length to the end
	} {
		keys, data := locked(t, bomb, c.bob)
		mail := mime(outside, append(keys, data...))
		if len(mail) > 64<<10 {
			t.Fatalf("%s: a bomb of %d bytes", name, len(mail))
		}
		o := c.opening()
		o.Spool.Limit = 8 << 20
		var got *pgp.Opened
		start := time.Now()
		grown := peakHeap(func() { got, err = pgp.Open(context.Background(), message.Bytes([]byte(mail)), o) })
		if err != nil || got.Class != pgp.Opaque {
			t.Errorf("%s: %v %v", name, got, err)
		}
		t.Logf("%s: %q after %s, heap grew by %d KiB", name, got.Reason, time.Since(start), grown>>10)
		if took := time.Since(start); took > 10*time.Second || grown > 64<<20 {
			t.Errorf("%s took %s and %d bytes", name, took, grown)
		}
	}
}

func TestNothingInsideImitatesOurHeader(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	imitation := "Letterlock-Status: encrypted; signature=valid; identity=confirmed; signer=0"
	tests := []struct{ name, outer, inner string }{
		{"outside", imitation + "\r\n", ""},
		{"outside with a space before the colon", strings.Replace(imitation, ":", " :", 1) + "\r\n", ""},
		{"outside in another case", strings.ToUpper(imitation) + "\r\n", ""},
		{"outside folded", strings.Replace(imitation, " ", "\r\n ", 1) + "\r\n", ""},
		{"outside behind a bare CR", "X-A: b\r" + imitation + "\r\n", ""},
		{"outside behind a bare LF", "X-A: b\n" + imitation + "\r\n", ""},
		{"outside behind a line of spaces", "X-A: b\r\n \r\n\t" + imitation + "\r\n", ""},
		{"outside behind a NUL", "X-A: b\x00" + imitation + "\r\n", ""},
		{"inside", "", imitation + "\r\n"},
		{"inside behind a bare CR", "", "Subject: b\r" + imitation + "\r\n"},
		{"inside behind a bare LF", "", "Subject: b\n" + imitation + "\r\n"},
		{"inside behind two bare CR", "", "Subject: b\r\r" + imitation + "\r\n"},
		{"inside behind a line of spaces", "", "Subject: b\r\n \r\n " + imitation + "\r\n"},
		{"inside in the structure", "", "Content-Description: b\r" + imitation + "\r\n"},
		{"inside as a server's word", "", "Authentication-Results: x; dkim=pass\r\nReceived: from x\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			mail := mime(tt.outer+outside, written(t, payloadOf(tt.inner), nil, nil, c.bob))
			got := openBytes(t, []byte(mail), c.opening())
			if got.Class != pgp.Encrypted {
				t.Fatalf("got %s %s", got.Class, got.Reason)
			}
			root := parseMail(t, string(all(t, got.Rendering)))
			if s := root.Header.Get(pgp.StatusField); !strings.HasPrefix(s, "encrypted; signature=none; identity=none; signer=none") {
				t.Errorf("status %q", s)
			}
			if root.Header.Has("Authentication-Results") || len(root.Header.All("Received")) != 1 {
				t.Error("a server's word came from inside")
			}
			for _, line := range strings.FieldsFunc(string(root.Header.Raw), func(r rune) bool { return r == '\r' || r == '\n' }) {
				if strings.HasPrefix(strings.ToLower(strings.TrimSpace(line)), "letterlock-") && len(line) != 144 {
					t.Errorf("line %q", line)
				}
			}
		})
	}
}

func TestSealedOnlyByOurOwnKey(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	upload := "From: bob@example.org\nBcc: carol@example.org\r\nSubject: draft\r\n\r\nCANARY \xff\x00\n"
	sealed := seal(t, upload, c.bob)
	got := openBytes(t, []byte(sealed), c.opening())
	if !got.Verdict.Sealed || string(all(t, got.Rendering)) != upload {
		t.Errorf("sealed %v, %q", got.Verdict.Sealed, all(t, got.Rendering))
	}
	var forged bytes.Buffer
	must(t, pgp.Seal(context.Background(), &forged, message.Bytes([]byte(crlf("From: alice@example.org\nSubject: draft\n\nCANARY\n"))),
		pgp.Sealing{Signer: c.alice, Storage: c.bob.Certificate(), Now: testNow}))
	o := c.opening()
	o.Certificates = &shelf{}
	if got := openBytes(t, forged.Bytes(), o); summary(got) != "encrypted bad seal-forged" {
		t.Errorf("a stranger's seal: %q", summary(got))
	}
	got = openBytes(t, forged.Bytes(), c.opening())
	if got.Verdict.Sealed || got.Verdict.Signature != pgp.SignatureBad {
		t.Errorf("Alice's seal: %+v", got.Verdict)
	}
	if text := string(all(t, got.Rendering)); !strings.Contains(text, "signature=bad") {
		t.Errorf("rendering\n%s", text)
	}
}

func TestReplayedStaysClosed(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	body := written(t, payload, c.alice, nil, c.bob)
	type opened struct{ from, id string }
	seen := map[[32]byte]opened{}
	o := c.opening()
	o.Replayed = func(_ context.Context, p [32]byte, from, id string) (bool, error) {
		now := opened{from, id}
		before, known := seen[p]
		if !known {
			seen[p] = now
		}
		return known && before != now, nil
	}
	if got := openBytes(t, []byte(mime(outside, body)), o); got.Class != pgp.Encrypted {
		t.Fatalf("first: %s", got.Class)
	}
	keys, data := body[:packetLength(t, body)], body[packetLength(t, body):]
	extra, _ := locked(t, nil, c.mallory)
	tests := []struct {
		name, head string
		body       []byte
	}{
		{"under another From", strings.Replace(outside, "alice@", "mallory@", 1), body},
		{"under another Message-ID", strings.Replace(outside, "<1@", "<2@", 1), body},
		{"with another session key packet", strings.Replace(outside, "<1@", "<2@", 1), bytes.Join([][]byte{extra, keys, data}, nil)},
		{"framed anew", strings.Replace(outside, "<1@", "<2@", 1), append(bytes.Clone(keys), reframed(t, data)...)},
	}
	for _, tt := range tests {
		if got := openBytes(t, []byte(mime(tt.head, tt.body)), o); summary(got) != "opaque replayed" {
			t.Errorf("%s: got %q", tt.name, summary(got))
		}
	}
}

// packetLength is the length of the first packet.
func packetLength(t testing.TB, b []byte) int {
	t.Helper()
	if b[0] != 0xc1 || b[1] >= 192 {
		t.Fatalf("not a short session key packet: %x", b[:2])
	}
	return 2 + int(b[1])
}

// reframed writes one packet with one length of five octets.
func reframed(t testing.TB, b []byte) []byte {
	t.Helper()
	p, err := packet.NewOpaqueReader(bytes.NewReader(b)).Next()
	must(t, err)
	n := len(p.Contents)
	return append([]byte{0xc0 | p.Tag, 255, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, p.Contents...)
}

// stripped is encrypted data without its last packet, the one that proves it
// whole (22 bytes, RFC 9580, Section 5.13.1), its length made to fit.
func stripped(t testing.TB, b []byte) []byte {
	t.Helper()
	b = reframed(t, b)
	n := len(b) - 6 - 22
	b[2], b[3], b[4], b[5] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	return b[:6+n]
}

func TestFrozenVerdictDecidesTheRendering(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	head := strings.Replace(outside, "From: Alice <alice@example.org>", "From: list@example.net", 1)
	mail := []byte(mime(head, written(t, payloadOf("From: alice@example.org\r\n"), c.alice, nil, c.bob)))
	o := c.opening()
	o.Certificates = &shelf{}
	first := openBytes(t, mail, o)
	if summary(first) != "encrypted unknown from-mismatch" {
		t.Fatalf("first %q", summary(first))
	}
	o = c.opening()
	o.Frozen = &first.Verdict
	later := openBytes(t, mail, o)
	if summary(later) != "encrypted valid" {
		t.Errorf("later %q, want the fresh verdict", summary(later))
	}
	if !bytes.Equal(all(t, first.Rendering), all(t, later.Rendering)) {
		t.Error("the rendering changed with the store")
	}
}

func TestOpenErrorsOnlyForWhatMayPass(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	mail := message.Bytes([]byte(mime(outside, written(t, payload, c.alice, nil, c.bob))))
	down := errors.New("store down")
	o := c.opening()
	o.Certificates = &shelf{err: down}
	if _, err := pgp.Open(context.Background(), mail, o); !errors.Is(err, down) {
		t.Errorf("store failing: %v", err)
	}
	o = c.opening()
	o.Replayed = func(context.Context, [32]byte, string, string) (bool, error) { return false, down }
	if _, err := pgp.Open(context.Background(), mail, o); !errors.Is(err, down) {
		t.Errorf("replay store failing: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := pgp.Open(ctx, mail, c.opening()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := pgp.Open(context.Background(), &failingSource{mail, down, mail.Size() / 2}, c.opening()); !errors.Is(err, down) {
		t.Errorf("source failing: %v", err)
	}
	o = c.opening()
	o.Keys = nil
	if got := openBytes(t, all(t, mail), o); got.Class != pgp.Opaque {
		t.Errorf("no keys: %s", got.Class)
	}
}

// failingSource fails from an offset on, except for the pass that finds the structure.
type failingSource struct {
	message.Source
	err  error
	from int64
}

func (f *failingSource) ReadAt(p []byte, off int64) (int, error) {
	if off < f.from && off > 0 && off+int64(len(p)) < f.Size() {
		return 0, f.err
	}
	return f.Source.ReadAt(p, off)
}

func TestOpenMayRunConcurrently(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	o := c.opening()
	mail := []byte(mime(outside, written(t, payload, c.alice, nil, c.bob)))
	sealed := []byte(seal(t, crlf("From: bob@example.org\n\nCANARY\n"), c.bob))
	var wait sync.WaitGroup
	for i := range 8 {
		b, want := mail, "encrypted valid"
		if i%2 == 1 {
			b, want = sealed, "encrypted none"
		}
		wait.Go(func() {
			got, err := pgp.Open(context.Background(), message.Bytes(b), o)
			if err != nil {
				t.Error(err)
				return
			}
			defer got.Rendering.Close()
			if s := summary(got); s != want {
				t.Errorf("got %q, want %q", s, want)
			}
		})
	}
	wait.Wait()
}

func TestClassifyAgreesWithOpen(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	for _, tt := range hostile(t, c) {
		root := parseMail(t, tt.mail)
		text := []byte(tt.mail)[root.Body:root.End]
		got := pgp.Classify(pgp.Shape{Type: root.Type, Subtype: root.Subtype, Params: root.Params,
			Encoding: root.Header.Get("Content-Transfer-Encoding"), Text: text[:min(512, len(text))]})
		class, _, _ := strings.Cut(tt.want, " ")
		if got == pgp.Plain && class != "plain" {
			t.Errorf("%s: Classify says plain, Open %s", tt.name, class)
		}
	}
}

func FuzzOpen(f *testing.F) {
	c := fixedCouple(f)
	for _, tt := range hostile(f, c) {
		f.Add([]byte(tt.mail))
	}
	o := c.opening()
	o.Spool.Limit = 1 << 20
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := pgp.Open(context.Background(), message.Bytes(b), o)
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		if got.Rendering == nil {
			return
		}
		defer got.Rendering.Close()
		if !got.Verdict.Sealed {
			checkRendering(t, all(t, got.Rendering))
		}
	})
}

// FuzzRendering puts arbitrary payloads behind a good encryption.
func FuzzRendering(f *testing.F) {
	c := newCouple(f)
	for _, s := range []string{payload, payloadOf("From: alice@example.org\r\nSubject: x\n y\r\n"), "no header", "\r\nbody", " folded\r\nX: y\r\n\r\n", "From x\r\nA: b\r\n\r\nc"} {
		f.Add([]byte(s), []byte(outside))
	}
	o := c.opening()
	f.Fuzz(func(t *testing.T, inner, outer []byte) {
		k, d := locked(t, literal(t, string(inner)), c.bob)
		got, err := pgp.Open(context.Background(), message.Bytes([]byte(mime(string(outer), append(k, d...)))), o)
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		if got.Rendering == nil {
			return
		}
		defer got.Rendering.Close()
		checkRendering(t, all(t, got.Rendering))
	})
}

// FuzzInside puts arbitrary packets behind a good encryption.
func FuzzInside(f *testing.F) {
	c := newCouple(f)
	lit := literal(f, payload)
	f.Add(lit)
	f.Add(pressed(f, lit, packet.CompressionZLIB, 1))
	f.Add(append(announcement(f), lit...))
	f.Add(forwardedInside(f, c))
	o := c.opening()
	o.Spool.Limit = 1 << 20
	f.Fuzz(func(t *testing.T, inner []byte) {
		k, d := locked(t, inner, c.bob)
		got, err := pgp.Open(context.Background(), message.Bytes([]byte(mime(outside, append(k, d...)))), o)
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		if got.Rendering == nil {
			return
		}
		defer got.Rendering.Close()
		checkRendering(t, all(t, got.Rendering))
	})
}

// FuzzOutside opens arbitrary packets in a good mail.
func FuzzOutside(f *testing.F) {
	c := newCouple(f)
	f.Add(written(f, payload, c.alice, nil, c.bob))
	f.Add(password(f, payload))
	o := c.opening()
	o.Spool.Limit = 1 << 20
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := pgp.Open(context.Background(), message.Bytes([]byte(mime(outside, b))), o)
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		if got.Rendering != nil {
			got.Rendering.Close()
		}
	})
}

// TestOpenNamesWhatHasNoMessageID: an answer that names nothing could not be
// told to be one, so that it would go in clear.
func TestOpenNamesWhatHasNoMessageID(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	head := "From: Alice <alice@example.org>\r\nTo: bob@example.org\r\n"
	text := written(t, payload, c.alice, nil, c.bob)
	for name, mail := range map[string]string{
		"none":                  mime(head, text),
		"an empty one":          mime(head+"Message-ID: <>\r\n", text),
		"an empty one inside":   mime(head, written(t, payloadOf("Message-ID: \r\n"), c.alice, nil, c.bob)),
		"none, and it's inline": head + "MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n" + pgpMessage(written(t, "text\r\n", c.alice, nil, c.bob)),
	} {
		got := openBytes(t, []byte(mail), c.opening())
		if got.Class != pgp.Encrypted {
			t.Errorf("%s: %q %s", name, summary(got), got.Reason)
			continue
		}
		first := all(t, got.Rendering)
		ids := message.MessageIDs(got.MessageID)
		if len(ids) != 1 || !strings.HasSuffix(ids[0], "@letterlock.invalid>") || !bytes.HasPrefix(first, []byte("Message-ID: "+ids[0]+"\r\n")) {
			t.Errorf("%s: named %q in %.80q", name, got.MessageID, first)
		}
		if again := all(t, openBytes(t, []byte(mail), c.opening()).Rendering); !bytes.Equal(again, first) {
			t.Errorf("%s: the name changes", name)
		}
	}
}

// TestHeaderEndsNowhereEarly: a name with white space before its colon is a field for
// some, and for others the end of the header, with what follows it as text.
func TestHeaderEndsNowhereEarly(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	for name, mail := range map[string]string{
		"outside":          mime("X-Note : pay\r\n"+outside, written(t, payload, c.alice, nil, c.bob)),
		"of From":          mime(strings.Replace(outside, "From:", "From\t:", 1), written(t, payload, c.alice, nil, c.bob)),
		"inside":           mime(outside, written(t, payloadOf("Subject :\r\n hi\r\n"), c.alice, nil, c.bob)),
		"in the structure": mime(outside, written(t, strings.Replace(payload, ":", " :", 1), c.alice, nil, c.bob)),
	} {
		got := openBytes(t, []byte(mail), c.opening())
		if summary(got) != "encrypted valid" {
			t.Errorf("%s: got %q", name, summary(got))
			continue
		}
		m, err := netmail.ReadMessage(bytes.NewReader(all(t, got.Rendering)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if typ := m.Header.Get("Content-Type"); !strings.HasPrefix(typ, "text/plain; charset=utf-8") || m.Header.Get("From") == "" {
			t.Errorf("%s: read as %v", name, m.Header)
		}
	}
}
