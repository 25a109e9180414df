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

// MTA is a running Postfix of an organisation: it takes mail from loopback for
// anybody, keeps none and hands all of it on.
type MTA struct {
	Dir string
	// Addr takes what people send; After what comes back from a content filter.
	Addr, After string
	Log         string
}

// StartMTA starts one. more has lines for main.cf, such as relayhost; services
// those for master.cf.
func StartMTA(t testing.TB, more string, services ...string) *MTA {
	t.Helper()
	Require(t, "postfix")
	requireRoot(t)
	dir := folder(t)
	ports := freePorts(t, 2)
	uid, gid := ids(t, "postfix")
	m := &MTA{Dir: dir, Addr: "127.0.0.1:" + strconv.Itoa(ports[0]), After: "127.0.0.1:" + strconv.Itoa(ports[1]), Log: dir + "/log/postfix.log"}
	for _, sub := range []string{"conf", "spool"} {
		mkdir(t, filepath.Join(dir, sub), 0o755, -1, -1)
	}
	mkdir(t, dir+"/data", 0o755, uid, gid)
	mkdir(t, dir+"/log", 0o777, -1, -1)
	write(t, dir+"/conf/main.cf", fmt.Sprintf(mtaMain, dir, postfixDaemons)+more+"\n", 0o644)
	write(t, dir+"/conf/master.cf", fmt.Sprintf("127.0.0.1:%d inet n - n - - smtpd\n127.0.0.1:%d inet n - n - - smtpd\n%s%s", ports[0], ports[1], reinjection, strings.Join(services, "")+postfixServices), 0o644)
	for _, f := range []string{"postfix-files", "dynamicmaps.cf"} {
		if b, err := os.ReadFile("/etc/postfix/" + f); err == nil {
			write(t, dir+"/conf/"+f, string(b), 0o644)
		}
	}
	prepareSpool(t, dir, uid, gid)
	run(t, dir+"/log/postfix.out", postfixDaemons+"/master", "-s", "-c", dir+"/conf")
	await(t, "Postfix", []string{m.Log, dir + "/log/postfix.out"}, func() error {
		c, err := smtp.Dial(m.Addr)
		if err != nil {
			return err
		}
		defer c.Close()
		return c.Hello("localhost")
	})
	return m
}

// reinjection is what letterlock relay init prints for the listener behind it.
const reinjection = `  -o content_filter=
  -o receive_override_options=no_unknown_recipient_checks,no_header_body_checks,no_milters,no_address_mappings
  -o smtpd_recipient_restrictions=permit_mynetworks,reject
`

const mtaMain = `
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
myhostname = mta.example.org
mydomain = example.org
myorigin = example.org
mydestination =
mynetworks = 127.0.0.1/32
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
append_dot_mydomain = no
biff = no
alias_maps =
alias_database =
local_transport = error:no local delivery
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = permit_mynetworks, reject
message_size_limit = 104857600
mailbox_size_limit = 0
smtputf8_enable = yes
disable_dns_lookups = yes
smtp_host_lookup = native
smtp_tls_security_level = none
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
`

// FreePort is a port that nobody listens on at this moment.
func FreePort(t testing.TB) int { t.Helper(); return freePorts(t, 1)[0] }
