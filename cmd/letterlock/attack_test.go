package main_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-smtp"

	"letterlock.org/letterlock/internal/mailtest"
)

// soak is how long the tests that kill go on; go test -run Killed -soak 10m.
var soak = flag.Duration("soak", 8*time.Second, "how long serve is killed again and again")

const dan = "dan@example.org"

// strangers have certificates and no bridge here.
func (w *world) strangers(addresses ...string) {
	w.t.Helper()
	p := w.configure("strangers", "")
	for _, a := range addresses {
		p.command("key", "generate", a)
		w.keydir.command("keydir", "add", a, w.file("cert", p.command("key", "export", a)))
	}
}

// kill ends a serve as a crash does.
func (b *bridge) kill() {
	b.w.t.Helper()
	b.process.Process.Kill()
	b.process.Wait()
	b.w.running = slices.DeleteFunc(b.w.running, func(o *bridge) bool { return o == b })
}

// again starts a serve that was killed; its ports are others.
func (b *bridge) again() {
	b.w.t.Helper()
	n := len(b.ready)
	b.ready = nil
	b.serve(n)
	for _, r := range b.ready {
		switch r.Protocol {
		case "imap":
			b.imap.Addr = r.Listen
		case "smtp":
			b.smtp.Addr = r.Listen
		}
	}
}

func attackMessage(id string, secret canary, size int) []byte {
	return fmt.Appendf(nil, "From: %s\r\nTo: %s\r\nSubject: %s\r\nMessage-ID: <%s@example.org>\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\n%s\r\n",
		alice, bob, secret.text, id, strings.Repeat(secret.text+"\r\n", 1+size/len(secret.text)))
}

var ids = regexp.MustCompile(`(?m)^Message-ID: <([a-z]+\d+)@`)

// copies counts by Message-ID and recipient what an upstream took.
func copies(all []mailtest.Delivery) map[string]int {
	n := map[string]int{}
	for _, d := range all {
		if m := ids.FindSubmatch(d.Raw); m != nil {
			for _, to := range d.To {
				n[string(m[1])+" "+to]++
			}
		}
	}
	return n
}

// TestWickedUpstream says everything at every step of a submission that a mail
// server shouldn't: nothing goes in clear, nothing twice, nothing that was
// accepted is lost, and serve lives on.
func TestWickedUpstream(t *testing.T) {
	up, err := mailtest.StartWicked()
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	w := newWorldOf(t, world{domain: "example.org",
		imap: fmt.Sprintf(`listen = "127.0.0.1:0", upstream = "imap+insecure://%s"`, up.Addr), // never used
		smtp: fmt.Sprintf(`listen = "127.0.0.1:0", upstream = "smtp+insecure://%s"`, up.Addr)})
	w.strangers(bob, dan)
	a := w.bridge(alice, "upstream-alice")
	secret := newCanary("wicked")
	replies := map[string]string{
		"421": "421 4.3.0 no\r\n", "451": "451 4.3.0 no\r\n", "550": "550 5.0.0 no\r\n", "250": "250 ok\r\n", "354": "354 go\r\n", "no code": "999 x\r\n",
		"no text": "\xff\xfe\r\n", "a reply without end": strings.Repeat("250-a\r\n", 500), "four replies": strings.Repeat("250 ok\r\n", 4),
		"a long line": strings.Repeat("x", 200_000) + "\r\n", "replies ahead": "250 2.0.0 ok\r\n354 x\r\n250 ok\r\n", "nothing": "",
	}
	n := 0
	for _, step := range mailtest.Steps {
		for name, reply := range replies {
			n++
			id := fmt.Sprintf("wicked%d", n)
			rcpts := []string{bob, dan}[:1+n%2]
			up.Fault(func(at string) (string, bool) {
				if at != step {
					return "", false
				}
				return reply, true
			})
			up.HangUp()
			err := mailtest.Submit(a.smtp, alice, rcpts, attackMessage(id, secret, 100))
			up.Fault(nil)
			up.HangUp()
			got := copies(up.Delivered())
			for _, to := range rcpts {
				if got[id+" "+to] > 1 {
					t.Errorf("%s at %s: %s has it %d times", name, step, to, got[id+" "+to])
				}
			}
			if err == nil {
				w.delivered(a, up, id, rcpts, fmt.Sprintf("%s at %s", name, step))
			}
			var r *smtp.SMTPError
			if err != nil && !errors.As(err, &r) {
				t.Fatalf("%s at %s: no answer, but %v", name, step, err)
			}
		}
	}
	if secret.in(up.Heard()) {
		t.Error("text went out in clear")
	}
	if err := mailtest.Submit(a.smtp, alice, []string{bob}, attackMessage("wicked0", secret, 100)); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

// delivered makes sure that what was accepted has arrived or is in the queue.
func (w *world) delivered(b *bridge, up *mailtest.Wicked, id string, rcpts []string, where string) {
	w.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		got, missing := copies(up.Delivered()), ""
		for _, to := range rcpts {
			if got[id+" "+to] == 0 {
				missing = to
			}
		}
		if missing == "" || strings.Contains(b.command("queue", "list"), missing) {
			return
		}
		if time.Now().After(end) {
			w.t.Errorf("%s: accepted, but %s has nothing and the queue neither", where, missing)
			return
		}
	}
}

// TestKilledWhileSending kills serve at any moment under several senders: what
// was accepted arrives once, what was not confirmed at most once, nothing in clear.
func TestKilledWhileSending(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes a while")
	}
	up, err := mailtest.StartWicked()
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	w := newWorldOf(t, world{domain: "example.org",
		imap: fmt.Sprintf(`listen = "127.0.0.1:0", upstream = "imap+insecure://%s"`, up.Addr),
		smtp: fmt.Sprintf(`listen = "127.0.0.1:0", upstream = "smtp+insecure://%s"`, up.Addr)})
	w.strangers(bob, dan)
	a := w.bridge(alice, "upstream-alice")
	secret := newCanary("killed")
	var mu sync.Mutex // guards what follows, and a.smtp
	accepted, ambiguous, kills, n := map[string][]string{}, 0, 0, 0
	send := func(id string, rcpts []string) {
		for range 40 { // a mail program tries again
			mu.Lock()
			at := a.smtp
			mu.Unlock()
			err := mailtest.Submit(at, alice, rcpts, attackMessage(id, secret, 20_000))
			var r *smtp.SMTPError
			switch {
			case err == nil:
				mu.Lock()
				accepted[id] = rcpts
				mu.Unlock()
				return
			case errors.As(err, &r) && strings.Contains(r.Message, "did not confirm"):
				mu.Lock()
				ambiguous++
				mu.Unlock()
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	for end := time.Now().Add(*soak); time.Now().Before(end); {
		var senders sync.WaitGroup
		for range 6 {
			n++
			id, rcpts := fmt.Sprintf("killed%d", n), []string{bob, dan}[:1+n%2]
			senders.Go(func() { send(id, rcpts) })
		}
		time.Sleep(rand.N(350 * time.Millisecond))
		mu.Lock()
		a.kill()
		a.again()
		kills++
		mu.Unlock()
		senders.Wait()
	}
	for id, rcpts := range accepted {
		w.delivered(a, up, id, rcpts, id)
	}
	for who, n := range copies(up.Delivered()) {
		if n > 1 {
			t.Errorf("%s came %d times", who, n)
		}
	}
	if secret.in(up.Heard()) {
		t.Error("text went out in clear")
	}
	w.stop()
	w.search(secret)
	t.Logf("%d kills, %d messages, %d accepted, %d told as unconfirmed", kills, n, len(accepted), ambiguous)
	if len(accepted) == 0 || kills == 0 {
		t.Error("nothing was tried")
	}
}

// search looks for a secret in everything that was left on disk.
func (w *world) search(secret canary) {
	w.t.Helper()
	if files := filesWith(w.t, secret, w.dir); len(files) > 0 {
		w.t.Errorf("%s lies in %v", secret.name, files)
	}
}

// TestKilledWhileAppending: an upload that was answered OK is there, once, as it
// was given, and sealed upstream.
func TestKilledWhileAppending(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes a while")
	}
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{alice: "upstream-alice"}, Record: true})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	w := newWorld(t, up)
	a := w.bridge(alice, "upstream-alice")
	secret := newCanary("append")
	acked, tried, kills := map[string]bool{}, 0, 0
	for end := time.Now().Add(*soak); time.Now().Before(end); kills++ {
		kill := func() *time.Timer {
			return time.AfterFunc(50*time.Millisecond+rand.N(500*time.Millisecond), func() { a.process.Process.Kill() })
		}
		var timer *time.Timer
		for round := 0; ; round++ {
			if round == kills%2 { // every other time one upload is sure to be answered, however long it takes
				timer = kill()
			}
			tried++
			raw := attackMessage(fmt.Sprintf("append%d", tried), secret, []int{1, 1_000, 300_000}[tried%3])
			if appendDraft(a.imap, raw) != nil {
				break
			}
			acked[string(raw)] = true
		}
		if timer != nil {
			timer.Stop()
		}
		a.kill()
		a.again()
	}
	got, err := mailtest.Fetch(a.imap, "Drafts")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, m := range got {
		seen[string(m.Raw)]++
	}
	for raw := range acked {
		if seen[raw] != 1 {
			t.Errorf("an acknowledged upload is there %d times: %s", seen[raw], ids.FindString(raw))
		}
	}
	for raw, n := range seen {
		if n > 1 {
			t.Errorf("%s is there %d times", ids.FindString(raw), n)
		}
	}
	if secret.in(up.Heard()) {
		t.Error("the upstream was told the text")
	}
	w.stop()
	w.search(secret)
	t.Logf("%d kills, %d uploads, %d acknowledged, %d there", kills, tried, len(acked), len(got))
	if len(acked) == 0 {
		t.Error("nothing was acknowledged")
	}
}

func appendDraft(l mailtest.Login, raw []byte) error {
	c, err := mailtest.Dial(l)
	if err != nil {
		return err
	}
	defer c.Close()
	cmd := c.Append("Drafts", int64(len(raw)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagDraft}})
	if _, err := bytes.NewReader(raw).WriteTo(cmd); err != nil {
		return err
	}
	if err := cmd.Close(); err != nil {
		return err
	}
	_, err = cmd.Wait()
	return err
}
