package main_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

// TestPagesForPeople: the program serves them on the directory's own port.
func TestPagesForPeople(t *testing.T) {
	sink := peer.StartSink(t)
	w := newWorldOf(t, world{domain: "example.org"})
	authority := w.configure("authority", "")
	authority.command("key", "generate", "joe@example.org")
	armored := authority.command("key", "export", "joe@example.org")
	chain, tlsKey, pool := peer.Certificate(t, w.dir)
	b := w.configure("office", fmt.Sprintf(submissionSettings, `"https://127.0.0.1:0"`, sink.Addr, fmt.Sprintf("tls_certificate = %q\ntls_key = %q", chain, tlsKey)))
	b.serve(1)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}, Timeout: patience}
	base := "https://" + b.ready[0].Listen
	read := func(r *http.Response, err error) (int, string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		page, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(page)
	}

	if status, page := read(c.Get(base + "/")); status != 200 || !strings.Contains(page, "Encrypted mail to <bdi>example.org</bdi>") {
		t.Errorf("first page: %d %s", status, page)
	}
	var form bytes.Buffer
	m := multipart.NewWriter(&form)
	if f, err := m.CreateFormFile("file", "joe.asc"); err != nil {
		t.Fatal(err)
	} else if _, err := io.WriteString(f, armored); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if status, page := read(c.Post(base+"/upload", m.FormDataContentType(), &form)); status != 200 || !strings.Contains(page, "Now look at your mail") {
		t.Errorf("upload: %d %s", status, page)
	}
	confirm(t, c, base, string(sink.Await(t, 1)[0].Raw))
	if got := published(t, c, base, "joe"); len(got) != 1 {
		t.Fatalf("%d certificates are published", len(got))
	}
	if status, page := read(c.Get(base + "/lookup?address=joe@example.org")); status != 200 || !strings.Contains(page, "In use") {
		t.Errorf("look-up: %d %s", status, page)
	}
	if status, page := read(c.PostForm(base+"/remove", url.Values{"address": {"joe@example.org"}})); status != 200 || !strings.Contains(page, "Look at your mail") {
		t.Errorf("removal: %d %s", status, page)
	}
	link := regexp.MustCompile(`https://keys\.example\.org(/withdraw/\S+)`).FindSubmatch(sink.Await(t, 2)[1].Raw)
	if link == nil {
		t.Fatal("no link in the mail")
	}
	if status, page := read(c.PostForm(base+string(link[1]), nil)); status != 200 || !strings.Contains(page, "<h1>Removed</h1>") || published(t, c, base, "joe") != nil {
		t.Errorf("removal confirmed: %d %s", status, page)
	}
	if log, _ := os.ReadFile(b.log); strings.Contains(string(log), "/withdraw/") || strings.Contains(string(log), "/publish/") || strings.Contains(string(log), "joe@") {
		t.Error("the log tells of links or addresses")
	}
}
