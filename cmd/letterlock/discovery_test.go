package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"letterlock.org/letterlock/internal/mailtest"
	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/pgp"
)

// Thunderbird's OpenPGP Key Assistant finds our certificates online, by WKD and by
// key server, and encrypts to them; and Thunderbird publishes its user's. LETTERLOCK_THUNDERBIRD_OUT keeps what it showed.
func TestThunderbirdFinds(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	harness := os.Getenv("LETTERLOCK_THUNDERBIRD")
	if harness == "" {
		t.Skip("LETTERLOCK_THUNDERBIRD does not name the harness that drives Thunderbird")
	}
	peer.Require(t, "unbound", "thunderbird", "Xvfb", "openbox", "xdotool", "python3")
	script, err := filepath.Abs("testdata/discovery.py")
	if err != nil {
		t.Fatal(err)
	}
	peer.OnIsland(t, func(i *peer.Island) {
		p := newPortal(t, i)
		kim, lee := p.publish("kim@example.com"), p.publish("lee@example.com") // which only the key server tells
		up, err := mailtest.Start(mailtest.Options{Users: map[string]string{alice: "wonderland", "joe@example.org": "x", "ann@example.net": "x"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { up.Close() })
		port := func(addr string) string { _, port, _ := net.SplitHostPort(addr); return port }
		job, err := json.Marshal(map[string]string{"imap": port(up.IMAPAddr), "smtp": port(up.SMTPAddr), "user": alice, "password": "wonderland", "ca": i.CA(), "server": "keys.example.org"})
		if err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(i.Dir, "thunderbird")
		if keep := os.Getenv("LETTERLOCK_THUNDERBIRD_OUT"); keep != "" {
			out = filepath.Join(keep, "discovery")
		}
		if err := os.MkdirAll(out, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("python3", script, harness, string(job), out)
		cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		said, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, &stderr)
		}
		var told struct {
			Own                     string
			Published               bool
			Before, After, Accepted map[string]string
			Offers                  map[string][]struct {
				Fingerprint, Text string
				From              []string
			}
		}
		if err := json.Unmarshal(said, &told); err != nil {
			t.Fatalf("%v in %s", err, said)
		}
		state := func(what string, got map[string]string, joe, ann string) {
			t.Helper()
			if want := fmt.Sprint(map[string]string{"joe@example.org": joe, "ann@example.net": ann, "nobody@example.org": "issue false"}); fmt.Sprint(got) != want {
				t.Errorf("%s: %v, want %s", what, got, want)
			}
		}
		state("before", told.Before, "issue false", "issue false")
		state("after", told.After, "issue true", "issue true")
		state("accepted", told.Accepted, "ready false", "ready false")
		for address, want := range map[string]struct {
			c    *pgp.Certificate
			from string
		}{
			"joe@example.org": {p.joe, "https://openpgpkey.example.org/.well-known/openpgpkey/example.org/hu/"},
			"ann@example.net": {p.ann, "https://example.net/.well-known/openpgpkey/hu/"},
			"kim@example.com": {kim, "https://keys.example.org/"},
			"lee@example.com": {lee, "https://keys.example.org/"},
		} {
			got := told.Offers[address]
			if len(got) != 1 || got[0].Fingerprint != string(want.c.Fingerprint()) || len(got[0].From) != 1 || !strings.HasPrefix(got[0].From[0], want.from) {
				t.Errorf("%s: %+v, want %s from %s", address, got, want.c.Fingerprint(), want.from)
			}
		}
		if !told.Published {
			t.Fatal("Thunderbird says that it couldn't publish")
		}
		asked := p.sink.Await(t, 1)[0]
		confirm(t, http.DefaultClient, "https://keys.example.org", string(asked.Raw))
		if got := published(t, http.DefaultClient, "https://openpgpkey.example.org", "alice"); len(got) != 1 || string(got[0].Fingerprint()) != told.Own || asked.To[0] != alice {
			t.Errorf("%d certificates are published, want %s; asked %v", len(got), told.Own, asked.To)
		}
		sent := up.Delivered()
		if len(sent) != 1 || len(sent[0].To) != 2 {
			t.Fatalf("%d messages were sent", len(sent))
		}
		readers := readersOf(t, sent[0].Raw)
		for _, c := range []*pgp.Certificate{p.joe, p.ann} {
			if !slices.ContainsFunc(c.Fingerprints(), func(f pgp.Fingerprint) bool { return slices.Contains(readers, string(f)[24:]) }) {
				t.Errorf("Thunderbird encrypted to %v, not to %s", readers, c.Fingerprints())
			}
		}
	}, portalAddress+"/32")
}

// readersOf are the key IDs to which a message is encrypted.
func readersOf(t *testing.T, raw []byte) (ids []string) {
	t.Helper()
	_, body, _ := bytes.Cut(raw, []byte("-----BEGIN PGP MESSAGE-----"))
	block, err := armor.Decode(bytes.NewReader(append([]byte("-----BEGIN PGP MESSAGE-----"), body...)))
	if err != nil {
		t.Fatalf("not encrypted: %v\n%s", err, raw)
	}
	for r := packet.NewReader(block.Body); ; {
		p, err := r.Next()
		if k, ok := p.(*packet.EncryptedKey); ok {
			ids = append(ids, fmt.Sprintf("%016X", k.KeyId))
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		return ids
	}
}
