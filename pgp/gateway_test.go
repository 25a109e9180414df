package pgp_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// TestAGatewaysSignatureIsToldAsSuch: whoever held the key says so in the
// signature, and no reader of ours takes it for the author's.
func TestAGatewaysSignatureIsToldAsSuch(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	from := func(a string) string {
		return crlf("From: " + a + "\nTo: bob@example.org\nSubject: secret\nDate: " + testNow.Format(time.RFC1123Z) + "\nMessage-ID: <p@example.org>\n\nCANARY\n")
	}
	to := []*pgp.Certificate{c.bob.Certificate()}
	gateway, seen, listed := makeKey(t, "gateway@example.org"), makeKey(t, "gateway@example.com"), makeKey(t, "gateway@provider.example")
	opening := c.opening()
	opening.Certificates = &shelf{certs: []*pgp.Certificate{c.alice.Certificate(), c.mallory.Certificate(), gateway.Certificate(), seen.Certificate(), listed.Certificate()},
		ids: map[string]pgp.Identity{"alice@example.org": pgp.Directory, "gateway@example.org": pgp.Organisation, "gateway@provider.example": pgp.Directory, "mallory@example.net": pgp.Confirmed}}
	for _, tt := range []struct {
		name, mail, want, status string
	}{
		{"by the author's key", protect(t, from("alice@example.org"), pgp.Protection{Signer: c.alice, Recipients: to,
			Gateway: &pgp.Gateway{Sender: addr(t, "alice@example.org")}}), "encrypted gateway", "signature=gateway; identity=directory; signer=" + string(c.alice.Fingerprint())},
		{"by the domain's key, for an author who isn't known", protect(t, from("zoe@example.org"), pgp.Protection{Signer: c.alice, Recipients: to,
			Gateway: &pgp.Gateway{}}), "encrypted mismatch", "signature=mismatch; identity="},
		{"by the key of the domain's gateway", protect(t, from("zoe@example.org"), pgp.Protection{Signer: gateway, Recipients: to,
			Gateway: &pgp.Gateway{}}), "encrypted gateway", "signature=gateway; identity=organisation; signer=" + string(gateway.Certificate().Fingerprint())},
		{"by that key, for the sender whom it names", protect(t, from("zoe@example.org"), pgp.Protection{Signer: gateway, Recipients: to,
			Gateway: &pgp.Gateway{Sender: addr(t, "zoe@example.org")}}), "encrypted gateway", "signature=gateway; identity=organisation"},
		{"by that key, about another sender", protect(t, from("zoe@example.org"), pgp.Protection{Signer: gateway, Recipients: to,
			Gateway: &pgp.Gateway{Sender: addr(t, "yan@example.org")}}), "encrypted mismatch", "signature=mismatch"},
		{"by that key, without the word that it is a gateway's", protect(t, from("zoe@example.org"), pgp.Protection{Signer: gateway, Recipients: to}), "encrypted mismatch", "signature=mismatch"},
		{"by that key, for another domain's author", protect(t, from("zoe@example.net"), pgp.Protection{Signer: gateway, Recipients: to,
			Gateway: &pgp.Gateway{}}), "encrypted mismatch", "signature=mismatch"},
		{"by that key, for a subdomain's author", protect(t, from("zoe@sub.example.org"), pgp.Protection{Signer: gateway, Recipients: to,
			Gateway: &pgp.Gateway{}}), "encrypted mismatch", "signature=mismatch"},
		{"by the key of a gateway that was only seen", protect(t, from("zoe@example.com"), pgp.Protection{Signer: seen, Recipients: to,
			Gateway: &pgp.Gateway{}}), "encrypted mismatch", "signature=mismatch"},
		{"by a mailbox of that name at a provider, whose directory lists its users' keys", protect(t, from("zoe@provider.example"), pgp.Protection{Signer: listed, Recipients: to,
			Gateway: &pgp.Gateway{}}), "encrypted mismatch", "signature=mismatch"},
		{"by a colleague's key that says it is a gateway's", protect(t, from("zoe@example.net"), pgp.Protection{Signer: c.mallory, Recipients: to,
			Gateway: &pgp.Gateway{}}), "encrypted mismatch", "signature=mismatch"},
		{"without a signature", protect(t, from("alice@example.org"), pgp.Protection{Unsigned: true, Recipients: to}), "encrypted none", "signature=none; identity=none; signer=none"},
		{"signed only", protect(t, from("alice@example.org"), pgp.Protection{Signer: c.alice, Gateway: &pgp.Gateway{}}), "signed gateway", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := openBytes(t, []byte(tt.mail), opening)
			if s := summary(got); s != tt.want {
				t.Fatalf("got %q %s, want %q", s, got.Reason, tt.want)
			}
			if tt.status == "" {
				return
			}
			text := string(all(t, got.Rendering))
			line := text[strings.Index(text, pgp.StatusField):]
			if line = line[:strings.Index(line, "\r\n")]; !strings.Contains(line, tt.status) || len(line) != 144 {
				t.Errorf("status of %d bytes: %q, want %q", len(line), line, tt.status)
			}
		})
	}
}

// TestAGatewayNotesTheSender: the proven author stands in the signature.
func TestAGatewayNotesTheSender(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	out := protect(t, crlf(letter), pgp.Protection{Signer: c.alice, Recipients: []*pgp.Certificate{c.bob.Certificate()}, Gateway: &pgp.Gateway{Sender: addr(t, "alice@example.org")}})
	_, sig := decrypted(t, out, c.alice, c.bob)
	notes := map[string]string{}
	for _, n := range sig.Notations {
		notes[n.Name] = string(n.Value)
		if n.IsCritical {
			t.Errorf("%s is critical", n.Name)
		}
	}
	if notes["origin@letterlock.org"] != "gateway" || notes["sender@letterlock.org"] != "alice@example.org" {
		t.Errorf("notations %v", notes)
	}
}

// TestUnsignedIsOnlyForTheEncrypted: what is neither encrypted nor signed doesn't
// come out of Protect.
func TestUnsignedIsOnlyForTheEncrypted(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := pgp.Protect(t.Context(), &out, message.Bytes([]byte(crlf(letter))), pgp.Protection{Unsigned: true, Now: testNow}); err == nil || out.Len() > 0 {
		t.Errorf("Protect: %v, %d bytes", err, out.Len())
	}
}
