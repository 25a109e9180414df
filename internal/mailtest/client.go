package mailtest

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Login is where a mail program logs in, and how.
type Login struct {
	Addr           string
	User, Password string
	// TLS upgrades by STARTTLS, or with Implicit begins at once; nil stays in
	// cleartext.
	TLS      *tls.Config
	Implicit bool
}

// connect opens the connection; starttls tells whether it is yet to be upgraded.
func (l Login) connect() (c net.Conn, starttls bool, err error) {
	d := &net.Dialer{Timeout: time.Minute}
	if l.Implicit {
		c, err = tls.DialWithDialer(d, "tcp", l.Addr, l.TLS)
	} else {
		c, err = d.Dial("tcp", l.Addr)
	}
	if err != nil {
		return nil, false, err
	}
	return c, l.TLS != nil && !l.Implicit, c.SetDeadline(time.Now().Add(patience))
}

// patience is how long a conversation may take in all.
const patience = 10 * time.Minute

// Submit sends a message as a mail program does.
func Submit(l Login, from string, to []string, raw []byte) error {
	c, starttls, err := l.connect()
	if err != nil {
		return err
	}
	var sc *smtp.Client
	if starttls {
		if sc, err = smtp.NewClientStartTLS(c, l.TLS); err != nil {
			return fmt.Errorf("STARTTLS: %w", err)
		}
	} else {
		sc = smtp.NewClient(c)
	}
	defer sc.Close()
	if err := sc.Auth(sasl.NewPlainClient("", l.User, l.Password)); err != nil {
		return fmt.Errorf("login: %w", err)
	}
	if err := sc.SendMail(from, to, bytes.NewReader(raw)); err != nil {
		return err
	}
	return sc.Quit()
}

// Dial logs in to an IMAP server. The caller closes the client.
func Dial(l Login) (*imapclient.Client, error) {
	c, starttls, err := l.connect()
	if err != nil {
		return nil, err
	}
	var ic *imapclient.Client
	if starttls {
		if ic, err = imapclient.NewStartTLS(c, &imapclient.Options{TLSConfig: l.TLS}); err != nil {
			return nil, fmt.Errorf("STARTTLS: %w", err)
		}
	} else {
		ic = imapclient.New(c, nil)
	}
	if err := ic.Login(l.User, l.Password).Wait(); err != nil {
		ic.Close()
		return nil, fmt.Errorf("login: %w", err)
	}
	return ic, nil
}

// Message is one message as IMAP gives it.
type Message struct {
	UID   imap.UID
	Flags []imap.Flag
	Size  int64 // RFC822.SIZE
	Raw   []byte
}

// Fetch gets every message of a mailbox, in the order of their UIDs, without
// marking it as read. A server may answer in another order.
func Fetch(l Login, mailbox string) ([]Message, error) {
	c, err := Dial(l)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	box, err := c.Select(mailbox, nil).Wait()
	if err != nil || box.NumMessages == 0 {
		return nil, err
	}
	all := imap.SeqSet{}
	all.AddRange(1, box.NumMessages)
	got, err := c.Fetch(all, &imap.FetchOptions{UID: true, Flags: true, RFC822Size: true,
		BodySection: []*imap.FetchItemBodySection{{Peek: true}}}).Collect()
	if err != nil {
		return nil, err
	}
	out := make([]Message, len(got))
	for i, m := range got {
		out[i] = Message{UID: m.UID, Flags: m.Flags, Size: m.RFC822Size}
		if len(m.BodySection) > 0 {
			out[i].Raw = m.BodySection[0].Bytes
		}
	}
	c.Logout().Wait() // whatever it says, the messages are there
	slices.SortFunc(out, func(a, b Message) int { return cmp.Compare(a.UID, b.UID) })
	return out, nil
}

// Stored is what the upstream itself has in a mailbox.
func (u *Upstream) Stored(user, mailbox string) ([]Message, error) {
	return Fetch(Login{Addr: u.IMAPAddr, User: user, Password: u.options.Users[user]}, mailbox)
}
