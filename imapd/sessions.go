package imapd

import (
	"errors"
	"time"
)

// Sessions is how many clients are connected.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// Recheck has sessions that wait, in IDLE or between commands, ask whether their
// account is gone or has changed; others ask before their next command. It doesn't wait for them.
func (s *Server) Recheck() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ses := range s.sessions {
		select {
		case ses.recheck <- struct{}{}:
		default: // it is told already
		}
		ses.mu.Lock()
		conn := ses.conn
		ses.mu.Unlock()
		conn.wake(ses.loggedIn.Load()) // before that, TLS may be under way, and the login looks itself
	}
}

// woken ends the wait for a command that nobody will carry out.
func (s *session) woken() error {
	if s.conn.quiet.Load() && s.gone() {
		return errGone
	}
	return nil
}

// Why sessions end that did nothing wrong.
var (
	errGone    = errors.New("account is not served any more")
	errChanged = errors.New("the settings of the account have changed")
)

// gone tells whether the session's account is not served any more, or not as it was
// when the client logged in. Only run by the command goroutine.
func (s *session) gone() bool {
	a := s.account
	return a != nil && (a.Gone != nil && a.Gone() || a.Changed != nil && a.Changed())
}

// byeTime is how long BYE waits for a response that is under way.
const byeTime = 10 * time.Second

// dismiss is expel after what was begun before has its answer.
func (s *session) dismiss() error {
	_ = s.relay.barrier()
	return s.expel()
}

// expel tells the client that its account is gone, or another now, and ends the
// session.
func (s *session) expel() error {
	if a := s.account; a.Gone != nil && a.Gone() {
		s.byeBehind("CONTACTADMIN", "this account is not served here any more")
		return errGone
	}
	s.byeBehind("UNAVAILABLE", "the settings of this account have changed, come again")
	return errChanged
}

// byeBehind is bye behind whatever is being written to the client, which it waits
// for.
func (s *session) byeBehind(code, text string) {
	late := time.AfterFunc(byeTime, s.cut)
	defer late.Stop()
	s.farewell(func(o *output) bool { o.Lock(); return true }, code, text)
}
