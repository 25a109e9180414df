package peer

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
)

// CyrusServer is a running Cyrus IMAP server. It differs from Dovecot in what it
// offers, in the order and the wording of its answers, and in how it tells of
// changes.
type CyrusServer struct {
	Dir  string
	Addr string // plain IMAP
	Mail string // folder of all stored mail
}

// StartCyrus starts one with the passwords by user.
func StartCyrus(t testing.TB, users map[string]string) *CyrusServer {
	t.Helper()
	requireRoot(t)
	imapd := cyrusBinary(t)
	Require(t, "/usr/sbin/cyrmaster") // of cyrus-common
	uid, gid := ids(t, "vmailtest", "nobody")
	dir := folder(t)
	c := &CyrusServer{Dir: dir, Addr: fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0]), Mail: dir + "/mail"}
	for _, sub := range []string{"conf", "mail", "conf/db", "conf/log", "conf/proc", "conf/socket", "conf/lock"} {
		mkdir(t, filepath.Join(dir, sub), 0o755, uid, gid)
	}
	passwords(t, dir+"/auth/mux", users)
	write(t, dir+"/imapd.conf", fmt.Sprintf(cyrusConf, dir, userName(t, uid), groupName(t, gid)), 0o644)
	write(t, dir+"/cyrus.conf", fmt.Sprintf(cyrusServices, dir, imapd, c.Addr), 0o644)
	run(t, dir+"/out", "/usr/sbin/cyrmaster", "-C", dir+"/imapd.conf", "-M", dir+"/cyrus.conf", "-p", dir+"/conf/pid", "-D")
	await(t, "Cyrus", []string{dir + "/out"}, func() error {
		for u, p := range users {
			conn, err := net.DialTimeout("tcp", c.Addr, 10*time.Second)
			if err != nil {
				return err
			}
			conn.SetDeadline(time.Now().Add(time.Minute))
			ic := imapclient.New(conn, nil)
			err = ic.Login(u, p).Wait()
			ic.Close()
			if err != nil {
				return err
			}
		}
		return nil
	})
	return c
}

// cyrusBinary is its IMAP server: LETTERLOCK_CYRUS, the installed one, or, where
// peers are required, that of Debian's package, which can't be installed beside
// Dovecot, taken out of it.
func cyrusBinary(t testing.TB) string {
	t.Helper()
	if b := os.Getenv("LETTERLOCK_CYRUS"); b != "" {
		return b
	}
	const installed = "/usr/lib/cyrus/bin/imapd"
	if _, err := os.Stat(installed); err == nil {
		return installed
	}
	if !required() {
		t.Skip("peer Cyrus is not installed, and LETTERLOCK_CYRUS names no program (apt-get install cyrus-common; apt-get download cyrus-imapd; dpkg -x)")
	}
	dir := folder(t)
	get := exec.Command("sh", "-c", "apt-get -q download cyrus-imapd && dpkg -x cyrus-imapd*.deb .")
	get.Dir = dir
	if out, err := get.CombinedOutput(); err != nil {
		missing(t, "peer Cyrus: its package could not be had: %v\n%s", err, out)
	}
	return filepath.Join(dir, installed)
}

// passwords answers, on a socket, whoever asks as SASL libraries ask saslauthd:
// user, password, service and realm, each behind its length.
func passwords(t testing.TB, socket string, users map[string]string) {
	t.Helper()
	mkdir(t, filepath.Dir(socket), 0o755, -1, -1)
	l, err := net.Listen("unix", socket)
	if err == nil {
		err = os.Chmod(socket, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				var asked [4]string
				for i := range asked {
					var n uint16
					if binary.Read(conn, binary.BigEndian, &n) != nil {
						return
					}
					b := make([]byte, n)
					if _, err := io.ReadFull(conn, b); err != nil {
						return
					}
					asked[i] = string(b)
				}
				answer := "NO"
				name, realm := asked[0], asked[3]
				for _, u := range []string{name, name + "@" + realm} {
					if p, known := users[u]; known && p == asked[1] {
						answer = "OK"
					}
				}
				_ = binary.Write(conn, binary.BigEndian, uint16(len(answer)))
				_, _ = io.WriteString(conn, answer)
			}()
		}
	}()
}

const cyrusConf = `configdirectory: %[1]s/conf
defaultpartition: default
partition-default: %[1]s/mail
cyrus_user: %[2]s
cyrus_group: %[3]s
servername: localhost
virtdomains: userid
defaultdomain: nowhere.test
unixhierarchysep: yes
altnamespace: yes
allowplaintext: yes
autocreate_quota: 0
autocreate_quota_messages: -1
autocreate_inbox_folders: Drafts | Sent | Trash | Archive
autocreate_subscribe_folders: Drafts | Sent | Trash | Archive
xlist-drafts: Drafts
xlist-sent: Sent
xlist-trash: Trash
xlist-archive: Archive
imapidlepoll: 1
maxlogins_per_user: 0
maxlogins_per_host: 0
sasl_pwcheck_method: saslauthd
sasl_saslauthd_path: %[1]s/auth/mux
sasl_mech_list: PLAIN LOGIN
`

const cyrusServices = `START {
  recover cmd="/usr/lib/cyrus/bin/ctl_cyrusdb -C %[1]s/imapd.conf -r"
}
SERVICES {
  imap cmd="%[2]s -C %[1]s/imapd.conf" listen="%[3]s" prefork=2
}
EVENTS {
}
`

// userName is the name of a user of the system.
func userName(t testing.TB, uid int) string {
	t.Helper()
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		t.Fatal(err)
	}
	return u.Username
}

// groupName is the name of a group of the system.
func groupName(t testing.TB, gid int) string {
	t.Helper()
	g, err := user.LookupGroupId(strconv.Itoa(gid))
	if err != nil {
		t.Fatal(err)
	}
	return g.Name
}
