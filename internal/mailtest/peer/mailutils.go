package peer

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// MailutilsServer is a running imap4d of GNU Mailutils. It knows no keywords, no
// UIDPLUS, finds nothing where it is searched for all UIDs, says EXPUNGED where
// EXPUNGE is meant, and answers of the last message where one is asked for that it
// doesn't have.
type MailutilsServer struct {
	Addr string // plain IMAP
	Mail string // folder of all stored mail
}

// StartMailutils starts one with the passwords by user. INBOX is there once it was
// selected.
func StartMailutils(t testing.TB, users map[string]string) *MailutilsServer {
	t.Helper()
	requireRoot(t)
	imap4d := mailutilsBinary(t)
	Require(t, "openssl")
	uid, gid := ids(t, "vmailtest", "nobody")
	dir := folder(t)
	mkdir(t, dir+"/pw", 0o755, -1, -1)
	mkdir(t, dir+"/home", 0o755, uid, gid)
	byDomain := map[string]string{}
	for u, p := range users {
		name, domain, _ := strings.Cut(u, "@")
		hash, err := exec.Command("openssl", "passwd", "-6", p).Output()
		if err != nil {
			t.Fatal(err)
		}
		mkdir(t, dir+"/home/"+name, 0o755, uid, gid)
		byDomain[domain] += fmt.Sprintf("%s:%s:%d:%d::%s/home/%s:/bin/sh\n", name, strings.TrimSpace(string(hash)), uid, gid, dir, name)
	}
	for d, lines := range byDomain {
		write(t, dir+"/pw/"+d, lines, 0o644)
	}
	write(t, dir+"/conf", fmt.Sprintf(`auth { authentication generic; authorization virtdomain; };
virtdomain { passwd-dir %[1]s/pw; };
mailbox { mailbox-pattern "maildir:%[1]s/home/${user}/INBOX"; mailbox-type maildir; };
logging { syslog no; };
`, dir), 0o644)
	root := filepath.Dir(filepath.Dir(imap4d))
	libraries, _ := filepath.Glob(root + "/lib/*-linux-gnu")
	addr := inetd(t, func(net.Conn) *exec.Cmd {
		p := exec.Command(imap4d, "--inetd", "--config-file="+dir+"/conf")
		p.Env = append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(append(libraries, root+"/lib"), ":"))
		return p
	})
	return &MailutilsServer{Addr: addr, Mail: dir + "/home"}
}

// mailutilsBinary is its IMAP server: LETTERLOCK_IMAP4D, the installed one, or,
// where peers are required, that of Debian's packages, which can't be installed
// beside Dovecot, taken out of them.
func mailutilsBinary(t testing.TB) string {
	t.Helper()
	if b := os.Getenv("LETTERLOCK_IMAP4D"); b != "" {
		return b
	}
	const installed, packages = "/usr/sbin/imap4d", "mailutils-imap4d libmailutils9 libgsasl18 libntlm0 libwrap0 libmariadb3"
	if _, err := os.Stat(installed); err == nil {
		return installed
	}
	if !required() {
		t.Skip("peer Mailutils is not installed, and LETTERLOCK_IMAP4D names no program (apt-get download " + packages + "; dpkg -x)")
	}
	dir := folder(t)
	get := exec.Command("sh", "-c", "apt-get -q download "+packages+" && for p in *.deb; do dpkg -x $p . || exit; done")
	get.Dir = dir
	if out, err := get.CombinedOutput(); err != nil {
		missing(t, "peer Mailutils: its packages could not be had: %v\n%s", err, out)
	}
	return filepath.Join(dir, installed)
}
