package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"letterlock.org/letterlock/internal/mailtest"
	"letterlock.org/letterlock/internal/mailtest/peer"
)

// imapflow runs testdata/imapflow.js: Node's library has QRESYNC on, asks for all of
// a message at once and for pieces of it, and parses strictly.
func imapflow(t *testing.T, p place, what, mailbox, path string) *exec.Cmd {
	t.Helper()
	modules := nodeModules(t, "imapflow")
	script, err := filepath.Abs("testdata/imapflow.js")
	if err != nil {
		t.Fatal(err)
	}
	job, err := json.Marshal(map[string]string{"what": what, "host": p.host, "port": p.port, "user": p.user, "password": p.password, "mailbox": mailbox, "path": path})
	if err != nil {
		t.Fatal(err)
	}
	return exec.Command("node", script, modules, string(job))
}

// nodeModules is the folder that LETTERLOCK_OPENPGPJS names, if it has these.
func nodeModules(t *testing.T, needs ...string) string {
	t.Helper()
	modules := os.Getenv("LETTERLOCK_OPENPGPJS")
	for _, need := range needs {
		if _, err := os.Stat(filepath.Join(modules, need)); modules == "" || err != nil {
			if os.Getenv("LETTERLOCK_REQUIRE_PEERS") == "1" {
				t.Fatalf("LETTERLOCK_OPENPGPJS names no node_modules folder with %s, and LETTERLOCK_REQUIRE_PEERS=1", need)
			}
			t.Skipf("LETTERLOCK_OPENPGPJS names no node_modules folder with %s", need)
		}
	}
	return modules
}

func imapflowFetch(t *testing.T, p place, mailbox string) [][]byte {
	t.Helper()
	dir := t.TempDir()
	cmd := imapflow(t, p, "fetch", mailbox, dir)
	runClient(t, nil, cmd.Args[0], cmd.Args[1:]...)
	return files(t, dir)
}

func imapflowUpload(t *testing.T, p place, mailbox string, raw []byte) {
	t.Helper()
	cmd := imapflow(t, p, "upload", mailbox, script(t, t.TempDir(), "m", string(raw)))
	runClient(t, nil, cmd.Args[0], cmd.Args[1:]...)
}

// imapflowWatches: in IDLE with QRESYNC it sees an encrypted message come, decrypted,
// and go again by the hand of another client that knows no QRESYNC.
func imapflowWatches(t *testing.T, d *peer.DovecotServer, through place, encrypted []byte) {
	peer.Require(t, "node")
	d.Append(t, peer.Alice, "Watched", originals()[1])
	cmd := imapflow(t, through, "watch", "Watched", "")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer late.Stop()
	lines := bufio.NewScanner(out)
	expect := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Errorf("imapflow says %q, want %q", lines.Text(), want)
		}
	}
	expect("watching")
	d.Append(t, peer.Alice, "Watched", encrypted)
	expect("came 2 Grüße number 1 $LetterlockEncrypted true")
	other := dial(t, through)
	if _, err := other.Select("Watched", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Move(imap.UIDSetNum(2), "Trash").Wait(); err != nil {
		t.Fatal(err)
	}
	expect("gone 2")
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &stderr)
	}
}

func dial(t *testing.T, p place) *imapclient.Client {
	t.Helper()
	c, err := mailtest.Dial(mailtest.Login{Addr: net.JoinHostPort(p.host, p.port), User: p.user, Password: p.password})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// interimapSyncs: InterIMAP keeps two accounts alike by QRESYNC alone, one behind the
// bridge. What changes on either side comes to the other, and what comes to the bridge
// lies sealed behind it.
func interimapSyncs(t *testing.T, d *peer.DovecotServer, through place, mail [][]byte) {
	peer.Require(t, "interimap")
	other := at(t, d.Addr, interimapUser, "interimap-pw")
	d.Append(t, peer.Alice, "Synced", mail...)
	dir := t.TempDir()
	section := func(name string, p place) string {
		return fmt.Sprintf("[%s]\ntype = imap\nSTARTTLS = NO\nhost = %s\nport = %s\nusername = %s\npassword = %s\n", name, p.host, p.port, p.user, p.password)
	}
	rc := script(t, dir, "rc", "database = "+dir+"/db\nlist-mailbox = Synced\nlog-prefix =\n"+section("local", other)+section("remote", through))
	sync := func() {
		t.Helper()
		runClient(t, nil, "interimap", "--quiet", "--config", rc)
		want, got := goFetch(t, through, "Synced"), goFetch(t, other, "Synced")
		for _, all := range [][][]byte{want, got} {
			slices.SortFunc(all, bytes.Compare) // each side gives UIDs of its own
		}
		compare(t, "Synced", want, got)
	}
	sync()
	near, far := dial(t, other), dial(t, through)
	for _, c := range []*imapclient.Client{near, far} {
		if _, err := c.Select("Synced", nil).Wait(); err != nil {
			t.Fatal(err)
		}
	}
	// Letters are numbered by their Message-ID: each side gives UIDs of its own.
	flag := func(c *imapclient.Client, letter int, f imap.Flag) {
		t.Helper()
		if err := c.Store(uidOf(t, c, letter), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{f}}, nil).Close(); err != nil {
			t.Fatal(err)
		}
	}
	flag(near, 1, imap.FlagFlagged)
	flag(far, 2, imap.FlagAnswered)
	flag(near, 3, imap.FlagDeleted)
	if err := near.Expunge().Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := far.Move(uidOf(t, far, 4), "Trash").Wait(); err != nil {
		t.Fatal(err)
	}
	goUpload(t, other, "Synced", bytes.ReplaceAll(originals()[0], []byte("c1@"), []byte("interimap-canary@")))
	sync()
	for name, p := range map[string]place{"here": through, "there": other} {
		c := dial(t, p)
		if _, err := c.Select("Synced", &imap.SelectOptions{ReadOnly: true}).Wait(); err != nil {
			t.Fatal(err)
		}
		for letter, f := range map[int]imap.Flag{1: imap.FlagFlagged, 2: imap.FlagAnswered} {
			got, err := c.UIDSearch(&imap.SearchCriteria{Flag: []imap.Flag{f}}, nil).Wait()
			if err != nil || imap.UIDSetNum(got.AllUIDs()...).String() != uidOf(t, c, letter).String() {
				t.Errorf("%s with %s: %v, %v", name, f, got.AllUIDs(), err)
			}
		}
	}
	raw := goFetch(t, at(t, d.Addr, peer.Alice, peer.AlicePassword), "Synced")
	if last := raw[len(raw)-1]; len(raw) != len(mail)-1 || bytes.Contains(last, []byte("Hello Alice")) || !bytes.Contains(last, []byte("-----BEGIN PGP MESSAGE-----")) {
		t.Errorf("%d messages, the last lies upstream as\n%.400s", len(raw), last)
	}
}

// uidOf finds one of originals.
func uidOf(t *testing.T, c *imapclient.Client, letter int) imap.UIDSet {
	t.Helper()
	got, err := c.UIDSearch(&imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Message-ID", Value: fmt.Sprintf("<c%d@", letter)}}}, nil).Wait()
	if err != nil || len(got.AllUIDs()) != 1 {
		t.Fatalf("letter %d: UIDs %v, %v", letter, got.AllUIDs(), err)
	}
	return imap.UIDSetNum(got.AllUIDs()...)
}

const interimapUser = "interimap@example.test"
