package main_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

// add submits armored certificates to a directory and tells whether it took
// them; an answer may take as long as the client likes.
func add(c *http.Client, base, armored string) bool {
	r, err := c.PostForm(base+"/pks/add", url.Values{"keytext": {armored}})
	if err != nil {
		return false
	}
	r.Body.Close()
	return r.StatusCode == http.StatusOK
}

// TestADirectoryNodeThatIsCutOff: one of two nodes loses the database, first
// silently. Until it has it back it serves what it knew, takes nothing, and
// confirms nothing; what was revoked at the other node meanwhile is revoked there
// as soon as it can know.
func TestADirectoryNodeThatIsCutOff(t *testing.T) {
	t.Parallel()
	db := peer.Postgres(t)
	sink := peer.StartSink(t)
	direct, line := db.Fresh(), db.Gateway() // ends after who uses it
	w := newWorldOf(t, world{domain: "example.org"})
	far := strings.Replace(direct, fmt.Sprintf("127.0.0.1:%d", db.Port), line.Addr, 1)
	node := func(name, store string) (*bridge, string) {
		b := w.configure(name, fmt.Sprintf(submissionSettings, `"127.0.0.1:0"`, sink.Addr, fmt.Sprintf("[store]\nurl = %q", store)))
		b.serve(1)
		return b, "http://" + b.ready[0].Listen
	}
	_, one := node("one", direct)
	_, two := node("two", far)
	maker := w.configure("maker", "")
	for _, a := range []string{"joe@example.org", "eve@example.org", "late@example.org"} {
		maker.command("key", "generate", a)
	}
	usable := func(base, local string) bool {
		certs := published(t, http.DefaultClient, base, local)
		return len(certs) == 1 && !certs[0].Revoked(time.Now())
	}
	eventually := func(what string, f func() bool) {
		t.Helper()
		for try := 0; !f(); try++ {
			if try == 1200 {
				t.Fatal(what)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	if !add(http.DefaultClient, one, maker.command("key", "export", "joe@example.org")) {
		t.Fatal("not taken")
	}
	confirm(t, http.DefaultClient, one, string(sink.Await(t, 1)[0].Raw))
	eventually("the second node never serves what is confirmed", func() bool { return usable(two, "joe") })
	if !add(http.DefaultClient, two, maker.command("key", "export", "eve@example.org")) {
		t.Fatal("not taken")
	}
	link := submissionLink.FindStringSubmatch(string(sink.Await(t, 2)[1].Raw))
	if link == nil {
		t.Fatal("no link")
	}

	line.Up.Store(true)
	line.Down.Store(true)
	maker.command("key", "revoke", "joe@example.org", "--reason", "compromised", "--yes")
	if !add(http.DefaultClient, one, maker.command("key", "export", "joe@example.org")) {
		t.Fatal("a revocation is not taken")
	}
	eventually("the first node serves a revoked certificate", func() bool { return !usable(one, "joe") })
	hasty := &http.Client{Timeout: 3 * time.Second}
	if r, err := hasty.PostForm(two+link[1], url.Values{}); err == nil {
		r.Body.Close()
		if r.StatusCode == http.StatusOK {
			t.Error("a node without a database says that it confirmed")
		}
	}
	if add(hasty, two, maker.command("key", "export", "late@example.org")) {
		t.Error("a node without a database says that it took a certificate")
	}
	if !usable(two, "joe") {
		t.Error("a node without a database doesn't serve what it knew")
	}
	for _, base := range []string{one, two} {
		if published(t, http.DefaultClient, base, "late") != nil {
			t.Errorf("%s serves what nobody confirmed", base)
		}
	}

	line.Cut()
	line.Mend()
	eventually("the node that was cut off goes on serving what is revoked", func() bool { return !usable(two, "joe") })
	if r, err := http.PostForm(two+link[1], url.Values{}); err != nil {
		t.Error(err)
	} else { // 404: what was asked for in the silence was done after it
		r.Body.Close()
		if r.StatusCode != http.StatusOK && r.StatusCode != http.StatusNotFound {
			t.Errorf("the link answers %s", r.Status)
		}
	}
	for _, base := range []string{one, two} {
		eventually("what is confirmed is not served", func() bool { return usable(base, "eve") })
	}
	if published(t, http.DefaultClient, one, "late") != nil {
		t.Error("what nobody confirmed is served")
	}
}
