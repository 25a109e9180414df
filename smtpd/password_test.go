package smtpd_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/form"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/smtpd"
)

const underPassword = "From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nSubject: CANARY-subject\r\nMessage-ID: <p1@example.org>\r\n%s\r\nCANARY-body\r\n"

// locker is an account of Alice's that sends under passwords.
func locker(t *testing.T, ways smtpd.Passwords) (*smtpd.Account, *pgp.Key) {
	k := key(t, "alice@example.org")
	return &smtpd.Account{
		Addresses: []address.Address{addr("alice@example.org")}, Passwords: &ways,
		Signer: func(context.Context, address.Address) (pgp.Signer, error) { return k, nil },
	}, k
}

// opens tells whether a password opens the OpenPGP copy in a mail.
func opens(t *testing.T, mail, password string) string {
	t.Helper()
	block, err := armor.Decode(strings.NewReader(mail[strings.Index(mail, "-----BEGIN PGP MESSAGE"):]))
	if err != nil {
		t.Fatal(err)
	}
	asked := false
	md, err := openpgp.ReadMessage(block.Body, openpgp.EntityList{}, func([]openpgp.Key, bool) ([]byte, error) {
		if asked {
			return nil, io.ErrUnexpectedEOF
		}
		asked = true
		return []byte(password), nil
	}, &packet.Config{})
	if err != nil {
		return ""
	}
	b, err := io.ReadAll(md.UnverifiedBody)
	if err != nil {
		return ""
	}
	return string(b)
}

var madePassword = regexp.MustCompile(`(?m)^    ([0-9a-z]{5}(?:-[0-9a-z]{5}){3})\r?$`)

// readNotice opens a notice with its owner's key.
func readNotice(t *testing.T, k *pgp.Key, notice string) string {
	t.Helper()
	o, err := pgp.Open(context.Background(), message.Bytes([]byte(notice)), pgp.Opening{Keys: k, Certificates: noCertificates{}})
	if err != nil || o.Class != pgp.Encrypted {
		t.Fatalf("the notice is %v: %v", o, err)
	}
	defer o.Rendering.Close()
	b, err := message.ReadAll(o.Rendering, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

type noCertificates struct{}

func (noCertificates) Issuer(context.Context, uint64) ([]*pgp.Certificate, error) { return nil, nil }
func (noCertificates) Identity(context.Context, address.Address, pgp.Fingerprint) (pgp.Identity, error) {
	return pgp.Unknown, nil
}

func TestTheSenderIsToldThePasswordSealed(t *testing.T) {
	account, k := locker(t, smtpd.Passwords{})
	var log bytes.Buffer
	l, err := smtpd.Lock(account, sub(""), slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), addr("bob@example.net"), addr("carol@example.com"))
	if err != nil {
		t.Fatal(err)
	}
	notice := readNotice(t, k, l.Notice)
	for _, want := range []string{"Subject: Password for your message to bob@example.net and 1 more", "bob@example.net\r\n", "carol@example.com\r\n", "CANARY-subject", "<p1@example.org>"} {
		if !strings.Contains(notice, want) {
			t.Errorf("the notice doesn't say %q:\n%s", want, notice)
		}
	}
	m := madePassword.FindStringSubmatch(notice)
	if m == nil {
		t.Fatalf("no password in:\n%s", notice)
	}
	if text := opens(t, l.Body, m[1]); !strings.Contains(text, "CANARY-body") {
		t.Errorf("the password of the notice does not open the message: %q", text)
	}
	if l.Notify != addr("alice@example.org") {
		t.Errorf("the notice is for %s", l.Notify)
	}
	for name, in := range map[string]string{"message": l.Body, "notice": l.Notice, "log": log.String()} {
		for _, secret := range []string{m[1], "CANARY"} {
			if strings.Contains(in, secret) {
				t.Errorf("the %s has %q", name, secret)
			}
		}
	}
}

// sub is the letter with more fields.
func sub(fields string) string { return strings.Replace(underPassword, "%s", fields, 1) }

func TestAPasswordThatIsKnownIsNotTold(t *testing.T) {
	st, err := store.OpenMemory(smtpd.PasswordSchema)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	agreed := &smtpd.AgreedPasswords{Store: st, Now: time.Now}
	p, err := form.Agreed("a walk in the rain")
	if err != nil {
		t.Fatal(err)
	}
	if err := agreed.Set(context.Background(), address.Address{}, addr("Bob@example.net"), p); err != nil {
		t.Fatal(err)
	}
	account, _ := locker(t, smtpd.Passwords{Agreed: agreed.Find})
	for name, tt := range map[string]struct {
		fields, want string
		shares       bool
	}{
		"agreed":                         {"", "a walk in the rain", false},
		"given with the message":         {"Letterlock-Password: =?utf-8?q?another_w=C3=A4lk?= today\r\n", "another wälk today", true},
		"given, the field in small type": {"letterlock-password : yet another walk\r\n", "yet another walk", true},
	} {
		l, err := smtpd.Lock(account, sub(tt.fields), slog.New(slog.DiscardHandler), addr("bob@example.net"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if l.Notice != "" || !strings.Contains(opens(t, l.Body, tt.want), "CANARY-body") || l.Shares[0] != tt.shares {
			t.Errorf("%s: notice %q, shares %v", name, l.Notice, l.Shares)
		}
		if strings.Contains(strings.ToLower(l.Body+opens(t, l.Body, tt.want)), "letterlock-password") {
			t.Errorf("%s: the field goes along", name)
		}
	}
	if _, err := smtpd.Lock(account, sub(""), slog.New(slog.DiscardHandler), addr("bob@example.net"), addr("carol@example.com")); err == nil {
		t.Error("Bob's password went to Carol's copy")
	}
}

func TestWhatCanNotGoUnderAPassword(t *testing.T) {
	for name, tt := range map[string]struct {
		fields, want string
		ways         smtpd.Passwords
	}{
		"a weak password":     {"Letterlock-Password: secret\r\n", "too easy to guess", smtpd.Passwords{}},
		"two passwords":       {"Letterlock-Password: one of twelve\r\nLetterlock-Password: two of twelve\r\n", "several fields", smtpd.Passwords{}},
		"too large a message": {"", "too large", smtpd.Passwords{Limit: 10}},
	} {
		account, _ := locker(t, tt.ways)
		l, err := smtpd.Lock(account, sub(tt.fields), slog.New(slog.DiscardHandler), addr("bob@example.net"))
		if err == nil || !strings.Contains(l.Refusal, tt.want) || strings.Contains(l.Refusal+err.Error(), "twelve\"") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %q, %v", name, l.Refusal, err)
		}
	}
}

// finds answers for the sender.
type finds keydir.Finding

func (f finds) Find(context.Context, address.Address) (keydir.Finding, error) {
	return keydir.Finding(f), nil
}

func TestANoticeOfARelayGoesToTheAuthorsCertificate(t *testing.T) {
	alice, domain := key(t, "alice@example.org"), key(t, "postmaster@example.org")
	for name, tt := range map[string]struct {
		found            keydir.Finding
		clear            bool
		sealed, unsealed bool
		refused          string
	}{
		"the directory has it":             {found: keydir.Finding{Outcome: keydir.Found, Identity: pgp.Directory, Certificates: []*pgp.Certificate{alice.Certificate()}}, sealed: true},
		"somebody sent it":                 {found: keydir.Finding{Outcome: keydir.Found, Identity: pgp.FirstSeen, Certificates: []*pgp.Certificate{alice.Certificate()}}, clear: true, refused: "no certificate of yours"},
		"there is none":                    {found: keydir.Finding{Outcome: keydir.Absent}, refused: "no certificate of yours"},
		"there is none, and clear is well": {found: keydir.Finding{Outcome: keydir.Absent}, clear: true, unsealed: true},
		"there was one":                    {found: keydir.Finding{Outcome: keydir.Absent, Known: true}, clear: true, refused: "no certificate of yours"},
		"the directory does not answer":    {found: keydir.Finding{Outcome: keydir.Unavailable}, clear: true},
	} {
		account := &smtpd.Account{
			Addresses: []address.Address{addr("alice@example.org")}, Passwords: &smtpd.Passwords{ClearNotice: func(to address.Address) bool { return tt.clear && to == addr("alice@example.org") }}, Find: finds(tt.found),
			Relay: &smtpd.Relay{Host: "mx.example.org", Token: "t", Any: true, DomainKey: func(context.Context, string) (pgp.Signer, error) { return domain, nil }},
		}
		l, err := smtpd.Lock(account, sub(""), slog.New(slog.DiscardHandler), addr("bob@example.net"))
		switch {
		case tt.sealed:
			if err != nil || madePassword.FindString(readNotice(t, alice, l.Notice)) == "" {
				t.Errorf("%s: %v", name, err)
			}
		case tt.unsealed:
			if err != nil || madePassword.FindString(l.Notice) == "" || strings.Contains(l.Notice, "CANARY") {
				t.Errorf("%s: %v\n%s", name, err, l.Notice)
			}
		case err == nil || l.Body != "" || !strings.Contains(l.Refusal, tt.refused) || tt.refused == "" && l.Refusal != "":
			t.Errorf("%s: %q, %v", name, l.Refusal, err)
		}
	}
}

func TestAgreedPasswords(t *testing.T) {
	ctx := context.Background()
	st, err := store.OpenMemory(smtpd.PasswordSchema)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	a := &smtpd.AgreedPasswords{Store: st, Now: func() time.Time { return time.Unix(1000, 0) }}
	set := func(owner address.Address, to, text string) {
		t.Helper()
		p, err := form.Agreed(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Set(ctx, owner, addr(to), p); err != nil {
			t.Fatal(err)
		}
	}
	find := func(owner, to string) string {
		t.Helper()
		p, err := a.Find(ctx, addr(owner), addr(to))
		if err != nil {
			t.Fatal(err)
		}
		return p.Reveal()
	}
	set(address.Address{}, "bob@example.net", "everybody's password")
	set(addr("alice@example.org"), "bob@example.net", "the first of Alice's")
	set(addr("Alice@example.org"), "BOB@example.net", "the second of Alice's")
	for _, tt := range []struct{ owner, to, want string }{
		{"alice@example.org", "bob@example.net", "the second of Alice's"},
		{"carol@example.org", "Bob@example.net", "everybody's password"},
		{"alice@example.org", "dave@example.net", ""},
	} {
		if got := find(tt.owner, tt.to); got != tt.want {
			t.Errorf("from %s to %s: %q, want %q", tt.owner, tt.to, got, tt.want)
		}
	}
	if all, err := a.List(ctx); err != nil || len(all) != 2 || all[1].Owner != "alice@example.org" || !all[1].Changed.Equal(time.Unix(1000, 0)) {
		t.Errorf("List: %+v, %v", all, err)
	}
	if there, err := a.Forget(ctx, addr("alice@example.org"), addr("bob@example.net")); err != nil || !there || find("alice@example.org", "bob@example.net") != "everybody's password" {
		t.Errorf("Forget: %v, %v", there, err)
	}
	if err := a.Set(ctx, address.Address{}, addr("bob@example.net"), form.NewPassword()); err == nil {
		t.Error("a password for one message was kept as an agreed one")
	}
	err = st.Update(ctx, func(tx store.Tx) error {
		_, err := tx.Exec(`UPDATE password_agreed SET password = ?`, []byte("a password of the thief's"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Find(ctx, addr("alice@example.org"), addr("bob@example.net")); err == nil {
		t.Error("a changed row was believed")
	}
}
