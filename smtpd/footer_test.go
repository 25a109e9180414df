package smtpd_test

import (
	"fmt"
	"mime"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

func TestFooter(t *testing.T) {
	const head = "From: alice@example.org\nSubject: x\nMIME-Version: 1.0\n"
	text := func(ct, body string) string { return head + ct + "\n" + body }
	for _, tt := range []struct {
		name, mail, footer string
		want               string // how the copy ends or "same"; "part" for a part of its own
	}{
		{"plain text without a type", "From: a@b.example\n\nhello\n", "sent in clear", "hello\n\nsent in clear\n"},
		{"plain text that ends without a line end", "From: a@b.example\n\nhello", "sent\nin clear\n", "hello\n\nsent\nin clear\n"},
		{"no text at all", "From: a@b.example\n\n", "note", "\n\n\nnote\n"},
		{"UTF-8", text("Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n", "grüß\n"), "Fußzeile", "grüß\n\nFußzeile\n"},
		{"more than ASCII below ASCII", text("Content-Type: text/plain\n", "hello\n"), "Fußzeile", "part"},
		{"encoded text", text("Content-Type: text/plain\nContent-Transfer-Encoding: base64\n", "aGVsbG8=\n"), "note", "part"},
		{"another charset", text("Content-Type: text/plain; charset=utf-16\nContent-Transfer-Encoding: 8bit\n", "x\n"), "note", "part"},
		{"HTML", text("Content-Type: text/html\n", "<p>x\n"), "note", "part"},
		{"parts", text("Content-Type: multipart/alternative; boundary=b\n", "--b\n\none\n--b\nContent-Type: text/html\n\ntwo\n--b--\n"), "note", "part"},
		{"a file", text("Content-Type: text/plain\nContent-Disposition: attachment; filename=x\n", "x\n"), "note", "part"},
		{"signed", text("Content-Type: multipart/signed; boundary=b\n", "--b\n\none\n--b\nContent-Type: application/pgp-signature\n\nx\n--b--\n"), "note", "same"},
		{"signed within", text("Content-Type: multipart/mixed; boundary=a\n", "--a\nContent-Type: multipart/signed; boundary=b\n\n--b\n\none\n--b--\n--a--\n"), "note", "same"},
		{"S/MIME", text("Content-Type: application/pkcs7-mime; smime-type=signed-data\n", "x\n"), "note", "same"},
		{"a report", text("Content-Type: multipart/report; boundary=b\n", "--b\n\none\n--b--\n"), "note", "same"},
		{"signed by a domain", "DKIM-Signature: v=1\n" + text("", "x\n"), "note", "same"},
		{"clear-signed text", text("", "-----BEGIN PGP SIGNED MESSAGE-----\n\nx\n"), "note", "same"},
		{"armor after much text", text("", strings.Repeat(strings.Repeat("x", 76)+"\n", 3000)+"-----BEGIN PGP MESSAGE-----\n\nx\n"), "note", "same"},
		{"a multipart without parts", text("Content-Type: multipart/mixed; boundary=b\n", "x\n"), "note", "same"},
		{"a message as the root", text("Content-Type: message/rfc822\n", "From: x\n\nx\n"), "note", "same"},
		{"no footer", text("", "x\n"), "", "same"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mail := crlf(tt.mail)
			src, err := smtpd.WithFooter(message.Bytes([]byte(mail)), tt.footer)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := message.ReadAll(src, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			got := string(raw)
			switch tt.want {
			case "same":
				if got != mail {
					t.Errorf("changed to\n%s", got)
				}
			case "part":
				root, err := message.Parse(src, message.Limits{})
				if err != nil || !root.Is("multipart/mixed") || len(root.Children) != 2 || len(root.Header.All("MIME-Version")) != 1 || !root.Header.Has("From") {
					t.Fatalf("%v\n%s", err, got)
				}
				was, _ := message.Parse(message.Bytes([]byte(mail)), message.Limits{})
				if enc := was.Header.Get("Content-Transfer-Encoding"); strings.EqualFold(enc, "8bit") && root.Header.Get("Content-Transfer-Encoding") != "8bit" {
					t.Error("a part of 8 bits in a whole that doesn't say so")
				}
				first, last := root.Children[0], root.Children[1]
				if first.Type != was.Type || got[first.Body:first.End] != mail[was.Body:was.End] || !last.Is("text/plain") {
					t.Errorf("the parts are not the message and the footer:\n%s", got)
				}
			default:
				if !strings.HasSuffix(got, crlf(tt.want)) || !strings.HasPrefix(got, mail) {
					t.Errorf("got\n%q", got)
				}
			}
		})
	}
}

func TestWordsAreTakenOffTheSubject(t *testing.T) {
	for _, tt := range []struct{ subject, word, want string }{
		{"[Secure] plans", "[secure]", "plans"},
		{"Re: [secure] plans [SECURE]", "[secure]", "Re: plans"},
		{"plans", "[secure]", "plans"},
		{"=?utf-8?q?[secure]_Gr=C3=BC=C3=9Fe?=", "[secure]", "Grüße"},
		{"[secure]\n folded", "[secure]", "folded"},
		{"[geheim] " + strings.Repeat("ü", 100), "[geheim]", strings.Repeat("ü", 100)},
		{"[secure] =?x", "[secure]", "=?x"},
		{"[secure] =?utf-8?q?=3D=3Futf-8=3Fq=3Fother=3F=3D?=", "[secure]", "=?utf-8?q?other?="},
		{"[secure]" + strings.Repeat("\n words", 300), "[secure]", strings.TrimSpace(strings.Repeat("words ", 300))},
		{"İ [secure]", "[secure]", "İ [secure]"},
		{"x", "", "x"},
	} {
		mail := crlf("From: a@b.example\nSubject: " + tt.subject + "\nTo: c@d.example\n\n[secure] text\n")
		got, err := smtpd.Stripped([]byte(mail), tt.word)
		if err != nil {
			t.Fatal(err)
		}
		h := message.ParseHeader(got)
		decoded, _ := new(mime.WordDecoder).DecodeHeader(h.Get("Subject"))
		if decoded != tt.want && h.All("Subject")[0].Text() != tt.want || !strings.HasSuffix(string(got), "\r\nTo: c@d.example\r\n\r\n[secure] text\r\n") || !strings.HasPrefix(string(got), "From: a@b.example\r\nSubject: ") {
			t.Errorf("%q without %q is %q", tt.subject, tt.word, got)
		}
		for line := range strings.SplitSeq(string(got), "\r\n") {
			if len(line) > 200 {
				t.Errorf("a line of %d bytes", len(line))
			}
		}
	}
}

func TestWhatAnAttachmentIs(t *testing.T) {
	mixed := func(part string) string {
		return "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\ntext\n--b\n" + part + "\n--b--\n"
	}
	for _, tt := range []struct {
		name, mail string
		want       bool
	}{
		{"plain text", "\ntext\n", false},
		{"HTML beside text", "Content-Type: multipart/alternative; boundary=b\n\n--b\n\none\n--b\nContent-Type: text/html\n\ntwo\n--b--\n", false},
		{"a part that says so", mixed("Content-Disposition: ATTACHMENT\n\nx"), true},
		{"a part with a file name", mixed("Content-Type: text/plain\nContent-Disposition: inline; filename*=utf-8''x\n\nx"), true},
		{"a part with a name", mixed("Content-Type: image/png; name=x\n\nx"), true},
		{"a picture in the text", mixed("Content-Type: image/png\nContent-ID: <x>\n\nx"), false},
		{"a program's file without a name", mixed("Content-Type: application/pdf\n\nx"), true},
		{"a message", mixed("Content-Type: message/rfc822\n\nFrom: x\n\nx"), true},
		{"a signature", mixed("Content-Type: application/pgp-signature; name=signature.asc\n\nx"), false},
		{"a message that is nothing but a file", "Content-Type: application/zip\n\nx\n", true},
	} {
		got, err := smtpd.HasAttachment([]byte(crlf("From: a@b.example\n" + tt.mail)))
		if err != nil || got != tt.want {
			t.Errorf("%s: %v (%v), want %v", tt.name, got, err, tt.want)
		}
	}
}

// TestRulesSeeTheMessage drives a session: what rules look for in the message
// decides at DATA, and their options reach the copies.
func TestRulesSeeTheMessage(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u, withRules(policy.Config{Default: policy.Prefer, Settings: policy.Settings{Footer: "sent in clear", Headers: policy.HeadersSubject}, Rules: []policy.Rule{
		{Name: "secure", Subject: []string{"[secure]"}, StripSubject: true, Mode: policy.Require},
		{Name: "company", Header: []string{"Sensitivity: Company-Confidential"}, Mode: policy.Refuse},
		{Name: "files", Attachment: true, Mode: policy.Require},
		{Name: "large", LargerThan: 100_000, Mode: policy.Require},
	}}))
	send := func(to, head, body string) string {
		return b.login().submit(wired(crlf("From: alice@example.org\nTo: "+to+"\n"+head+"\n"+body)), to)
	}
	for _, tt := range []struct{ name, head, body string }{
		{"a word in the subject", "Subject: =?utf-8?b?W3NlY3VyZV0=?= x\n", "text\n"},
		{"a header field", "sensitivity : company-confidential\n", "text\n"},
		{"a file", "Content-Type: application/pdf; name=x\n", "text\n"},
		{"its size", "", strings.Repeat(strings.Repeat("x", 76)+"\n", 2000)},
	} {
		if got := send("x@example.com", tt.head, tt.body); !strings.HasPrefix(got, "550 5.7.1") {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
	if n := len(u.received()); n != 0 {
		t.Fatalf("%d messages went", n)
	}
	if got := send("x@example.com", "Subject: secure\n", "text\n"); !strings.HasPrefix(got, "250") {
		t.Fatalf("ordinary: %q", got)
	}
	if m := u.received(); len(m) != 1 || !strings.HasSuffix(m[0].data, "text\r\n\r\nsent in clear\r\n") {
		t.Fatalf("%+v", m)
	}
	if got := send("bob@example.net", "Subject: [Secure] plans\n", "text\n"); !strings.HasPrefix(got, "250") {
		t.Fatalf("encrypted: %q", got)
	}
	m := u.received()[1].data
	if !strings.Contains(m, "\r\nSubject: plans\r\n") || !strings.Contains(m, "multipart/encrypted") || strings.Contains(m, "sent in clear") {
		t.Errorf("got\n%s", m)
	}
}

func TestADryRunIsOfRelaysAlone(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u, withRules(policy.Config{DryRun: true}))
	b.login().run(`
		C: MAIL FROM:<alice@example.org>
		S: 250
		C: RCPT TO:<bob@example.net>
		S: 451 4.3.0 a dry run is for relays
		C: DATA
		S: 554`)
	if n := len(u.received()); n != 0 {
		t.Errorf("%d messages went", n)
	}
}

func TestARuleSaysHowLongMailIsHeld(t *testing.T) {
	h := newHolding(t, memory(t))
	for hold, want := range map[time.Duration]time.Duration{0: 5 * 24 * time.Hour, 48 * time.Hour: 48 * time.Hour} {
		c := holdAll
		c.HoldFor = hold
		h.rules.set(rules(t, c))
		who := fmt.Sprintf("zoe%d@example.com", hold)
		if got := h.login().submit(wired(letter("1", who)), who); !strings.HasPrefix(got, "250") {
			t.Fatalf("reply %q", got)
		}
		es, err := h.queue.List(t.Context(), queue.Held, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			if e.Recipients[0].Address == who && e.Expires.Sub(e.Created) != want {
				t.Errorf("hold_for %s: held for %s, want %s", hold, e.Expires.Sub(e.Created), want)
			}
		}
	}
}

// FuzzClearCopies: whatever a message is, what is added to a clear copy leaves
// its body in it, byte for byte, and a word taken off the subject changes
// nothing else.
func FuzzClearCopies(f *testing.F) {
	f.Add([]byte("Subject: [secure] x\r\n\r\nhello\r\n"), "note")
	f.Add([]byte("Subject: =?utf-8?q?=5Bsecure=5D_=C3=BC?=\r\nContent-Type: text/html\r\n\r\n<p>"), "Fußzeile\n")
	f.Add([]byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b--\r\n"), "note")
	f.Add([]byte("Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n\r\n--b--"), "note")
	f.Fuzz(func(t *testing.T, raw []byte, footer string) {
		root, err := message.Parse(message.Bytes(raw), message.Limits{})
		if err != nil {
			return
		}
		body := string(raw[root.Body:])
		short, err := smtpd.Stripped(raw, "[secure]")
		if err == nil && !strings.HasSuffix(string(short), body) {
			t.Errorf("stripped, %q became %q", raw, short)
		}
		if _, err := smtpd.HasAttachment(raw); err != nil {
			t.Error(err)
		}
		src, err := smtpd.WithFooter(message.Bytes(raw), footer)
		if err != nil {
			return
		}
		grown, err := message.ReadAll(src, 1<<24)
		if err != nil || !strings.Contains(string(grown), body) {
			t.Errorf("with a footer, %q became %q (%v)", raw, grown, err)
		}
		if again, err := message.Parse(src, message.Limits{}); err == nil && len(grown) > len(raw) && !root.Is("text/plain") && !again.Is("multipart/mixed") {
			t.Errorf("wrapped, %q became %q", raw, grown)
		}
	})
}
