package main_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"golang.org/x/sys/unix"

	"letterlock.org/letterlock/internal/mailtest"
	"letterlock.org/letterlock/internal/mailtest/peer"
)

// straits is a bridge that something is taken from while it is used.
type straits struct {
	*world
	up      *mailtest.Upstream
	a       *bridge
	data    canary
	n       int
	drafts  map[string]bool // uploads by their text, and whether they were acknowledged
	letters map[string]bool // sent by text, likewise
}

func newStraits(t *testing.T, prepare func(*world)) *straits {
	t.Helper()
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{alice: "upstream-alice", bob: "upstream-bob"}, Record: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { up.Close() })
	s := &straits{up: up, data: newCanary("straits"), drafts: map[string]bool{}, letters: map[string]bool{}}
	s.world = newWorldOf(t, world{domain: "example.org", prepare: prepare, more: "aliases = [\"a.liddell@example.org\"]\n[audit]\nenabled = true\n",
		imap: fmt.Sprintf(`listen = "127.0.0.1:0", upstream = "imap+insecure://%s"`, up.IMAPAddr),
		smtp: fmt.Sprintf(`listen = "127.0.0.1:0", upstream = "smtp+insecure://%s"`, up.SMTPAddr)})
	s.strangers(bob)
	s.a = s.bridge(alice, "upstream-alice")
	return s
}

func (s *straits) text(size int) []byte {
	s.n++
	return attackMessage(fmt.Sprintf("straits%d", s.n), s.data, size)
}

// sealed are letters to Alice as they lie upstream, not opened yet.
func (s *straits) sealed(n int) (out [][]byte) {
	s.t.Helper()
	for range n {
		before := len(s.up.Delivered())
		if err := mailtest.Submit(s.a.smtp, alice, []string{alice}, s.text(2000)); err != nil {
			s.t.Fatal(err)
		}
		out = append(out, s.up.Delivered()[before].Raw)
	}
	return out
}

func (s *straits) store(m map[string]bool, raw []byte, ok bool) {
	m[string(raw)] = m[string(raw)] || ok
}

// use does what a person and a mail program do, over a session that was there
// before and over new ones, and returns what failed. A command may take as long as
// patience says.
func (s *straits) use(c *imapclient.Client, patience time.Duration) (failed []string) {
	s.t.Helper()
	note := func(what string, err error) {
		if err != nil {
			failed = append(failed, what+": "+strings.ReplaceAll(err.Error(), "\n", " "))
		}
	}
	note("fetching", s.fetch(c))
	draft := s.text(1_500_000)
	err := upload(c, draft)
	s.store(s.drafts, draft, err == nil)
	note("uploading", err)
	letter := s.text(200_000)
	err = mailtest.Submit(s.a.smtp, alice, []string{bob}, letter)
	s.store(s.letters, letter, err == nil)
	note("sending", err)
	if _, err := mailtest.Fetch(s.a.imap, "INBOX"); err != nil {
		note("a new session", err)
	}
	for _, args := range [][]string{{"status"}, {"reload"}, {"key", "generate", "a.liddell@example.org", "--replace"}, {"audit", "export"}} {
		ctx, cancel := context.WithTimeout(s.t.Context(), patience)
		cmd := exec.CommandContext(ctx, "letterlock", args...)
		cmd.Env = s.a.env
		out, err := cmd.CombinedOutput()
		if err != nil {
			note(args[0], fmt.Errorf("%w %s", err, out))
		}
		cancel()
	}
	return failed
}

// fetch reads the inbox: what comes is whole and open, or does not come.
func (s *straits) fetch(c *imapclient.Client) error {
	box, err := c.Select("INBOX", nil).Wait()
	if err != nil || box.NumMessages == 0 {
		return err
	}
	all := imap.SeqSet{}
	all.AddRange(1, box.NumMessages)
	got, err := c.Fetch(all, &imap.FetchOptions{UID: true, RFC822Size: true, BodySection: []*imap.FetchItemBodySection{{Peek: true}}}).Collect()
	for _, m := range got {
		for _, b := range m.BodySection {
			if !s.data.in(b.Bytes) || bytes.Contains(b.Bytes, []byte("BEGIN PGP MESSAGE")) {
				s.t.Errorf("message %d is shown as it lies upstream", m.UID)
			}
			if int64(len(b.Bytes)) != m.RFC822Size {
				s.t.Errorf("message %d has %d bytes and is said to have %d", m.UID, len(b.Bytes), m.RFC822Size)
			}
		}
	}
	if err == nil && len(got) != int(box.NumMessages) {
		s.t.Errorf("%d of %d messages came, and OK", len(got), box.NumMessages)
	}
	return err
}

func upload(c *imapclient.Client, raw []byte) error {
	cmd := c.Append("Drafts", int64(len(raw)), nil)
	_, err := cmd.Write(raw)
	if err == nil {
		err = cmd.Close()
	}
	if err == nil {
		_, err = cmd.Wait()
	}
	return err
}

// judge counts.
func (s *straits) judge() {
	s.t.Helper()
	count := func(what string, all map[string]bool, got [][]byte) {
		n := map[string]int{}
		for _, raw := range got {
			n[ids.FindString(string(raw))]++
		}
		acked := 0
		for raw, ok := range all {
			k := n[ids.FindString(raw)]
			if ok {
				acked++
			}
			if ok && k == 0 {
				s.t.Errorf("LOST: %s %s", what, ids.FindString(raw))
			}
			if k > 1 {
				s.t.Errorf("TWICE: %s %s", what, ids.FindString(raw))
			}
		}
		s.t.Logf("%s: %d tried, %d acknowledged, %d there", what, len(all), acked, len(got))
	}
	drafts, err := mailtest.Fetch(s.a.imap, "Drafts")
	if err != nil {
		s.t.Fatal(err)
	}
	var raws, sent [][]byte
	for _, m := range drafts {
		raws = append(raws, m.Raw)
	}
	count("uploads", s.drafts, raws)
	for _, d := range s.up.Delivered() {
		if d.To[0] == bob {
			sent = append(sent, d.Raw)
		}
	}
	count("letters", s.letters, sent)
	if s.data.in(s.up.Heard()) {
		s.t.Error("CLEAR: the mail server was told the text")
	}
}

// TestNothingIsTakenForGranted takes disk space, file descriptors and file sizes
// from a bridge in use: what cannot be done is refused, what is refused is not
// half done, and all goes on when there is enough again, without a restart.
func TestNothingIsTakenForGranted(t *testing.T) {
	if testing.Short() {
		t.Skip("fills a disk of 300 MB")
	}
	peer.OnIsland(t, func(*peer.Island) {
		d := &onDisk{world: &world{t: t}}
		s := newStraits(t, func(w *world) {
			d.mount = filepath.Join(w.dir, "disk")
			os.Mkdir(d.mount, 0o700)
			if err := syscall.Mount("disk", d.mount, "tmpfs", 0, "size=300m,mode=700"); err != nil {
				t.Fatal(err)
			}
			w.state, w.temp = filepath.Join(d.mount, "state"), filepath.Join(d.mount, "temp")
		})
		limit := func(resource int, n uint64) {
			pid := s.a.process.Process.Pid
			var old unix.Rlimit
			if err := unix.Prlimit(pid, resource, nil, &old); err != nil {
				t.Fatal(err)
			}
			if err := unix.Prlimit(pid, resource, &unix.Rlimit{Cur: min(n, old.Max), Max: old.Max}, nil); err != nil {
				t.Fatal(err)
			}
		}
		descriptors := func() uint64 {
			l, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.a.process.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			return uint64(len(l))
		}
		letters := s.sealed(8)
		for i, tt := range []struct {
			name       string
			begin, end func()
		}{
			{"no space", func() { d.ballast(0); time.Sleep(1100 * time.Millisecond) }, func() { d.jettison(); time.Sleep(1100 * time.Millisecond) }},
			{"no file descriptors", func() { limit(unix.RLIMIT_NOFILE, descriptors()) }, func() { limit(unix.RLIMIT_NOFILE, 20000) }},
			{"two file descriptors", func() { limit(unix.RLIMIT_NOFILE, descriptors()+2) }, func() { limit(unix.RLIMIT_NOFILE, 20000) }},
			{"no file may grow", func() { limit(unix.RLIMIT_FSIZE, 4096) }, func() { limit(unix.RLIMIT_FSIZE, unix.RLIM_INFINITY) }},
		} {
			c, err := mailtest.Dial(s.a.imap)
			if err != nil {
				t.Fatal(err)
			}
			tt.begin()
			for _, raw := range letters[2*i : 2*i+2] {
				if err := s.up.Deliver(alice, "INBOX", bytes.Replace(raw, []byte("Message-ID: <straits"), []byte("Message-ID: <straits"), 1)); err != nil {
					t.Fatal(err)
				}
			}
			for _, f := range s.use(c, 5*time.Second) {
				t.Logf("%s: %.250s", tt.name, f)
			}
			tt.end()
			c.Close()
			if c, err = mailtest.Dial(s.a.imap); err != nil {
				t.Fatalf("after %s: %v", tt.name, err)
			}
			for _, f := range s.use(c, patience) {
				t.Errorf("after %s still %s", tt.name, f)
			}
			c.Close()
		}
		s.judge()
		s.stop()
		s.search(s.data)
	})
}
