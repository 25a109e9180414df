package peer

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// DovecotOptions change the Dovecot that is started. The zero value knows Alice
// and Bob.
type DovecotOptions struct {
	Users      map[string]string // password by user
	Capability string            // imap_capability; "" means what it can do
	Rawlog     bool              // keep what every session says
	Extra      string            // more configuration
}

// DovecotServer is a running Dovecot.
type DovecotServer struct {
	Dir     string
	Addr    string // plain IMAP with STARTTLS
	TLSAddr string // implicit TLS
	LMTP    string // path of the LMTP socket
	SASL    string // path of the SASL socket for Postfix
	CA      string // PEM file that its certificate is to be verified with
	Users   map[string]string
	Mail    string // folder of all stored mail: Mail/DOMAIN/LOCAL/Maildir
	Rawlog  string // folder of what was said: Rawlog/USER/…; "" unless asked for
	Log     string
}

// Dovecot starts a Dovecot for this test.
func Dovecot(t testing.TB) *DovecotServer { t.Helper(); return StartDovecot(t, DovecotOptions{}) }

// StartDovecot starts a Dovecot for this test, as the options say.
func StartDovecot(t testing.TB, o DovecotOptions) *DovecotServer {
	t.Helper()
	Require(t, "dovecot")
	requireRoot(t)
	if o.Users == nil {
		o.Users = map[string]string{Alice: AlicePassword, Bob: BobPassword}
	}
	uid, gid := ids(t, "vmailtest", "nobody")
	dir := folder(t)
	ports := freePorts(t, 2)
	tlsFiles := makeCertificates(t, filepath.Join(dir, "tls"))
	d := &DovecotServer{
		Dir: dir, Addr: "127.0.0.1:" + strconv.Itoa(ports[0]), TLSAddr: "127.0.0.1:" + strconv.Itoa(ports[1]),
		LMTP: dir + "/run/lmtp", SASL: dir + "/run/auth-smtp", CA: tlsFiles.ca, Users: o.Users,
		Mail: dir + "/mail", Log: dir + "/log/dovecot.log",
	}
	for _, sub := range []string{"run", "state", "log"} {
		mkdir(t, filepath.Join(dir, sub), 0o755, -1, -1)
	}
	mkdir(t, d.Mail, 0o755, uid, gid)
	users := ""
	for u, p := range o.Users {
		users += u + ":{PLAIN}" + p + "\n"
		if o.Rawlog {
			d.Rawlog = dir + "/rawlog"
			mkdir(t, filepath.Join(d.Rawlog, u), 0o755, uid, gid)
		}
	}
	write(t, dir+"/users", users, 0o644)
	conf := fmt.Sprintf(dovecotConf, dir, ports[0], ports[1], tlsFiles.cert, tlsFiles.key, uid, gid)
	if o.Capability != "" {
		conf += "imap_capability = " + o.Capability + "\n"
	}
	if o.Rawlog {
		conf += "protocol imap {\n  rawlog_dir = " + d.Rawlog + "/%u\n}\n"
	}
	write(t, dir+"/dovecot.conf", conf+o.Extra+"\n", 0o644)
	run(t, dir+"/log/dovecot.out", "dovecot", "-F", "-c", dir+"/dovecot.conf")
	await(t, "Dovecot", []string{d.Log, dir + "/log/dovecot.out"}, func() error { return d.ready() })
	return d
}

// ready logs every user in once.
func (d *DovecotServer) ready() error {
	for u, p := range d.Users {
		c, err := net.DialTimeout("tcp", d.Addr, 10*time.Second)
		if err != nil {
			return err
		}
		c.SetDeadline(time.Now().Add(time.Minute))
		ic := imapclient.New(c, nil)
		err = ic.Login(u, p).Wait()
		ic.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// Client logs in to Dovecot itself; the connection ends with the test.
func (d *DovecotServer) Client(t testing.TB, user string) *imapclient.Client {
	t.Helper()
	c, err := imapclient.DialTLS(d.TLSAddr, &imapclient.Options{TLSConfig: &tls.Config{ServerName: "localhost", RootCAs: Pool(t, d.CA)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Login(user, d.Users[user]).Wait(); err != nil {
		t.Fatal(err)
	}
	return c
}

// Append stores messages in a mailbox, which is made where it is missing, and
// returns their UIDs. Bytes are kept as they are, except that Dovecot's maildir
// reads bare LF as CRLF.
func (d *DovecotServer) Append(t testing.TB, user, mailbox string, messages ...[]byte) []imap.UID {
	t.Helper()
	c := d.Client(t, user)
	defer c.Close()
	if !strings.EqualFold(mailbox, "INBOX") {
		c.Create(mailbox, nil).Wait() // may exist
	}
	uids := make([]imap.UID, 0, len(messages))
	for _, m := range messages {
		a := c.Append(mailbox, int64(len(m)), nil)
		_, err := bytes.NewReader(m).WriteTo(a)
		if err == nil {
			err = a.Close()
		}
		data, waitErr := a.Wait()
		if err != nil || waitErr != nil {
			t.Fatalf("append to %s: %v %v", mailbox, err, waitErr)
		}
		uids = append(uids, data.UID)
	}
	return uids
}

const dovecotConf = `
base_dir = %[1]s/run
state_dir = %[1]s/state
instance_name = letterlock-%[2]d
log_path = %[1]s/log/dovecot.log
protocols = imap lmtp
listen = 127.0.0.1
ssl = yes
ssl_cert = <%[4]s
ssl_key = <%[5]s
disable_plaintext_auth = no
auth_mechanisms = plain login
first_valid_uid = 1
mail_uid = %[6]d
mail_gid = %[7]d
mail_home = %[1]s/mail/%%d/%%n
mail_location = maildir:~/Maildir
mail_max_userip_connections = 100
mail_fsync = never
lmtp_save_to_detail_mailbox = no
recipient_delimiter = +
postmaster_address = postmaster@example.test
hostname = localhost
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%%u %[1]s/users
}
userdb {
  driver = static
  args = uid=%[6]d gid=%[7]d home=%[1]s/mail/%%d/%%n
}
namespace inbox {
  inbox = yes
  separator = /
  mailbox Drafts {
    auto = subscribe
    special_use = \Drafts
  }
  mailbox Sent {
    auto = subscribe
    special_use = \Sent
  }
  mailbox Trash {
    auto = subscribe
    special_use = \Trash
  }
  mailbox Archive {
    auto = subscribe
    special_use = \Archive
  }
}
service imap-login {
  inet_listener imap {
    address = 127.0.0.1
    port = %[2]d
  }
  inet_listener imaps {
    address = 127.0.0.1
    port = %[3]d
    ssl = yes
  }
}
service lmtp {
  unix_listener lmtp {
    mode = 0666
  }
}
service auth {
  unix_listener auth-smtp {
    mode = 0666
  }
}
service stats {
  unix_listener stats-writer {
    mode = 0666
  }
}
`
