package smtpd_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/letters"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// opened is a record of messages that were shown decrypted.
type opened []string

func (o opened) WasOpened(_ context.Context, id string) (bool, error) {
	return slices.Contains(o, id), nil
}

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// answering are messages about <secret@example.net>, each in another way.
var answering = map[string]string{
	"In-Reply-To":                      "In-Reply-To: <secret@example.net>\n\nquoting\n",
	"folded and commented In-Reply-To": "In-Reply-To: Your message\n of yesterday\n <secret@example.net> (it was)\n\nquoting\n",
	"References":                       "References: <a@b> <c@d>\n\t<secret@example.net>\n\nquoting\n",
	"a second References field":        "References: <a@b>\nreferences : <secret@example.net>\n\nquoting\n",
	"forwarded inline by Thunderbird":  "X-Forwarded-Message-Id: <secret@example.net>\n\nquoting\n",
	"forwarded as attachment": "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\nsee\n--x\nContent-Type: message/rfc822\n\n" +
		"From: bob@example.net\nMessage-ID: <secret@example.net>\n\nits text\n--x--\n",
	"a read receipt": "MIME-Version: 1.0\nContent-Type: multipart/report; report-type=disposition-notification; boundary=x\n\n--x\n\nread\n--x\n" +
		"Content-Type: message/disposition-notification\n\nReporting-UA: x\nOriginal-Message-ID: <secret@example.net>\nDisposition: manual-action/MDN-sent-manually; displayed\n\n--x--\n",
	"a read receipt in UTF-8": "MIME-Version: 1.0\nContent-Type: multipart/report; report-type=disposition-notification; boundary=x\n\n--x\n\nread\n--x\n" +
		"Content-Type: message/global-disposition-notification\n\nReporting-UA: x\nOriginal-Message-ID: <secret@example.net>\nDisposition: manual-action/MDN-sent-manually; displayed\n\n--x--\n",
	"quoted with its header, in UTF-16": "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-16le\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString(
		[]byte(strings.Join(strings.Split("> Message-ID: <secret@example.net>\r\n> x\r\n", ""), "\x00")+"\x00")) + "\n",
	"quoted with its header, in Markdown": "MIME-Version: 1.0\nContent-Type: text/markdown\n\nsee:\n\n> From: bob@example.net\n> Message-ID: <secret@example.net>\n>\n> x\n",
	"the header of the original": "MIME-Version: 1.0\nContent-Type: multipart/report; report-type=x; boundary=x\n\n--x\n\nread\n--x\n" +
		"Content-Type: text/rfc822-headers\n\nSubject: x\nMessage-ID: <secret@example.net>\n\n--x--\n",
	"a forwarded message in base64": "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\nsee\n--x\nContent-Type: message/rfc822\n" +
		"Content-Transfer-Encoding: base64 (as some do)\n\n" + base64.StdEncoding.EncodeToString([]byte(crlf("From: bob@example.net\nMessage-ID: <secret@example.net>\n\nx\n"))) + "\n--x--\n",
	"a message in an encoded message": "MIME-Version: 1.0\nContent-Type: message/global\nContent-Transfer-Encoding: base64\n\n" +
		base64.StdEncoding.EncodeToString([]byte(crlf("Content-Type: multipart/mixed; boundary=y\n\n--y\nContent-Type: message/rfc822\n\nMessage-ID: <secret@example.net>\n\nx\n--y--\n"))) + "\n",
	"a message attached as a file": "MIME-Version: 1.0\nContent-Type: application/octet-stream; name=letter.eml\nContent-Transfer-Encoding: base64\n\n" +
		base64.StdEncoding.EncodeToString([]byte(crlf("From: bob@example.net\nMessage-ID: <secret@example.net>\n\nx\n"))) + "\n",
	"a message attached as a file of text": "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\nsee\n--x\nContent-Type: text/plain; name=letter.eml\n\n" +
		"From: bob@example.net\nMessage-ID: <secret@example.net>\n\nx\n--x--\n",
	"quoted with its header":                 "MIME-Version: 1.0\n\nsee:\n> From: bob@example.net\n> message-id: <secret@example.net>\n>\n> x\n",
	"quoted behind hyphens, in capitals":     "MIME-Version: 1.0\n\n-- \n-----message-i\nMESSAGE-ID: <secret@example.net>\n",
	"forwarded with its header, QP":          "MIME-Version: 1.0\nContent-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\nMessage-ID:=\n <secret=40example.net>\n\nx\n",
	"forwarded as HTML with its header":      "MIME-Version: 1.0\nContent-Type: text/html\n\n<p><b>Message-ID:</b>&nbsp;&lt;secret@example.net&gt;<br>x\n",
	"forwarded with our word for it":         "MIME-Version: 1.0\n\n----- Forwarded message -----\nFrom: bob@example.net\nLetterlock-Status: encrypted; signature=valid; identity=directory; signer=AA\n\nx\n",
	"an ID in a phrase that opens a bracket": "In-Reply-To: (a <b) <secret@example.net>\n\nquoting\n",
	"an ID without brackets":                 "In-Reply-To: secret@example.net\n\nquoting\n",
	"an ID amid a thousand others":           "References: " + strings.Repeat("<x@y>\n <z@y>\n ", 600) + "<secret@example.net>\n " + strings.Repeat("<v@y>\n <w@y>\n ", 600) + "<u@y>\n\nquoting\n",
	"forwarded as a table, by Thunderbird":   "MIME-Version: 1.0\nContent-Type: text/html\n\n<table>\n<tr><th align=\"RIGHT\">Message-ID:\n   </th>\n   <td>\n    <a href=\"x\">&lt;secret@example.net&gt;</a></td></tr></table>x\n",
	"our word for it in a table":             "MIME-Version: 1.0\nContent-Type: text/html\n\n<tr>\n <th>Letterlock-Status:\n </th>\n <td>encrypted; signature=valid; identity=directory; signer=AA</td></tr>\n",
	"forwarded inline by mutt":               "Subject: [bob@example.net: Re: Die Größe]\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n----- Forwarded message from Bob <bob@example.net> -----\n\nFrom: Bob <bob@example.net>\nTo: alice@example.org\nSubject: Re: Die Größe\n\nx\n",
	"forwarded inline in Latin 1":            "Subject: Fwd: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\nFrom: Bob <Bob@example.net>\nSubject: Die Gr=F6=DFe\n\nx\n",
	"forwarded inline as a table":            "Subject: Fwd: x\nMIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\n\n<tr>\n <th>Betreff:\n </th>\n <td>Die Größe</td></tr>\n<tr>\n <th>Von:\n </th>\n <td>Bob <a href=\"mailto:bob@example.net\">&lt;bob@example.net&gt;</a></td></tr>\n",
	"an answer that names nothing":           "Subject: =?utf-8?q?Aw:_Die_Gr=C3=B6=C3=9Fe?=\n\nBob <bob@example.net> wrote:\n> x\n",
	"resent":                                 "Resent-From: alice@example.org\nResent-To: nobody@example.com\nMessage-ID: <secret@example.net>\n\nas it came\n",
	"resent, and only to whom is said":       "Resent-To: nobody@example.com\nMessage-ID: <secret@example.net>\n\nas it came\n",
	"as it was shown":                        "Letterlock-Status: encrypted; signature=valid; identity=directory; signer=AA\nMessage-ID: <new@example.org>\n\nas it came\n",
	"an answer to an invitation": "MIME-Version: 1.0\nContent-Type: text/calendar; method=REPLY\nContent-Transfer-Encoding: base64\n\n" +
		base64.StdEncoding.EncodeToString([]byte("BEGIN:VCALENDAR\r\nMETHOD:REPLY\r\nBEGIN:VEVENT\r\nUID;X=1:event-\r\n 1@example.net\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n")) + "\n",
	"an attachment in an attachment": "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: message/rfc822\n\n" +
		"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=y\n\n--y\nContent-Type: message/rfc822\n\nMessage-Id: <secret@example.net>\n\nx\n--y--\n--x--\n",
}

// TestTheReplyRule: whatever the rules say, what answers a decrypted message
// never goes in clear; encrypted it goes.
func TestTheReplyRule(t *testing.T) {
	bob, err := address.Parse("bob@example.net")
	if err != nil {
		t.Fatal(err)
	}
	record := opened{"<secret@example.net>", smtpd.CalendarID("event-1@example.net"), letters.ID(bob, "Die Größe")}
	for name, msg := range answering {
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t)
			b := newBridge(t, u, withRules(policy.Config{Rules: []policy.Rule{{Name: "clear", To: []string{"*@example.com"}, Mode: policy.Cleartext}}}),
				func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) { a.Opened = record })
			msg := crlf("From: alice@example.org\nTo: x@example.com\n" + msg)
			if got := b.login().submit(wired(msg), "x@example.com"); !strings.HasPrefix(got, "550 5.7.1 this answers or forwards") {
				t.Errorf("in clear: %q", got)
			}
			if n := len(u.received()); n != 0 {
				t.Errorf("%d messages went", n)
			}
			if got := b.login().submit(wired(msg), "bob@example.net"); !strings.HasPrefix(got, "250") {
				t.Errorf("encrypted: %q", got)
			}
		})
	}
}

// clears is a record that takes note of what went in clear.
type clears struct {
	opened
	ids []string
}

func (c *clears) SentClear(_ context.Context, ids ...string) error {
	c.ids = append(c.ids, ids...)
	return nil
}

func TestWhatGoesInClearIsNoted(t *testing.T) {
	for name, tt := range map[string]struct {
		to   []string
		mode policy.Mode
		want []string
	}{
		"forwarded as it came":            {[]string{"resent@example.com"}, policy.Prefer, nil},
		"to somebody without certificate": {[]string{"x@example.com"}, policy.Prefer, []string{"<1@example.org>"}},
		"signed only":                     {[]string{"x@example.com"}, policy.Sign, []string{"<1@example.org>"}},
		"encrypted":                       {[]string{"bob@example.net"}, policy.Prefer, nil},
		"encrypted, and in clear":         {[]string{"bob@example.net", "x@example.com"}, policy.Prefer, []string{"<1@example.org>"}},
		"refused upstream":                {[]string{"refused@example.com"}, policy.Prefer, nil},
	} {
		t.Run(name, func(t *testing.T) {
			record := &clears{}
			u := newUpstream(t)
			u.fault = func(step string, _ int, _ string) fault {
				if step == "dot" && tt.to[0] == "refused@example.com" {
					return fault{reply: "554 5.7.1 no"}
				}
				return fault{}
			}
			b := newBridge(t, u, withRules(policy.Config{Default: tt.mode, Settings: policy.Settings{Mixed: policy.MixedSplit}}),
				func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) { a.Opened = record })
			text := letter("1", tt.to[0])
			if tt.to[0] == "resent@example.com" {
				text = "Resent-From: alice@example.org\r\n" + text
			}
			b.login().submit(wired(text), tt.to...)
			if n := len(u.received()); (n > 0) == (tt.to[0] == "refused@example.com") {
				t.Errorf("%d were taken", n)
			}
			if !slices.Equal(record.ids, tt.want) {
				t.Errorf("noted %q, want %q", record.ids, tt.want)
			}
		})
	}
}

func TestAnsweringSomethingElseGoesInClear(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u, func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) { a.Opened = opened{"<secret@example.net>"} })
	if got := b.login().submit(wired(letter("1", "x@example.com", "In-Reply-To: <other@example.net>\n")), "x@example.com"); !strings.HasPrefix(got, "250") {
		t.Errorf("reply %q", got)
	}
}

func FuzzAnswered(f *testing.F) {
	for _, m := range answering {
		f.Add([]byte(crlf(m)))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, id := range smtpd.Answered(raw) {
			if strings.ContainsAny(id, "\r\n") && !strings.HasPrefix(id, "ical:") {
				t.Errorf("ID %q", id)
			}
		}
	})
}

// protected is a message that Alice's own program has encrypted.
func protected(t *testing.T, msg string, to ...string) string {
	t.Helper()
	var certs []*pgp.Certificate
	for _, r := range to {
		certs = append(certs, key(t, r).Certificate())
	}
	var out bytes.Buffer
	err := pgp.Protect(t.Context(), &out, message.Bytes([]byte(msg)), pgp.Protection{Signer: key(t, "alice@example.org"), Recipients: certs, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestSealedSubmissionsPassUnchanged(t *testing.T) {
	require := policy.Config{Default: policy.Require}
	u := newUpstream(t)
	b := newBridge(t, u, withRules(require))
	msg := protected(t, letter("1", "bob@example.net"), "bob@example.net")
	withBcc := strings.Replace(msg, "To: bob", "Bcc: dave@example.net\r\nTo: bob", 1)
	if got := b.login().submit(wired(withBcc), "bob@example.net"); !strings.HasPrefix(got, "250") {
		t.Fatalf("reply %q", got)
	}
	if m := u.received(); len(m) != 1 || m[0].data != msg {
		t.Errorf("got %+v\nwant %q", m, msg)
	}
	// Carol has a certificate, and the client didn't encrypt to it.
	if got := b.login().submit(wired(msg), "bob@example.net", "carol@example.net"); !strings.HasPrefix(got, "550 5.7.1") || !strings.Contains(got, "not to the certificate known of carol@example.net") {
		t.Errorf("reply %q", got)
	}
}

// TestWhatOnlyClaimsToBeSealed is encrypted by us.
func TestWhatOnlyClaimsToBeSealed(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u)
	msg := crlf("From: alice@example.org\nTo: bob@example.net\nMIME-Version: 1.0\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=x\n\n" +
		"--x\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n--x\nContent-Type: application/octet-stream\n\n" + canary + "\n--x--\n")
	got := b.login().submit(wired(msg), "bob@example.net")
	if u.saw(canary) {
		t.Errorf("in clear, reply %q", got)
	}
}

func TestEightBitWithoutEightBitMIMEUpstream(t *testing.T) {
	u := newUpstream(t)
	u.caps = []string{"PIPELINING"}
	b := newBridge(t, u)
	msg := letter("1", "x@example.com")
	msg = strings.Replace(msg, "Dear", "Chère", 1)
	if got := b.login().submit(wired(msg), "x@example.com"); !strings.HasPrefix(got, "554 5.6.3") {
		t.Errorf("in clear: %q", got)
	}
	if got := b.login().submit(wired(msg), "bob@example.net"); !strings.HasPrefix(got, "250") {
		t.Errorf("encrypted, and so 7-bit: %q", got)
	}
}

func TestEightBitIsDeclaredUpstream(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u)
	msg := strings.Replace(letter("1", "x@example.com"), "Dear", "Chère", 1)
	if got := b.login().submit(wired(msg), "x@example.com"); !strings.HasPrefix(got, "250") {
		t.Fatalf("reply %q", got)
	}
	if m := u.received(); len(m) != 1 || !strings.Contains(m[0].mail, "BODY=8BITMIME") {
		t.Errorf("got %+v", m)
	}
}

func TestDSNParametersArePassedOn(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u)
	k := b.login()
	k.run(`
		C: MAIL FROM:<alice@example.org> RET=HDRS ENVID=a+2Bb
		S: 250
		C: RCPT TO:<bob@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob+40example.net
		S: 250
		C: DATA
		S: 354`)
	k.send(wired(letter("1", "bob@example.net")) + ".\r\n")
	k.run("S: 250")
	m := u.received()
	if len(m) != 1 || m[0].mail != "MAIL FROM:<alice@example.org> RET=HDRS ENVID=a+2Bb" ||
		m[0].lines[0] != "RCPT TO:<bob@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob+40example.net" {
		t.Errorf("got %+v", m)
	}
}

func TestProvidersSentCopy(t *testing.T) {
	u := newUpstream(t)
	own := key(t, "alice@example.org").Certificate()
	b := newBridge(t, u, func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) { a.Own = []*pgp.Certificate{own} })
	if got := b.login().submit(wired(letter("1", "bob@example.net")), "bob@example.net"); !strings.HasPrefix(got, "250") {
		t.Fatalf("reply %q", got)
	}
	src := message.Bytes([]byte(u.received()[0].data))
	root, err := message.Parse(src, message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := pgp.IsSealedSubmission(root, src)
	if err != nil || !pgp.Covers(s.KeyIDs, own) || !pgp.Covers(s.KeyIDs, key(t, "bob@example.net").Certificate()) || len(s.KeyIDs) != 2 {
		t.Errorf("key IDs %x, %v", s.KeyIDs, err)
	}
}
