package smtpd_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

func withRules(pc policy.Config) option {
	return func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
		a.Rules = func() *policy.Rules {
			r, err := policy.New(pc)
			if err != nil {
				panic(err)
			}
			return r
		}
	}
}

func TestEncryptedToBob(t *testing.T) {
	u := newUpstream(t)
	u.user = "alice"
	b := newBridge(t, u)
	got := b.login().submit(wired(letter("1", "bob@example.net")), "bob@example.net")
	if !strings.HasPrefix(got, "250 2.0.0") {
		t.Fatalf("reply %q", got)
	}
	mail := u.received()
	if len(mail) != 1 || mail[0].from != "alice@example.org" || strings.Join(mail[0].rcpts, ",") != "bob@example.net" {
		t.Fatalf("the upstream got %+v", mail)
	}
	if !strings.Contains(mail[0].data, "multipart/encrypted") || !strings.Contains(mail[0].data, "Autocrypt:") {
		t.Errorf("not encrypted, or without Autocrypt:\n%s", mail[0].data)
	}
	if u.saw(canary) {
		t.Error("the upstream saw the canary")
	}
	if strings.Contains(b.log.String(), canary) {
		t.Error("the log has the canary")
	}
}

func TestConversations(t *testing.T) {
	for _, tt := range []struct {
		name   string
		rules  policy.Config
		script string
		mail   int
	}{
		{"nothing without a login", policy.Config{}, `
			S: 220
			C: EHLO x
			S: 250
			C: MAIL FROM:<alice@example.org>
			S: 530 5.7.0
			C: RCPT TO:<bob@example.net>
			S: 503
			C: DATA
			S: 503`, 0},
		{"a wrong password", policy.Config{}, `
			S: 220
			C: EHLO x
			S: 250
			C: AUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAG5v
			S: 535 5.7.8
			C: MAIL FROM:<alice@example.org>
			S: 530`, 0},
		{"nobody acts for another", policy.Config{}, `
			S: 220
			C: EHLO x
			S: 250
			C: AUTH PLAIN Ym9iAGFsaWNlQGV4YW1wbGUub3JnAHB3
			S: 535 5.7.8`, 0},
		{"LOGIN in steps", policy.Config{}, `
			S: 220
			C: EHLO x
			S: 250
			C: AUTH LOGIN
			S: 334 VXNlcm5hbWU6
			C: YWxpY2VAZXhhbXBsZS5vcmc=
			S: 334 UGFzc3dvcmQ6
			C: cHc=
			S: 235
			C: MAIL FROM:<alice@example.org>
			S: 250`, 0},
		{"a foreign envelope sender", policy.Config{}, `
			LOGIN
			C: MAIL FROM:<mallory@example.org>
			S: 550 5.7.1 this account may not send as mallory@example.org
			C: MAIL FROM:<A.Liddell@EXAMPLE.org>
			S: 250`, 0},
		{"MAIL twice", policy.Config{}, `
			LOGIN
			C: MAIL FROM:<alice@example.org>
			S: 250
			C: MAIL FROM:<alice@example.org>
			S: 503 5.5.1
			C: RSET
			S: 250
			C: MAIL FROM:<alice@example.org>
			S: 250`, 0},
		{"a foreign author in the header", policy.Config{}, `
			LOGIN
			C: MAIL FROM:<alice@example.org>
			S: 250
			C: RCPT TO:<bob@example.net>
			S: 250
			C: DATA
			S: 354
			C: From: mallory@example.org
			C: To: bob@example.net
			C:  
			C: .
			S: 550 5.7.1`, 0},
		{"no author, and something else before the header", policy.Config{}, `
			LOGIN
			C: MAIL FROM:<alice@example.org>
			S: 250
			C: RCPT TO:<bob@example.net>
			S: 250
			C: DATA
			S: 354
			C: Dear Bob,
			C: Subject: x
			C: .
			S: 550 5.6.0`, 0},
		{"two From fields", policy.Config{}, `
			LOGIN
			C: MAIL FROM:<alice@example.org>
			S: 250
			C: RCPT TO:<bob@example.net>
			S: 250
			C: DATA
			S: 354
			C: From: alice@example.org
			C: from : mallory@example.org
			C: To: bob@example.net
			C: .
			S: 550 5.6.0`, 0},
		{"required and no certificate", policy.Config{Default: policy.Require}, `
			LOGIN
			C: MAIL FROM:<alice@example.org>
			S: 250
			C: RCPT TO:<nobody@example.com>
			S: 550 5.7.1 nobody@example.com has no certificate
			C: RCPT TO:<bob@example.net>
			S: 250`, 0},
		{"a directory that is down is never cleartext", policy.Config{}, `
			LOGIN
			C: MAIL FROM:<alice@example.org>
			S: 250
			C: RCPT TO:<x@down.example>
			S: 451 4.4.3`, 0},
		{"no smuggled command in an address", policy.Config{}, `
			LOGIN
			C: MAIL FROM:<alice@example.org>
			S: 250
			C: RCPT TO:<"a b"@example.net>
			S: 250
			C: RCPT TO:<a@b c>
			S: 50
			C: RCPT TO:<@example.net>
			S: 501`, 0},
		{"a null sender only for reports", policy.Config{Default: policy.Cleartext}, `
			LOGIN
			C: MAIL FROM:<>
			S: 250
			C: RCPT TO:<bob@example.net>
			S: 250
			C: DATA
			S: 354
			C: From: alice@example.org
			C:  
			C: .
			S: 550 5.7.1`, 0},
		{"mixed refuses", policy.Config{}, `
			LOGIN
			C: MAIL FROM:<alice@example.org>
			S: 250
			C: RCPT TO:<bob@example.net>
			S: 250
			C: RCPT TO:<nobody@example.com>
			S: 250
			C: DATA
			S: 354
			C: From: alice@example.org
			C: To: bob@example.net, nobody@example.com
			C:  
			C: .
			S: 550 5.7.1`, 0},
		{"mixed splits", policy.Config{Settings: policy.Settings{Mixed: policy.MixedSplit}}, `
			LOGIN
			C: MAIL FROM:<alice@example.org>
			S: 250
			C: RCPT TO:<bob@example.net>
			S: 250
			C: RCPT TO:<nobody@example.com>
			S: 250
			C: DATA
			S: 354
			C: From: alice@example.org
			C: To: bob@example.net, nobody@example.com
			C:  
			C: .
			S: 250`, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpstream(t)
			b := newBridge(t, u, withRules(tt.rules))
			script, k := tt.script, (*talk)(nil)
			if rest, ok := strings.CutPrefix(strings.TrimSpace(script), "LOGIN"); ok {
				k, script = b.login(), rest
			} else {
				k = b.dial()
			}
			k.run(script)
			if got := len(u.received()); got != tt.mail {
				t.Errorf("the upstream got %d messages, want %d", got, tt.mail)
			}
		})
	}
}

func TestUpstreamRefusalsArePassedOn(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u)
	u.failWith(func(step string, n int, arg string) fault {
		switch {
		case step == "rcpt" && arg == "carol@example.net":
			return fault{reply: "550-5.1.1 no such\r\n550 5.1.1 user"}
		case step == "rcpt" && arg == "dave@example.net":
			return fault{reply: "421 4.3.2 going down"}
		}
		return fault{}
	})
	k := b.login()
	k.run(`
		C: MAIL FROM:<alice@example.org>
		S: 250
		C: RCPT TO:<carol@example.net>
		S: 550 5.1.1 your mail server says: no such user
		C: RCPT TO:<bob@example.net>
		S: 250
		C: RCPT TO:<dave@example.net>
		S: 451 4.3.2 your mail server says: going down
		C: DATA
		S: 354`)
	k.send(wired(letter("1", "bob@example.net")) + ".\r\n")
	if got := k.reply(); !strings.HasPrefix(got, "250") {
		t.Fatalf("reply %q", got)
	}
	if m := u.received(); len(m) != 1 || strings.Join(m[0].rcpts, ",") != "bob@example.net" {
		t.Errorf("the upstream got %+v", m)
	}
}

func TestClearCopyIsByteForByteButForPrivateFields(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u)
	msg := letter("1", "nobody@example.com", "Bcc: secret@example.com\n", "X-Mozilla-Status: 0001\n", "Letterlock-Status: forged\n", "X-Kept:  folded\n\tas it was\n")
	k := b.login()
	if got := k.submit(wired(msg), "nobody@example.com", "secret@example.com"); !strings.HasPrefix(got, "250") {
		t.Fatalf("reply %q", got)
	}
	want := msg
	for _, f := range []string{"Bcc: secret@example.com\r\n", "X-Mozilla-Status: 0001\r\n", "Letterlock-Status: forged\r\n"} {
		want = strings.Replace(want, f, "", 1)
	}
	m := u.received()
	if len(m) != 1 {
		t.Fatalf("%d messages", len(m))
	}
	added, ok := pgp.AutocryptField(key(t, "alice@example.org").Certificate(), addr("alice@example.org"), time.Now())
	if got, found := strings.CutPrefix(m[0].data, string(added)); !ok || !found || got != want {
		t.Errorf("got:\n%q\nwant:\n%q", m[0].data, string(added)+want)
	}
}

func TestBlindCopiesHaveTheirOwnCiphertext(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u)
	rcpts := []string{"bob@example.net", "carol@example.net", "dave@example.net", "erin@example.net"}
	got := b.login().submit(wired(letter("1", "bob@example.net, Carol <Carol@example.net>", "Bcc: dave@example.net\n")), rcpts...)
	if !strings.HasPrefix(got, "250") {
		t.Fatalf("reply %q", got)
	}
	m := u.received()
	var sets []string
	for _, d := range m {
		sets = append(sets, strings.Join(d.rcpts, ","))
		if strings.Contains(d.data, "dave") || strings.Contains(strings.ToLower(d.data), "bcc:") {
			t.Errorf("the copy for %v names the blind one:\n%s", d.rcpts, d.data)
		}
	}
	if strings.Join(sets, " ") != "bob@example.net,carol@example.net dave@example.net erin@example.net" {
		t.Errorf("groups: %q", sets)
	}
}

func TestOneConnectionServesManyMessages(t *testing.T) {
	u := newUpstream(t)
	u.user = "alice"
	b := newBridge(t, u)
	for i := range 3 {
		k := b.login()
		for j := range 3 {
			if got := k.submit(wired(letter(string(rune('a'+3*i+j)), "bob@example.net")), "bob@example.net"); !strings.HasPrefix(got, "250") {
				t.Fatalf("reply %q", got)
			}
		}
		k.run("C: QUIT\nS: 221")
		k.reply() // its end
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.counts["connect"] != 1 || u.counts["auth"] != 1 {
		t.Errorf("connections %d, logins %d, want 1 and 1", u.counts["connect"], u.counts["auth"])
	}
}

func TestAConnectionThatDiedWhileIdleIsReplaced(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u)
	k := b.login()
	for i := range 3 {
		if got := k.submit(wired(letter(string(rune('a'+i)), "bob@example.net")), "bob@example.net"); !strings.HasPrefix(got, "250") {
			t.Fatalf("reply %q", got)
		}
		u.mu.Lock()
		for c := range u.conns {
			c.Close()
		}
		u.mu.Unlock()
	}
	if n := len(u.received()); n != 3 {
		t.Errorf("%d messages, want 3", n)
	}
}

// TestAMessageWithoutAnAuthorIsItsSenders: Mailutils and scripts leave From to the
// server.
func TestAMessageWithoutAnAuthorIsItsSenders(t *testing.T) {
	for _, tt := range []struct{ name, to, want string }{
		{"encrypted", "bob@example.net", "multipart/encrypted"},
		{"in clear", "nobody@example.com", "text of mine"},
	} {
		for _, chunks := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, in chunks %v", tt.name, chunks), func(t *testing.T) {
				u := newUpstream(t)
				b := newBridge(t, u)
				k := b.login()
				raw := "Subject: x\r\nTo: " + tt.to + "\r\n\r\ntext of mine\r\n"
				k.run("C: MAIL FROM:<Alice@example.org>\nS: 250\nC: RCPT TO:<" + tt.to + ">\nS: 250")
				if chunks {
					k.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(raw), raw))
				} else {
					k.run("C: DATA\nS: 354")
					k.send(raw + ".\r\n")
				}
				if got := k.reply(); !strings.HasPrefix(got, "250") {
					t.Fatalf("reply %q", got)
				}
				mail := u.received()
				if len(mail) != 1 || !strings.Contains(mail[0].data, tt.want) {
					t.Fatalf("the upstream got %+v", mail)
				}
				header, _, _ := strings.Cut(mail[0].data, "\r\n\r\n")
				if n := strings.Count("\r\n"+header, "\r\nFrom: <Alice@example.org>\r\n"); n != 1 || strings.Count("\r\n"+header, "\r\nFrom:") != 1 {
					t.Errorf("the header is\n%s", header)
				}
			})
		}
	}
}
