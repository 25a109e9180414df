package keydir_test

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// What a directory says of itself, in the draft's words and ours.
func TestInletsReadThePolicy(t *testing.T) {
	service := address.Address{Local: "submit", Domain: "example.org"}
	k := key(t, service)
	for _, tt := range []struct {
		name, policy                 string
		put, mailboxOnly, authSubmit bool
	}{
		{name: "an empty policy"},
		{name: "GnuPG's words", policy: "# Policy\nmailbox-only\nauth-submit\nprotocol-version: 5\n", mailboxOnly: true, authSubmit: true},
		{name: "in other letters, with CRLF and blanks", policy: " Mailbox-Only \r\n", mailboxOnly: true},
		{name: "ours", policy: "submission-address: submit@example.org\nletterlock-put: 1\n", put: true},
		{name: "a word within another is none", policy: "x-mailbox-only\nnot auth-submit\nletterlock-put: 12\n"},
		{name: "without a line end", policy: "letterlock-put: 1", put: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.web(advanced, advanced, func(rw http.ResponseWriter, req *http.Request) {
				switch {
				case strings.HasSuffix(req.URL.Path, "/policy"):
					_, _ = rw.Write([]byte(tt.policy))
				case strings.HasSuffix(req.URL.Path, "/submission-address"):
					_, _ = rw.Write([]byte(service.String() + "\n"))
				case req.URL.Query().Get("l") == service.Local:
					_, _ = rw.Write(k.Certificate().Bytes())
				default:
					http.NotFound(rw, req)
				}
			})
			in, err := w.Inlets(ctx, bob)
			if err != nil {
				t.Fatal(err)
			}
			if in.Put != tt.put || in.MailboxOnly != tt.mailboxOnly || in.AuthSubmit != tt.authSubmit || !in.Submission.Equal(service) {
				t.Errorf("got %+v", in)
			}
			for id, bare := range map[string]bool{"bob@example.org": true, "Bob <bob@example.org>": false} {
				c := named(t, id)
				if err := in.TakesMail(c); errors.Is(err, keydir.ErrMailboxOnly) != (tt.mailboxOnly && !bare) {
					t.Errorf("%q: %v", id, err)
				}
			}
		})
	}
}

// named is a certificate with that user ID.
func named(t *testing.T, id string) *pgp.Certificate {
	t.Helper()
	name, email, ok := strings.Cut(strings.TrimSuffix(id, ">"), " <")
	if !ok { // the engine would write it in angle brackets
		return key(t, bob).Certificate()
	}
	e, err := openpgp.NewEntity(name, "", email, &packet.Config{Time: func() time.Time { return start }})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := e.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	certs, err := pgp.ParseCertificates(b.Bytes())
	if err != nil || len(certs) != 1 || len(certs[0].UserIDs()) != 1 {
		t.Fatal(len(certs), err)
	}
	return certs[0]
}
