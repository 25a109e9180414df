package peer

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// CourierServer is a running Courier IMAP server. It keeps all mailboxes below
// INBOX, with a dot between names, has UIDPLUS, and none of LITERAL+, ESEARCH,
// MOVE, CONDSTORE, SPECIAL-USE; ENABLE it has for UTF8=ACCEPT alone.
type CourierServer struct {
	Addr string // plain IMAP
	Mail string // folder of all stored mail: one Maildir for each user
}

const courierCapabilities = "IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT THREAD=REFERENCES SORT QUOTA IDLE"

// StartCourier starts one with the passwords by user. What happens before the
// login is ours, since Courier asks a daemon that has one place in the system;
// from the answer to LOGIN on it is Courier's own program that speaks.
func StartCourier(t testing.TB, users map[string]string) *CourierServer {
	t.Helper()
	root := courierRoot(t)
	dir := folder(t)
	libraries, _ := filepath.Glob(root + "/lib/*-linux-gnu")
	env := append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(append(libraries, root+"/lib"), ":"))
	for u := range users {
		for _, sub := range []string{"cur", "new", "tmp"} {
			mkdir(t, filepath.Join(dir, u, "Maildir", sub), 0o700, -1, -1)
		}
	}
	// It looks for changes through another daemon, which would go on for a while
	// after the test if it were not ours.
	id := filepath.Base(dir)
	run(t, dir+"/gamin.out", root+"/libexec/gam_server", "--notimeout", id)
	env = append(env, "GAM_CLIENT_ID="+id, "IMAP_CAPABILITY="+courierCapabilities, "IMAP_KEYWORDS=1", "IMAP_ACL=1", "IMAP_USELOCKS=1", "IMAP_ENHANCEDIDLE=1",
		"IMAP_STARTTLS=NO", "IMAP_TLS_REQUIRED=0", "IMAP_IDLE_TIMEOUT=1", "IMAP_TRASHFOLDERNAME=Trash",
		"PROTOCOL=IMAP", "TCPREMOTEIP=127.0.0.1", "TCPREMOTEPORT=1")
	l := inetd(t, func(conn net.Conn) *exec.Cmd {
		user, tag := courierLogin(conn, users)
		if user == "" {
			return nil
		}
		session := exec.Command(root+"/bin/imapd", "Maildir")
		session.Dir = filepath.Join(dir, user)
		session.Env = append(env[:len(env):len(env)], "AUTHENTICATED="+user, "IMAPLOGINTAG="+tag)
		return session
	})
	return &CourierServer{Addr: l, Mail: dir}
}

// courierLogin talks until somebody has logged in.
func courierLogin(conn net.Conn, users map[string]string) (user, tag string) {
	fmt.Fprintf(conn, "* OK [CAPABILITY %s] Courier-IMAP ready.\r\n", courierCapabilities)
	for {
		words := strings.Fields(readLine(conn))
		if len(words) < 2 {
			return "", ""
		}
		tag := words[0]
		switch {
		case strings.EqualFold(words[1], "LOGIN") && len(words) == 4:
			u, p := strings.Trim(words[2], `"`), strings.Trim(words[3], `"`)
			if want, known := users[u]; known && want == p {
				return u, tag
			}
			fmt.Fprintf(conn, "%s NO Login failed.\r\n", tag)
		case strings.EqualFold(words[1], "AUTHENTICATE") && strings.EqualFold(words[2], "PLAIN") && len(words) == 3:
			fmt.Fprint(conn, "+ \r\n")
			b, _ := base64.StdEncoding.DecodeString(readLine(conn))
			if f := strings.Split(string(b), "\x00"); len(f) == 3 && users[f[1]] == f[2] {
				return f[1], tag
			}
			fmt.Fprintf(conn, "%s NO Login failed.\r\n", tag)
		case strings.EqualFold(words[1], "CAPABILITY"):
			fmt.Fprintf(conn, "* CAPABILITY %s\r\n%s OK CAPABILITY completed\r\n", courierCapabilities, tag)
		case strings.EqualFold(words[1], "LOGOUT"):
			fmt.Fprintf(conn, "* BYE Courier-IMAP server shutting down\r\n%s OK LOGOUT completed\r\n", tag)
			return "", ""
		default:
			fmt.Fprintf(conn, "%s BAD Error in IMAP command received by server.\r\n", tag)
		}
	}
}

// readLine reads no byte beyond the line, since the next ones are another
// program's.
func readLine(r io.Reader) string {
	var b strings.Builder
	var one [1]byte
	for b.Len() < 8192 {
		if _, err := r.Read(one[:]); err != nil {
			return ""
		}
		if one[0] == '\n' {
			break
		}
		b.WriteByte(one[0])
	}
	return strings.TrimSuffix(b.String(), "\r")
}

// inetd serves each connection with a program of its own that has it as standard
// input and output, until the test ends.
func inetd(t testing.TB, program func(net.Conn) *exec.Cmd) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
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
				p := program(conn)
				if p == nil {
					return
				}
				f, err := conn.(*net.TCPConn).File()
				if err != nil {
					return
				}
				defer f.Close()
				p.Stdin, p.Stdout = f, f
				p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
				_ = p.Run()
			}()
		}
	}()
	return l.Addr().String()
}

// courierRoot is the folder that holds bin and lib of Courier: of the imapd that
// LETTERLOCK_COURIER names, of the installed one, or, where peers are required, of
// Debian's packages, which can't be installed beside Dovecot, taken out of them.
func courierRoot(t testing.TB) string {
	t.Helper()
	imapd := os.Getenv("LETTERLOCK_COURIER")
	if _, err := os.Stat("/usr/lib/courier/courier/imaplogin"); imapd == "" && err == nil {
		imapd = "/usr/bin/imapd"
	}
	if imapd != "" {
		return filepath.Dir(filepath.Dir(imapd))
	}
	if !required() {
		t.Skip("peer Courier is not installed, and LETTERLOCK_COURIER names no program (apt-get download courier-imap courier-authlib libcourier-unicode4 libgamin0 gamin; dpkg -x)")
	}
	dir := folder(t)
	get := exec.Command("sh", "-c", "apt-get -q download courier-imap courier-authlib libcourier-unicode4 libgamin0 gamin && for p in *.deb; do dpkg -x $p . || exit; done")
	get.Dir = dir
	if out, err := get.CombinedOutput(); err != nil {
		missing(t, "peer Courier: its packages could not be had: %v\n%s", err, out)
	}
	return filepath.Join(dir, "usr")
}
