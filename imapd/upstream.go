package imapd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"

	"letterlock.org/letterlock/imapd/wire"
)

var (
	errUpstreamRefused = errors.New("upstream refused the login")
	errUpstreamLimit   = errors.New("upstream allows no more connections")
	errUpstreamPolicy  = errors.New("upstream is not to be trusted with credentials")
)

// upstream is the connection to an account's server.
type upstream struct {
	conn    *patientConn
	r       *wire.ResponseReader // of the responder's goroutine once the relay runs
	w       *bufio.Writer        // of the command goroutine
	caps    map[string]bool      // upper case
	capList []string             // as the server spells them
	tag     int
}

// connect dials, secures and logs in. Credentials go out only on a connection
// that is as the account wants it.
func (s *session) connect(ctx context.Context, a *Account, password string) (_ *upstream, err error) {
	conn, err := a.Dial(ctx)
	if err != nil {
		return nil, err
	}
	u := &upstream{}
	u.attach(conn, s.srv.c.IOTimeout, s.srv.c.Limits)
	u.conn.read.Store(int64(time.Minute))
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() {
		if !stop() && err == nil {
			err = ctx.Err()
		}
		if err != nil {
			_ = u.conn.Close()
		}
	}()
	if err := u.greeting(); err != nil {
		return nil, err
	}
	if a.StartTLS != nil {
		if err := u.startTLS(ctx, a.StartTLS, s); err != nil {
			return nil, err
		}
	}
	if err := u.needCapabilities(); err != nil {
		return nil, err
	}
	if err := u.login(a.User, password); err != nil {
		return nil, err
	}
	if err := u.needCapabilities(); err != nil {
		return nil, err
	}
	u.conn.read.Store(int64(s.srv.c.IdleTimeout))
	return u, nil
}

// connectOrYield is connect. Where the upstream allows no more connections the
// account's indexer gives up its own first, and the server gets time to see it.
func (s *session) connectOrYield(ctx context.Context, a *Account, password string) (*upstream, error) {
	up, err := s.connect(ctx, a, password)
	if !errors.Is(err, errUpstreamLimit) || a.Library == nil || !a.Library.Yield() {
		return up, err
	}
	for _, pause := range []time.Duration{200 * time.Millisecond, time.Second} {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if up, err = s.connect(ctx, a, password); !errors.Is(err, errUpstreamLimit) {
			break
		}
	}
	return up, err
}

func (u *upstream) attach(conn net.Conn, io time.Duration, l wire.Limits) {
	u.conn = newPatientConn(conn, io, io)
	if l.Response == 0 {
		l.Response = maxPassed // the ENVELOPE of a message with very many recipients is long
	}
	u.r = wire.NewResponseReader(u.conn, l)
	u.w = bufio.NewWriterSize(u.conn, 64<<10)
}

// greeting reads the first line. RFC 3501, Section 7.1.4: PREAUTH would make us
// skip STARTTLS and act for whoever is on the other side.
func (u *upstream) greeting() error {
	h, err := u.r.Next()
	if err != nil {
		return err
	}
	name, untagged := h.Name, h.Untagged()
	line, err := u.r.Line()
	if err != nil {
		return err
	}
	switch {
	case !untagged || name == "PREAUTH":
		return fmt.Errorf("%w: greeting is no OK", errUpstreamPolicy)
	case name != "OK" && tooMany.Match(line):
		return errUpstreamLimit
	case name != "OK":
		return fmt.Errorf("upstream turns us away: %s", name)
	}
	u.learn(line)
	return nil
}

// learn takes capabilities from a status line.
func (u *upstream) learn(line []byte) {
	open := bytes.IndexByte(line, '[')
	if open < 0 || !wire.HasPrefixFold(line[open+1:], "CAPABILITY ") {
		return
	}
	if end := bytes.IndexByte(line[open:], ']'); end > 0 {
		u.setCapabilities(line[open+len("[CAPABILITY ") : open+end])
	}
}

func (u *upstream) setCapabilities(list []byte) {
	u.caps, u.capList = map[string]bool{}, strings.Fields(string(list))
	if len(u.capList) > 500 {
		u.capList = u.capList[:500]
	}
	for _, c := range u.capList {
		u.caps[strings.ToUpper(c)] = true
	}
}

// has tells whether the upstream has a capability, given in upper case.
func (u *upstream) has(capability string) bool { return u.caps[capability] }

// needCapabilities asks for them where they did not come by themselves.
func (u *upstream) needCapabilities() error {
	if u.caps != nil {
		return nil
	}
	status, _, err := u.simple("CAPABILITY", nil)
	if err != nil {
		return err
	}
	if status != "OK" || u.caps == nil {
		return errors.New("upstream doesn't tell its capabilities")
	}
	return nil
}

// simple sends a command and reads to its end, before the relay runs. answer is
// asked for what to send upon a continuation request.
func (u *upstream) simple(command string, answer func() string) (status string, line []byte, err error) {
	u.tag++
	tag := fmt.Sprintf("S%d", u.tag)
	_, _ = u.w.WriteString(tag + " " + command + "\r\n")
	if err := u.w.Flush(); err != nil {
		return "", nil, err
	}
	for n := 0; n < 1000; n++ {
		h, err := u.r.Next()
		if err != nil {
			return "", nil, err
		}
		name, mine, untagged, cont := h.Name, string(h.Tag) == tag, h.Untagged(), h.Continuation()
		line, err := u.r.Collect(64 << 10)
		if err != nil {
			return "", nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case mine:
			return name, line, nil
		case cont && answer != nil:
			_, _ = u.w.WriteString(answer() + "\r\n")
			if err := u.w.Flush(); err != nil {
				return "", nil, err
			}
		case untagged && name == "CAPABILITY":
			u.setCapabilities(bytes.TrimPrefix(line, []byte("* CAPABILITY ")))
		case untagged && name == "PREAUTH":
			return "", nil, fmt.Errorf("%w: PREAUTH in the middle", errUpstreamPolicy)
		case untagged && name == "BYE" && tooMany.Match(line):
			return "", nil, errUpstreamLimit
		case untagged && name == "BYE":
			return "", nil, errors.New("upstream says BYE")
		case !untagged:
			return "", nil, fmt.Errorf("%w: answer to nothing", wire.ErrDesync)
		}
	}
	return "", nil, errors.New("upstream talks without end")
}

// startTLS upgrades; nothing that came before it counts afterwards.
func (u *upstream) startTLS(ctx context.Context, c *tls.Config, s *session) error {
	status, _, err := u.simple("STARTTLS", nil)
	if err != nil {
		return err
	}
	if status != "OK" {
		return fmt.Errorf("%w: STARTTLS refused", errUpstreamPolicy)
	}
	t := tls.Client(u.conn.Conn, c.Clone())
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS with the upstream: %w", err)
	}
	u.attach(t, s.srv.c.IOTimeout, s.srv.c.Limits) // drops what was buffered
	u.conn.read.Store(int64(time.Minute))
	u.caps, u.capList = nil, nil
	return nil
}

// login tries AUTHENTICATE PLAIN, and LOGIN where that isn't offered.
func (u *upstream) login(user, password string) error {
	if strings.ContainsAny(user+password, "\x00\r\n") {
		return fmt.Errorf("%w: credentials hold control characters", errUpstreamRefused)
	}
	var status string
	var line []byte
	var err error
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
	before := u.caps
	u.caps = nil
	switch {
	case before["AUTH=PLAIN"] && before["SASL-IR"]:
		status, line, err = u.simple("AUTHENTICATE PLAIN "+plain, nil)
	case before["AUTH=PLAIN"]:
		asked := false
		status, line, err = u.simple("AUTHENTICATE PLAIN", func() string {
			if asked {
				return "*"
			}
			asked = true
			return plain
		})
	case before["LOGINDISABLED"]:
		return fmt.Errorf("%w: LOGINDISABLED and no AUTH=PLAIN", errUpstreamPolicy)
	default:
		status, line, err = u.loginCommand(user, password)
	}
	if err != nil {
		return err
	}
	if status != "OK" {
		u.caps = before
		return refusal(line)
	}
	u.learn(line)
	return nil
}

// tooMany is how servers say that there are too many connections that have no code
// for it: "[ALERT] Too many simultaneous connections", "[UNAVAILABLE] Maximum number
// of connections from user+IP exceeded".
var tooMany = regexp.MustCompile(`(?i)\b(?:too many|maximum)\b.{0,40}\b(?:connections?|sessions?)\b`)

// refusal is why a login wasn't answered OK. The codes of RFC 5530 tell what has
// nothing to do with the password, such as Dovecot's and Gmail's limit of
// connections.
func refusal(line []byte) error {
	code, _ := responseCode(line)
	if code == "LIMIT" || tooMany.Match(line) {
		return errUpstreamLimit
	}
	switch code {
	case "OVERQUOTA", "THROTTLED", "UNAVAILABLE", "INUSE", "SERVERBUG", "CONTACTADMIN", "AUTHORIZATIONFAILED":
		return fmt.Errorf("upstream does not let the account in: %s", code)
	case "PRIVACYREQUIRED":
		return fmt.Errorf("%w: it wants TLS first", errUpstreamPolicy)
	}
	return errUpstreamRefused
}

// introduce says who we are (RFC 2971), which some servers want before they open a
// mailbox ("Unsafe Login"). What the client says of itself stays here. Nobody waits
// for the answer.
func (s *session) introduce() error {
	if !s.up.has("ID") {
		return nil
	}
	p := &pending{quiet: true, untagged: func(h wire.Head) (bool, error) {
		if h.Name != "ID" || h.HasNum {
			return false, nil
		}
		return true, s.up.r.Copy(nil)
	}}
	if err := s.relay.send((&wire.Out{}).String(`ID ("name" "Letterlock" "vendor" "Letterlock")`), p); err != nil {
		return err
	}
	return s.up.w.Flush()
}

// loginCommand is LOGIN, with literals where a quoted string cannot say it.
func (u *upstream) loginCommand(user, password string) (string, []byte, error) {
	o := (&wire.Out{}).String("LOGIN ").Token(wire.StringToken(user)).String(" ").Token(wire.StringToken(password))
	lines := []string{""}
	for _, p := range o.Parts {
		if p.Literal {
			lines[len(lines)-1] += fmt.Sprintf("{%d}", len(p.Bytes))
			lines = append(lines, string(p.Bytes))
			continue
		}
		lines[len(lines)-1] += string(p.Bytes)
	}
	next := 1
	return u.simple(lines[0], func() string {
		if next >= len(lines) {
			return ""
		}
		next++
		return lines[next-1]
	})
}
