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
		ses.rouse()
	}
}

// rouse has the command goroutine ask gone, if it waits. It may be called at any time.
func (s *session) rouse() {
	select {
	case s.recheck <- struct{}{}:
	default: // it is told already
	}
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	conn.wake(s.loggedIn.Load()) // before that, TLS may be under way, and the login looks itself
}

// depart ends the session because we do: what its client has begun may have its
// answer, and a response that is being written its end, but not for longer than
// Config.Grace. It may be called at any time, and returns when the session is over.
func (s *session) depart() {
	const why = "shutting down, come again"
	if !s.loggedIn.Load() {
		s.byeBehind("UNAVAILABLE", why) // whatever was said to it is short
		return
	}
	s.departing.Store(true)
	s.rouse()
	late := time.NewTimer(s.srv.c.Grace)
	defer late.Stop()
	select {
	case <-late.C:
		sure := time.AfterFunc(time.Second, s.cut) // somebody else may be saying BYE to nobody
		defer sure.Stop()
		s.bye("UNAVAILABLE", why)
	case <-s.ctx.Done():
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

// gone tells whether the session's account is not served any more, not as it was when
// the client logged in, or not by us. Only run by the command goroutine.
func (s *session) gone() bool {
	a := s.account
	return a != nil && (s.departing.Load() || a.Gone != nil && a.Gone() || a.Changed != nil && a.Changed())
}

// byeTime is how long BYE waits for a response that is under way.
const byeTime = 10 * time.Second

// dismiss is expel after what was begun before has its answer.
func (s *session) dismiss() error {
	_ = s.relay.barrier()
	return s.expel()
}

// expel tells the client why it can't stay, and ends the session.
func (s *session) expel() error {
	switch a := s.account; {
	case a.Gone != nil && a.Gone():
		s.byeBehind("CONTACTADMIN", "this account is not served here any more")
		return errGone
	case s.departing.Load():
		s.byeBehind("UNAVAILABLE", "shutting down, come again")
		return ErrServerClosed
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
