package peer

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"letterlock.org/letterlock/internal/mailtest"
)

// Sink is where mail that leaves ends: an SMTP server that takes everything from
// everybody and keeps it in memory. Its methods may be called concurrently.
type Sink struct {
	Addr string

	mu        sync.Mutex // guards what follows
	refuse    func(rcpt string) error
	delivered []mailtest.Delivery
}

// StartSink opens a sink that ends with the test, changed by options.
func StartSink(t testing.TB, options ...func(*smtp.Server)) *Sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Sink{Addr: l.Addr().String()}
	srv := smtp.NewServer(sinkBackend{s})
	srv.Domain, srv.EnableSMTPUTF8, srv.MaxLineLength = "sink.example", true, 1<<20
	srv.MaxMessageBytes, srv.MaxRecipients = 200<<20, 1000
	srv.ErrorLog = silent{}
	for _, o := range options {
		o(srv)
	}
	var done sync.WaitGroup
	done.Go(func() { srv.Serve(l) })
	t.Cleanup(func() { srv.Close(); done.Wait() })
	return s
}

// Refuse has the sink answer RCPT with f's error, a *smtp.SMTPError or nil.
func (s *Sink) Refuse(f func(rcpt string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = f
}

// Received is what came, in order.
func (s *Sink) Received() []mailtest.Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.delivered)
}

// Await waits until n messages have come, and returns them.
func (s *Sink) Await(t testing.TB, n int) []mailtest.Delivery {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if all := s.Received(); len(all) >= n {
			return all
		}
	}
	t.Fatalf("%d messages came, want %d", len(s.Received()), n)
	return nil
}

// To is the messages among all that went to an address.
func To(all []mailtest.Delivery, rcpt string) (out []mailtest.Delivery) {
	for _, d := range all {
		if slices.ContainsFunc(d.To, func(to string) bool { return strings.EqualFold(to, rcpt) }) {
			out = append(out, d)
		}
	}
	return out
}

type sinkBackend struct{ s *Sink }

func (b sinkBackend) NewSession(*smtp.Conn) (smtp.Session, error) { return &sinkSession{s: b.s}, nil }

type sinkSession struct {
	s *Sink
	d mailtest.Delivery
}

func (x *sinkSession) Mail(from string, _ *smtp.MailOptions) error {
	x.d = mailtest.Delivery{From: from}
	return nil
}

func (x *sinkSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	x.s.mu.Lock()
	refuse := x.s.refuse
	x.s.mu.Unlock()
	if refuse != nil {
		if err := refuse(to); err != nil {
			return err
		}
	}
	x.d.To = append(x.d.To, to)
	return nil
}

func (x *sinkSession) Data(r io.Reader) (err error) {
	if x.d.Raw, err = io.ReadAll(r); err != nil {
		return fmt.Errorf("reading a message: %w", err)
	}
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	x.s.delivered = append(x.s.delivered, x.d)
	return nil
}

func (x *sinkSession) Reset()        { x.d = mailtest.Delivery{} }
func (x *sinkSession) Logout() error { return nil }

// silent takes what a server logs of clients that hang up.
type silent struct{}

func (silent) Printf(string, ...any) {}
func (silent) Println(...any)        {}
