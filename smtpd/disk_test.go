//go:build linux

package smtpd_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// TestADiskThatIsFullWhileAMessageComes: a client is told that there is no room, which
// passes, and may go on in the same session.
func TestADiskThatIsFullWhileAMessageComes(t *testing.T) {
	peer.OnIsland(t, func(i *peer.Island) {
		dir := t.TempDir()
		if err := syscall.Mount("disk", dir, "tmpfs", 0, "size=1m,mode=700"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Unmount(dir, 0) })
		u := newUpstream(t)
		b := newBridge(t, u, func(c *smtpd.Config, _ *smtpd.Account, _ *queue.Config) { c.Spool.Dir = dir })
		large := letter("1", "bob@example.net") + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 60_000)
		k := b.login()
		if got := k.submit(wired(large), "bob@example.net"); !strings.HasPrefix(got, "452 4.3.1 ") || !strings.Contains(got, "full") {
			t.Errorf("by DATA: %q", got)
		}
		k.run("C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 250")
		k.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(large), large))
		if got := k.reply(); !strings.HasPrefix(got, "452 4.3.1 ") {
			t.Errorf("by BDAT: %q", got)
		}
		if got := k.submit(wired(letter("2", "bob@example.net")), "bob@example.net"); !strings.HasPrefix(got, "250") {
			t.Errorf("a short one: %q", got)
		}
		if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=40m"); err != nil {
			t.Fatal(err)
		}
		if got := k.submit(wired(large), "bob@example.net"); !strings.HasPrefix(got, "250") {
			t.Errorf("with space: %q", got)
		}
		if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) > 0 {
			t.Errorf("left behind: %q", files)
		}
	})
}

// fullStore has no room for what the queue writes.
type fullStore struct {
	store.Store
	full atomic.Bool
}

func (f *fullStore) Update(ctx context.Context, g func(store.Tx) error) error {
	if f.full.Load() {
		return fmt.Errorf("%w: %w", store.ErrNoSpace, errors.New("write failed"))
	}
	return f.Store.Update(ctx, g)
}

// TestADiskThatIsFullForTheJournal: the same where the message came, and can't be noted.
func TestADiskThatIsFullForTheJournal(t *testing.T) {
	st := &fullStore{Store: memory(t)}
	u := newUpstream(t)
	b := newBridgeOn(t, u, st)
	k := b.login()
	for _, rcpts := range [][]string{{"bob@example.net"}, {"bob@example.net", "carol@example.net"}} {
		st.full.Store(true)
		if got := k.submit(wired(letter("1", "bob@example.net")), rcpts...); !strings.HasPrefix(got, "452 4.3.1 ") {
			t.Errorf("to %d: %q", len(rcpts), got)
		}
		st.full.Store(false)
	}
	if n := len(u.received()); n != 0 {
		t.Errorf("%d messages went all the same", n)
	}
	if got := k.submit(wired(letter("1", "bob@example.net")), "bob@example.net"); !strings.HasPrefix(got, "250") {
		t.Errorf("with space: %q", got)
	}
}
