package render_test

import (
	"fmt"
	"strings"
)

// nasties are messages that make servers disagree, by name.
func nasties() map[string][]byte {
	all := map[string]string{
		"empty header":                   "\n",
		"header only":                    "Subject: x\nFrom: a@example.test\n",
		"header without line end":        "Subject: x",
		"no header fields":               "\nbody\n",
		"plain":                          "From: Joe Q. Public <joe@example.test>\nTo: b@example.test\nSubject: hello\nDate: Mon, 1 Jan 2024 10:00:00 +0100\nMessage-ID: <1@example.test>\n\nbody\n",
		"no final line end":              "From: a@example.test\n\nlast line",
		"content type without subtype":   "Content-Type: text\n\nx\n",
		"content type nonsense":          "Content-Type: ;;;\n\nx\n",
		"empty content type":             "Content-Type:\n\nx\n",
		"charset kept":                   "Content-Type: text/plain; charset=ISO-8859-1; format=flowed\n\nx\n",
		"html without charset":           "Content-Type: text/html\n\n<p>\n",
		"application":                    "Content-Type: application/octet-stream; name=\"a b.bin\"\nContent-Transfer-Encoding: BASE64\nContent-ID: <c@d>\nContent-Description: some thing\nContent-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==\nContent-Location: http://example.test/x\nContent-Language: en, de\nContent-Disposition: attachment; filename=\"a \\\"q\\\" b.bin\"; size=3\n\nAAAA\n",
		"disposition without parameters": "Content-Type: image/png\nContent-Disposition: inline\nContent-Language: en\n\nx\n",
		"continued parameters":           "Content-Type: application/x; name*0=\"long \"; name*1=\"name\"; x=y\nContent-Disposition: attachment; filename*0*=utf-8''%e2%82%ac; filename*1=\" plain\"; filename*2*=%20e\n\nx\n",
		"encoded parameter":              "Content-Type: application/x\nContent-Disposition: attachment; filename*=utf-8''%e2%82%ac.txt\n\nx\n",
		"encoded before plain":           "Content-Type: application/x; name*=utf-8''%e2%82%ac; charset=a; name=b\nContent-Disposition: attachment; filename*=utf-8''%e2%82%ac.txt; filename=x.txt\n\nx\n",
		"continued with a gap":           "Content-Type: application/x; name*0=a; name*2=c\n\nx\n",
		"8-bit subject":                  "Subject: gr\xc3\xbc\xc3\x9fe\nFrom: J\xc3\xbcrgen <j@example.test>\n\nx\n",
		"encoded words":                  "Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?= =?utf-8?b?eA==?=\nFrom: =?utf-8?q?J=C3=BCrgen?= <j@example.test>\n\nx\n",
		"folded subject":                 "Subject: a\n  b\n\tc\n d  e\nFrom: a@example.test\n\nx\n",
		"empty subject":                  "Subject:\nFrom:\nTo: \nMessage-ID:\nDate:\n\nx\n",
		"quotes in subject":              "Subject: say \"hi\" \\ there\n\nx\n",
		"twice the same field":           "Subject: one\nSubject: two\nFrom: a@example.test\nFrom: b@example.test\nTo: c@example.test\nTo: d@example.test\n\nx\n",
		"message-id odd":                 "Message-ID: nobrackets@x\nIn-Reply-To: phrase <a b@x>\nReferences: <x@y>\n\nx\n",
		"sender and reply-to":            "From: a@example.test\nSender: s@example.test\nReply-To: r1@example.test, \"R 2\" <r2@example.test>\n\nx\n",
		"group":                          "From: a@example.test\nTo: undisclosed-recipients:;\nCc: Friends: a@example.test, \"B\" <b@example.test>;, c@example.test\n\nx\n",
		"comments":                       "From: a@example.test (Comment Name)\nTo: (c1) b(c2)@(c3)example.test (c4), <c@example.test> (after)\n\nx\n",
		"routes":                         "From: <@r1.test,@r2.test:a@example.test>\nTo: X <@r:b@example.test>\n\nx\n",
		"quoted local part":              "From: \"a b\"@example.test\nTo: \"x\\\"y\" <\"q@r\"@example.test>\nCc: \"Last, First\" <lf@example.test>\n\nx\n",
		"broken addresses":               "From: nobody\nTo: <>\nCc: a@\nBcc: @b\nReply-To: <unclosed@example.test\n\nx\n",
		"more broken addresses":          "From: a b c\nTo: a@b@c, ,, d@e\nCc: John Doe john@example.test\nBcc: <a@b>, x <y z@w>\n\nx\n",
		"address with domain literal":    "From: a@[127.0.0.1]\nTo: <b@[IPv6:::1]>\n\nx\n",
		"dots in phrase":                 "From: J. R. R. Tolkien <t@example.test>\nTo: a.b.c@example.test\nCc: a. b . c@example . test\n\nx\n",
		"space before colon":             "Subject : spaced\nFrom: a@example.test\n\nx\n",
		"garbage line in header":         "From: a@example.test\ngarbage without colon\nSubject: after\n\nx\n",
		"mbox line":                      "From a@example.test Mon Jan  1 00:00:00 2024\nSubject: x\nFrom: a@example.test\n\nx\n",
		"tab after colon":                "Subject:\ttabbed\nFrom:a@example.test\n\nx\n",
		"multipart without boundary":     "Content-Type: multipart/mixed\n\n--x\n\na\n--x--\n",
		"multipart never begun":          "Content-Type: multipart/mixed; boundary=x\n\nno delimiter\n",
		"multipart empty body":           "Content-Type: multipart/mixed; boundary=x\n\n",
		"multipart not closed":           "Content-Type: multipart/mixed; boundary=x\n\npre\n--x\n\none\n--x\nContent-Type: text/html\n\ntwo\n",
		"boundary with spaces":           "Content-Type: multipart/mixed; boundary=\"a b\"\n\n--a b\n\none\n--a b--  \nepilogue\n",
		"digest":                         "Content-Type: multipart/digest; boundary=x\n\n--x\n\nSubject: in\n\nbody\n--x\nContent-Type: text/plain\n\nx\n--x--\n",
		"part with no header":            "Content-Type: multipart/mixed; boundary=x\n\n--x\nno header here\n\nbody\n--x--\n",
		"empty parts":                    "Content-Type: multipart/mixed; boundary=x\n\n--x\n--x\n\n--x\n\n\n--x--\n",
		"nested":                         "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: multipart/alternative; boundary=xy\n\n--xy\n\na\n--xy\nContent-Type: text/html\n\nb\n--xy--\n--x\nContent-Type: image/png; name=i\n\nii\n--x--\n",
		"rfc822 part":                    "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: message/rfc822\nContent-Disposition: attachment\n\nFrom: in@example.test\nSubject: inner\n\nbody of inner\n--x--\n",
		"rfc822 with multipart":          "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: message/rfc822\n\nSubject: inner\nContent-Type: multipart/alternative; boundary=y\n\n--y\n\na\n--y\nContent-Type: text/html\n\nb\n--y--\n--x--\n",
		"rfc822 at the root":             "Subject: outer\nContent-Type: message/rfc822\n\nSubject: inner\nFrom: i@example.test\n\nbody\n",
		"rfc822 multipart at the root":   "Subject: outer\nContent-Type: message/rfc822\n\nSubject: inner\nContent-Type: multipart/mixed; boundary=q\n\n--q\n\none\n--q\n\ntwo\n--q--\n",
		"rfc822 in base64":               "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDogaW4KCmJvZHkK\n",
		"rfc822 empty":                   "Content-Type: message/rfc822\n\n",
		"delivery status":                "Content-Type: multipart/report; report-type=delivery-status; boundary=x\n\n--x\n\nx\n--x\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; x\n\n--x\nContent-Type: message/rfc822-headers\n\nSubject: x\n--x--\n",
		"signed":                         "Content-Type: multipart/signed; protocol=\"application/pgp-signature\"; micalg=pgp-sha256; boundary=\"=-b\"\n\n--=-b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nx=20\n--=-b\nContent-Type: application/pgp-signature; name=signature.asc\n\n-----BEGIN\n--=-b--\n",
		"long subject":                   "Subject: " + strings.Repeat("long ", 3000) + "\nFrom: a@example.test\n\nx\n",
		"transfer encoding odd":          "Content-Type: text/plain\nContent-Transfer-Encoding: x-odd (comment)\n\nx\n",
		"comment in content type":        "Content-Type: text/plain (plain text); charset=\"utf-8\" (c)\n\nx\n",
		"content type quoted":            "Content-Type: \"text/html\"\n\nx\n",
		"bare CR in header":              "X-A: a\rLetterlock-Status: b\nSubject: x\n\nbody\n",
		"bare CR in body":                "Subject: x\n\na\rb\r\rc\n",
		"disposition nonsense":           "Content-Type: text/plain\nContent-Disposition: ;filename=x\nContent-Language: ,\n\nx\n",
		"parameter without value":        "Content-Type: text/plain; charset; name=\n\nx\n",
	}
	deep := "Content-Type: multipart/mixed; boundary=b0\n\n"
	for i := 1; i < 12; i++ {
		deep += fmt.Sprintf("--b%d\nContent-Type: multipart/mixed; boundary=b%d\n\n", i-1, i)
	}
	all["deep"] = deep + "--b11\n\nin\n--b11--\n"
	out := map[string][]byte{}
	for name, s := range all {
		out[name] = []byte(strings.ReplaceAll(s, "\n", "\r\n"))
	}
	return out
}
