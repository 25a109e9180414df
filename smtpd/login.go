package smtpd

import (
	"crypto/hmac"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// errLogin means that the upstream refused the login, or offers none that we have.
var errLogin = errors.New("the mail server refused the login")

// ErrUpstreamPassword means that the upstream refused the account's user or
// password, and nothing else about the login.
var ErrUpstreamPassword = fmt.Errorf("%w: wrong user or password", errLogin)

// rebuff is an upstream that answers, and lets us do nothing.
type rebuff struct {
	step  string // at which
	reply reply  // zero where it offers no login that we have
	// offered are the mechanisms of the logins that it offers then.
	offered []string
}

// atLogin is the step of a login.
const atLogin = "the login"

func (e *rebuff) Error() string { return e.said() }

// Unwrap: what is put off has nothing to do with the password (RFC 4954, Section 6:
// 454; RFC 5321, Section 3.8: 421).
func (e *rebuff) Unwrap() error {
	switch {
	case e.step != atLogin, e.reply.temporary():
		return errUpstream
	case e.reply.Code == 535:
		return ErrUpstreamPassword
	}
	return errLogin
}

// said is what the upstream answered, for a person.
func (e *rebuff) said() string {
	r := e.reply
	switch {
	case e.step != atLogin:
		return strings.TrimSpace("at " + e.step + " it says " + r.Error())
	case r.Code == 0:
		offered := "none"
		if len(e.offered) > 0 {
			offered = clean(strings.Join(e.offered, ", "), 100)
		}
		return "it offers none that letterlock has (PLAIN, LOGIN, CRAM-MD5) but " + offered + "; its operator may allow one, or have app passwords"
	case r.temporary():
		return strings.TrimSpace("it lets nobody log in now: " + r.Error())
	}
	return strings.TrimSuffix(fmt.Sprintf("%s (%d %s): %s", e.why(), r.Code, r.Status, r.Text), ": ")
}

// why tells apart why a login is refused for good: RFC 4954, Section 6.
func (e *rebuff) why() string {
	switch e.reply.Code {
	case 535:
		return "wrong user or password"
	case 534: // Gmail's too, where it wants an app password
		return "it wants another way to log in; some servers mean a password made for one program (app password)"
	case 538, 530:
		return "it takes passwords under TLS only"
	case 525, 550, 554:
		return "this user may not log in there"
	}
	return "it doesn't understand it"
}

// login uses PLAIN (RFC 4616), else LOGIN, else CRAM-MD5 (RFC 2195), for the few
// that have nothing else. The caller's Mode has made sure that the connection may
// carry a password.
func (c *client) login(u Upstream) error {
	if u.User == "" {
		return nil
	}
	no := &rebuff{step: atLogin, offered: c.auth}
	for _, mech := range []string{"PLAIN", "LOGIN", "CRAM-MD5"} {
		if !slices.Contains(c.auth, mech) {
			continue
		}
		r, err := c.authenticate(mech, u)
		if err != nil || r.ok() {
			return err
		}
		// RFC 4954, Section 4: 504 is for a mechanism, offered or not.
		if no = (&rebuff{step: atLogin, reply: r}); r.Code != 504 {
			break
		}
	}
	return no
}

// maxCommand is the length that every server takes, with its CRLF (RFC 5321,
// Section 4.5.3.1.4).
const maxCommand = 512

// exchange is what a mechanism has us say.
type exchange struct {
	auth    string                          // the command
	answers []func(challenge string) string // to what it is answered, in base64 both
	least   int                             // of answers, before which nobody is logged in
}

func (u Upstream) exchange(mech string) exchange {
	x := exchange{auth: "AUTH " + mech}
	say := func(words string) {
		text := base64.StdEncoding.EncodeToString([]byte(words))
		x.answers = append(x.answers, func(string) string { return text })
	}
	switch mech {
	case "PLAIN":
		say("\x00" + u.User + "\x00" + u.Password)
		// A long one goes on a line of its own (RFC 4954, Section 4); some servers want
		// each so, and ask for what they have got.
		if initial := x.auth + " " + x.answers[0](""); len(initial)+2 <= maxCommand {
			x.auth = initial
		} else {
			x.least = 1
		}
	case "LOGIN": // whatever it prompts for
		say(u.User)
		say(u.Password)
		x.least = 2
	case "CRAM-MD5":
		x.answers, x.least = []func(string) string{u.cramMD5}, 1
	}
	return x
}

func (u Upstream) cramMD5(challenge string) string {
	text, err := base64.StdEncoding.DecodeString(challenge)
	if err != nil {
		return "*" // RFC 4954, Section 4: as we like, no login
	}
	mac := hmac.New(md5.New, []byte(u.Password))
	mac.Write(text)
	return base64.StdEncoding.EncodeToString([]byte(u.User + " " + hex.EncodeToString(mac.Sum(nil))))
}

// authenticate runs one mechanism and returns the reply that ends it.
func (c *client) authenticate(mech string, u Upstream) (reply, error) {
	x := u.exchange(mech)
	secrets := []string{x.auth, u.Password}
	r, err := c.ask(x.auth, c.t.Greet)
	for err == nil && r.Code == 334 && len(x.answers) > 0 {
		words := x.answers[0](r.Text)
		x.answers, secrets = x.answers[1:], append(secrets, words)
		x.least--
		r, err = c.ask(words, c.t.Greet)
	}
	if err == nil && r.ok() && x.least > 0 {
		err = fmt.Errorf("login: reply %d before the end: %w", r.Code, errUpstream)
	}
	if telling(r.Text, secrets...) {
		r.Text = ""
	}
	return r, err
}

// telling tells whether a server's words repeat a secret, or a piece of it.
func telling(text string, secrets ...string) bool {
	for _, s := range secrets {
		if s != "" && strings.Contains(text, s) {
			return true
		}
		for word := range strings.FieldsSeq(text) {
			if len(word) > 5 && strings.Contains(s, word) {
				return true
			}
		}
	}
	return false
}
