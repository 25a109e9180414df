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
// account is gone; others ask before their next command. It doesn't wait for them.
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

var errGone = errors.New("account is not served any more")

// gone tells whether the session's account is not served any more. Only run by the
// command goroutine.
func (s *session) gone() bool {
	return s.account != nil && s.account.Gone != nil && s.account.Gone()
}

// byeTime is how long BYE waits for a response that is under way.
const byeTime = 10 * time.Second

// dismiss is expel after what was begun before has its answer.
func (s *session) dismiss() error {
	_ = s.relay.barrier()
	return s.expel()
}

// expel tells the client that its account is gone, and ends the session.
func (s *session) expel() error {
	s.byeBehind("CONTACTADMIN", "this account is not served here any more")
	return errGone
}

// byeBehind is bye behind whatever is being written to the client, which it waits
// for.
func (s *session) byeBehind(code, text string) {
	late := time.AfterFunc(byeTime, s.cut)
	defer late.Stop()
	s.farewell(func(o *output) bool { o.Lock(); return true }, code, text)
}
