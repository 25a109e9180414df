package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-message/mail"

	"letterlock.org/letterlock/internal/mailtest"
)

const (
	demoAlice    = "alice@example.org"
	demoBob      = "bob@example.org"
	demoPassword = "the-mail-servers-own-password"

	demoSubject = "Picnic under the old oak on Saturday"
	demoText    = "Dear Bob,\r\n\r\nlet us meet at noon, by the river. I bring the cake,\r\nyou bring the umbrella.\r\n\r\nAlice\r\n"
	demoFile    = "map-to-the-oak.txt"
	demoMap     = "From the mill, follow the river to the third bridge.\r\nThe oak stands on the left.\r\n"
)

// trust verifies the node's own certificate, as a mail program does that was
// given the CA.
func (n *demoNode) trust() *tls.Config {
	return &tls.Config{ServerName: "127.0.0.1", RootCAs: n.state.tls.Pool(), MinVersion: tls.VersionTLS12}
}

// letter is what Alice's mail program makes.
func (d *demo) letter() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Date: %s\r\nFrom: Alice <%s>\r\nTo: Bob <%s>\r\nSubject: %s\r\nMessage-ID: <picnic.%d@example.org>\r\n",
		d.now().Format(time.RFC1123Z), demoAlice, demoBob, demoSubject, d.now().UnixNano())
	b.WriteString("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=_demo\"\r\n\r\n")
	fmt.Fprintf(&b, "--=_demo\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s", demoText)
	fmt.Fprintf(&b, "\r\n--=_demo\r\nContent-Type: text/plain; name=%q\r\nContent-Disposition: attachment; filename=%q\r\nContent-Transfer-Encoding: base64\r\n\r\n%s\r\n--=_demo--\r\n",
		demoFile, demoFile, base64.StdEncoding.EncodeToString([]byte(demoMap)))
	return b.Bytes()
}

func (d *demo) submit(context.Context) (string, error) {
	if err := mailtest.Submit(d.alice.smtp(), demoAlice, []string{demoBob}, d.letter()); err != nil {
		return "", err
	}
	return "her bridge found his certificate, signed, encrypted, and the mail server took it", nil
}

// awaitStored is the first message that the mail server has in a mailbox.
func (d *demo) awaitStored(ctx context.Context, n *demoNode, mailbox string) (mailtest.Message, error) {
	for range 100 {
		got, err := d.upstream.Stored(n.account.Address, mailbox)
		if err != nil {
			return mailtest.Message{}, err
		}
		if len(got) > 0 {
			return got[0], nil
		}
		select {
		case <-ctx.Done():
			return mailtest.Message{}, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return mailtest.Message{}, fmt.Errorf("nothing arrived in %s within ten seconds", mailbox)
}

// checkStored makes sure that none of the letter can be read in raw.
func (d *demo) checkStored(raw []byte) error {
	if !bytes.Contains(raw, []byte("-----BEGIN PGP MESSAGE-----")) {
		return errors.New("it is not encrypted")
	}
	for _, secret := range []string{demoSubject, "Picnic", "umbrella", "river", demoFile, base64.StdEncoding.EncodeToString([]byte(demoMap))[:40]} {
		if bytes.Contains(raw, []byte(secret)) {
			return fmt.Errorf("it contains %q in clear", secret)
		}
	}
	return nil
}

func (d *demo) received() (mailtest.Message, error) {
	got, err := mailtest.Fetch(d.bob.imap(), "INBOX")
	if err != nil {
		return mailtest.Message{}, err
	}
	if len(got) != 1 {
		return mailtest.Message{}, fmt.Errorf("his mailbox has %d messages", len(got))
	}
	return got[0], nil
}

// view is a message as a person sees it.
type view struct {
	subject, from, status, text string
	files                       map[string]string
}

func viewOf(raw []byte) (v view, err error) {
	r, err := mail.CreateReader(bytes.NewReader(raw))
	if err != nil {
		return v, err
	}
	v.files = map[string]string{}
	v.subject, _ = r.Header.Subject()
	v.from, v.status = r.Header.Get("From"), r.Header.Get("Letterlock-Status")
	for {
		p, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			return v, nil
		}
		if err != nil {
			return v, err
		}
		b, err := io.ReadAll(p.Body)
		if err != nil {
			return v, err
		}
		if h, ok := p.Header.(*mail.AttachmentHeader); ok {
			name, _ := h.Filename()
			v.files[name] = string(b)
		} else {
			v.text += string(b)
		}
	}
}

// checkReceived makes sure that Bob sees exactly the letter, and that it says
// whose it is.
func (d *demo) checkReceived(m mailtest.Message) (string, error) {
	v, err := viewOf(m.Raw)
	if err != nil {
		return "", err
	}
	switch {
	case m.Size != int64(len(m.Raw)):
		return "", fmt.Errorf("RFC822.SIZE says %d, but it has %d bytes", m.Size, len(m.Raw))
	case v.subject != demoSubject:
		return "", fmt.Errorf("its subject is %q", v.subject)
	case !strings.Contains(v.text, "you bring the umbrella"):
		return "", errors.New("its text is not what Alice wrote")
	case v.files[demoFile] != demoMap:
		return "", errors.New("its attachment is not what Alice sent")
	case !strings.Contains(v.status, "signature=valid"):
		return "", fmt.Errorf("the signature is not valid: %q", v.status)
	}
	for _, k := range []imap.Flag{"$LetterlockEncrypted", "$LetterlockSigned"} {
		if !hasFlag(m.Flags, k) {
			return "", fmt.Errorf("the keyword %s is missing in %v", k, m.Flags)
		}
	}
	return "decrypted, signature valid", nil
}

func hasFlag(flags []imap.Flag, want imap.Flag) bool {
	for _, f := range flags {
		if strings.EqualFold(string(f), string(want)) {
			return true
		}
	}
	return false
}

// sentCopy files a letter in Sent, and compares what the mail server got with
// what comes back.
func (d *demo) sentCopy(ctx context.Context) (mailtest.Message, error) {
	letter := d.letter()
	c, err := mailtest.Dial(d.alice.imap())
	if err != nil {
		return mailtest.Message{}, err
	}
	defer c.Close()
	a := c.Append("Sent", int64(len(letter)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagSeen}})
	_, err = a.Write(letter)
	if err = errors.Join(err, a.Close()); err == nil {
		_, err = a.Wait()
	}
	if err != nil {
		return mailtest.Message{}, err
	}
	stored, err := d.awaitStored(ctx, d.alice, "Sent")
	if err == nil {
		err = d.checkStored(stored.Raw)
	}
	if err != nil {
		return stored, err
	}
	back, err := mailtest.Fetch(d.alice.imap(), "Sent")
	if err == nil && (len(back) != 1 || !bytes.Equal(back[0].Raw, letter)) {
		err = errors.New("what comes back is not byte for byte what was filed")
	}
	return stored, err
}
