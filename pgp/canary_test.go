package pgp_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// mayStandOutside are the fields whose values need not be hidden: whom it is
// from and for, when, and which conversation it belongs to. Received stays
// outside too, as servers wrote it.
var mayStandOutside = []string{"From", "Sender", "Reply-To", "To", "Cc", "Date", "Message-ID", "In-Reply-To", "References"}

// hasAddresses tells of fields whose addresses and identifiers stand outside,
// though nothing else of them does.
func hasAddresses(name string) bool {
	n := strings.ToLower(name)
	return strings.HasPrefix(n, "resent-") || strings.HasSuffix(n, "message-id") || n == "disposition-notification-to" || n == "list-id"
}

// manyFields are names that programs and lists are known to write, and some that
// nobody does.
var manyFields = strings.Fields(`Subject Comments Keywords Thread-Topic Thread-Index Topic X-Subject
	X-Original-Subject Subject-Old Summary Content-Description Content-Disposition Content-ID Content-Location
	Content-Language Content-Base Content-Features Content-Class Content-Type Content-Transfer-Encoding Content-MD5
	MIME-Version Importance Priority X-Priority X-MSMail-Priority Precedence Sensitivity Auto-Submitted
	Disposition-Notification-To Disposition-Notification-Options Return-Receipt-To Original-Message-ID
	Original-Recipient Original-From Original-Subject Expires Expiry-Date Supersedes Organization X-Mailer User-Agent
	X-Face Face OpenPGP X-PGP-Key Autocrypt Autocrypt-Gossip Autocrypt-Setup-Message Autocrypt-Draft-State
	List-Id List-Help List-Subscribe List-Unsubscribe List-Unsubscribe-Post List-Post List-Owner List-Archive
	Archived-At Resent-From Resent-Sender Resent-To Resent-Cc Resent-Bcc Resent-Date Resent-Message-ID Resent-Comments
	Resent-Subject Bcc Fcc Return-Path Received-SPF Delivered-To X-Original-To Envelope-To
	Authentication-Results ARC-Seal DKIM-Signature X-Spam-Status X-Originating-IP X-Mozilla-Draft-Info X-Enigmail-Draft
	X-Identity-Key X-Account-Key HP-Outer Letterlock-Status Letterlock-Send X-Forwarded-Message-Id Chat-Version
	Chat-Group-Name Chat-Group-ID Chat-Disposition-Notification-To Newsgroups Followup-To Mail-Followup-To
	Mail-Reply-To Approved Errors-To X-Attachment X-Whatever Nobody-Knows-This Accept-Language X-Google-Original-From
	Jabber-ID Solicitation Distribution Path Lines Xref PICS-Label Alternate-Recipient Delivery-Date Deferred-Delivery
	Latest-Delivery-Time Message-Context Encoding Reply-By SIO-Label Incomplete-Copy Conversion Message-Type`)

// canaries makes words that occur nowhere else, and knows where it put them.
type canaries map[string]string

func (c canaries) one(where string) string {
	word := fmt.Sprintf("Canary%06dyranac", len(c)+1)
	c[word] = where
	return word
}

// escaped tells which of the words occur in out, in any encoding that mail has.
func (c canaries) escaped(out string) (found []string) {
	texts := []string{out, strings.NewReplacer("\r", "", "\n", "", " ", "", "\t", "", "=\r\n", "").Replace(out)}
	for word, where := range c {
		for _, form := range []string{word, base64.StdEncoding.EncodeToString([]byte(word))[:18],
			base64.StdEncoding.EncodeToString([]byte("x" + word))[4:20], base64.StdEncoding.EncodeToString([]byte("xx" + word))[4:20]} {
			if strings.Contains(texts[0], form) || strings.Contains(texts[1], form) {
				found = append(found, where)
				break
			}
		}
	}
	return found
}

// letterOf is a message with a canary in every field, in a random order and
// spelling, and in every part.
func (c canaries) letterOf(r *rand.Rand) string {
	var fields []string
	for _, name := range manyFields {
		if strings.EqualFold(name, "Content-Type") || strings.EqualFold(name, "Content-Transfer-Encoding") {
			continue
		}
		where := name
		switch r.IntN(6) {
		case 0:
			name = strings.ToLower(name)
		case 1:
			name = strings.ToUpper(name)
		case 2:
			name += " "
		}
		value := c.one(where)
		switch r.IntN(7) {
		case 0:
			value = "a\r\n\t" + value + "\r\n b"
		case 1:
			value = "\"" + value + "\" <x@example.com>"
		case 2:
			value = "=?utf-8?B?" + base64.StdEncoding.EncodeToString([]byte(value)) + "?="
		case 3:
			if hasAddresses(where) {
				break
			}
			value = "<" + value + "@example.com>"
		case 4:
			value = "1 (" + value + ")"
		case 5:
			value = "\r\n " + value
		}
		fields = append(fields, name+": "+value)
	}
	for _, name := range mayStandOutside {
		value := map[string]string{"From": "Alice <alice@example.org>", "Date": "Mon, 01 Jun 2026 10:00:00 +0200"}[name]
		switch {
		case value != "":
		case strings.HasSuffix(name, "ID") || name == "In-Reply-To" || name == "References":
			value = "<one@example.org>"
		default:
			value = "Bob <bob@example.net>"
		}
		fields = append(fields, name+": "+value)
	}
	r.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	b := func() string { return c.one("body") }
	fields = append(fields, "Content-Type: multipart/mixed; boundary=\"bb\"; x="+c.one("Content-Type parameter"))
	return strings.Join(fields, "\r\n") + "\r\n\r\n" + c.one("preamble") + "\r\n--bb\r\nContent-Type: text/plain; charset=utf-8; name=" +
		c.one("parameter") + "\r\nContent-Description: " + c.one("description of a part") + "\r\n\r\n" + b() + "\r\n--bb\r\n" +
		"Content-Type: application/pdf; name*0*=utf-8''" + c.one("file name") + "\r\nContent-Disposition: attachment; filename=\"" +
		c.one("file name") + "\"\r\nContent-Transfer-Encoding: base64\r\nX-In-Part: " + c.one("field of a part") + "\r\n\r\n" +
		base64.StdEncoding.EncodeToString([]byte(b())) + "\r\n--bb\r\nContent-Type: message/rfc822\r\n\r\nSubject: " +
		c.one("subject of an embedded message") + "\r\nBcc: " + c.one("Bcc of an embedded message") + "\r\n\r\n" + b() +
		"\r\n--bb\r\nContent-Type: multipart/signed; boundary=cc; protocol=\"application/pgp-signature\"; micalg=pgp-sha256\r\n\r\n" + c.one("preamble") +
		"\r\n--cc\r\n\r\n" + b() + "\r\n--cc\r\nContent-Type: application/pgp-signature\r\n\r\n" + b() + "\r\n--cc--\r\n" + c.one("epilogue") +
		"\r\n--bb--\r\n" + c.one("epilogue") + "\r\n"
}

// TestNothingShowsOutside: whatever a message has in it, in any field that need
// not stand outside, in any part, shows nowhere but inside.
func TestNothingShowsOutside(t *testing.T) {
	t.Parallel()
	alice, bob := makeKey(t, "alice@example.org"), makeKey(t, "bob@example.net")
	for seed := range uint64(40) {
		c := canaries{}
		mail := c.letterOf(rand.New(rand.NewPCG(seed, 1)))
		out := protect(t, mail, pgp.Protection{Signer: alice, Recipients: []*pgp.Certificate{bob.Certificate()}})
		if found := c.escaped(out); len(found) > 0 {
			t.Errorf("seed %d: outside stands what was in %q", seed, found)
		}
		if found := c.escaped(seal(t, mail, alice)); len(found) > 0 {
			t.Errorf("seed %d: Seal shows what was in %q", seed, found)
		}
		inner, _ := decrypted(t, out, alice, bob)
		for _, where := range []string{"Bcc", "Resent-Bcc", "X-Mozilla-Draft-Info", "User-Agent", "Letterlock-Status"} {
			for word, at := range c {
				if at == where && strings.Contains(inner, word) {
					t.Errorf("seed %d: inside stands %s", seed, where)
				}
			}
		}
		if t.Failed() {
			t.Logf("%.4000s", out)
			return
		}
	}
}

// oddSubmissions are submissions that are not well-formed, with a canary where it might
// come to stand outside.
var oddSubmissions = []string{
	"From: a@example.org\rSubject: %s\r\n\r\nx\r\n",
	"From: a@example.org\nSubject: %s\n\nx\n",
	"From: a@example.org\r\nTo: b@example.net\r%s: x\r\n\r\nx",
	"From: a@example.org\r\n%s\r\nSubject: x\r\n\r\nx",
	"From: a@example.org\r\n\x00Subject: %s\r\n\r\nx",
	"From: a@example.org\r\nSubject\x00: %s\r\n\r\nx",
	"From: a@example.org\r\nSubject\t : %s\r\n\r\nx",
	"From: a@example.org\r\nS\xc3\xbcbject: %s\r\n\r\nx",
	"From: a@example.org\r\n: %s\r\n\r\nx",
	"From: a@example.org\r\n %s: x\r\nSubject: y\r\n\r\nx",
	"From a@example.org\r\nFrom: a@example.org\r\nSubject: %s\r\n\r\nx",
	"From: a@example.org\r\nDate: %s\r\n\r\nx",
	"From: a@example.org\r\nDate: Mon, 01 Jun 2026 10:00:00 +0200 (%s)\r\n\r\nx",
	"From: a@example.org\r\nMessage-ID: %s\r\n\r\nx",
	"From: a@example.org\r\nIn-Reply-To: your message \"%s\" <x@y>\r\n\r\nx",
	"From: a@example.org\r\nReferences: <x@y> (%s)\r\n\r\nx",
	"From: a@example.org\r\nAutocrypt: addr=a@example.org; _x=%s; keydata=AAAA\r\n\r\nx",
	"From: a@example.org\r\nMIME-Version: 1.0 (%s)\r\n\r\nx",
	"From: a@example.org\r\nImportance: high %s\r\n\r\nx",
	"From: a@example.org\r\nResent-Comments: %s\r\n\r\nx",
	"From: a@example.org\r\nList-Id: %s <l.example.org>\r\n\r\nx",
	"From: a@example.org\r\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=b\r\n\r\n--b\r\n\r\n%s\r\n--b--\r\n",
	"From: a@example.org\r\nContent-Type: multipart/mixed; boundary=\"%s\"\r\n\r\n--%[1]s\r\n\r\nx\r\n--%[1]s--\r\n",
	"From: a@example.org\r\nContent-Type: message/rfc822\r\n\r\nSubject: %s\r\nFrom: b@example.org\r\n\r\nx",
	"From: a@example.org\r\nContent-Type: text/plain; hp=clear; x=\"%s\r\n\r\nx",
	"From: a@example.org (%s)\r\nSubject: y\r\n\r\nx",
	"From: a@example.org\r\nTo: %s\r\n\r\nx",
	"From: a@example.org\r\nReply-To: \"%s\" <a@example.org>\r\nTo: b@example.net\r\n\r\nx",
}

func TestHostileSubmissionsShowNothing(t *testing.T) {
	t.Parallel()
	alice, bob := makeKey(t, "alice@example.org"), makeKey(t, "bob@example.net")
	for _, form := range oddSubmissions {
		c := canaries{}
		mail := fmt.Sprintf(form, c.one("it"))
		var out bytes.Buffer
		err := pgp.Protect(context.Background(), &out, message.Bytes([]byte(mail)), pgp.Protection{Signer: alice,
			Recipients: []*pgp.Certificate{bob.Certificate()}, Now: testNow})
		if found := c.escaped(out.String()); len(found) > 0 {
			t.Errorf("%q shows (%v):\n%.600s", form, err, out.String())
		}
	}
}
