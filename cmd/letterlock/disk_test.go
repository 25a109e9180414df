package main_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"letterlock.org/letterlock/internal/mailtest"
	"letterlock.org/letterlock/internal/mailtest/peer"
)

// onDisk is a bridge, a relay and a key directory whose state and temporary files
// lie on a disk of their own.
type onDisk struct {
	*world
	up    *mailtest.Upstream
	sink  *peer.Sink
	relay *bridge
	alice *bridge
	mount string
	data  canary
	cert  string // a file

	mu    sync.Mutex // guards what follows
	acked map[string][]string
	told  int // that nobody knows
	later int // 4xx
	n     int
}

// crowd are more recipients with blind copies than are sent at once, so that the
// rest goes by the queue.
var crowd = []string{bob, dan, "eve@example.org", "fay@example.org", "gus@example.org"}

func newOnDisk(t *testing.T, mount func(dir string)) *onDisk {
	t.Helper()
	users := map[string]string{alice: "upstream-alice"}
	for _, a := range crowd {
		users[a] = "upstream"
	}
	up, err := mailtest.Start(mailtest.Options{Users: users, Record: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { up.Close() })
	d := &onDisk{up: up, sink: peer.StartSink(t), data: newCanary("disk"), acked: map[string][]string{}}
	d.world = newWorldOf(t, world{domain: "example.org", directory: "127.0.0.1:8181",
		imap: fmt.Sprintf(`listen = "127.0.0.1:0", upstream = "imap+insecure://%s"`, up.IMAPAddr),
		smtp: fmt.Sprintf(`listen = "127.0.0.1:0", upstream = "smtp+insecure://%s"`, up.SMTPAddr),
		prepare: func(w *world) {
			d.mount = filepath.Join(w.dir, "disk")
			if err := os.Mkdir(d.mount, 0o700); err != nil {
				t.Fatal(err)
			}
			mount(d.mount)
			w.state, w.temp = filepath.Join(d.mount, "state"), filepath.Join(d.mount, "temp")
		}})
	d.strangers(crowd...)
	d.alice = d.bridge(alice, "upstream-alice")
	d.relay = d.configure("relay", relayConfig(d.world, "127.0.0.1:0", d.sink.Addr, ""))
	d.relay.serve(1)
	d.cert = d.file("alice", d.alice.command("key", "export", alice))
	return d
}

// submit hands a message in once, to the bridge or to the relay.
func (d *onDisk) submit(id string, to []string) error {
	raw := attackMessage(id, d.data, 3000)
	d.mu.Lock()
	login, relay := d.alice.smtp, d.relay.ready[0].Listen
	d.mu.Unlock()
	if strings.HasPrefix(id, "bridge") {
		return mailtest.Submit(login, alice, to, raw)
	}
	c, err := smtp.Dial(relay)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.SendMail(alice, to, strings.NewReader(string(raw)))
}

// hand submits a message and notes the answer; it tells whether that was the last
// word.
func (d *onDisk) hand(id string, to []string) (done bool) {
	err := d.submit(id, to)
	var r *smtp.SMTPError
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil:
		d.acked[id] = to
		return true
	case errors.As(err, &r) && strings.Contains(r.Message, "did not confirm"):
		d.told++
		return true
	case errors.As(err, &r) && r.Code/100 == 5:
		d.t.Errorf("%s was refused for good: %v", id, err)
		return true
	case errors.As(err, &r):
		d.later++
	}
	return false
}

// id names a message to one of them.
func (d *onDisk) id(to string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.n++
	return fmt.Sprintf("%s%d", to, d.n)
}

// traffic sends until stop is closed and all have had the last word.
func (d *onDisk) traffic(stop chan struct{}) *sync.WaitGroup {
	var all sync.WaitGroup
	for c := range 4 {
		all.Go(func() {
			for {
				id, to := d.id([]string{"bridge", "relay"}[c%2]), crowd[:1+4*rand.IntN(2)]
				for end := time.Now().Add(patience); !d.hand(id, to); time.Sleep(50 * time.Millisecond) {
					if time.Now().After(end) {
						d.t.Errorf("%s had no last word in %v", id, patience)
						break
					}
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	return &all
}

// judge waits until all that was accepted has arrived, and counts.
func (d *onDisk) judge() {
	d.t.Helper()
	var n map[string]int
	missing, reported := "", map[string]bool{}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		n, missing = map[string]int{}, ""
		for who, k := range copies(append(d.up.Delivered(), d.sink.Received()...)) {
			if id, ok := strings.CutSuffix(who, " "+alice); ok { // a report on one or several
				reported[id] = true
				continue
			}
			n[who] = k
		}
		for id, to := range d.acked {
			for _, r := range to {
				if n[id+" "+r] == 0 && !reported[id] {
					missing = id + " for " + r
				}
			}
		}
		if missing == "" {
			break
		}
		for _, b := range []*bridge{d.relay, d.alice} { // what failed waits for a minute, or for a person
			for line := range strings.Lines(b.command("queue", "list")) {
				if f := strings.Fields(line); f[1] == "waiting" {
					b.attempt("queue", "retry", f[0])
				}
			}
		}
	}
	if missing != "" {
		d.t.Errorf("LOST: %s was accepted\nrelay: %s\nbridge: %s", missing, d.relay.command("queue", "list"), d.alice.command("queue", "list"))
	}
	for who, n := range n {
		if n > 1 {
			d.t.Errorf("TWICE: %s came %d times", who, n)
		}
	}
	for _, m := range append(d.up.Delivered(), d.sink.Received()...) {
		if d.data.in(m.Raw) {
			d.t.Error("CLEAR: text went out in clear")
		}
	}
	d.t.Logf("%d messages, %d accepted, %d times told to come later, %d told as unconfirmed, %d reported on, %d copies", d.n, len(d.acked), d.later, d.told, len(reported), len(n))
	if len(d.acked) == 0 || d.later == 0 {
		d.t.Error("nothing was tried")
	}
}

// attempt runs a command that may fail.
func (b *bridge) attempt(args ...string) {
	cmd := exec.Command("letterlock", args...)
	cmd.Env = b.env
	cmd.Run()
}

// reads makes sure that mail can be read and certificates be found.
func (d *onDisk) reads(when string) {
	d.t.Helper()
	got, err := mailtest.Fetch(d.alice.imap, "INBOX")
	if err != nil || len(got) == 0 || !d.data.in(got[0].Raw) {
		d.t.Errorf("%s: mail can't be read: %d messages, %v", when, len(got), err)
	}
	if code, text := fetch(d.t.(*testing.T), "http://"+d.keydir.ready[0].Listen+"/.well-known/openpgpkey/example.org/policy"); code != 200 {
		d.t.Errorf("%s: the directory answers %d %s", when, code, text)
	}
}

// ballast is a file that fills a disk but for some bytes.
func (d *onDisk) ballast(leave int64) {
	d.t.Helper()
	f, err := os.OpenFile(filepath.Join(d.mount, "ballast"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Error(err)
		return
	}
	defer f.Close()
	for zeros := make([]byte, 1<<20); ; {
		var st syscall.Statfs_t
		if err := syscall.Statfs(d.mount, &st); err != nil {
			d.t.Error(err)
			return
		}
		more := int64(st.Bavail)*int64(st.Bsize) - leave
		if more <= 0 {
			return
		}
		if _, err := f.Write(zeros[:min(more, int64(len(zeros)))]); err != nil {
			return
		}
	}
}

func (d *onDisk) jettison() { os.Remove(filepath.Join(d.mount, "ballast")) }

// TestADiskThatIsFull fills the disk that everything is on, to below what the
// queue keeps free and to the last byte, slowly and again and again in the middle
// of traffic. Then mail waits with its senders, what is there is read, nothing
// that was accepted is lost or doubled, and all goes on by itself when there is
// space.
func TestADiskThatIsFull(t *testing.T) {
	if testing.Short() {
		t.Skip("fills a disk of 400 MB")
	}
	peer.OnIsland(t, func(*peer.Island) {
		d := newOnDisk(t, func(dir string) {
			if err := syscall.Mount("disk", dir, "tmpfs", 0, "size=400m,mode=700"); err != nil {
				t.Fatal(err)
			}
		})
		first := attackMessage("seen1", d.data, 100)
		if err := mailtest.Submit(d.alice.smtp, alice, []string{alice}, first); err != nil {
			t.Fatal(err)
		}
		d.reads("with space")
		for _, leave := range []int64{100 << 20, 0, 64 << 10} {
			when := fmt.Sprintf("with %d bytes left", leave)
			d.ballast(leave)
			time.Sleep(1100 * time.Millisecond) // how full the disk is is looked at every second
			ids := []string{d.id("bridge"), d.id("relay"), d.id("bridge"), d.id("relay")}
			for i, id := range ids {
				if d.hand(id, crowd[:1+4*(i/2)]) {
					t.Errorf("%s: %s had its last word", when, id)
				}
			}
			d.reads(when)
			if leave == 0 {
				if out := d.keydir.fails(1, "keydir", "add", alice, d.cert); !strings.Contains(out, "the disk is full") {
					t.Errorf("%s: keydir add says %s", when, out)
				}
			}
			if leave == 64<<10 {
				other := d.file("other.toml", fmt.Sprintf("state_dir = %q\nunlock = \"key-file:%s/alice.key\"\n", filepath.Join(d.mount, "other"), d.dir))
				if out := d.alice.fails(1, "key", "list", "--config", other); !strings.Contains(out, "the disk is full") {
					t.Errorf("%s: a new state directory is answered by %s", when, out)
				}
			}
			if out := d.alice.command("status"); !strings.Contains(out, "MB are left on the disk of state_dir") {
				t.Errorf("%s: status says %s", when, out)
			}
			d.jettison()
			for i, id := range ids {
				for end := time.Now().Add(patience); !d.hand(id, crowd[:1+4*(i/2)]); time.Sleep(200 * time.Millisecond) {
					if time.Now().After(end) {
						t.Errorf("after %s: %s is still told to wait", when, id)
						break
					}
				}
			}
		}
		d.keydir.command("keydir", "add", alice, d.cert)
		stop := make(chan struct{})
		all := d.traffic(stop)
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
			time.Sleep(rand.N(700 * time.Millisecond))
			d.ballast(0)
			time.Sleep(rand.N(700 * time.Millisecond))
			d.jettison()
		}
		close(stop)
		all.Wait()
		d.reads("in the end")
		d.judge()
		d.startsOnlyWhereItCanWrite()
		d.stop()
	})
}

// startsOnlyWhereItCanWrite starts the relay on a full disk and on one that is
// mounted read-only: it says so and ends, or it runs and has mail wait; and when
// all is well it starts.
func (d *onDisk) startsOnlyWhereItCanWrite() {
	d.t.Helper()
	try := func(what, why string) {
		d.t.Helper()
		ctx, cancel := context.WithTimeout(d.t.Context(), 5*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, "letterlock", "serve")
		cmd.Env = d.relay.env
		out, err := cmd.CombinedOutput()
		if ctx.Err() == nil && (err == nil || !strings.Contains(string(out), why)) {
			d.t.Errorf("on %s, serve ends with %v and says %s", what, err, out)
		}
		d.t.Logf("on %s: %v, still running %v", what, err, ctx.Err() != nil)
	}
	d.relay.kill()
	d.ballast(0)
	try("a full disk", "full")
	d.jettison()
	all := []*bridge{d.alice, d.keydir}
	for _, b := range all {
		b.kill()
	}
	if err := syscall.Mount("", d.mount, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		d.t.Fatal(err)
	}
	try("a disk that is read-only", "read-only")
	if err := syscall.Mount("", d.mount, "", syscall.MS_REMOUNT, ""); err != nil {
		d.t.Fatal(err)
	}
	d.wake()
	id := d.id("relay")
	if err := d.submit(id, crowd[:1]); err != nil {
		d.t.Errorf("afterwards: %v", err)
	}
}

// TestADiskThatFails has the device under the file system fail its writes and
// syncs in the middle of traffic, until the file system turns itself read-only;
// then everything is killed, the device mended and the file system mounted again.
// What was accepted arrives, once.
func TestADiskThatFails(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a disk of 400 MB")
	}
	peer.OnIsland(t, func(i *peer.Island) {
		peer.Require(t, "mkfs.ext4", "mount", "umount", "losetup")
		shell := func(script string) error {
			out, err := exec.Command("sh", "-ec", script).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%s: %w: %s", script, err, out)
			}
			return nil
		}
		// The device is a file with holes on a disk that is filled for it to fail.
		below := filepath.Join(i.Dir, "below")
		image := filepath.Join(below, "image")
		under := &onDisk{world: &world{t: t}, mount: below}
		mount := func(dir string) error {
			return shell(fmt.Sprintf("mount -o loop,errors=remount-ro %s %s", image, dir))
		}
		var dir string
		t.Cleanup(func() { shell("umount -l " + dir) })
		d := newOnDisk(t, func(at string) {
			dir = at
			os.Mkdir(below, 0o700)
			if err := syscall.Mount("below", below, "tmpfs", 0, "size=450m"); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(shell("truncate -s 400M "+image+"; mkfs.ext4 -q "+image), mount(at)); err != nil {
				t.Skipf("no file system on a device of our own: %v", err)
			}
		})
		for round := range 3 {
			stop := make(chan struct{})
			all := d.traffic(stop)
			time.Sleep(500*time.Millisecond + rand.N(time.Second))
			under.ballast(0)
			time.Sleep(2*time.Second + rand.N(3*time.Second))
			t.Logf("round %d: writing to the disk: %v", round, os.WriteFile(filepath.Join(dir, "probe"), []byte("x"), 0o600))
			for _, b := range []*bridge{d.alice, d.relay, d.keydir} {
				b.kill()
			}
			under.jettison()
			if err := errors.Join(shell("umount "+dir), mount(dir)); err != nil {
				t.Fatal(err)
			}
			d.wake()
			close(stop)
			all.Wait()
		}
		d.judge()
		d.stop()
	})
}

// wake starts everything again, where it was.
func (d *onDisk) wake() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range []*bridge{d.keydir, d.alice, d.relay} {
		b.again()
	}
}
