package main_test

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/mailtest"
)

func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := (&http.Client{Timeout: patience}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// TestFiguresOfServe sends a letter and looks at what is told of it.
func TestFiguresOfServe(t *testing.T) {
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{alice: "upstream-alice", bob: "upstream-bob"}})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	w := newWorld(t, up)
	w.more, w.lines = "[audit]\nenabled = true\n[metrics]\nlisten = \"127.0.0.1:0\"\n", 1
	a, b := w.bridge(alice, "upstream-alice"), w.bridge(bob, "upstream-bob")
	web := "http://" + a.ready[2].Listen
	if a.ready[2].Role != "metrics" || a.ready[2].Protocol != "http" {
		t.Fatalf("ready line %+v", a.ready[2])
	}
	if code, text := fetch(t, web+"/healthz"); code != 200 {
		t.Errorf("/healthz: %d %s", code, text)
	}
	if code, text := fetch(t, web+"/readyz"); code != 200 || !strings.Contains(text, `"ready":true`) {
		t.Errorf("/readyz: %d %s", code, text)
	}
	raw := "From: alice@example.org\r\nTo: bob@example.org\r\nSubject: x\r\nMessage-ID: <figures@example.org>\r\n\r\nhello\r\n"
	if err := mailtest.Submit(a.smtp, alice, []string{bob}, []byte(raw)); err != nil {
		t.Fatal(err)
	}
	arrival(t, b)
	text := ""
	wants := []string{`letterlock_submissions_total{outcome="sent"} 1`, "letterlock_protect_seconds_count 1", "letterlock_accept_seconds_count 1", `letterlock_lookups_total{outcome="found",source="wkd`,
		"letterlock_smtp_sessions 0", `letterlock_queue_entries{state="waiting"} 0`, "letterlock_audit_lag_seconds", "go_goroutines", "process_open_fds"}
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) { // the session ends after its client
		_, text = fetch(t, web+"/metrics")
		i := slices.IndexFunc(wants, func(want string) bool { return !strings.Contains(text, want) })
		if i < 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("figures lack %s", wants[i])
		}
	}
	if strings.Contains(text, "@") || strings.Contains(text, "example.org") {
		t.Error("figures tell an address")
	}
	t.Run("every recipient has a record", func(t *testing.T) {
		var got []map[string]any
		for line := range strings.Lines(a.command("audit", "export", "--recipient", "Bob@example.org")) {
			var r map[string]any
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			got = append(got, r)
		}
		if len(got) != 1 || got[0]["outcome"] != "sent" || got[0]["action"] != "encrypt" || got[0]["account"] != alice || got[0]["sender"] != alice {
			t.Fatalf("records: %v", got)
		}
		if certs, _ := got[0]["certificates"].([]any); len(certs) != 1 || got[0]["signed_as"] == "" {
			t.Errorf("certificates %v, signed as %v", got[0]["certificates"], got[0]["signed_as"])
		}
		if all := a.command("audit", "export", "--format", "csv"); strings.Contains(all, bob) || !strings.Contains(all, "hash:") || !strings.HasPrefix(all, "time,node,") {
			t.Errorf("exported %s", all)
		}
		if none := a.command("audit", "export", "--until", "2020-01-01"); none != "" {
			t.Errorf("before there was anything: %s", none)
		}
	})
}

// TestNotReadyWithoutUpstream: a node whose mail server is down says so, and stays
// alive.
func TestNotReadyWithoutUpstream(t *testing.T) {
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{alice: "upstream-alice"}})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	w := newWorld(t, up)
	w.smtp = `listen = "127.0.0.1:0", upstream = "smtp+insecure://127.0.0.1:1"`
	w.more, w.lines = "[metrics]\nlisten = \"127.0.0.1:0\"\n", 1
	web := "http://" + w.bridge(alice, "upstream-alice").ready[2].Listen
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		code, text := fetch(t, web+"/readyz")
		if code == 503 && strings.Contains(text, `"upstream":"1 mail servers can't be reached`) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("still %d %s", code, text)
		}
	}
	if code, _ := fetch(t, web+"/healthz"); code != 200 {
		t.Errorf("/healthz: %d", code)
	}
}
