package smtpd_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// capable is a directory of certificates made for the test, and of how strong they
// are.
type capable map[string]*pgp.Certificate

func (c capable) Find(_ context.Context, a address.Address) (keydir.Finding, error) {
	cert := c[a.String()]
	if cert == nil {
		return keydir.Finding{Address: a, Outcome: keydir.Absent}, nil
	}
	s, err := pgp.StrengthOf(time.Now(), cert)
	return keydir.Finding{Address: a, Outcome: keydir.Found, Known: true, Identity: pgp.Directory,
		Certificates: []*pgp.Certificate{cert}, Strengths: []pgp.Strength{s}}, err
}

// madeOf is a key that the library makes.
func madeOf(t *testing.T, user string, c packet.Config, suites ...[2]uint8) *pgp.Key {
	t.Helper()
	c.Time = func() time.Time { return time.Now().Add(-time.Hour) }
	e, err := openpgp.NewEntity("", "", user, &c)
	if err == nil && len(suites) > 0 { // these alone
		direct := e.DirectSignatures[0].Packet
		direct.PreferredCipherSuites = suites
		err = direct.SignDirectKeyBinding(e.PrimaryKey, e.PrivateKey, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := e.SerializePrivateWithoutSigning(&b, nil); err != nil {
		t.Fatal(err)
	}
	keys, err := pgp.ParseKeys(b.Bytes(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return keys[0]
}

// TestAlgorithmsHoldForACopyAsAWhole: two certificates may each take AES-256, and
// together no more than AES-128. Where the rule asks for AES-256 they get copies of
// their own; where it doesn't they share one.
func TestAlgorithmsHoldForACopyAsAWhole(t *testing.T) {
	v6 := func(user string, mode packet.AEADMode) *pgp.Key {
		return madeOf(t, user, packet.Config{Algorithm: packet.PubKeyAlgoEd25519, V6Keys: true, AEADConfig: &packet.AEADConfig{}}, [2]uint8{uint8(packet.CipherAES256), uint8(mode)})
	}
	people := capable{"bob@example.net": v6("bob@example.net", packet.AEADModeGCM).Certificate(),
		"carol@example.net": v6("carol@example.net", packet.AEADModeEAX).Certificate(),
		"dave@example.net":  madeOf(t, "dave@example.net", packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, DefaultCipher: packet.CipherAES128}).Certificate()}
	for _, tt := range []struct {
		name   string
		asks   policy.Settings
		copies int
	}{
		{"nothing is asked", policy.Settings{}, 1},
		{"AES-256 is asked", policy.Settings{MinCipher: policy.AES256}, 2},
		{"AEAD is asked", policy.Settings{AEAD: policy.AEADRequire}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpstream(t)
			b := newBridge(t, u, withRules(policy.Config{Default: policy.Prefer, Settings: tt.asks}),
				func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) { a.Find = people })
			mail := wired(crlf("From: alice@example.org\nTo: bob@example.net, carol@example.net\nSubject: x\n\ntext\n"))
			if got := b.login().submit(mail, "bob@example.net", "carol@example.net"); !strings.HasPrefix(got, "250") {
				t.Fatalf("reply %q", got)
			}
			if n := len(u.received()); n != tt.copies {
				t.Errorf("%d copies, want %d", n, tt.copies)
			}
			// Who can't reach it is refused at RCPT, and never written to in clear.
			k := b.login()
			if tt.asks == (policy.Settings{}) {
				k.run("C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<dave@example.net>\nS: 250")
			} else {
				k.run("C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<dave@example.net>\nS: 550 5.7.1 the certificate of dave@example.net takes no")
			}
		})
	}
}

// TestHeaderProtectionByRule: what stands outside of an encrypted copy is for the
// rule of its recipient to say; inside all of it is there.
func TestHeaderProtectionByRule(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u, withRules(policy.Config{Rules: []policy.Rule{
		{Name: "threads matter to them", To: []string{"carol@example.net"}, Mode: policy.Require, Settings: policy.Settings{Headers: policy.HeadersSubject}}}}))
	if got := b.login().submit(wired(crlf("From: alice@example.org\nTo: bob@example.net, carol@example.net\nSubject: the merger\n\ntext\n")), "bob@example.net", "carol@example.net"); !strings.HasPrefix(got, "250") {
		t.Fatalf("reply %q", got)
	}
	for _, m := range u.received() {
		outside := strings.Contains(m.data, "the merger")
		if want := strings.Contains(strings.Join(m.rcpts, " "), "carol"); outside != want || !strings.Contains(m.data, "multipart/encrypted") {
			t.Errorf("to %v: the subject outside %v, want %v", m.rcpts, outside, want)
		}
		who := "bob@example.net"
		if outside {
			who = "carol@example.net"
		}
		if inner := readNotice(t, key(t, who), m.data); !strings.Contains(inner, "Subject: the merger") {
			t.Errorf("inside for %s:\n%s", who, inner)
		}
	}
	if n := len(u.received()); n != 2 {
		t.Errorf("%d copies", n)
	}
}

// TestAnAnswersSubjectIsAsConfidential: the subject of an answer repeats that of a
// letter which came encrypted, so that no rule leaves it readable.
func TestAnAnswersSubjectIsAsConfidential(t *testing.T) {
	u := newUpstream(t)
	rules := policy.Config{Default: policy.Require, Settings: policy.Settings{Headers: policy.HeadersSubject}}
	b := newBridge(t, u, withRules(rules), func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) { a.Opened = opened{"<secret@example.net>"} })
	for _, about := range []string{"In-Reply-To: <secret@example.net>", "In-Reply-To: <other@example.net>"} {
		if got := b.login().submit(wired(crlf("From: alice@example.org\nTo: bob@example.net\nSubject: Re: the merger\n"+about+"\n\ntext\n")), "bob@example.net"); !strings.HasPrefix(got, "250") {
			t.Fatalf("reply %q", got)
		}
		got := u.received()
		last := got[len(got)-1].data
		if outside := strings.Contains(last, "the merger"); outside != strings.Contains(about, "other") {
			t.Errorf("%s: the subject stands outside: %v", about, outside)
		}
		if inner := readNotice(t, key(t, "bob@example.net"), last); !strings.Contains(inner, "Subject: Re: the merger") {
			t.Errorf("%s: inside:\n%s", about, inner)
		}
	}
}
