package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/smtpd/queue"
)

const watchedBridge = `
[[bridge]]
address = "alice@example.org"
imap = { listen = "127.0.0.1:0", upstream = "imap+insecure://127.0.0.1:1" }
smtp = { listen = "127.0.0.1:0", upstream = "smtp+insecure://127.0.0.1:1" }
[discovery]
sources = ["wkd"]
wkd_override = { "example.org" = %q }
`

// served is a directory that answers with one certificate.
func served(t *testing.T, c **pgp.Certificate) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if *c == nil {
			http.NotFound(w, nil)
			return
		}
		_, _ = w.Write((*c).Bytes())
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// notices are the mails that were queued, decrypted.
func notices(t *testing.T, s *state, a address.Address) (out []string) {
	t.Helper()
	ctx := context.Background()
	all, err := s.queue.List(ctx, queue.Waiting, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if !e.Report || e.From != a.String() || len(e.Recipients) != 1 || e.Recipients[0].Address != a.String() {
			t.Errorf("no note to oneself: %+v", e)
		}
		out = append(out, e.ID)
	}
	return out
}

func TestFalseKeyIsToldOnce(t *testing.T) {
	ctx := context.Background()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var answer *pgp.Certificate
	s := inside(t, fmt.Sprintf(watchedBridge, served(t, &answer)), &at)
	alice := address.Address{Local: "alice", Domain: "example.org"}
	mine, err := s.keys.Generate(ctx, alice, "")
	if err != nil {
		t.Fatal(err)
	}
	other, err := pgp.GenerateKey(alice, "", at)
	if err != nil {
		t.Fatal(err)
	}
	days := func(want int, why string) {
		t.Helper()
		at = at.Add(25 * time.Hour)
		s.watchOnce(ctx)
		if got := len(notices(t, s, alice)); got != want {
			t.Errorf("%s: %d notices, want %d", why, got, want)
		}
	}
	days(0, "nothing is published")
	answer = mine
	days(0, "ours is")
	answer = other.Certificate()
	days(1, "a false one is")
	days(1, "still")
	j, err := s.status(ctx, at)
	if err != nil || len(j.Alarms) != 1 || !strings.Contains(strings.Join(j.Problems, "\n"), string(other.Fingerprint())) {
		t.Errorf("status: %v, %v, %v", err, j.Alarms, j.Problems)
	}
	var out bytes.Buffer
	e := &env{stdout: &out, stderr: &out, now: s.now}
	if err := (&alarmCheck{Address: addressArg{alice}}).runState(ctx, e, s); err == nil || !strings.Contains(out.String(), "NOT YOURS") {
		t.Errorf("alarm check: %v\n%s", err, &out)
	}
	out.Reset()
	if err := (&certShow{Address: addressArg{alice}, JSON: true}).runState(ctx, e, s); err != nil {
		t.Fatal(err)
	}
	var shown servedJSON
	if err := json.Unmarshal(out.Bytes(), &shown); err != nil || len(shown.Sources) != 1 || len(shown.Sources[0].False) != 1 {
		t.Errorf("cert show: %v, %s", err, &out)
	}
	out.Reset()
	if err := (&explainCmd{To: []addressArg{{alice}}}).runState(ctx, e, s); err != nil || !strings.Contains(out.String(), "NOT YOURS") {
		t.Errorf("explain: %v\n%s", err, &out)
	}
	answer = mine
	days(1, "well again")
	if j, err = s.status(ctx, at); err != nil || strings.Contains(strings.Join(j.Problems, "\n"), "ALARM") {
		t.Errorf("an alarm that is over is still a problem: %v", j.Problems)
	}
}

func TestExpiryIsToldOnceAndSealed(t *testing.T) {
	ctx := context.Background()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var answer *pgp.Certificate
	s := inside(t, fmt.Sprintf(watchedBridge, served(t, &answer)), &at)
	alice, bob := address.Address{Local: "alice", Domain: "example.org"}, address.Address{Local: "bob", Domain: "example.org"}
	if _, err := s.keys.Generate(ctx, alice, ""); err != nil {
		t.Fatal(err)
	}
	theirs, err := pgp.GenerateKey(bob, "", at.Add(-700*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.resolver.Import(ctx, []*pgp.Certificate{theirs.Certificate()}, bob, pgp.FirstSeen); err != nil {
		t.Fatal(err)
	}
	at = at.Add(8 * 24 * time.Hour)
	if _, err := s.resolver.Find(ctx, bob); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.watchOnce(ctx)
		at = at.Add(time.Hour)
	}
	if got := notices(t, s, alice); len(got) != 1 {
		t.Fatalf("%d notices, want 1", len(got))
	}
	var out bytes.Buffer
	e := &env{stdout: &out, stderr: &out, now: s.now}
	if err := (&certList{Expiring: true}).runState(ctx, e, s); err != nil || !strings.Contains(out.String(), "bob@example.org") {
		t.Errorf("cert list --expiring: %v\n%s", err, &out)
	}
	if j, err := s.status(ctx, at); err != nil || !strings.Contains(strings.Join(j.Problems, "\n"), "The certificate of bob@example.org expires on") {
		t.Errorf("status: %v, %v", err, j.Problems)
	}
}

func TestNoticeMail(t *testing.T) {
	root, err := message.Parse(message.Bytes(noticeMail("alice@example.org", "example.org", []string{strings.Repeat("word ", 60), "evil\r\nBcc: x@example.net"}, time.Now())), message.Limits{})
	if err != nil || root.Header.Has("Bcc") || root.Header.Get("Auto-Submitted") == "" {
		t.Fatalf("%v", err)
	}
}
