package smtpd_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// TestLoginsOfManyServers: those who offer something that we have get it, in the way
// that they want it; of the others the client is told what is wrong.
func TestLoginsOfManyServers(t *testing.T) {
	const ehlo = "250-odd.example\r\n250-SIZE\r\n250 "
	plain := "AUTH PLAIN " + b64("\x00tim\x00tanstaaftanstaaf")
	user, password := b64("tim"), b64("tanstaaftanstaaf")
	long := strings.Repeat("long", 110)
	for _, tt := range []struct {
		name, password string // "" is the usual one
		say            map[string]string
		want           string // the beginning of the reply to RCPT
		heard          string // a line of ours
	}{
		{"the old form only", "", map[string]string{"EHLO": ehlo + "AUTH=LOGIN", "AUTH LOGIN": "334 VXNlcm5hbWU6", user: "334 UGFzc3dvcmQ6", password: "235 ok"}, "250", password},
		{"both forms, of which the last has less", "", map[string]string{"EHLO": "250-odd.example\r\n250-AUTH PLAIN\r\n250 AUTH=NTLM", plain: "235 ok"}, "250", plain},
		{"small letters", "", map[string]string{"EHLO": ehlo + "auth plain", plain: "235 ok"}, "250", plain},
		{"PLAIN that wants its answer once more", "", map[string]string{"EHLO": ehlo + "AUTH PLAIN", plain: "334 ", b64("\x00tim\x00tanstaaftanstaaf"): "235 ok"}, "250", ""},
		{"PLAIN is offered and switched off", "", map[string]string{"EHLO": ehlo + "AUTH PLAIN LOGIN", "AUTH PLAIN": "504 5.5.4 not here", "AUTH LOGIN": "334 ", user: "334 ", password: "235"}, "250", password},
		{"LOGIN with odd prompts", "", map[string]string{"EHLO": ehlo + "AUTH LOGIN", "AUTH LOGIN": "334-dein\r\n334 " + b64("Benutzer?"), user: "334", password: "235-2.7.0\r\n235"}, "250", password},
		{"CRAM-MD5 only, as RFC 2195 has it", "", map[string]string{"EHLO": ehlo + "AUTH CRAM-MD5 DIGEST-MD5", "AUTH CRAM-MD5": "334 " + b64("<1896.697170952@postoffice.reston.mci.net>"),
			"dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw": "235 ok"}, "250", ""},
		{"CRAM-MD5 with a challenge that is none", "", map[string]string{"EHLO": ehlo + "AUTH CRAM-MD5", "AUTH CRAM-MD5": "334 what?", "*": "501 cancelled"}, "451 4.7.0 your mail server refused the login", "*"},
		{"a long password goes on a line of its own", long, map[string]string{"EHLO": ehlo + "AUTH PLAIN", "AUTH PLAIN": "334 ", b64("\x00tim\x00" + long): "235"}, "250", "AUTH PLAIN"},
		{"OAuth only", "", map[string]string{"EHLO": ehlo + "AUTH XOAUTH2 OAUTHBEARER"}, "451 4.7.0 your mail server refused the login: it offers none that letterlock has (PLAIN, LOGIN, CRAM-MD5) but XOAUTH2, OAUTHBEARER", ""},
		{"no login at all", "", map[string]string{}, "451 4.7.0 your mail server refused the login: it offers none that letterlock has (PLAIN, LOGIN, CRAM-MD5) but none", ""},
		{"a password for applications is wanted", "", map[string]string{"EHLO": ehlo + "AUTH PLAIN", "AUTH": "534-5.7.9 Application-specific password required. For more information, go to\r\n534 5.7.9  https://support.example/?p=1 x"},
			"451 4.7.0 your mail server refused the login: it wants another way to log in; some servers mean a password made for one program (app password) (534 5.7.9): Application-specific password required. For more information, go to https://support.example/?p=1", ""},
		{"a wrong password, without more", "", map[string]string{"EHLO": ehlo + "AUTH PLAIN", "AUTH": "535"}, "451 4.7.0 your mail server refused the login; `letterlock account password ADDRESS` takes another password; wrong user or password (535 5.0.0)", ""},
		{"the login is out of order", "", map[string]string{"EHLO": ehlo + "AUTH PLAIN", "AUTH": "454 4.7.0 Temporary authentication failure"}, "451 4.4.1 your mail server does not serve us now; it lets nobody log in now: 454 4.7.0 Temporary authentication failure", ""},
		{"it goes away at the login", "", map[string]string{"EHLO": ehlo + "AUTH PLAIN", "AUTH": "421 4.3.2 shutting down!"}, "451 4.4.1 your mail server does not serve us now; it lets nobody log in now: 421 4.3.2 shutting down", ""},
		{"it wants TLS first", "", map[string]string{"EHLO": ehlo + "AUTH PLAIN", "AUTH": "530 5.7.0 Must issue a STARTTLS command first"}, "451 4.7.0 your mail server refused the login: it takes passwords under TLS only (530 5.7.0): Must issue", ""},
		{"it tells the password", "", map[string]string{"EHLO": ehlo + "AUTH LOGIN", "AUTH LOGIN": "334 ", user: "334 ", password: "535 5.7.8 tanstaaftanstaaf? " + password + "?"}, "451 4.7.0 your mail server refused the login; `letterlock account password ADDRESS` takes another password; wrong user or password (535 5.7.8)", ""},
		{"it tells a piece of it", "", map[string]string{"EHLO": ehlo + "AUTH PLAIN", "AUTH": "501 5.5.2 cannot decode " + plain[20:34]}, "451 4.7.0 your mail server refused the login: it doesn't understand it (501 5.5.2)", ""},
		{"it takes us before it knows who we are", "", map[string]string{"EHLO": ehlo + "AUTH LOGIN", "AUTH": "235 welcome"}, "451 4.4.1", "AUTH LOGIN"},
		{"it asks for ever", "", map[string]string{"EHLO": ehlo + "AUTH PLAIN", "AUTH": "334 ", b64("\x00tim\x00tanstaaftanstaaf"): "334 "}, "451 4.7.0 your mail server refused the login", ""},
		{"it has no EHLO", "", map[string]string{"EHLO": "502 5.5.1 what?"}, "451 4.4.1 your mail server does not serve us now; at EHLO it says 502 5.5.1 what?", ""},
		{"it turns us away", "", map[string]string{"": "554-5.7.1 no mail from\r\n554 5.7.1 dynamic addresses!"}, "451 4.4.1 your mail server does not serve us now; at connecting it says 554 5.7.1 no mail from dynamic addresses", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.password == "" {
				tt.password = "tanstaaftanstaaf"
			}
			o := newOddServer(t, tt.say)
			b := newBridge(t, newUpstream(t), o.as("tim", tt.password))
			k := b.login()
			k.run("C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>")
			got := k.reply()
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if tt.heard != "" && !o.heard(tt.heard) {
				t.Errorf("it never heard %q", tt.heard)
			}
			for _, secret := range []string{tt.password, b64(tt.password), plain[20:34]} {
				if strings.Contains(got+b.log.String()+b.server.Faults()["alice@example.org"].Text, secret) {
					t.Errorf("%q is in the reply, the log or the fault:\n%s\n%s", secret, got, b.log.String())
				}
			}
		})
	}
}

// TestAWrongPasswordIsTriedOnce: a client asks for each of many recipients, and the
// mail server locks who fails too often.
func TestAWrongPasswordIsTriedOnce(t *testing.T) {
	o := newOddServer(t, map[string]string{"EHLO": "250-odd.example\r\n250 AUTH PLAIN", "AUTH": "535 5.7.8 no"})
	k := newBridge(t, newUpstream(t), o.as("tim", "x")).login()
	for logins := range 2 {
		k.run("C: MAIL FROM:<alice@example.org>\nS: 250")
		for range 5 {
			k.run("C: RCPT TO:<bob@example.net>\nS: 451 4.7.0 your mail server refused the login\nC: RCPT TO:<carol@example.net>\nS: 451 4.7.0 your mail server refused the login")
		}
		k.run("C: DATA\nS: 554\nC: RSET\nS: 250")
		if o.connected() != logins+1 {
			t.Errorf("%d logins after %d messages", o.connected(), logins+1)
		}
	}
}

// TestARelayIsToldOfItsOwnConfiguration: it has no account whose password could be
// changed, and no upstream.
func TestARelayIsToldOfItsOwnConfiguration(t *testing.T) {
	o := newOddServer(t, map[string]string{"EHLO": "250-odd.example\r\n250 AUTH PLAIN", "AUTH": "535 5.7.8 no"})
	b := newBridge(t, newUpstream(t), o.as("tim", "x"), asRelay())
	const rcpt = "C: MAIL FROM:<carl@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: "
	b.mta().run(rcpt + "451 4.7.0 your mail server refused the login; it was tried with smarthost_user and smarthost_password of [relay]; wrong user or password (535 5.7.8): no")
	if f := b.server.Faults()["relay"]; f.Text != "the mail server refuses the user or password; it was tried with smarthost_user and smarthost_password of [relay]; wrong user or password (535 5.7.8): no" {
		t.Errorf("%+v", f)
	}
	server, client := certify(t)
	client.RootCAs = nil
	u := newUpstream(t)
	for key, inside := range map[string]*smtpd.Inbound{"smarthost_ca in the configuration": nil, "ca of [relay.inbound] in the configuration": {}} {
		b = newBridge(t, u, asRelay(func(r *smtpd.Relay) { r.Inbound = inside }), func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
			a.Upstream.Mode, a.Upstream.TLS, a.Upstream.Dial = smtpd.ImplicitTLS, client, tlsFront(t, u, server)
		})
		b.mta().run(rcpt + "451 4.7.5 your mail server's TLS certificate is not valid for it, so nothing was sent: nobody we trust has signed it; " + key)
	}
}
