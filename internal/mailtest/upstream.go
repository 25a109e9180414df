// Package mailtest is a throwaway upstream for tests and for the demo: an IMAP
// server and a submission server that delivers into it, in memory, on real
// sockets of 127.0.0.1. It records what it is told, so that a test can look for
// what should never have been said, and it fails where a test wants it to.
//
// The peers that are other people's programs are in mailtest/peer.
package mailtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
	"github.com/emersion/go-smtp"
)

// Options configure an Upstream.
type Options struct {
	// Users are the passwords by address; required.
	Users map[string]string
	// Record keeps every byte that clients send, for Heard.
	Record bool
	// Fault is asked at each point of a submission; nil never fails.
	Fault Fault
}

// Upstream is a running mail server. Its methods may be called concurrently.
type Upstream struct {
	IMAPAddr string // 127.0.0.1:PORT, cleartext
	SMTPAddr string // 127.0.0.1:PORT, cleartext, AUTH required

	options Options
	imap    *imapserver.Server
	smtp    *smtp.Server
	users   map[string]*imapmemserver.User // by lower-case address
	heard   recorder

	mu        sync.Mutex // guards what follows
	delivered []Delivery
}

// Delivery is a message that the upstream took.
type Delivery struct {
	From string
	To   []string
	Raw  []byte
}

// Mailboxes that every user has, with their special use (RFC 6154).
var mailboxes = map[string][]imap.MailboxAttr{
	"INBOX": nil, "Sent": {imap.MailboxAttrSent}, "Drafts": {imap.MailboxAttrDrafts},
	"Trash": {imap.MailboxAttrTrash}, "Archive": {imap.MailboxAttrArchive},
}

// Start opens an upstream on ports of its own. The caller closes it.
func Start(o Options) (*Upstream, error) {
	u := &Upstream{options: o, users: map[string]*imapmemserver.User{}}
	mem := imapmemserver.New()
	for name, password := range o.Users {
		user := imapmemserver.NewUser(name, password)
		for box, use := range mailboxes {
			if err := user.Create(box, &imap.CreateOptions{SpecialUse: use}); err != nil {
				return nil, fmt.Errorf("making %s of %s: %w", box, name, err)
			}
			if err := user.Subscribe(box); err != nil {
				return nil, fmt.Errorf("subscribing %s of %s: %w", box, name, err)
			}
		}
		mem.AddUser(user)
		u.users[strings.ToLower(name)] = user
	}
	silent := log.New(io.Discard, "", 0)
	u.imap = imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return taking{mem.NewSession().(imapserver.SessionIMAP4rev2)}, nil, nil
		},
		Caps: imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapUIDPlus: {}, imap.CapMove: {}, imap.CapNamespace: {},
			imap.CapSpecialUse: {}, imap.CapListExtended: {}, imap.CapListStatus: {}, imap.CapUnselect: {}, imap.CapESearch: {}},
		InsecureAuth: true, Logger: silent,
	})
	u.smtp = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &session{up: u, conn: c}, nil }))
	u.smtp.Domain, u.smtp.AllowInsecureAuth = "upstream.invalid", true
	u.smtp.MaxMessageBytes, u.smtp.MaxRecipients, u.smtp.MaxLineLength = 100<<20, 100, 1<<20
	u.smtp.EnableSMTPUTF8, u.smtp.EnableDSN = true, true
	u.smtp.ErrorLog = silent
	if err := u.listen(); err != nil {
		return nil, err
	}
	return u, nil
}

func (u *Upstream) listen() error {
	il, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("opening the IMAP server: %w", err)
	}
	sl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(fmt.Errorf("opening the SMTP server: %w", err), il.Close())
	}
	u.IMAPAddr, u.SMTPAddr = il.Addr().String(), sl.Addr().String()
	if u.options.Record {
		il, sl = &listener{il, &u.heard}, &listener{sl, &u.heard}
	}
	go u.imap.Serve(il)
	go u.smtp.Serve(sl)
	return nil
}

// Close ends all connections and forgets all mail.
func (u *Upstream) Close() error { return errors.Join(u.imap.Close(), u.smtp.Close()) }

// Heard is every byte that clients sent, if Record was set, connection by
// connection in no order.
func (u *Upstream) Heard() []byte { return u.heard.bytes() }

// Delivered are the messages that were submitted and taken.
func (u *Upstream) Delivered() []Delivery {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]Delivery(nil), u.delivered...)
}

// Deliver puts a message into a user's mailbox.
func (u *Upstream) Deliver(user, mailbox string, raw []byte) error {
	box, ok := u.users[strings.ToLower(user)]
	if !ok {
		return fmt.Errorf("the upstream has no user %s", user)
	}
	_, err := box.Append(mailbox, literal{bytes.NewReader(raw), int64(len(raw))}, &imap.AppendOptions{Time: time.Now()})
	return err
}

// literal is what imapmemserver takes messages as.
type literal struct {
	io.Reader
	size int64
}

func (l literal) Size() int64 { return l.size }
