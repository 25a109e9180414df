package smtpd

// renew keeps up with what has become of the session's account since it was
// entered. A client that may not send here any more gets 421 to whatever it says
// next, and nothing of an open transaction goes out. One whose account is another
// now gets that when no transaction is open, or one that it may not have begun by
// the new account ends the session too.
func (s *session) renew() error {
	if s.account == nil || s.account.Now == nil {
		return nil
	}
	a := s.account.Now()
	switch {
	case a == s.account:
		return nil
	case a == nil, s.env != nil && !a.maySendAs(s.env.from):
		s.log.Info("session", "outcome", "ended", "reason", "its account was taken away")
		return answer(421, "4.7.0", "this client may not send here any more")
	case s.env == nil:
		s.logout() // what is connected for the old one serves it alone
		s.account = a
		s.server.remember(a)
	}
	return nil
}
