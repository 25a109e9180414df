package mailtest

import (
	"errors"
	"io"
	"strings"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Point is where a submission stands when a Fault is asked.
type Point string

const (
	AtLogin     Point = "login"
	AtMail      Point = "mail"
	AtRcpt      Point = "rcpt"   // with the recipient
	BeforeTaken Point = "before" // the message is complete, nothing is done with it
	AfterTaken  Point = "after"  // the message is delivered, the reply is not yet sent
)

// ErrDrop makes the upstream cut the connection instead of replying. At
// AfterTaken it is the case that SMTP cannot tell from a loss (RFC 1047).
var ErrDrop = errors.New("connection dropped")

// Fault decides what goes wrong: nil for nothing, ErrDrop, or a
// *smtp.SMTPError as the reply.
type Fault func(at Point, detail string) error

// session is one submission connection.
type session struct {
	up   *Upstream
	conn *smtp.Conn
	user string
	from string
	to   []string
}

func (s *session) fault(at Point, detail string) error {
	if s.up.options.Fault == nil {
		return nil
	}
	err := s.up.options.Fault(at, detail)
	if errors.Is(err, ErrDrop) && s.conn != nil {
		s.conn.Conn().Close()
	}
	return err
}

var errRefused = &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "user or password refused"}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if err := s.fault(AtLogin, user); err != nil {
			return err
		}
		if want, ok := s.up.options.Users[user]; !ok || want != password {
			return errRefused
		}
		s.user = user
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.user == "" {
		return smtp.ErrAuthRequired
	}
	s.from, s.to = from, nil
	return s.fault(AtMail, from)
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if err := s.fault(AtRcpt, to); err != nil {
		return err
	}
	if _, ok := s.up.users[strings.ToLower(to)]; !ok {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user here"}
	}
	s.to = append(s.to, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := s.fault(BeforeTaken, s.from); err != nil {
		return err
	}
	for _, to := range s.to {
		if err := s.up.Deliver(to, "INBOX", raw); err != nil {
			return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "delivery failed"}
		}
	}
	s.up.mu.Lock()
	s.up.delivered = append(s.up.delivered, Delivery{s.from, s.to, raw})
	s.up.mu.Unlock()
	return s.fault(AfterTaken, s.from)
}

func (s *session) Reset()        { s.from, s.to = "", nil }
func (s *session) Logout() error { return nil }
