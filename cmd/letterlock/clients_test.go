package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/mailtest"
	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/mailtest/twin"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// place is an IMAP server as a client is told of it: a bridge, or Dovecot.
type place struct{ host, port, user, password string }

// mailClient reads and files mail. What it gives may not be the message's own
// bytes (lines end otherwise, notes are added), but depends on nothing else.
type mailClient struct {
	name   string
	needs  []string
	exact  bool // gives and files the very bytes
	fetch  func(t *testing.T, p place, mailbox string) [][]byte
	upload func(t *testing.T, p place, mailbox string, raw []byte)
}

var mailClients = []mailClient{
	{"Go imapclient", nil, true, goFetch, goUpload},
	{"curl", []string{"curl"}, true, curlFetch, curlUpload},
	{"Python imaplib", []string{"python3"}, true, imaplibFetch, imaplibUpload},
	{"mbsync", []string{"mbsync"}, false, mbsyncFetch, mbsyncUpload},
	{"neomutt", []string{"neomutt", "script"}, false, neomuttFetch, neomuttUpload},
	{"imapflow", []string{"node"}, true, imapflowFetch, imapflowUpload},
}

// originals are letters from Bob to Alice of many shapes.
func originals() [][]byte {
	letter := func(n int, rest string) []byte {
		return fmt.Appendf(nil, "From: Bob <%s>\r\nTo: Alice <%s>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= number %d\r\nDate: Tue, 3 Mar 2026 10:%02d:00 +0100\r\nMessage-ID: <c%d@example.test>\r\nMIME-Version: 1.0\r\n%s", peer.Bob, peer.Alice, n, n, n, rest)
	}
	long := strings.Repeat("A line of some length, so that it is read in pieces by those who do that.\r\n", 4000)
	return [][]byte{
		letter(1, "Content-Type: text/plain; charset=us-ascii\r\n\r\nHello Alice.\r\n"),
		letter(2, "Content-Type: multipart/mixed; boundary=\"a b\"\r\n\r\npreamble\r\n--a b\r\nContent-Type: text/plain\r\n\r\nSee attached.\r\n--a b\r\nContent-Type: application/pdf; name=\"x.pdf\"\r\nContent-Disposition: attachment; filename=\"x.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJDREVG\r\n--a b--\r\nepilogue\r\n"),
		letter(3, "Content-Type: text/plain; charset=us-ascii\r\n\r\n"+long),
		letter(4, "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: message/rfc822\r\n\r\nFrom: carol@example.test\r\nSubject: inside\r\n\r\nforwarded\r\n--x--\r\n"),
		letter(5, "Content-Type: text/plain; charset=us-ascii\r\n\r\nFrom the start\r\n.\r\n..\r\n)\r\n* 1 EXISTS\r\nno line end"),
	}
}

// encryptedBy gives the messages encrypted to Alice, and how.
func encryptedBy(t *testing.T, b *bridge) (mail [][]byte, how []twin.How) {
	t.Helper()
	certs, err := pgp.ParseCertificates([]byte(b.command("key", "export", peer.Alice)))
	if err != nil || len(certs) != 1 {
		t.Fatalf("%d certificates, %v", len(certs), err)
	}
	from, err := address.Parse(peer.Bob)
	if err != nil {
		t.Fatal(err)
	}
	key, err := pgp.GenerateKey(from, pgp.DefaultProfile, time.Now().Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range originals() {
		var out bytes.Buffer
		err := pgp.Protect(context.Background(), &out, message.Bytes(raw), pgp.Protection{
			Signer: key, Recipients: certs, From: from, Now: time.Now(),
		})
		if err != nil {
			t.Fatal(err)
		}
		mail, how = append(mail, out.Bytes()), append(how, twin.Protected)
	}
	g := peer.StartGPG(t)
	for i, raw := range originals() {
		mail, how = append(mail, g.Encrypt(certs[0].Bytes(), raw, i%2 == 0)), append(how, twin.Foreign)
	}
	return mail, how
}

// TestMailClients has every client read plain and encrypted mail through the
// bridge, and compares with the same client that reads the plain original from
// Dovecot itself; then it files a draft and a sent letter both ways, and
// compares what is read back.
func TestMailClients(t *testing.T) {
	t.Parallel()
	const mirror = "mirror@example.test" // has in plain what Alice has encrypted
	d := peer.StartDovecot(t, peer.DovecotOptions{Users: map[string]string{peer.Alice: peer.AlicePassword, mirror: "mirror-pw", interimapUser: "interimap-pw"}})
	w := newWorldOf(t, world{domain: "example.test",
		imap: fmt.Sprintf(`listen = "127.0.0.1:0", upstream = "imap+insecure://%s"`, d.Addr),
		smtp: `listen = "127.0.0.1:0", upstream = "smtp+insecure://127.0.0.1:9"`})
	b := w.bridge(peer.Alice, peer.AlicePassword)
	through := at(t, b.imap.Addr, b.imap.User, b.imap.Password)
	direct := at(t, d.Addr, mirror, "mirror-pw")

	mail, how := encryptedBy(t, b)
	d.Append(t, peer.Alice, "A", originals()...)
	d.Append(t, mirror, "A", originals()...)
	d.Append(t, peer.Alice, "B", mail...)
	shown := goFetch(t, through, "B")
	if len(shown) != len(mail) {
		t.Fatalf("%d messages, want %d", len(shown), len(mail))
	}
	for i, got := range shown {
		if err := twin.Check(originals()[i%len(originals())], got, how[i]); err != nil {
			t.Errorf("message %d, %s: %v", i, how[i], err)
		}
	}
	d.Append(t, mirror, "B", shown...)

	for _, c := range mailClients {
		t.Run(c.name, func(t *testing.T) {
			peer.Require(t, c.needs...)
			for _, mailbox := range []string{"A", "B"} {
				compare(t, mailbox, c.fetch(t, direct, mailbox), c.fetch(t, through, mailbox))
			}
			compare(t, "A, from Dovecot by the same account", c.fetch(t, at(t, d.Addr, peer.Alice, peer.AlicePassword), "A"), c.fetch(t, through, "A"))
			for i, mailbox := range []string{"Drafts", "Sent"} {
				raw := bytes.Replace(originals()[i], []byte("\r\nMIME-Version"), []byte("\r\nBcc: "+strings.ToLower(strings.Fields(c.name)[0])+"-canary@example.test\r\nX-Mozilla-Draft-Info: internal/draft\r\nMIME-Version"), 1)
				c.upload(t, direct, mailbox, raw)
				c.upload(t, through, mailbox, raw)
				want, got := goFetch(t, direct, mailbox), goFetch(t, through, mailbox)
				compare(t, mailbox, want, got)
				if c.exact && (len(got) == 0 || !bytes.Equal(got[len(got)-1], raw)) {
					t.Errorf("%s doesn't give back what was filed", mailbox)
				}
				compare(t, mailbox+", by the same client", c.fetch(t, direct, mailbox), c.fetch(t, through, mailbox))
			}
		})
	}
	for _, c := range collectors {
		t.Run(c.name, func(t *testing.T) {
			peer.Require(t, c.needs...)
			for _, mailbox := range []string{"A", "B", "Drafts", "Sent"} {
				compare(t, mailbox, c.fetch(t, direct, mailbox), c.fetch(t, through, mailbox))
			}
		})
	}
	t.Run("imapflow in IDLE", func(t *testing.T) { imapflowWatches(t, d, through, mail[0]) })
	t.Run("InterIMAP", func(t *testing.T) { interimapSyncs(t, d, through, mail[:len(originals())]) })
	for _, c := range mailClients { // sealed, all of it
		canary := []byte(strings.ToLower(strings.Fields(c.name)[0]) + "-canary")
		for _, mailbox := range []string{"Drafts", "Sent"} {
			for _, raw := range goFetch(t, at(t, d.Addr, peer.Alice, peer.AlicePassword), mailbox) {
				if bytes.Contains(raw, canary) || bytes.Contains(raw, []byte("Hello Alice")) || !bytes.Contains(raw, []byte("-----BEGIN PGP MESSAGE-----")) {
					t.Errorf("%s, filed in %s, lies upstream as\n%.400s", c.name, mailbox, raw)
				}
			}
		}
	}
	t.Run("without the index", func(t *testing.T) { withoutIndex(t, w, b, through) })
}

// withoutIndex reads everything with a new state directory that has the same
// key and nothing else: the bytes are the same.
func withoutIndex(t *testing.T, w *world, b *bridge, through place) {
	pass := w.file("passphrase", "a passphrase for the way\n")
	secret := w.file("secret.asc", b.command("key", "export", peer.Alice, "--secret", "--passphrase-file", pass))
	n := w.configure("again", fmt.Sprintf("[[bridge]]\naddress = %q\nimap = { %s }\nsmtp = { %s }\n", peer.Alice, w.imap, w.smtp))
	n.command("key", "import", secret, "--passphrase-file", pass)
	n.command("account", "add", peer.Alice, "--password-file", w.file("password", peer.AlicePassword+"\n"))
	n.serve(2)
	var account struct{ User, Password string }
	if err := json.Unmarshal([]byte(n.command("account", "show", peer.Alice, "--json")), &account); err != nil {
		t.Fatal(err)
	}
	again := at(t, n.ready[slices.IndexFunc(n.ready, func(r readyLine) bool { return r.Protocol == "imap" })].Listen, account.User, account.Password)
	for _, mailbox := range []string{"A", "B", "Drafts", "Sent"} {
		compare(t, mailbox, goFetch(t, through, mailbox), goFetch(t, again, mailbox))
	}
}

func at(t *testing.T, addr, user, password string) place {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return place{host, port, user, password}
}

func compare(t *testing.T, what string, want, got [][]byte) {
	t.Helper()
	if len(want) != len(got) || len(want) == 0 {
		t.Fatalf("%s: %d messages, want %d", what, len(got), len(want))
	}
	for i := range want {
		want[i], got[i] = notes.ReplaceAll(want[i], nil), notes.ReplaceAll(got[i], nil)
		if !bytes.Equal(want[i], got[i]) {
			k := 0
			for k < len(want[i]) && k < len(got[i]) && want[i][k] == got[i][k] {
				k++
			}
			t.Errorf("%s, message %d: from byte %d on %.100q, want %.100q", what, i, k, got[i][k:], want[i][k:])
		}
	}
}

// run runs a client that must succeed.
func runClient(t *testing.T, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Env = append(os.Environ(), "TERM=xterm", "LC_ALL=C.UTF-8", "HOME="+t.TempDir())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%.2000s", name, err, &stderr, out)
	}
	return out
}

func goFetch(t *testing.T, p place, mailbox string) (all [][]byte) {
	t.Helper()
	got, err := mailtest.Fetch(mailtest.Login{Addr: net.JoinHostPort(p.host, p.port), User: p.user, Password: p.password}, mailbox)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range got {
		all = append(all, m.Raw)
	}
	return all
}

func goUpload(t *testing.T, p place, mailbox string, raw []byte) {
	t.Helper()
	c, err := mailtest.Dial(mailtest.Login{Addr: net.JoinHostPort(p.host, p.port), User: p.user, Password: p.password})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a := c.Append(mailbox, int64(len(raw)), nil)
	_, err = a.Write(raw)
	if err == nil {
		err = a.Close()
	}
	if err == nil {
		_, err = a.Wait()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (p place) url(mailbox string) string { return "imap://" + p.host + ":" + p.port + "/" + mailbox }

var searchAnswer = regexp.MustCompile(`\* SEARCH([ \d]*)`)

func curlFetch(t *testing.T, p place, mailbox string) (all [][]byte) {
	t.Helper()
	login := []string{"-sS", "--max-time", "300", "-u", p.user + ":" + p.password}
	m := searchAnswer.FindSubmatch(runClient(t, nil, "curl", append(login, p.url(mailbox), "-X", "UID SEARCH ALL")...))
	if m == nil {
		t.Fatal("no answer to SEARCH")
	}
	for _, uid := range strings.Fields(string(m[1])) {
		all = append(all, runClient(t, nil, "curl", append(login, p.url(mailbox)+";UID="+uid)...))
	}
	return all
}

func curlUpload(t *testing.T, p place, mailbox string, raw []byte) {
	t.Helper()
	f := filepath.Join(t.TempDir(), "m")
	if err := os.WriteFile(f, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	runClient(t, nil, "curl", "-sS", "--max-time", "300", "-u", p.user+":"+p.password, "-T", f, p.url(mailbox))
}

const imaplibScript = `
import imaplib, os, sys
what, host, port, user, password, mailbox, path = sys.argv[1:]
c = imaplib.IMAP4(host, int(port))
c.login(user, password)
if what == "upload":
    assert c.append(mailbox, "(\\Seen)", None, open(path, "rb").read())[0] == "OK"
else:
    assert c.select(mailbox, readonly=True)[0] == "OK"
    for uid in c.uid("SEARCH", "ALL")[1][0].split():
        status, data = c.uid("FETCH", uid, "(RFC822.SIZE BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT])")
        whole, header, text = [d[1] for d in data if isinstance(d, tuple)]
        size = int(data[0][0].split(b"RFC822.SIZE ")[1].split()[0])
        assert status == "OK" and size == len(whole) and whole == header + text, (uid, size, len(whole))
        open(os.path.join(path, "%08d" % int(uid)), "wb").write(whole)
c.logout()
`

func imaplibFetch(t *testing.T, p place, mailbox string) [][]byte {
	t.Helper()
	dir := t.TempDir()
	runClient(t, nil, "python3", "-c", imaplibScript, "fetch", p.host, p.port, p.user, p.password, mailbox, dir)
	return files(t, dir)
}

func imaplibUpload(t *testing.T, p place, mailbox string, raw []byte) {
	t.Helper()
	f := filepath.Join(t.TempDir(), "m")
	if err := os.WriteFile(f, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	runClient(t, nil, "python3", "-c", imaplibScript, "upload", p.host, p.port, p.user, p.password, mailbox, f)
}

// files are the contents of all files of a folder, in the order of their names.
func files(t *testing.T, dir string) (all [][]byte) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

// notes are fields that clients add to what they copy: mbsync a random X-TUID,
// neomutt the keywords, which are the one thing that has to differ.
var notes = regexp.MustCompile(`(?m)^(?:X-TUID: .*|Tags: \$Letterlock\w+(?: \$Letterlock\w+)*)\r?\n`)

func mbsync(t *testing.T, p place, dir, mailbox, direction string) {
	t.Helper()
	rc := filepath.Join(dir, "rc")
	text := fmt.Sprintf("IMAPAccount a\nHost %s\nPort %s\nUser %s\nPass %q\nSSLType None\nAuthMechs PLAIN\nPipelineDepth 50\n\nIMAPStore far\nAccount a\n\n"+
		"MaildirStore near\nPath %s/mail/\nInbox %s/inbox\nSubFolders Verbatim\n\nChannel c\nFar :far:%s\nNear :near:%s\nCreate Near\nSync %s\nSyncState %s/state-\n",
		p.host, p.port, p.user, p.password, dir, dir, mailbox, mailbox, direction, dir)
	err := os.WriteFile(rc, []byte(text), 0o600)
	if err == nil {
		err = os.MkdirAll(filepath.Join(dir, "mail"), 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	runClient(t, nil, "mbsync", "-q", "-c", rc, "c")
}

func mbsyncFetch(t *testing.T, p place, mailbox string) [][]byte {
	t.Helper()
	dir := t.TempDir()
	mbsync(t, p, dir, mailbox, "Pull")
	var all [][]byte
	for _, sub := range []string{"cur", "new"} {
		for _, m := range files(t, filepath.Join(dir, "mail", mailbox, sub)) {
			all = append(all, notes.ReplaceAll(m, nil)) // it would change their order
		}
	}
	slices.SortFunc(all, bytes.Compare) // file names tell nothing of the order
	return all
}

func mbsyncUpload(t *testing.T, p place, mailbox string, raw []byte) {
	t.Helper()
	dir := t.TempDir()
	box := filepath.Join(dir, "mail", mailbox)
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(box, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(box, "new", "1.m.host"), bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	mbsync(t, p, dir, mailbox, "Push")
}

// neomutt runs neomutt on a mailbox, with keys pressed in it.
func neomutt(t *testing.T, p place, mailbox, keys string) {
	t.Helper()
	dir := t.TempDir()
	rc := filepath.Join(dir, "rc")
	text := fmt.Sprintf("set imap_user=%q imap_pass=%q imap_authenticators=\"login\"\nset ssl_starttls=no ssl_force_tls=no\nset mbox_type=Maildir\n"+
		"set confirmcreate=no confirmappend=no delete=no move=no copy=no quit=yes wait_key=no mark_old=no sort=mailbox-order resolve=no\n"+
		"set folder=%q spoolfile=%q\npush %q\n", p.user, p.password, dir, dir, keys)
	if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	runClient(t, nil, "script", "-qec", fmt.Sprintf("stty rows 40 cols 120; neomutt -n -F %s -f %s", rc, mailbox), filepath.Join(dir, "typescript"))
}

func neomuttFetch(t *testing.T, p place, mailbox string) [][]byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	neomutt(t, p, p.url(mailbox), "<tag-pattern>~A<enter><tag-prefix><copy-message>"+out+"<enter><quit>")
	var all [][]byte
	for _, sub := range []string{"cur", "new"} {
		for _, m := range files(t, filepath.Join(out, sub)) {
			all = append(all, notes.ReplaceAll(m, nil))
		}
	}
	slices.SortFunc(all, bytes.Compare)
	return all
}

func neomuttUpload(t *testing.T, p place, mailbox string, raw []byte) {
	t.Helper()
	box := filepath.Join(t.TempDir(), "box")
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(box, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(box, "cur", "1.m.host:2,S"), bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	neomutt(t, p, box, "<copy-message>"+p.url(mailbox)+"<enter><quit>")
}
