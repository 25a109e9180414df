package smtpd_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd"
)

// TestWhatMayBeOpenedIsOpenedForEach: a copy that one mailbox's key may open is
// never another's, whatever else looks strange about it.
func TestWhatMayBeOpenedIsOpenedForEach(t *testing.T) {
	const head = "From: x@example.com\nTo: a@example.org\nMessage-ID: <1@example.com>\n"
	for _, tt := range []struct {
		name, mail string
		opened     int
	}{
		{"plain text", head + "\nhello\n", 1},
		{"an armor block that we can't read", head + "\n-----BEGIN PGP MESSAGE-----\n\nAAAA\n-----END PGP MESSAGE-----\n", 2},
		{"parts that only claim to be encrypted", head + "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=b\n\n--b\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n--b\nContent-Type: application/octet-stream\n\nAAAA\n--b--\n", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var mu sync.Mutex
			var opened []string
			u := newUpstream(t)
			b := newBridge(t, u, withRules(policy.Config{Default: policy.Cleartext}), asRelay(func(r *smtpd.Relay) {
				r.Inbound = &smtpd.Inbound{Open: func(_ context.Context, to address.Address, src message.Source) (message.Source, *message.Spool, error) {
					mu.Lock()
					defer mu.Unlock()
					opened = append(opened, to.String())
					return src, nil, nil
				}}
			}))
			if got := b.mta().hand(crlf(tt.mail), "x@example.com", "a@example.org", "b@example.org"); !strings.HasPrefix(got, "250") {
				t.Fatalf("reply %q", got)
			}
			if len(opened) != tt.opened {
				t.Errorf("opened for %v, want %d copies", opened, tt.opened)
			}
		})
	}
}
