package pgp_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// mixedUp makes of an OpenPGP message what is left of PGP/MIME behind Exchange.
func mixedUp(head string, b []byte) string {
	return head + "X-MS-Has-Attach: yes\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary=\"_003_aa_\"\r\n\r\n" +
		"--_003_aa_\r\nContent-Type: text/plain; charset=\"us-ascii\"\r\nContent-ID: <A0@example.org>\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\r\n\r\n" +
		"--_003_aa_\r\nContent-Type: application/pgp-encrypted; name=\"ATT00001\"\r\nContent-Description: ATT00001\r\n" +
		"Content-Disposition: attachment; filename=\"ATT00001\"; size=12\r\nContent-Transfer-Encoding: base64\r\n\r\nVmVyc2lvbjogMQ0K\r\n\r\n" +
		"--_003_aa_\r\nContent-Type: application/octet-stream; name=\"encrypted.asc\"\r\nContent-Disposition: attachment; filename=\"encrypted.asc\"\r\n" +
		"Content-Transfer-Encoding: base64\r\n\r\n" + wrapped(base64.StdEncoding.EncodeToString([]byte(pgpMessage(b)))) + "\r\n--_003_aa_--\r\n"
}

func wrapped(s string) string {
	var b strings.Builder
	for ; len(s) > 76; s = s[76:] {
		b.WriteString(s[:76] + "\r\n")
	}
	return b.String() + s + "\r\n"
}

func TestOpenPGPMIMEThatExchangeTookApart(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	mail := mixedUp(outside, written(t, payloadOf("From: Alice <alice@example.org>\r\nSubject: hi\r\nMessage-ID: <1@example.org>\r\n"), c.alice, nil, c.bob))
	got := openBytes(t, []byte(mail), c.opening())
	if s := summary(got); s != "encrypted valid" {
		t.Fatalf("got %q %s", s, got.Reason)
	}
	text := string(all(t, got.Rendering))
	if !strings.HasSuffix(text, "hp=\"cipher\"\r\n\r\nCANARY, the text\r\n") || strings.Contains(text, "ATT00001") || strings.Count(text, "Content-Type") != 1 {
		t.Errorf("rendering\n%s", text)
	}
	swap := func(old, new string) func(string) string {
		return func(s string) string {
			if !strings.Contains(s, old) {
				t.Fatalf("no %q", old)
			}
			return strings.Replace(s, old, new, 1)
		}
	}
	for _, tt := range []struct {
		name   string
		change func(string) string
		want   string
	}{
		{"its header names in small letters", swap("X-MS-Has-Attach", "x-ms-exchange-messagesentrepresentingtype"), "encrypted valid"},
		{"control part and ciphertext not encoded", func(s string) string {
			return swap("base64\r\n\r\nVmVyc2lvbjogMQ0K\r\n", "7bit\r\n\r\nversion: 1\r\n")(s)
		}, "encrypted valid"},
		{"no trace of Exchange", swap("X-MS-Has-Attach: yes\r\n", ""), "plain"},
		{"a text beside", swap("quoted-printable\r\n\r\n\r\n", "quoted-printable\r\n\r\nHello\r\n"), "plain"},
		{"a blank text that is none, encoded", swap("quoted-printable\r\n\r\n\r\n", "quoted-printable\r\n\r\n=48\r\n"), "plain"},
		{"a text whose encoding breaks off before it", swap("quoted-printable\r\n\r\n\r\n", "quoted-printable\r\n\r\n=ZZ Hello\r\n"), "plain"},
		{"a text that is no base64", swap("quoted-printable\r\n\r\n\r\n", "base64\r\n\r\n!!! Hello\r\n"), "plain"},
		{"a disclaimer in HTML", swap("text/plain", "text/html"), "plain"},
		{"another part behind", swap("--_003_aa_--", "--_003_aa_\r\n\r\nHello\r\n--_003_aa_--"), "plain"},
		{"another part before", swap("--_003_aa_\r\nContent-Type: text", "--_003_aa_\r\n\r\nHello\r\n--_003_aa_\r\nContent-Type: text"), "plain"},
		{"another version", swap("VmVyc2lvbjogMQ0K", "VmVyc2lvbjogMg0K"), "plain"},
		{"parts in another order", func(s string) string {
			return strings.NewReplacer("application/pgp-encrypted", "application/octet-stream", "application/octet-stream", "application/pgp-encrypted").Replace(s)
		}, "plain"},
		{"another subtype of the root", swap("multipart/mixed", "multipart/alternative"), "plain"},
		{"no ciphertext", func(s string) string {
			i, j := strings.Index(s, "LS0tLS1CRUdJ"), strings.LastIndex(s, "\r\n--_003_aa_--")
			return s[:i] + "SGVsbG8=\r\n" + s[j:]
		}, "plain"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := openBytes(t, []byte(tt.change(mail)), c.opening())
			if s := summary(got); s != tt.want {
				t.Errorf("got %q (%s), want %q", s, got.Reason, tt.want)
			}
		})
	}
	if got := openBytes(t, []byte(mixedUp(outside, written(t, payload, nil, nil, c.mallory))), c.opening()); got.Class != pgp.Opaque || got.Reason == "" {
		t.Errorf("for somebody else it is %s (%q)", got.Class, got.Reason)
	}
}

// Only mail that went through Exchange costs more bytes to tell its class.
func TestOnlyMailOfExchangeIsLookedInto(t *testing.T) {
	for _, tt := range []struct {
		name   string
		header string
		want   bool
	}{
		{"mail with attachments", "Content-Type: multipart/mixed; boundary=b\r\n", false},
		{"mail with attachments through Exchange", "X-MS-TNEF-Correlator:\r\nContent-Type: multipart/mixed; boundary=b\r\n", true},
		{"HTML mail through Exchange", "X-MS-Has-Attach:\r\nContent-Type: multipart/alternative; boundary=b\r\n", false},
		{"a name that only begins alike", "X-MS-: x\r\nContent-Type: multipart/mixed; boundary=b\r\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src := message.Bytes([]byte(tt.header + "\r\n--b\r\n\r\nx\r\n--b--\r\n"))
			root, err := message.Parse(src, message.Limits{})
			must(t, err)
			s := pgp.Shape{Type: root.Type, Subtype: root.Subtype, Params: root.Params}
			for _, f := range root.Header.Fields {
				s.Exchange = s.Exchange || pgp.FromExchange(f.Name)
			}
			if s.NeedsText() != tt.want {
				t.Errorf("it is %t", !tt.want)
			}
		})
	}
}
