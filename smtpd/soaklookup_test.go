package smtpd_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// fickle is a Web Key Directory that answers each look-up as a test wants.
type fickle struct {
	mu    sync.Mutex // guards what follows
	mode  string
	bob   []byte
	wrong []byte
	asked map[string]int // by mode
}

// What it may do. Only "404" tells that there is no certificate.
var lookupModes = []string{"serves", "serves", "404", "404", "500", "503", "stalls", "drips", "garbage", "another's certificate", "redirects", "hangs up", "empty", "huge", "403"}

func (f *fickle) set(mode string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mode = mode
}

func (f *fickle) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	mode := f.mode
	f.asked[mode]++
	f.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, "/policy") && (mode == "serves" || mode == "404") {
		return
	}
	switch mode {
	case "serves":
		w.Write(f.bob)
	case "another's certificate":
		w.Write(f.wrong)
	case "404":
		http.NotFound(w, r)
	case "500", "503", "403":
		code := 0
		fmt.Sscan(mode, &code)
		w.WriteHeader(code)
	case "stalls":
		<-r.Context().Done()
	case "drips":
		w.Header().Set("Content-Length", fmt.Sprint(len(f.bob)))
		for _, b := range f.bob {
			if _, err := w.Write([]byte{b}); err != nil || r.Context().Err() != nil {
				return
			}
			http.NewResponseController(w).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	case "garbage":
		w.Write([]byte("\x99\x01\xff<html>not found</html>"))
	case "redirects":
		http.Redirect(w, r, "http://elsewhere.example/", http.StatusFound)
	case "hangs up":
		panic(http.ErrAbortHandler)
	case "huge":
		w.Write(bytes.Repeat(f.bob, 1000))
	}
}

// clockJumps are what a clock does that is set: certificates are of tomorrow, or
// have expired long ago, and what was looked up just now was so in the future.
var clockJumps = []time.Duration{0, 0, 0, 24 * time.Hour, -24 * time.Hour, -60 * 24 * time.Hour, 3 * 366 * 24 * time.Hour, -3 * 366 * 24 * time.Hour}

// TestNoHistoryOfLookUpsEndsInClear runs random histories of a directory through
// the real Resolver and rules into the server, under the weakest rules that
// encrypt at all: what a directory does changes between the recipient and the
// message, and from message to message over months, with clocks that jump by a day
// or by years, both ways. Cleartext leaves only where
// the directory said that there is no certificate, and to nobody of whom one was
// ever seen.
func TestNoHistoryOfLookUpsEndsInClear(t *testing.T) {
	var sum struct{ clear, sealed, refused int }
	for seed := range uint64(24) {
		r := rand.New(rand.NewPCG(seed, 3))
		dir := &fickle{bob: binaryOf(t, "bob@example.net"), wrong: binaryOf(t, "mallory@example.net"), asked: map[string]int{}}
		web := httptest.NewServer(dir)
		st, err := store.OpenMemory(keydir.Schema)
		if err != nil {
			t.Fatal(err)
		}
		clock := &clock{now: time.Now()}
		resolver, err := keydir.New(keydir.Config{Store: st, Now: clock.Now, Discovery: keydir.Discovery{Sources: []string{"wkd"}, Override: map[string]string{"example.net": web.URL}},
			Network: keydir.Network{Timeout: 60 * time.Millisecond, Refetch: 60 * time.Millisecond}})
		if err != nil {
			t.Fatal(err)
		}
		u := newUpstream(t)
		b := newBridge(t, u, func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
			a.Find, a.Rules = resolver, func() *policy.Rules { return rules(t, policy.Config{}) }
		})
		known, history := false, []string{}
		for n := range 10 {
			first, second := pick(r, lookupModes...), ""
			dir.set(first)
			k := b.login()
			k.run("C: MAIL FROM:<alice@example.org>\nS: 250")
			k.send("RCPT TO:<bob@example.net>\r\n")
			got := k.reply()
			if strings.HasPrefix(got, "250") {
				if second = pick(r, append(lookupModes, first, first, first)...); second != first {
					dir.set(second)
				}
				k.run("C: DATA\nS: 354")
				k.send(wired(letter(fmt.Sprint(n), "bob@example.net")) + ".\r\n")
				got = k.reply()
			}
			k.c.Close()
			history = append(history, fmt.Sprintf("%s/%s: %.40s", first, second, got))
			switch {
			case !strings.HasPrefix(got, "250"):
				sum.refused++
			case strings.Contains(u.received()[len(u.received())-1].data, "BEGIN PGP MESSAGE"):
				sum.sealed++
				known = true
			default:
				sum.clear++
				if known || first != "404" {
					t.Fatalf("seed %d: in clear, with a certificate known: %v; history %q", seed, known, history)
				}
			}
			if f, err := resolver.Find(t.Context(), addr("bob@example.net")); err == nil && len(f.Certificates) > 0 {
				known = true
				if f.Certificates[0].Fingerprint() != key(t, "bob@example.net").Certificate().Fingerprint() {
					t.Fatalf("seed %d: another's certificate is taken for Bob's: %q", seed, history)
				}
			}
			clock.advance(pick(r, clockJumps...) + time.Duration(r.IntN(40*24))*time.Hour)
		}
		b.stop()
		resolver.Close()
		web.CloseClientConnections()
		web.Close()
		st.Close()
	}
	t.Logf("%+v", sum)
	if sum.clear == 0 || sum.sealed == 0 || sum.refused == 0 {
		t.Errorf("the histories don't have everything: %+v", sum)
	}
}

func binaryOf(t *testing.T, who string) []byte {
	return key(t, who).Certificate().Bytes()
}
