package smtpd_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// TestACrashAtEveryStep kills the bridge with SIGKILL at each step of a delivery
// of one to four groups, starts it again and lets the client repeat its message,
// as clients do when a connection breaks. Nothing is lost, nothing comes twice;
// where the crash fell between the final dot and its journal, that is said.
func TestACrashAtEveryStep(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a process per case")
	}
	all := []string{"bob@example.net", "carol@example.net", "dave@example.net", "erin@example.net"}
	steps := []string{"prepared", "opened", "journalled", "commit 0", "committed 0", "commit 1", "committed 1", "commit 2", "committed 2", "settled", "queue attempt", "queue attempted"}
	ambiguous := []string{"committed 0", "committed 1", "committed 2", "queue attempted"}
	// Where the crash comes before the dot, the journal can't tell it from the
	// moment after: nobody gets a copy, and the client is told.
	before := []string{"journalled", "commit 0", "commit 1", "commit 2", "queue attempt", "settled"}
	for _, groups := range []int{1, 2, 4} {
		for _, step := range steps {
			if groups == 1 && (step == "opened" || strings.HasSuffix(step, "1") || strings.HasSuffix(step, "2")) ||
				groups > 1 && step == "prepared" || groups == 2 && strings.HasSuffix(step, "2") || groups < 4 && strings.HasPrefix(step, "queue") {
				continue // this delivery has no such step
			}
			t.Run(fmt.Sprintf("%s/%d groups", step, groups), func(t *testing.T) {
				u := newUpstream(t)
				dir := t.TempDir()
				msg := wired(letter("1", all[0]))
				child := startChild(t, u, dir, step)
				answers := child.submit(msg, all[:groups])
				child.waitKilled(step)
				// The client did not hear of it, or heard 250: then it is content.
				child = startChild(t, u, dir, "")
				if !strings.HasPrefix(answers, "250") {
					answers = child.submit(msg, all[:groups])
				}
				eventually(t, "the queue is empty", func() bool { return child.settled() })
				child.stop()
				copies, reported := map[string]int{}, false
				for _, m := range u.received() {
					if strings.Contains(m.data, "multipart/report") {
						reported = true
						continue
					}
					for _, r := range m.rcpts {
						copies[r]++
					}
				}
				unknown := unknownIn(t, dir)
				told := strings.Contains(answers, "did not confirm") || reported
				if len(unknown) > 0 && !told && step != "settled" {
					t.Errorf("unknown %v, and nobody was told: %q", unknown, answers)
				}
				if len(unknown) > 0 && !slices.Contains(ambiguous, step) && !slices.Contains(before, step) {
					t.Errorf("unknown without need: %v", unknown)
				}
				for _, r := range all[:groups] {
					if copies[r] > 1 {
						t.Errorf("%s got %d copies", r, copies[r])
					}
					if copies[r] == 0 && !slices.Contains(unknown, r) {
						t.Errorf("%s got nothing; last answer %q", r, answers)
					}
				}
				if u.saw(canary) {
					t.Error("the upstream saw the canary")
				}
				noCanary(t, dir)
			})
		}
	}
}

// noCanary looks through everything that the bridge has left on disk.
func noCanary(t *testing.T, dir string) {
	filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			if b, _ := os.ReadFile(path); strings.Contains(string(b), canary) {
				t.Errorf("%s has the canary", path)
			}
		}
		return nil
	})
}

func unknownIn(t *testing.T, dir string) (who []string) {
	t.Helper()
	st := openStore(t, dir)
	defer st.Close()
	q, err := queue.New(queue.Config{Store: st})
	if err != nil {
		t.Fatal(err)
	}
	es, err := q.List(t.Context(), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		for _, r := range e.Recipients {
			if r.State == queue.Unknown {
				who = append(who, r.Key)
			}
		}
	}
	return who
}

func openStore(t *testing.T, dir string) store.Store {
	t.Helper()
	if url := os.Getenv("LETTERLOCK_CRASH_STORE"); url != "" {
		st, err := store.OpenPostgres(t.Context(), url, [32]byte{1}, queue.Schema)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	st, err := store.Open(filepath.Join(dir, "store"), [32]byte{1}, queue.Schema)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// child is a bridge in a process of its own.
type child struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	addr string
	done bool
}

func startChild(t *testing.T, u *upstream, dir, step string, env ...string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashChild$")
	u.start()
	cmd.Env = append(os.Environ(), "LETTERLOCK_CRASH_DIR="+dir, "LETTERLOCK_CRASH_STEP="+step, "LETTERLOCK_CRASH_UPSTREAM="+u.ln.Addr().String(), "TMPDIR="+dir)
	cmd.Env = append(cmd.Env, env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, cmd: cmd, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		if !c.done {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	c.addr = strings.TrimPrefix(c.line(), "ready ")
	return c
}

func (c *child) line() string {
	s, _ := c.out.ReadString('\n')
	return strings.TrimSpace(s)
}

// submit sends the message and returns the reply, or how the connection broke.
func (c *child) submit(msg string, rcpts []string) string {
	k := (&bridge{t: c.t, addr: c.addr}).login()
	defer k.c.Close() // it may be asked again and again
	return k.submit(msg, rcpts...)
}

func (c *child) settled() bool {
	fmt.Fprintln(c.in, "settled?")
	return c.line() == "true"
}

func (c *child) stop() {
	c.t.Helper()
	c.in.Close()
	c.done = true
	io.Copy(io.Discard, c.out)
	if err := c.cmd.Wait(); err != nil {
		c.t.Errorf("the bridge ended badly: %v", err)
	}
}

// crashLease is after how long without a word a child is taken for dead: long enough
// for one that gets little of the processor.
const crashLease = 3 * time.Second

func (c *child) waitKilled(step string) {
	c.t.Helper()
	end := time.AfterFunc(5*time.Minute, func() { c.cmd.Process.Kill() })
	io.Copy(io.Discard, c.out)
	c.cmd.Wait()
	c.done = true
	if !end.Stop() {
		c.t.Fatalf("the bridge never came to %q", step)
	}
}

// fixed is a listener that only has an address.
type fixed struct {
	net.Listener
	addr string
}

func (f fixed) Addr() net.Addr {
	a, _ := net.ResolveTCPAddr("tcp", f.addr)
	return a
}

// TestCrashChild is the process that TestACrashAtEveryStep kills.
func TestCrashChild(t *testing.T) {
	dir := os.Getenv("LETTERLOCK_CRASH_DIR")
	if dir == "" {
		t.Skip("a helper of TestACrashAtEveryStep")
	}
	step := os.Getenv("LETTERLOCK_CRASH_STEP")
	var once sync.Once
	defer smtpd.SetFailpoint(func(s string) {
		if s != step {
			return
		}
		if os.Getenv("LETTERLOCK_CRASH_SIGNAL") == "stop" {
			once.Do(func() {
				on := make(chan os.Signal, 1)
				signal.Notify(on, syscall.SIGCONT)
				syscall.Kill(os.Getpid(), syscall.SIGSTOP)
				<-on // this thread may go on for a while before it stands still too
			})
			return
		}
		p, _ := os.FindProcess(os.Getpid())
		p.Kill()
		select {}
	})()
	st := openStore(t, dir)
	defer st.Close()
	b := newBridgeOn(t, &upstream{ln: fixed{addr: os.Getenv("LETTERLOCK_CRASH_UPSTREAM")}}, st, func(c *smtpd.Config, a *smtpd.Account, q *queue.Config) {
		q.Lease = crashLease
		if ahead, err := time.ParseDuration(os.Getenv("LETTERLOCK_CRASH_AHEAD")); err == nil {
			q.Now = func() time.Time { return time.Now().Add(ahead) }
		}
		if who := os.Getenv("LETTERLOCK_CRASH_KNOWS"); who != "" {
			a.Find = directory{t: t, has: strings.Split(who, " ")}
			a.Rules = func() *policy.Rules { return rules(t, splitting) }
		}
		if os.Getenv("LETTERLOCK_CRASH_HOLD") != "" {
			a.Rules = func() *policy.Rules { return rules(t, holdAll) }
		}
		c.Account = func(context.Context, string) (*smtpd.Account, error) { return a, nil }
	})
	fmt.Println("ready " + b.addr)
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		b.queue.Wake()
		fmt.Println(settled(t, b))
	}
	b.stop()
}
