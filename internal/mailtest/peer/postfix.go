package peer

import (
	"fmt"
	"net/smtp"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const postfixDaemons = "/usr/lib/postfix/sbin"

// PostfixServer is a running Postfix that takes submissions for the users of a
// Dovecot and delivers them there.
type PostfixServer struct {
	Dir     string
	Addr    string // plain with STARTTLS; AUTH required
	TLSAddr string // implicit TLS; AUTH required
	CA      string
	Log     string
	Dovecot *DovecotServer
}

// Postfix starts a Dovecot and a Postfix before it, for this test.
func Postfix(t testing.TB) *PostfixServer { t.Helper(); return StartPostfix(t, Dovecot(t), "") }

// StartPostfix starts a Postfix before d; extra is more lines for main.cf.
func StartPostfix(t testing.TB, d *DovecotServer, extra string) *PostfixServer {
	t.Helper()
	Require(t, "postfix")
	requireRoot(t)
	dir := folder(t)
	ports := freePorts(t, 2)
	tlsFiles := makeCertificates(t, filepath.Join(dir, "tls"))
	uid, gid := ids(t, "postfix")
	p := &PostfixServer{
		Dir: dir, Addr: "127.0.0.1:" + strconv.Itoa(ports[0]), TLSAddr: "127.0.0.1:" + strconv.Itoa(ports[1]),
		CA: tlsFiles.ca, Log: dir + "/log/postfix.log", Dovecot: d,
	}
	for _, sub := range []string{"conf", "spool"} {
		mkdir(t, filepath.Join(dir, sub), 0o755, -1, -1)
	}
	mkdir(t, dir+"/data", 0o755, uid, gid)
	mkdir(t, dir+"/log", 0o777, -1, -1)
	domains, boxes := map[string]bool{}, ""
	for u := range d.Users {
		domains[u[strings.LastIndex(u, "@")+1:]] = true
		boxes += u + " ok\n"
	}
	list := ""
	for name := range domains {
		list += name + " ok\n"
	}
	write(t, dir+"/conf/vdomains", list, 0o644)
	write(t, dir+"/conf/vmailbox", boxes, 0o644)
	write(t, dir+"/conf/main.cf", fmt.Sprintf(postfixMain, dir, postfixDaemons, tlsFiles.cert, tlsFiles.key, d.LMTP, d.SASL)+extra+"\n", 0o644)
	write(t, dir+"/conf/master.cf", postfixMaster(ports[0], ports[1]), 0o644)
	for _, f := range []string{"postfix-files", "dynamicmaps.cf"} {
		if b, err := os.ReadFile("/etc/postfix/" + f); err == nil {
			write(t, dir+"/conf/"+f, string(b), 0o644)
		}
	}
	prepareSpool(t, dir, uid, gid)
	run(t, dir+"/log/postfix.out", postfixDaemons+"/master", "-s", "-c", dir+"/conf")
	await(t, "Postfix", []string{p.Log, dir + "/log/postfix.out"}, func() error {
		c, err := smtp.Dial(p.Addr)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.Hello("localhost"); err != nil {
			return err
		}
		for u, pw := range d.Users {
			return c.Auth(smtp.PlainAuth("", u, pw, "127.0.0.1"))
		}
		return nil
	})
	return p
}

// prepareSpool makes the queue's folders as Postfix's own start script does.
func prepareSpool(t testing.TB, dir string, uid, gid int) {
	t.Helper()
	_, drop := ids(t, "postfix")
	for _, sub := range []string{"active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"} {
		mkdir(t, filepath.Join(dir, "spool", sub), 0o700, uid, 0)
	}
	mkdir(t, dir+"/spool/pid", 0o755, -1, -1)
	mkdir(t, dir+"/spool/public", 0o755, uid, drop)
	mkdir(t, dir+"/spool/maildrop", 0o730, uid, drop)
}

// Queue is what lies in Postfix's own queue, file contents one after another:
// for canaries.
func (p *PostfixServer) Queue(t testing.TB) []byte {
	t.Helper()
	var all []byte
	filepath.WalkDir(filepath.Join(p.Dir, "spool"), func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if b, err := os.ReadFile(path); err == nil {
				all = append(all, b...)
			}
		}
		return nil
	})
	return all
}

const postfixMain = `
compatibility_level = 3.6
config_directory = %[1]s/conf
queue_directory = %[1]s/spool
data_directory = %[1]s/data
daemon_directory = %[2]s
command_directory = /usr/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = %[1]s/log/postfix.log
maillog_file_prefixes = %[1]s/log
myhostname = localhost
mydomain = example.test
myorigin = example.test
mydestination =
mynetworks = 127.0.0.1/32
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
append_dot_mydomain = no
biff = no
alias_maps =
alias_database =
local_transport = error:no local delivery
default_transport = error:no delivery outside the test
relay_transport = error:no relay
virtual_mailbox_domains = texthash:%[1]s/conf/vdomains
virtual_mailbox_maps = texthash:%[1]s/conf/vmailbox
virtual_transport = lmtp:unix:%[5]s
recipient_delimiter = +
message_size_limit = 104857600
mailbox_size_limit = 0
virtual_mailbox_limit = 0
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = %[6]s
smtpd_sasl_security_options = noanonymous
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
smtpd_tls_security_level = may
smtpd_tls_auth_only = no
smtpd_tls_cert_file = %[3]s
smtpd_tls_key_file = %[4]s
smtputf8_enable = yes
disable_dns_lookups = yes
smtp_host_lookup = native
minimal_backoff_time = 5s
maximal_backoff_time = 20s
queue_run_delay = 5s
`

func postfixMaster(plain, tls int) string {
	return fmt.Sprintf("127.0.0.1:%d inet n - n - - smtpd -o smtpd_tls_wrappermode=no\n"+
		"127.0.0.1:%d inet n - n - - smtpd -o smtpd_tls_wrappermode=yes\n", plain, tls) + postfixServices
}

// postfixServices is what every Postfix needs behind its listeners.
const postfixServices = `pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
lmtp unix - - n - - lmtp
smtp unix - - n - - smtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`
