package main_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/pgp"
)

// certificates makes one for each of n addresses, userN@example.org.
func certificates(t testing.TB, n int) []*pgp.Certificate {
	t.Helper()
	all := make([]*pgp.Certificate, n)
	var wg sync.WaitGroup
	for part := range 4 {
		wg.Go(func() {
			for i := part; i < n; i += 4 {
				a, err := address.Parse(fmt.Sprintf("user%d@example.org", i))
				if err != nil {
					t.Error(err)
					return
				}
				k, err := pgp.GenerateKey(a, pgp.DefaultProfile, time.Now().Add(-time.Hour))
				if err != nil {
					t.Error(err)
					return
				}
				all[i] = k.Certificate()
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return all
}

// However the directory is killed: a link is used if and only if its certificate
// is published.
func TestKilledWhileConfirming(t *testing.T) {
	t.Parallel()
	const people = 12
	sink := peer.StartSink(t)
	w := newWorldOf(t, world{domain: "example.org"})
	all := certificates(t, people)
	b := w.configure("office", fmt.Sprintf(submissionSettings, `"127.0.0.1:0"`, sink.Addr, ""))
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	start := func() string {
		t.Helper()
		b.ready = nil
		b.serve(1)
		return "http://" + b.ready[0].Listen
	}
	base := start()
	for _, c := range all {
		r, err := client.PostForm(base+"/pks/add", url.Values{"keytext": {c.Armored()}})
		if err != nil || r.StatusCode != 200 {
			t.Fatal(r, err)
		}
		r.Body.Close()
	}
	links := map[string]string{} // by address
	for _, m := range sink.Await(t, people) {
		links[m.To[0]] = submissionLink.FindStringSubmatch(string(m.Raw))[1]
	}
	total := 0
	for round := range 6 {
		var wg sync.WaitGroup
		for _, link := range links {
			wg.Go(func() {
				if r, err := client.PostForm(base+link, url.Values{}); err == nil {
					r.Body.Close()
				}
			})
		}
		time.Sleep(time.Duration(round*4) * time.Millisecond) // any instant will do
		b.kill()
		wg.Wait()
		base = start()
		total = 0
		for i := range people {
			a := fmt.Sprintf("user%d@example.org", i)
			r, err := client.Get(base + links[a])
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, r.Body)
			r.Body.Close()
			got := published(t, client, base, fmt.Sprintf("user%d", i))
			if used := r.StatusCode == 404; used != (len(got) == 1) {
				t.Errorf("round %d: %s: used: %v, published: %v", round, a, used, got != nil)
			}
			if len(got) == 1 {
				total++
				if got[0].Fingerprint() != all[i].Fingerprint() {
					t.Errorf("round %d: %s has another's certificate", round, a)
				}
			}
		}
	}
	t.Logf("%d of %d were confirmed before the last kill", total, people)
}

// An import that is killed has published what it says, or nothing, of each part
// that it writes; the next one completes it.
func TestKilledWhileImporting(t *testing.T) {
	t.Parallel()
	const people = 2300 // more than one transaction
	w := newWorldOf(t, world{domain: "example.org"})
	b := w.configure("office", "[keydir]\nlisten = \"127.0.0.1:0\"\ndomains = [\"example.org\"]\n")
	dir := filepath.Join(w.dir, "certs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i, c := range certificates(t, people) {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.gpg", i)), c.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(w.dir, "tree")
	count := func() int {
		t.Helper()
		said := b.command("keydir", "export", out)
		var n int
		if _, err := fmt.Sscanf(said, "Wrote %d certificates", &n); err != nil {
			t.Fatalf("said %q", said)
		}
		return n
	}
	for _, after := range []time.Duration{50 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond} {
		cmd := exec.Command("letterlock", "keydir", "import", dir)
		cmd.Env = b.env
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(after, func() { cmd.Process.Kill() })
		_ = cmd.Wait()
		if n := count(); n != 0 && n != 2000 && n != people {
			t.Errorf("killed after %v: %d are published", after, n)
		}
	}
	if said := b.command("keydir", "import", dir); strings.Count(said, "\n") != people || count() != people {
		t.Errorf("afterwards %d are published", count())
	}
}
