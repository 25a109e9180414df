package smtpd_test

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// The copy of a long message goes upstream while it is being made. Whatever fails,
// nobody gets half of it, the client is told what it always was, and the session
// goes on.
func TestLongMessagesGoUpstreamWhileTheyAreMade(t *testing.T) {
	once := func(step string, f fault) func(string, int, string) fault {
		return func(at string, n int, _ string) fault {
			if at == step && n == 1 {
				return f
			}
			return fault{}
		}
	}
	tests := []struct {
		name   string
		fault  func(string, int, string) fault
		size   string // that the upstream takes
		line   string // of the message
		locked bool   // the signing key
		want   string
		half   bool // the upstream gets its beginning
	}{
		{name: "all is well", want: "250", half: true},
		{name: "the upstream refuses DATA", fault: once("data", fault{reply: "554 5.7.1 never"}), want: "554 5.7.1 your mail server says: never"},
		{name: "the upstream can't now", fault: once("data", fault{reply: "451 4.3.0 later"}), want: "451 4.3.0 your mail server says: later"},
		{name: "it answers something else, and is called again", fault: once("data", fault{reply: "250 2.0.0 ok"}), want: "250", half: true},
		{name: "the upstream hangs up at DATA, and is called again", fault: once("data", fault{drop: true}), want: "250", half: true},
		{name: "it leaves at DATA, and is called again", fault: once("data", fault{reply: "421 4.3.2 bye", drop: true}), want: "250", half: true},
		{name: "it hangs up within", fault: once("body", fault{drop: true}), want: "451 4.4."},
		{name: "it refuses what it has got", fault: once("dot", fault{reply: "554 5.7.1 spam"}), want: "554 5.7.1", half: true},
		{name: "its answer is lost", fault: once("dot", fault{drop: true, apply: true}), want: "451 4.4.2", half: true},
		{name: "the copy proves too large", size: "460000", line: "ä€ä€ä€ä\r\n", want: "552 5.3.4", half: true},
		{name: "the copy is surely too large", size: "400000", want: "552 5.3.4"},
		{name: "the key can't sign", locked: true, want: "451 4.3.0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpstream(t)
			if tt.size != "" {
				u.caps[len(u.caps)-1] = "SIZE " + tt.size
			}
			var locked atomic.Bool
			locked.Store(tt.locked)
			b := newBridge(t, u, func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
				signer := a.Signer
				a.Signer = func(ctx context.Context, from address.Address) (pgp.Signer, error) {
					if locked.Load() {
						return nil, errors.New("no key")
					}
					return signer(ctx, from)
				}
			})
			u.failWith(tt.fault)
			k := b.login()
			text := letter("long", "bob@example.net") + strings.Repeat(cmp.Or(tt.line, "0123456789\r\n.dot\r\n"), 300_000/18)
			if got := k.submit(wired(text), "bob@example.net"); !strings.HasPrefix(got, tt.want) {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
			whole := 0
			for _, m := range u.received() {
				o, err := pgp.Open(t.Context(), message.Bytes([]byte(m.data)), pgp.Opening{Keys: pgp.Keys(key(t, "bob@example.net")), Certificates: known{t}})
				if err != nil {
					t.Fatal(err)
				}
				got, err := message.ReadAll(o.Rendering, 1<<20)
				o.Rendering.Close()
				if _, body, _ := strings.Cut(text, "\r\n\r\n"); err != nil || !strings.HasSuffix(string(got), body) {
					t.Errorf("the message has %d bytes (%v)", len(got), err)
				}
				whole++
			}
			if want := strings.HasPrefix(tt.want, "250") || strings.Contains(tt.name, "lost"); want != (whole == 1) || whole > 1 {
				t.Errorf("%d messages were taken", whole)
			}
			if !tt.half && u.saw("BEGIN PGP MESSAGE") {
				t.Error("the upstream got a beginning")
			}
			locked.Store(false)
			k.run("C: NOOP\nS: 250")
			if got := k.submit(wired(letter("next", "bob@example.net")), "bob@example.net"); !strings.HasPrefix(got, "250") {
				t.Fatalf("the next message: %q", got)
			}
			if got := u.received(); len(got) != whole+1 || !strings.Contains(got[whole].data, "<next@example.org>") {
				t.Errorf("%d messages were taken in the end", len(got))
			}
		})
	}
}
