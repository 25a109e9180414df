package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest"
)

// TestAccountRemove: who is logged in to an account that is removed while serve runs is
// so no longer, and can't come back; the other account stays, with serve and without.
func TestAccountRemove(t *testing.T) {
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{alice: "upstream-alice", bob: "upstream-bob"}})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	w := newWorld(t, up)
	account := func(address string) string {
		return "[[bridge]]\naddress = \"" + address + "\"\nimap = { " + w.imap + " }\nsmtp = { " + w.smtp + " }\n\n"
	}
	b := w.configure("both", "# Alice:\n"+account(alice)+account(bob)+"[discovery]\n")
	passwords := map[string]string{}
	for _, a := range []string{alice, bob} {
		name, _, _ := strings.Cut(a, "@")
		b.command("account", "add", a, "--password-file", w.file("pw", "upstream-"+name+"\n"))
		var shown struct{ Password string }
		if err := json.Unmarshal([]byte(b.command("account", "show", a, "--json")), &shown); err != nil {
			t.Fatal(err)
		}
		passwords[a] = shown.Password
	}
	b.serve(4)
	at := map[string]string{}
	for _, r := range b.ready {
		at[r.Protocol+r.Address] = r.Listen
	}
	mailer := func(a string) *dialogue {
		d := talk(t, at["smtp"+a])
		d.say("EHLO client", "250")
		d.login(a, passwords[a], "235")
		return d
	}
	reads, writes := map[string]reader{}, map[string]*dialogue{}
	for _, a := range []string{alice, bob} {
		reads[a], writes[a] = openInbox(t, at["imap"+a], a, passwords[a]), mailer(a)
		reads[a].says("c IDLE", "+")
	}

	said := b.command("account", "remove", alice)
	for _, want := range []string{"Wrote ", "alice@example.org is no account any more", "Its keys stay (1)", "serve listens where it did"} {
		if !strings.Contains(said, want) {
			t.Errorf("it doesn't say %q: %s", want, said)
		}
	}
	reads[alice].hears("* BYE")
	reads[alice].ends()
	writes[alice].say("MAIL FROM:<"+alice+">", "421")
	writes[alice].ends()
	reads[bob].says("DONE", "c OK")
	writes[bob].say("MAIL FROM:<"+bob+">", "250")
	again := talk(t, at["smtp"+alice])
	again.say("EHLO client", "250")
	again.login(alice, passwords[alice], "535")
	text, err := os.ReadFile(filepath.Join(w.dir, "both.toml"))
	if err != nil || strings.Contains(string(text), alice) || !strings.Contains(string(text), bob) || !strings.Contains(string(text), "# Alice:") {
		t.Errorf("the configuration is, %v:\n%s", err, text)
	}
	if keys := b.command("key", "list"); !strings.Contains(keys, alice) {
		t.Errorf("the key is gone: %s", keys)
	}
	if said := b.fails(3, "account", "remove", alice); !strings.Contains(said, "there is no account alice@example.org") {
		t.Errorf("the second time it says %s", said)
	}

	// Who is put back has to be made ready again.
	w.configure("both", account(alice)+account(bob))
	b.command("reload")
	if said := b.command("account", "show", alice); !strings.Contains(said, "Not ready yet") || strings.Contains(said, passwords[alice]) {
		t.Errorf("what was stored is there again: %s", said)
	}
}
