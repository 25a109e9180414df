package smtpd_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

var errNoKey = errors.New("no such key")

// asRelay makes the account that of an MTA of example.org, which need not log in.
func asRelay(change ...func(*smtpd.Relay)) option {
	return func(c *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
		a.Addresses, a.Signer = []address.Address{addr("postmaster@example.org")}, nil
		a.Relay = &smtpd.Relay{Host: "relay.example.org", Token: "t0ken", Any: true, NoKey: func(err error) bool { return errors.Is(err, errNoKey) }}
		for _, f := range change {
			f(a.Relay)
		}
		c.Listeners[0].Login = nil
		c.Listeners[0].Open = func(context.Context, smtpd.Peer) *smtpd.Account { return a }
	}
}

// mta opens a session without login.
func (b *bridge) mta() *talk {
	b.t.Helper()
	k := b.dial()
	k.run("S: 220\nC: EHLO mta.example.org\nS: 250")
	return k
}

// hand gives a message to the relay and returns the reply.
func (k *talk) hand(msg, from string, rcpts ...string) string {
	k.t.Helper()
	k.run("C: MAIL FROM:<" + from + ">\nS: 250")
	for _, r := range rcpts {
		k.run("C: RCPT TO:<" + r + ">\nS: 250")
	}
	k.run("C: DATA\nS: 354")
	k.send(wired(msg) + ".\r\n")
	return k.reply()
}

var traceField = regexp.MustCompile(`^Received: from mta\.example\.org \(\[127\.0\.0\.1\]\)\r\n\tby relay\.example\.org \(Letterlock t0ken\)\r\n\twith ESMTP id [0-9a-z]{16};\r\n\t[A-Z][a-z]{2}, [0-9]{1,2} [^\r\n]+\r\n`)

func TestARelayEncryptsForWhoeverHasACertificate(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u, asRelay())
	k := b.mta()
	if got := k.hand(letter("1", "bob@example.net"), "carl@example.org", "bob@example.net"); !strings.HasPrefix(got, "250") {
		t.Fatalf("reply %q", got)
	}
	unknown := letter("2", "zoe@example.com")
	if got := k.hand(unknown, "carl@example.org", "zoe@example.com"); !strings.HasPrefix(got, "250") {
		t.Fatalf("reply %q", got)
	}
	mail := u.received()
	if len(mail) != 2 || mail[0].from != "carl@example.org" {
		t.Fatalf("the smarthost got %+v", mail)
	}
	if !traceField.MatchString(mail[0].data) || !strings.Contains(mail[0].data, "multipart/encrypted") || strings.Contains(mail[0].data, canary) {
		t.Errorf("for Bob:\n%s", mail[0].data)
	}
	if trace := traceField.FindString(mail[1].data); trace == "" || mail[1].data[len(trace):] != unknown {
		t.Errorf("for Zoe, not byte for byte after the trace field:\n%s", mail[1].data)
	}
	if strings.Contains(b.log.String(), canary) {
		t.Error("the log has the canary")
	}
}

// TestMailOfOthersPassesARelay: what no letter looks like goes as the policy
// says; what should be protected and can't be is refused.
func TestMailOfOthersPassesARelay(t *testing.T) {
	const body = "\nThis is the " + canary + ".\n"
	dsn := "From: MAILER-DAEMON@example.org\nTo: zoe@example.com\nSubject: Undelivered\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\nContent-Type: text/plain\n" + body + "\n--b--\n"
	for _, tt := range []struct{ name, from, mail, bob, zoe string }{
		{"a delivery report", "", dsn, "250", "250"},
		{"the null reverse-path on a letter", "", "From: a@example.org\nSubject: out of office\n" + body, "250", "250"},
		{"a forwarded letter", "srs0=x@example.org", "From: friend@example.com\nTo: a@example.org\nDKIM-Signature: v=1; a=rsa-sha256; d=example.com\n" + body, "250", "250"},
		{"a list's letter", "list-bounces@example.org", "From: friend@example.com\nSender: list@example.org\nList-Id: <l.example.org>\nTo: list@example.org\n" + body, "250", "250"},
		{"two authors in one field", "a@example.org", "From: a@example.org, b@example.org\nSender: a@example.org\n" + body, "250", "250"},
		{"two From fields", "a@example.org", "From: a@example.org\nFrom: b@example.org\n" + body, "554 5.6.0", "250"},
		{"no From", "a@example.org", "To: bob@example.net\n" + body, "554 5.6.0", "250"},
		{"a From that is none", "a@example.org", "From: root@@\n" + body, "554 5.6.0", "250"},
		{"no Date and no Message-ID", "a@example.org", "From: a@example.org\n" + body, "250", "250"},
		{"no header at all", "a@example.org", body, "554 5.6.0", "250"},
		{"eight bits", "a@example.org", "From: a@example.org\nSubject: Grüße\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nGrüße " + canary + "\n", "250", "250"},
		{"a Bcc field", "a@example.org", "From: a@example.org\nBcc: x@example.com\n" + body, "250", "250"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for to, want := range map[string]string{"bob@example.net": tt.bob, "zoe@example.com": tt.zoe} {
				u := newUpstream(t)
				mail := crlf(tt.mail)
				got := newBridge(t, u, asRelay()).mta().hand(mail, tt.from, to)
				if !strings.HasPrefix(got, want) {
					t.Errorf("to %s: got %q, want %q", to, got, want)
				}
				sent := u.received()
				if want == "250" && len(sent) != 1 || want != "250" && len(sent) != 0 {
					t.Fatalf("to %s: the smarthost got %+v", to, sent)
				}
				switch {
				case to == "bob@example.net" && u.saw(canary):
					t.Error("in clear for Bob")
				case to == "zoe@example.com":
					if trace := traceField.FindString(sent[0].data); sent[0].data[len(trace):] != mail {
						t.Errorf("changed:\n%s", sent[0].data)
					}
				}
			}
		})
	}
}

func TestNobodyElseUsesTheRelay(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u, asRelay(), func(c *smtpd.Config, _ *smtpd.Account, _ *queue.Config) {
		c.Listeners[0].Open = func(context.Context, smtpd.Peer) *smtpd.Account { return nil }
	})
	b.mta().run("C: MAIL FROM:<a@example.org>\nS: 530\nC: RCPT TO:<zoe@example.com>\nS: 50\nC: MAIL FROM:<>\nS: 530")
	if u.saw("MAIL") {
		t.Error("the smarthost heard of it")
	}
}

// TestOneAddressOnly: a client that is one person may not send as another.
func TestOneAddressOnly(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u, asRelay(func(r *smtpd.Relay) { r.Any, r.Proven = false, addr("app@example.org") }), func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
		a.Addresses = []address.Address{addr("app@example.org")}
	})
	b.mta().run("C: MAIL FROM:<boss@example.org>\nS: 550 5.7.1")
	if got := b.mta().hand(crlf("From: boss@example.org\n\nhi\n"), "app@example.org", "zoe@example.com"); !strings.HasPrefix(got, "550 5.7.1") {
		t.Errorf("another's From: %q", got)
	}
	if got := b.mta().hand(crlf("From: app@example.org\nBcc: <zoe@example.com>,\n <max@example.com>\n\nhi\n"), "app@example.org", "zoe@example.com"); !strings.HasPrefix(got, "250") {
		t.Errorf("its own From: %q", got)
	}
	// It is a mail program for all we know, and no MTA has taken its Bcc out yet.
	if sent := u.received(); len(sent) != 1 || strings.Contains(sent[0].data, "max@example.com") || !strings.HasSuffix(sent[0].data, "From: app@example.org\r\n\r\nhi\r\n") {
		t.Errorf("sent %+v", sent)
	}
}

func TestLoopsEnd(t *testing.T) {
	hop := "Received: from a by b with SMTP id 1; Sun, 22 Nov 2026 12:00:00 +0000\n"
	ours := "Received: from a ([192.0.2.1])\n\tby relay.example.org (Letterlock t0ken)\n\twith ESMTP id x; Sun, 22 Nov 2026 12:00:00 +0000\n"
	for _, tt := range []struct {
		name, head, want string
	}{
		{"a long way", strings.Repeat(hop, 100), "250"},
		{"too long a way", strings.Repeat(hop, 101), "554 5.4.6"},
		{"a list within a list", strings.Repeat(ours, 2), "250"},
		{"through us again and again", strings.Repeat(ours, 3), "554 5.4.6"},
		{"through another relay of this kind", strings.Repeat(strings.ReplaceAll(ours, "t0ken", "other"), 3), "250"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := newBridge(t, newUpstream(t), asRelay()).mta().hand(crlf(tt.head+"From: a@example.org\n\nhi\n"), "a@example.org", "zoe@example.com")
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestAnEncryptedLoopEnds: the trace stays outside of what is encrypted.
func TestAnEncryptedLoopEnds(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u, asRelay())
	mail, reply := letter("1", "bob@example.net"), ""
	for i := range 5 {
		if reply = b.mta().hand(mail, "a@example.org", "bob@example.net"); !strings.HasPrefix(reply, "250") {
			break
		}
		sent := u.received()
		mail = sent[i].data
	}
	if !strings.HasPrefix(reply, "554 5.4.6") {
		t.Errorf("last reply %q", reply)
	}
}

// TestWhoSignsAtARelay: a sender's own key only for the sender.
func TestWhoSignsAtARelay(t *testing.T) {
	senders := func(r *smtpd.Relay) {
		r.SenderKey = func(_ context.Context, a address.Address) (pgp.Signer, error) {
			if a.Equal(addr("alice@example.org")) {
				return key(t, "alice@example.org"), nil
			}
			return nil, fmt.Errorf("%s: %w", a, errNoKey)
		}
	}
	domain := func(r *smtpd.Relay) {
		r.DomainKey = func(context.Context, string) (pgp.Signer, error) { return key(t, "gateway@example.org"), nil }
	}
	proven := func(a string) func(*smtpd.Relay) { return func(r *smtpd.Relay) { r.Proven = addr(a) } }
	word := func(r *smtpd.Relay) { r.TrustSender = true }
	from := func(lines string) string { return lines + "\nTo: bob@example.net\n\nhi\n" }
	for _, tt := range []struct {
		name   string
		relay  []func(*smtpd.Relay)
		mail   string
		signer string // "" is nobody
		sender string // in the notation
	}{
		{"the proven sender's key", []func(*smtpd.Relay){senders, domain, proven("alice@example.org")}, from("From: alice@example.org"), "alice@example.org", "alice@example.org"},
		{"nobody's word but the client's: the domain's key", []func(*smtpd.Relay){senders, domain}, from("From: alice@example.org"), "gateway@example.org", ""},
		{"an MTA whose word counts", []func(*smtpd.Relay){senders, domain, word}, from("From: alice@example.org"), "alice@example.org", "alice@example.org"},
		{"its word about another sender", []func(*smtpd.Relay){senders, domain, word}, from("From: carl@example.org"), "gateway@example.org", ""},
		{"proven, but not the author", []func(*smtpd.Relay){senders, domain, proven("carl@example.org")}, from("From: alice@example.org"), "gateway@example.org", ""},
		{"proven, but Sender names another", []func(*smtpd.Relay){senders, domain, proven("alice@example.org")}, from("From: alice@example.org\nSender: carl@example.org"), "gateway@example.org", ""},
		{"proven, but two authors", []func(*smtpd.Relay){senders, domain, proven("alice@example.org")}, from("From: alice@example.org, carl@example.org"), "gateway@example.org", ""},
		{"proven, but sent on", []func(*smtpd.Relay){senders, domain, proven("alice@example.org")}, from("From: alice@example.org\nResent-From: alice@example.org"), "gateway@example.org", ""},
		{"proven, but without a key", []func(*smtpd.Relay){senders, domain, proven("carl@example.org")}, from("From: carl@example.org"), "gateway@example.org", "carl@example.org"},
		{"no keys at all", []func(*smtpd.Relay){proven("alice@example.org")}, from("From: alice@example.org"), "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpstream(t)
			reply := newBridge(t, u, asRelay(tt.relay...)).mta().hand(crlf(tt.mail), "alice@example.org", "bob@example.net")
			if !strings.HasPrefix(reply, "250") {
				t.Fatalf("reply %q", reply)
			}
			data := u.received()[0].data
			o, err := pgp.Open(t.Context(), message.Bytes([]byte(data)), pgp.Opening{Keys: pgp.Keys(key(t, "bob@example.net")), Certificates: known{t}})
			if err != nil || o.Class != pgp.Encrypted {
				t.Fatalf("%v %+v", err, o)
			}
			want := pgp.Fingerprint("")
			if tt.signer != "" {
				want = key(t, tt.signer).Certificate().Fingerprint()
			}
			if o.Verdict.Signer != want {
				t.Errorf("signed by %s, want that of %q", o.Verdict.Signer, tt.signer)
			}
			if o.Verdict.Signature == pgp.SignatureValid {
				t.Error("taken for the author's own signature")
			}
			if tt.signer == "alice@example.org" && o.Verdict.Signature != pgp.SignatureGateway {
				t.Errorf("verdict %+v", o.Verdict)
			}
			if strings.Contains(data, "Autocrypt:") != (tt.signer == "alice@example.org") {
				t.Errorf("Autocrypt names a key that isn't the author's, or is missing:\n%s", data)
			}
		})
	}
}

// known are the certificates of all keys of these tests, by their own addresses.
type known struct{ t testing.TB }

func (k known) Issuer(_ context.Context, id uint64) (out []*pgp.Certificate, err error) {
	keys.Lock()
	defer keys.Unlock()
	for _, one := range keys.m {
		for _, have := range one.Certificate().KeyIDs() {
			if have == id {
				out = append(out, one.Certificate())
			}
		}
	}
	return out, nil
}

func (k known) Identity(_ context.Context, a address.Address, f pgp.Fingerprint) (pgp.Identity, error) {
	keys.Lock()
	defer keys.Unlock()
	if one := keys.m[a.Key()]; one != nil && one.Certificate().Fingerprint() == f {
		return pgp.Directory, nil
	}
	return pgp.Unknown, nil
}

// TestSignOnlyNeedsAKey: where the rule is to sign and nobody can, nothing goes.
func TestSignOnlyNeedsAKey(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u, asRelay(), withRules(policy.Config{Default: policy.Sign}))
	if got := b.mta().hand(letter("1", "zoe@example.com"), "a@example.org", "zoe@example.com"); !strings.HasPrefix(got, "4") && !strings.HasPrefix(got, "5") {
		t.Errorf("got %q", got)
	}
	if len(u.received()) > 0 {
		t.Error("it was sent")
	}
}

// TestDryRun: everything passes unchanged, and the log says what would have been.
func TestDryRun(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u, asRelay(), withRules(policy.Config{DryRun: true, Rules: []policy.Rule{{Name: "strict", To: []string{"*@example.com"}, Mode: policy.Require}}}))
	for to, would := range map[string]string{"bob@example.net": "encrypt", "zoe@example.com": "refuse", "x@down.example": "defer"} {
		mail := letter("1", to)
		if got := b.mta().hand(mail, "a@example.org", to); !strings.HasPrefix(got, "250") {
			t.Fatalf("to %s: %q", to, got)
		}
		sent := u.received()
		if last := sent[len(sent)-1].data; last[len(traceField.FindString(last)):] != mail {
			t.Errorf("to %s it went changed:\n%s", to, last)
		}
		if want := "recipient=" + to + " would=" + would; !strings.Contains(b.log.String(), want) {
			t.Errorf("the log doesn't say %q", want)
		}
	}
}

// TestARelaysReportHasNoSender: what fails after our 250 is reported to the
// envelope sender, from the null reverse-path (RFC 3464, Section 2; RFC 5321,
// Section 4.5.5), and a bounce that fails is not reported.
func TestARelaysReportHasNoSender(t *testing.T) {
	for _, from := range []string{"ann@example.org", ""} {
		u := newUpstream(t)
		b := newBridge(t, u, asRelay())
		u.failWith(func(step string, n int, arg string) fault {
			if step == "dot" && strings.Contains(arg, "carol") {
				return fault{reply: "554 5.7.1 not for her"}
			}
			return fault{}
		})
		if got := b.mta().hand(letter("1", "bob@example.net"), from, "bob@example.net", "carol@example.net"); !strings.HasPrefix(got, "250") {
			t.Fatalf("reply %q", got)
		}
		eventually(t, "the queue is settled", func() bool { return settled(t, b) })
		var reports []delivered
		for _, m := range u.received() {
			if strings.Contains(m.data, "report-type=delivery-status") {
				reports = append(reports, m)
			}
		}
		if from == "" {
			if len(reports) != 0 {
				t.Errorf("a bounce was reported to %v", reports[0].rcpts)
			}
			continue
		}
		if len(reports) != 1 || reports[0].from != "" || strings.Join(reports[0].rcpts, ",") != from || !strings.Contains(reports[0].data, "carol@example.net") || strings.Contains(reports[0].data, canary) {
			t.Errorf("reports: %+v", reports)
		}
	}
}

// TestInsideAndOutside: with what relay init writes, colleagues get a message as
// it is while partners get it encrypted.
func TestInsideAndOutside(t *testing.T) {
	u := newUpstream(t)
	inside := policy.Rule{Name: "inside", To: []string{"*@example.org"}, Mode: policy.Cleartext}
	b := newBridge(t, u, asRelay(), withRules(policy.Config{Settings: policy.Settings{Mixed: policy.MixedSplit}, Rules: []policy.Rule{inside}}))
	if got := b.mta().hand(letter("1", "bob@example.net, carl@example.org"), "a@example.org", "bob@example.net", "carl@example.org"); !strings.HasPrefix(got, "250") {
		t.Fatalf("reply %q", got)
	}
	eventually(t, "both have it", func() bool { return len(u.received()) == 2 })
	for _, m := range u.received() {
		if strings.Contains(m.data, canary) != (m.rcpts[0] == "carl@example.org") {
			t.Errorf("to %v: clear %v", m.rcpts, strings.Contains(m.data, canary))
		}
	}
}

// TestOneMessageInSeveralTransactionsHasOneProtection: an MTA parts what has many
// recipients (Postfix at 50), and the rules for several hold all the same.
func TestOneMessageInSeveralTransactionsHasOneProtection(t *testing.T) {
	split := policy.Config{Settings: policy.Settings{Mixed: policy.MixedSplit}}
	for _, tt := range []struct {
		name      string
		rules     policy.Config
		to        []string // each alone
		want      string   // of the last
		plaintext bool
	}{
		{"sealed, then clear", policy.Config{}, []string{"bob@example.net", "zoe@example.com"}, "550 5.7.1", false},
		{"sealed, then clear, and a rule splits it", split, []string{"bob@example.net", "zoe@example.com"}, "250", true},
		{"sealed, then sealed", policy.Config{}, []string{"bob@example.net", "carol@example.net"}, "250", false},
		{"clear, then clear", policy.Config{}, []string{"zoe@example.com", "max@example.com"}, "250", true},
		{"held, then clear", policy.Config{Rules: []policy.Rule{{Name: "wait", To: []string{"zoe@example.com"}, Mode: policy.Require, Settings: policy.Settings{Missing: policy.ThenHold}}}},
			[]string{"zoe@example.com", "max@example.com"}, "550 5.7.1", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpstream(t)
			b := newBridge(t, u, withRules(tt.rules), asRelay())
			mail, last := letter("1", "list@example.org"), ""
			for _, to := range tt.to {
				last = b.mta().hand(mail, "a@example.org", to)
			}
			if !strings.HasPrefix(last, tt.want) || u.saw(canary) != tt.plaintext {
				t.Errorf("the last got %q; in clear: %v", last, u.saw(canary))
			}
			if again := b.mta().hand(mail, "a@example.org", tt.to[0]); !strings.HasPrefix(again, "250") {
				t.Errorf("the first once more: %q", again)
			}
		})
	}
}

// TestWhoCouldNotBeLookedUpCounts: his copy may be sealed when the client comes
// again for him, so that nobody gets the text in clear before.
func TestWhoCouldNotBeLookedUpCounts(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u, withRules(policy.Config{}), asRelay(), func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
		a.Find = failing{a.Find, addr("bob@example.net")}
	})
	k := b.mta()
	k.run("C: MAIL FROM:<a@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 451\nC: RCPT TO:<zoe@example.com>\nS: 250\nC: DATA\nS: 354")
	k.send(wired(letter("1", "bob@example.net")) + ".\r\n")
	if got := k.reply(); !strings.HasPrefix(got, "451") || u.saw(canary) {
		t.Errorf("reply %q; in clear: %v", got, u.saw(canary))
	}
}

// failing can't look somebody up.
type failing struct {
	smtpd.Finder
	who address.Address
}

func (f failing) Find(ctx context.Context, a address.Address) (keydir.Finding, error) {
	if a == f.who {
		return keydir.Finding{}, errors.New("the store doesn't answer")
	}
	return f.Finder.Find(ctx, a)
}
