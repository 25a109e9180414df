package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir/server"
)

func TestRemovalsDoNotTellWhoIsHere(t *testing.T) {
	d, _ := directory(t)
	o := newSite(t, d)
	add(t, d, "has@example.org")
	ask := func(a string) string {
		var all []string
		for range 5 { // also beyond the day's mails
			status, page := o.removal(a)
			all = append(all, http.StatusText(status)+strings.ReplaceAll(page, a, "ADDRESS"))
		}
		return strings.Join(all, "\n")
	}
	if has, hasNot := ask("has@example.org"), ask("nobody@example.org"); has != hasNot {
		t.Errorf("with a certificate %q, without %q", has, hasNot)
	}
	for range 3 {
		if m := o.mail(); m.To.String() != "has@example.org" || strings.Contains(strings.ReplaceAll(string(m.Text), "\r\n", ""), "\n") {
			t.Errorf("mail to %s: %q", m.To, m.Text)
		}
	}
	o.noMail()
	for a, says := range map[string]string{"x": "no mail address", "x@elsewhere.example": "No address of ours", "\"\r\n\"@example.org": "no mail address", "": "no mail address"} {
		if status, page := o.removal(a); status != 400 || !strings.Contains(page, says) {
			t.Errorf("%q: %d %s", a, status, page)
		}
	}
}

func TestARemovalIsOfOneCertificateAndOneUse(t *testing.T) {
	d, _ := directory(t)
	o := newSite(t, d)
	a := addr(t, "joe.doe@example.org")
	add(t, d, "joe.doe@example.org")
	o.removal("joe.doe@example.org")
	old := o.withdrawLink()
	add(t, d, "joe.doe@example.org") // another key in its place
	if status, _ := o.do("POST", old, "", ""); status != 404 || served(t, d) == nil {
		t.Errorf("a link for what was replaced since: %d", status)
	}
	o.removal("joe.doe@example.org")
	late := o.withdrawLink()
	o.at.set(today.Add(73 * time.Hour))
	if status, _ := o.do("POST", late, "", ""); status != 404 || served(t, d) == nil {
		t.Errorf("a link that is too old: %d", status)
	}
	o.at.set(today)
	// Tokens of one way are good for that way only.
	publish, err := d.Begin(ctx, server.ByLink, a, cert(t, "joe.doe@example.org"))
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := o.do("POST", "/withdraw/"+publish, "", ""); status != 404 || served(t, d) == nil {
		t.Errorf("a token to publish removed: %d", status)
	}
	before := served(t, d)[0].Fingerprint()
	if status, _ := o.do("POST", strings.Replace(late, "withdraw", "publish", 1), "", ""); status != 404 || served(t, d)[0].Fingerprint() != before {
		t.Errorf("a token to remove published: %d", status)
	}
	// Who removes by token leaves what can still be revoked.
	if status, _ := o.do("POST", late, "", ""); status != 200 || served(t, d) != nil {
		t.Errorf("the link in time: %d", status)
	}
}

func TestPagesDoTheSameWork(t *testing.T) {
	st, err := store.OpenMemory(server.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	c := &counting{Store: st}
	d := reopened(c)
	add(t, d, "has@example.org")
	o := &office{t: t, d: d}
	h := handler(d)
	o.h = server.NewSite(h, server.NewIntake(server.IntakeConfig{Directory: d, Domains: []string{"example.org"}, URL: "https://k", From: addr(t, "k@example.org"),
		Post: server.NewPost(nil, nil), Next: h, Now: d.Now})) // nothing runs: mails are made beside
	for path, ask := range map[string]func(local string){
		"/lookup": func(local string) { o.do("GET", "/lookup?address="+local+"@example.org", "", "") },
		"/remove": func(local string) { o.removal(local + "@example.org") },
	} {
		ask("has") // the first one reads the snapshot
		c.work()
		for _, local := range []string{"has", "not"} {
			ask(local)
			if got := c.work(); got != "0 views, 0 updates, 0 statements" {
				t.Errorf("%s of %s asks the store: %s", path, local, got)
			}
		}
	}
}
