package login_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/login"
	"letterlock.org/letterlock/internal/store"
)

type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func addr(t *testing.T, s string) address.Address {
	t.Helper()
	a, err := address.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func remote(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 4711} }

func checker(t *testing.T, mode login.Mode) (*login.Checker, *clock, address.Address) {
	t.Helper()
	s, err := store.OpenMemory(login.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	clk := &clock{time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	alice := addr(t, "alice@example.org")
	c := login.New(login.Config{Store: s, Now: clk.now, Accounts: []login.Account{
		{Address: alice, Aliases: []address.Address{addr(t, "a.liddell@example.org")}, Mode: mode},
	}})
	return c, clk, alice
}

func TestLocalPasswordOpensAndGivesTheUpstreams(t *testing.T) {
	c, _, alice := checker(t, login.Local)
	ctx := t.Context()
	p, err := c.LocalPassword(ctx, alice)
	if err != nil || len(p) != 26 {
		t.Fatalf("LocalPassword is of length %d, %v; want 26 characters of 5 bits", len(p), err)
	}
	if again, _ := c.LocalPassword(ctx, alice); again != p {
		t.Error("the local password changed by being asked for")
	}
	if _, _, err := c.Check(ctx, remote("127.0.0.1"), "alice@example.org", p); !errors.Is(err, login.ErrNotReady) {
		t.Errorf("without an upstream password Check gives %v, want ErrNotReady", err)
	}
	if err := c.SetUpstreamPassword(ctx, alice, "up"); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"alice@example.org", "ALICE@Example.ORG", "a.liddell@example.org"} {
		got, up, err := c.Check(ctx, remote("127.0.0.1"), user, p)
		if err != nil || got != alice || up != "up" {
			t.Errorf("Check(%s) = %s, %q, %v", user, got, up, err)
		}
	}
	for _, tt := range []struct{ name, user, password string }{
		{"wrong password", "alice@example.org", p + "x"},
		{"empty password", "alice@example.org", ""},
		{"the upstream's password", "alice@example.org", "up"},
		{"unknown user", "bob@example.org", p},
		{"no address at all", "alice", p},
	} {
		if _, up, err := c.Check(ctx, remote("127.0.0.1"), tt.user, tt.password); !errors.Is(err, login.ErrRefused) || up != "" {
			t.Errorf("%s: Check gives %q, %v; want ErrRefused", tt.name, up, err)
		}
	}
	if n, err := c.RenewLocalPassword(ctx, alice); err != nil || n == p {
		t.Errorf("RenewLocalPassword = same %v, %v", n == p, err)
	}
	if _, _, err := c.Check(ctx, remote("127.0.0.1"), "alice@example.org", p); !errors.Is(err, login.ErrRefused) {
		t.Errorf("the old password gives %v, want ErrRefused", err)
	}
}

func TestPassthroughNeedsOurVerifier(t *testing.T) {
	c, _, alice := checker(t, login.Passthrough)
	ctx := t.Context()
	// Nothing is known yet: no password may open the account, whatever the
	// upstream would say to it.
	_, _, err := c.Check(ctx, remote("127.0.0.1"), "alice@example.org", "anything")
	if !errors.Is(err, login.ErrNotReady) || !strings.Contains(err.Error(), "account password") {
		t.Fatalf("Check gives %v, want ErrNotReady with what to do", err)
	}
	if _, err := c.UpstreamPassword(ctx, alice); !errors.Is(err, login.ErrNotReady) {
		t.Errorf("UpstreamPassword gives %v before any login", err)
	}
	if err := c.SetVerifier(ctx, alice, "hunter22"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Check(ctx, remote("127.0.0.1"), "alice@example.org", "hunter2"); !errors.Is(err, login.ErrRefused) {
		t.Errorf("a wrong password gives %v", err)
	}
	for range 2 { // by argon2id, then from memory
		got, up, err := c.Check(ctx, remote("127.0.0.1"), "alice@example.org", "hunter22")
		if err != nil || got != alice || up != "hunter22" {
			t.Errorf("Check = %s, %q, %v", got, up, err)
		}
	}
	if up, err := c.UpstreamPassword(ctx, alice); up != "hunter22" || err != nil {
		t.Errorf("UpstreamPassword = %q, %v after a login", up, err)
	}
	// A changed verifier ends what was remembered.
	if err := c.SetVerifier(ctx, alice, "other"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Check(ctx, remote("127.0.0.1"), "alice@example.org", "hunter22"); !errors.Is(err, login.ErrRefused) {
		t.Errorf("the password from before gives %v, want ErrRefused", err)
	}
}

// TestAnotherVerifierEndsTheOldPassword: what two clients at once give, the old
// password and the new one, leaves only the new one right. The old one must not
// come to stand beside the verifier of the new.
func TestAnotherVerifierEndsTheOldPassword(t *testing.T) {
	c, _, alice := checker(t, login.Passthrough)
	ctx := t.Context()
	try := func(ip, password string) error {
		_, _, err := c.Check(ctx, remote(ip), "alice@example.org", password)
		return err
	}
	passwords := []string{"first", "second"}
	if err := c.SetVerifier(ctx, alice, passwords[0]); err != nil {
		t.Fatal(err)
	}
	for round := range 6 {
		old, now := passwords[round%2], passwords[1-round%2]
		if err := try("192.0.2.1", old); err != nil {
			t.Fatal(err)
		}
		if err := c.SetVerifier(ctx, alice, now); err != nil {
			t.Fatal(err)
		}
		if _, err := c.UpstreamPassword(ctx, alice); !errors.Is(err, login.ErrNotReady) {
			t.Errorf("the password from before is still used upstream: %v", err)
		}
		var clients sync.WaitGroup
		opened := make(chan bool)
		clients.Go(func() {
			defer close(opened)
			if err := try("192.0.2.1", now); err != nil {
				t.Errorf("round %d: the new password gives %v", round, err)
			}
		})
		for done := false; !done; {
			select {
			case <-opened:
				done = true
			default:
			}
			if err := try(fmt.Sprintf("198.51.100.%d", round), old); err == nil {
				t.Fatalf("round %d: the old password opens", round)
			}
		}
		clients.Wait()
	}
}

// slow is a store that takes its time, and knows how many read from it at once.
type slow struct {
	store.Store
	reading, most atomic.Int32
}

func (s *slow) View(ctx context.Context, f func(store.Tx) error) error {
	s.most.Store(max(s.most.Load(), s.reading.Add(1)))
	defer s.reading.Add(-1)
	time.Sleep(5 * time.Millisecond)
	return s.Store.View(ctx, f)
}

// TestGuessesAtOnceCountLikeGuessesInARow: the wait after failures is not
// avoided by guessing on many connections before the first has failed.
func TestGuessesAtOnceCountLikeGuessesInARow(t *testing.T) {
	memory, err := store.OpenMemory(login.Schema)
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	st, ctx, alice := &slow{Store: memory}, t.Context(), addr(t, "alice@example.org")
	c := login.New(login.Config{Store: st, Accounts: []login.Account{{Address: alice, Mode: login.Passthrough}}, Now: func() time.Time { return time.Unix(1_800_000_000, 0) }})
	if err := c.SetVerifier(ctx, alice, "right"); err != nil {
		t.Fatal(err)
	}
	var throttled atomic.Int32
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			if _, _, err := c.Check(ctx, remote("192.0.2.1"), "alice@example.org", "wrong"); errors.Is(err, login.ErrThrottled) {
				throttled.Add(1)
			}
		})
	}
	all.Wait()
	if st.most.Load() != 1 || throttled.Load() < 20 {
		t.Errorf("%d guesses were compared at once and %d of 30 throttled", st.most.Load(), throttled.Load())
	}
}

func TestFailuresAreSlowedDownPerRemoteAndAccount(t *testing.T) {
	c, clk, alice := checker(t, login.Passthrough)
	ctx := t.Context()
	if err := c.SetVerifier(ctx, alice, "right"); err != nil {
		t.Fatal(err)
	}
	try := func(ip, password string) error {
		_, _, err := c.Check(ctx, remote(ip), "alice@example.org", password)
		return err
	}
	for range 4 {
		if err := try("192.0.2.1", "wrong"); !errors.Is(err, login.ErrRefused) {
			t.Fatalf("an early failure gives %v", err)
		}
	}
	if err := try("192.0.2.1", "right"); !errors.Is(err, login.ErrThrottled) {
		t.Errorf("during the wait the right password gives %v, want ErrThrottled", err)
	}
	if err := try("192.0.2.2", "right"); err != nil {
		t.Errorf("from elsewhere the right password gives %v", err)
	}
	clk.t = clk.t.Add(time.Second)
	if err := try("192.0.2.1", "wrong"); !errors.Is(err, login.ErrRefused) {
		t.Errorf("after the wait a failure gives %v", err)
	}
	clk.t = clk.t.Add(1500 * time.Millisecond)
	if err := try("192.0.2.1", "right"); !errors.Is(err, login.ErrThrottled) {
		t.Errorf("the second wait is no longer than the first: %v", err)
	}
	clk.t = clk.t.Add(time.Second)
	if err := try("192.0.2.1", "right"); err != nil {
		t.Errorf("after the second wait the right password gives %v", err)
	}
}

// TestOneHostIsOne: the wait is not avoided by coming from another of the addresses
// that one host has.
func TestOneHostIsOne(t *testing.T) {
	for _, tt := range []struct {
		name, from, then string
		same             bool
	}{
		{"another address of the network", "2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true},
		{"another network", "2001:db8:1:2::1", "2001:db8:1:3::1", false},
		{"IPv4 by IPv6", "192.0.2.1", "::ffff:192.0.2.1", true},
		{"another address of IPv4 by IPv6", "::ffff:192.0.2.1", "::ffff:192.0.2.2", false},
	} {
		c, _, alice := checker(t, login.Passthrough)
		if err := c.SetVerifier(t.Context(), alice, "right"); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			c.Check(t.Context(), remote(tt.from), "alice@example.org", "wrong")
		}
		_, _, err := c.Check(t.Context(), remote(tt.then), "alice@example.org", "right")
		if errors.Is(err, login.ErrThrottled) != tt.same {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestRightLocalPasswordOpensWhileOthersFail(t *testing.T) {
	c, _, alice := checker(t, login.Local)
	ctx := t.Context()
	p, _ := c.LocalPassword(ctx, alice)
	c.SetUpstreamPassword(ctx, alice, "up")
	var last error
	for range 10 {
		_, _, last = c.Check(ctx, remote("127.0.0.1"), "alice@example.org", "wrong")
	}
	if !errors.Is(last, login.ErrThrottled) {
		t.Errorf("the tenth failure gives %v, want ErrThrottled", last)
	}
	if _, _, err := c.Check(ctx, remote("127.0.0.1"), "alice@example.org", p); err != nil {
		t.Errorf("another program locked the owner out: %v", err)
	}
}

func TestPasswordIsReadFromOutsideTheStore(t *testing.T) {
	s, err := store.OpenMemory(login.Schema)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	bob := addr(t, "bob@example.org")
	fail := true
	c := login.New(login.Config{Store: s, Accounts: []login.Account{{Address: bob, Mode: login.Local,
		UpstreamPassword: func(context.Context) (string, error) {
			if fail {
				return "", errors.New("no such file")
			}
			return "from a file", nil
		}}}})
	if _, err := c.UpstreamPassword(t.Context(), bob); !errors.Is(err, login.ErrNotReady) {
		t.Errorf("got %v, want ErrNotReady", err)
	}
	fail = false
	if p, err := c.UpstreamPassword(t.Context(), bob); p != "from a file" || err != nil {
		t.Errorf("got %q, %v", p, err)
	}
}

// looked calls after when somebody has read in a store.
type looked struct {
	store.Store
	after func()
}

func (l *looked) View(ctx context.Context, f func(store.Tx) error) error {
	err := l.Store.View(ctx, f)
	l.after()
	return err
}

// TestAPasswordComparedWhileItIsReplacedIsNotKept: an upstream that is given a wrong
// password again and again locks the account.
func TestAPasswordComparedWhileItIsReplacedIsNotKept(t *testing.T) {
	st, err := store.OpenMemory(login.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	alice := addr(t, "alice@example.org")
	slow := &looked{Store: st, after: func() {}}
	c := login.New(login.Config{Store: slow, Accounts: []login.Account{{Address: alice, Mode: login.Passthrough}}})
	if err := c.SetVerifier(t.Context(), alice, "yesterday's"); err != nil {
		t.Fatal(err)
	}
	slow.after = func() {
		slow.after = func() {}
		if err := c.SetVerifier(t.Context(), alice, "today's"); err != nil {
			t.Error(err)
		}
	}
	c.Check(t.Context(), nil, alice.String(), "yesterday's")
	if p, err := c.UpstreamPassword(t.Context(), alice); !errors.Is(err, login.ErrNotReady) {
		t.Errorf("the upstream is given %q, %v", p, err)
	}
	if _, p, err := c.Check(t.Context(), nil, alice.String(), "today's"); err != nil || p != "today's" {
		t.Errorf("the new one: %q, %v", p, err)
	}
	if p, err := c.UpstreamPassword(t.Context(), alice); err != nil || p != "today's" {
		t.Errorf("then the upstream is given %q, %v", p, err)
	}
}
