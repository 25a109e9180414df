package main_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// collectors are clients that carry mail away and file none: what each asks for
// is a habit of its own (getmail RFC822, fetchmail a header and a text, each by
// number; OfflineIMAP whole ranges of UIDs).
var collectors = []mailClient{
	{name: "OfflineIMAP", needs: []string{"offlineimap"}, fetch: offlineimapFetch},
	{name: "getmail", needs: []string{"getmail"}, fetch: getmailFetch},
	{name: "fetchmail", needs: []string{"fetchmail"}, fetch: fetchmailFetch},
}

// maildir makes an empty one.
func maildir(t *testing.T, path string) {
	t.Helper()
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(path, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

// unordered are the messages of a maildir, whose names tell nothing of the order.
func unordered(t *testing.T, path string) (all [][]byte) {
	t.Helper()
	for _, sub := range []string{"cur", "new"} {
		all = append(all, files(t, filepath.Join(path, sub))...)
	}
	slices.SortFunc(all, bytes.Compare)
	return all
}

func script(t *testing.T, dir, name, text string) string {
	t.Helper()
	f := filepath.Join(dir, name)
	if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

func offlineimapFetch(t *testing.T, p place, mailbox string) [][]byte {
	t.Helper()
	dir := t.TempDir()
	rc := script(t, dir, "rc", fmt.Sprintf(`[general]
accounts = a
metadata = %[1]s/meta
[Account a]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = %[1]s/mail
[Repository far]
type = IMAP
remotehost = %[2]s
remoteport = %[3]s
remoteuser = %[4]s
remotepass = %[5]s
ssl = no
starttls = no
auth_mechanisms = PLAIN
readonly = True
folderfilter = lambda name: name == %[6]q
`, dir, p.host, p.port, p.user, p.password, mailbox))
	runClient(t, nil, "offlineimap", "-o", "-u", "quiet", "-c", rc)
	return unordered(t, filepath.Join(dir, "mail", mailbox))
}

// getmailFetch has each message written once getmail waits for that: a program that has
// ended by then is waited for until it gives up (6.18.11).
func getmailFetch(t *testing.T, p place, mailbox string) [][]byte {
	t.Helper()
	dir := t.TempDir()
	maildir(t, dir+"/mail")
	rc := script(t, dir, "getmailrc", fmt.Sprintf(`[retriever]
type = SimpleIMAPRetriever
server = %s
port = %s
username = %s
password = %s
mailboxes = (%q,)
[destination]
type = MDA_external
path = /bin/sh
arguments = ("-c", "until grep -q '^State:.S' /proc/$PPID/status; do :; done; cat >%s/mail/new/$$")
allow_root_commands = true
[options]
read_all = true
delete = false
delivered_to = false
received = false
verbose = 0
`, p.host, p.port, p.user, p.password, mailbox, dir))
	runClient(t, nil, "getmail", "--getmaildir", dir, "--rcfile", rc)
	return unordered(t, dir+"/mail")
}

func fetchmailFetch(t *testing.T, p place, mailbox string) [][]byte {
	t.Helper()
	dir := t.TempDir()
	maildir(t, dir+"/mail")
	rc := script(t, dir, "rc", fmt.Sprintf("set no bouncemail\npoll %s protocol IMAP port %s username %q password %q folder %q\n"+
		"  sslproto '' keep fetchall no rewrite no dropstatus no mimedecode no idle mda \"cat > %s/mail/new/$$\"\n", p.host, p.port, p.user, p.password, mailbox, dir))
	runClient(t, nil, "fetchmail", "--invisible", "-s", "-f", rc, "-i", dir+"/ids", "--pidfile", dir+"/pid")
	return unordered(t, dir+"/mail")
}
