package peer

import (
	"fmt"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Exim is a running Exim that takes mail from loopback for anybody and hands all
// of it on.
type Exim struct{ Addr, Log string }

// StartExim starts one that hands mail to smarthost, HOST:PORT.
func StartExim(t testing.TB, smarthost string) *Exim {
	t.Helper()
	requireRoot(t)
	binary := eximBinary(t)
	if err := exec.Command("unshare", "-m", "true").Run(); err != nil {
		missing(t, "Exim has to see a user of its own in /etc/passwd, and no mount namespace can be made: %v", err)
	}
	dir := folder(t)
	const id = 27199 // of nobody else; Exim's user is compiled in by name
	mkdir(t, dir+"/spool", 0o750, id, id)
	mkdir(t, dir+"/log", 0o755, id, id)
	for _, f := range []string{"passwd", "group"} {
		b, err := os.ReadFile("/etc/" + f)
		if err != nil {
			t.Fatal(err)
		}
		line := map[string]string{"passwd": "Debian-exim:x:%d:%[1]d::/:/usr/sbin/nologin\n", "group": "Debian-exim:x:%d:\n"}[f]
		text := string(b)
		if !strings.Contains(text, "Debian-exim:") {
			text = strings.TrimRight(text, "\n") + "\n" + fmt.Sprintf(line, id)
		}
		write(t, dir+"/"+f, text, 0o644)
	}
	port := freePorts(t, 1)[0]
	host, to, _ := strings.Cut(smarthost, ":")
	write(t, dir+"/exim.conf", fmt.Sprintf(eximConf, dir, binary, port, host, to), 0o644)
	e := &Exim{Addr: fmt.Sprintf("127.0.0.1:%d", port), Log: dir + "/log/mainlog"}
	run(t, dir+"/log/out", "unshare", "-m", "sh", "-c", `mount --bind "$0/passwd" /etc/passwd && mount --bind "$0/group" /etc/group && exec "$1" -C "$0/exim.conf" -bdf -q1s`, dir, binary)
	await(t, "Exim", []string{e.Log, dir + "/log/out"}, func() error {
		c, err := smtp.Dial(e.Addr)
		if err != nil {
			return err
		}
		defer c.Close()
		return c.Hello("localhost")
	})
	return e
}

// eximBinary is Exim's program: LETTERLOCK_EXIM, the installed one, or, where
// peers are required, that of Debian's package, which can't be installed beside
// Postfix, taken out of it.
func eximBinary(t testing.TB) string {
	t.Helper()
	if b := os.Getenv("LETTERLOCK_EXIM"); b != "" {
		return b
	}
	for _, b := range []string{"/usr/sbin/exim4", "/usr/sbin/exim"} {
		if _, err := os.Stat(b); err == nil {
			return b
		}
	}
	if !required() {
		t.Skip("peer Exim is not installed, and LETTERLOCK_EXIM names no program (apt-get download exim4-daemon-light; dpkg -x)")
	}
	dir := folder(t)
	get := exec.Command("sh", "-c", "apt-get -q download exim4-daemon-light && dpkg -x exim4-daemon-light*.deb .")
	get.Dir = dir
	if out, err := get.CombinedOutput(); err != nil {
		missing(t, "peer Exim: its package could not be had: %v\n%s", err, out)
	}
	return filepath.Join(dir, "usr/sbin/exim4")
}

const eximConf = `primary_hostname = exim.example.org
domainlist local_domains =
spool_directory = %[1]s/spool
log_file_path = %[1]s/log/%%slog
exim_path = %[2]s
pid_file_path = %[1]s/spool/exim.pid
deliver_drop_privilege
local_interfaces = <; 127.0.0.1
daemon_smtp_ports = %[3]d
host_lookup =
rfc1413_query_timeout = 0s
acl_smtp_rcpt = accept
acl_smtp_data = accept
tls_advertise_hosts =
smtputf8_advertise_hosts = *
keep_environment =
message_size_limit = 100M
begin routers
all:
  driver = manualroute
  domains = *
  transport = smart
  route_list = * %[4]s::%[5]s
  self = send
begin transports
smart:
  driver = smtp
  hosts_avoid_tls = *
  allow_localhost
begin retry
* * F,1h,1s
`
