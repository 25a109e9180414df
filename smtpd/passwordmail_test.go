package smtpd_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// byPassword are rules that send under a password to who has no certificate.
func byPassword(t *testing.T) option {
	r := rules(t, policy.Config{Default: policy.Require, Settings: policy.Settings{Missing: policy.ThenPassword}})
	return func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) { a.Rules = func() *policy.Rules { return r } }
}

// to finds what the upstream got for exactly these recipients.
func (u *upstream) to(rcpts ...string) (found []delivered) {
	for _, m := range u.received() {
		if slices.Equal(m.rcpts, rcpts) {
			found = append(found, m)
		}
	}
	return found
}

// TestMailUnderAPassword goes from a mail program to the upstream: who has a
// certificate gets it encrypted, the others under a password, the blind one under
// his own, and the sender is told which is whose.
func TestMailUnderAPassword(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u, byPassword(t))
	reply := b.login().submit(wired(letter("p1", "bob@example.net, zoe@example.com, yan@example.com", "Bcc: xia@example.com\n")),
		"bob@example.net", "zoe@example.com", "yan@example.com", "xia@example.com")
	if !strings.HasPrefix(reply, "250") {
		t.Fatalf("reply %q", reply)
	}
	eventually(t, "two notices and three copies arrive", func() bool {
		return len(u.to("alice@example.org")) == 2 && len(u.to("xia@example.com")) == 1
	})
	passwords := map[string]string{}
	for _, n := range u.to("alice@example.org") {
		text := readNotice(t, key(t, "alice@example.org"), n.data)
		m := madePassword.FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("no password in:\n%s", text)
		}
		passwords[m[1]] = text
	}
	for _, rcpts := range [][]string{{"zoe@example.com", "yan@example.com"}, {"xia@example.com"}} {
		mails := u.to(rcpts...)
		if len(mails) != 1 {
			t.Fatalf("%d mails to %s", len(mails), rcpts)
		}
		opened := 0
		for p, notice := range passwords {
			if strings.Contains(opens(t, mails[0].data, p), canary) {
				opened++
				for _, r := range rcpts {
					if !strings.Contains(notice, "    "+r+"\r\n") {
						t.Errorf("the notice does not name %s:\n%s", r, notice)
					}
				}
			}
			if strings.Contains(b.log.String(), p) || u.saw(p) {
				t.Error("a password stands in the log, or went over the wire in clear")
			}
		}
		if opened != 1 || strings.Contains(mails[0].data, "xia@") {
			t.Errorf("the copy for %s opens with %d passwords", rcpts, opened)
		}
	}
	if len(u.to("bob@example.net")) != 1 || u.saw(canary) {
		t.Error("Bob's copy is missing, or something went in clear")
	}
}

// TestAPasswordThatTheMailProgramGivesGoesNowhere, whatever the rules do.
func TestAPasswordThatTheMailProgramGivesGoesNowhere(t *testing.T) {
	const given = "a password of Alice's own"
	field := "Letterlock-Password: " + given + "\n"
	plain := letter("s", "bob@example.net", field)
	var sealed bytes.Buffer
	err := pgp.Protect(context.Background(), &sealed, message.Bytes([]byte(plain)), pgp.Protection{
		Signer: key(t, "alice@example.org"), Recipients: []*pgp.Certificate{key(t, "bob@example.net").Certificate()},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		rules policy.Config
		to    string
		msg   string
	}{
		"under a password":        {policy.Config{Default: policy.Require, Settings: policy.Settings{Missing: policy.ThenPassword}}, "zoe@example.com", plain},
		"encrypted":               {policy.Config{Default: policy.Require}, "bob@example.net", plain},
		"in clear":                {policy.Config{Default: policy.Cleartext}, "zoe@example.com", plain},
		"signed":                  {policy.Config{Default: policy.Sign}, "zoe@example.com", plain},
		"encrypted by the sender": {policy.Config{Default: policy.Require}, "bob@example.net", strings.ReplaceAll(field, "\n", "\r\n") + sealed.String()},
	} {
		t.Run(name, func(t *testing.T) {
			u, r := newUpstream(t), rules(t, tt.rules)
			b := newBridge(t, u, func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) { a.Rules = func() *policy.Rules { return r } })
			if reply := b.login().submit(wired(tt.msg), tt.to); !strings.HasPrefix(reply, "250") {
				t.Fatalf("reply %q", reply)
			}
			mails := u.received()
			if len(mails) != 1 || u.saw(given) || u.saw("Letterlock-Password") || strings.Contains(b.log.String(), given) {
				t.Errorf("%d mails; the password went out or was logged", len(mails))
			}
			if tt.rules.Missing == policy.ThenPassword && !strings.Contains(opens(t, mails[0].data, given), canary) {
				t.Error("the given password doesn't open the mail")
			}
		})
	}
}

func TestAPasswordThatTheMailProgramGivesGoesNowhereInADryRun(t *testing.T) {
	const given = "a password of Alice's own"
	u := newUpstream(t)
	b := newBridge(t, u, asRelay(), withRules(policy.Config{DryRun: true}))
	msg := letter("s", "zoe@example.com", "Letterlock-Password: "+given+"\n")
	if reply := b.mta().hand(msg, "alice@example.org", "zoe@example.com"); !strings.HasPrefix(reply, "250") {
		t.Fatalf("reply %q", reply)
	}
	if len(u.received()) != 1 || u.saw(given) || u.saw("Letterlock-Password") {
		t.Error("the password went out")
	}
}

// TestAPasswordIsToldOnlyIfTheMessageGoes: where the upstream refuses, nobody is
// told anything, and the mail program may send again.
func TestAPasswordIsToldOnlyIfTheMessageGoes(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u, byPassword(t))
	u.failWith(func(step string, n int, _ string) fault {
		if step == "dot" && n == 1 {
			return fault{reply: "554 5.7.1 no"}
		}
		return fault{}
	})
	k := b.login()
	if reply := k.submit(wired(letter("p2", "zoe@example.com")), "zoe@example.com"); !strings.HasPrefix(reply, "554") {
		t.Fatalf("reply %q", reply)
	}
	if reply := k.submit(wired(letter("p2", "zoe@example.com")), "zoe@example.com"); !strings.HasPrefix(reply, "250") {
		t.Fatalf("second reply %q", reply)
	}
	eventually(t, "the notice arrives", func() bool { return len(u.to("alice@example.org")) > 0 })
	if n := len(u.to("alice@example.org")); n != 1 || len(u.to("zoe@example.com")) != 1 {
		t.Errorf("%d notices, %d mails", n, len(u.to("zoe@example.com")))
	}
}

// TestALostAnswerDoesNotLoseThePassword: who may have the message can only read
// it if its sender was told the password.
func TestALostAnswerDoesNotLoseThePassword(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u, byPassword(t))
	u.failWith(func(step string, n int, _ string) fault {
		if step == "dot" && n == 1 {
			return fault{apply: true, drop: true}
		}
		return fault{}
	})
	reply := b.login().submit(wired(letter("p9", "zoe@example.com")), "zoe@example.com")
	if !strings.HasPrefix(reply, "451") {
		t.Fatalf("reply %q", reply)
	}
	eventually(t, "the notice arrives", func() bool { return len(u.to("alice@example.org")) == 1 })
	m := madePassword.FindStringSubmatch(readNotice(t, key(t, "alice@example.org"), u.to("alice@example.org")[0].data))
	if copies := u.to("zoe@example.com"); len(copies) != 1 || m == nil || !strings.Contains(opens(t, copies[0].data, m[1]), canary) {
		t.Errorf("%d copies; the notice's password %v doesn't open it", len(copies), m != nil)
	}
}
