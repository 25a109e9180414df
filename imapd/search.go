package imapd

import "letterlock.org/letterlock/imapd/wire"

// search is SEARCH and UID SEARCH.
func (s *session) search(c *wire.Command) error {
	return s.relay.forward(c.Tag, c.Out(), &pending{quiet: c.Name == "SEARCH"})
}
