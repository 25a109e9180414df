package imapd

import (
	"slices"
	"strconv"
	"strings"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/wire"
)

// afterLogin carries out a command of a client that is logged in. What is not
// named here is refused: a command that we don't know could show ciphertext,
// upload plaintext, or change what we believe of the mailbox.
func (s *session) afterLogin(c *wire.Command) error {
	switch c.Name {
	case "NOOP", "CHECK":
		return s.noop(c)
	case "CREATE", "RENAME":
		s.srv.made.note(s.account.Name, c)
		return s.pass(c)
	case "DELETE", "SUBSCRIBE", "UNSUBSCRIBE", "LIST", "LSUB", "STATUS",
		"NAMESPACE", "GETQUOTA", "GETQUOTAROOT":
		return s.pass(c)
	case "EXPUNGE", "UID EXPUNGE":
		return s.inMailbox(c, s.pass)
	case "ENABLE":
		return s.enable(c)
	case "SELECT", "EXAMINE":
		return s.selectMailbox(c)
	case "CLOSE", "UNSELECT":
		return s.inMailbox(c, s.leaveMailbox)
	case "FETCH", "UID FETCH":
		return s.inMailbox(c, s.fetch)
	case "STORE", "UID STORE":
		return s.inMailbox(c, s.store)
	case "COPY", "UID COPY", "MOVE", "UID MOVE":
		return s.inMailbox(c, s.copy)
	case "SEARCH", "UID SEARCH":
		return s.inMailbox(c, s.search)
	case "APPEND":
		return s.append(c)
	case "IDLE":
		return s.idle(c)
	}
	s.reject(c, "command unknown or not offered")
	return nil
}

func (s *session) reject(c *wire.Command, text string) {
	s.local(c.Tag, "BAD "+text)
}

// pass forwards a command as it came.
func (s *session) pass(c *wire.Command) error {
	return s.relay.forward(c.Tag, c.Out(), &pending{})
}

// inMailbox refuses a command where no mailbox is selected.
func (s *session) inMailbox(c *wire.Command, f func(*wire.Command) error) error {
	if s.selected() == nil {
		s.reject(c, "no mailbox selected")
		return nil
	}
	return f(c)
}

// noop also tells the client of keywords that were settled late.
func (s *session) noop(c *wire.Command) error {
	if err := s.tellKeywords(); err != nil {
		return err
	}
	return s.pass(c)
}

// enable lets pass what we can keep up with (RFC 5161).
func (s *session) enable(c *wire.Command) error {
	var want []string
	for _, a := range c.Args {
		if u := strings.ToUpper(a.Text()); u == "CONDSTORE" || u == "QRESYNC" {
			want = append(want, a.Text())
		}
	}
	if len(c.Args) == 0 || !s.up.has("ENABLE") {
		s.reject(c, "ENABLE not possible")
		return nil
	}
	if len(want) == 0 {
		s.local("", "* ENABLED")
		s.local(c.Tag, "OK ENABLE completed")
		return nil
	}
	// From its answer on VANISHED may stand for EXPUNGE, so nothing else may
	// be under way.
	if err := s.relay.barrier(); err != nil {
		return err
	}
	p := &pending{untagged: func(h wire.Head) (bool, error) {
		if h.Name != "ENABLED" {
			return false, nil
		}
		b, err := s.up.r.Collect(4096)
		if err != nil {
			return true, err
		}
		said := "* ENABLED"
		for _, e := range strings.Fields(string(b))[1:] {
			e = strings.ToUpper(e)
			asked := slices.ContainsFunc(want, func(w string) bool {
				// RFC 7162, Section 3.2.3: QRESYNC implies CONDSTORE.
				return strings.EqualFold(w, e) || e == "CONDSTORE" && strings.EqualFold(w, "QRESYNC")
			})
			if asked { // what nobody asked for is not believed
				s.enabled.Store(e, true)
				said += " " + e
			}
		}
		s.out.line(said)
		return true, nil
	}}
	if err := s.relay.forward(c.Tag, (&wire.Out{}).String("ENABLE "+strings.Join(want, " ")), p); err != nil {
		return err
	}
	return s.relay.barrier()
}

// isEnabled tells whether ENABLE was answered for an extension.
func (s *session) isEnabled(extension string) bool {
	_, ok := s.enabled.Load(extension)
	return ok
}

// store takes our keywords out of the flags; there is nothing to store of them.
func (s *session) store(c *wire.Command) error {
	uid := strings.HasPrefix(c.Name, "UID ")
	if len(c.Args) < 3 {
		s.reject(c, "STORE takes a set, an item and flags")
		return nil
	}
	set, ok := s.set(c, uid)
	if !ok {
		return nil
	}
	o := (&wire.Out{}).String(c.Name + " ").Text(set)
	item := 1 + slices.IndexFunc(c.Args[1:], wire.Token.IsString) // behind modifiers
	var flags []wire.Token
	for i, a := range c.Args[1:] {
		switch {
		case i+1 <= item:
			o.String(" ").Token(a)
		case a.Kind == wire.List || !index.IsOurs(a.Text()): // RFC 3501, Section 6.4.6: they may stand without parentheses
			flags = append(flags, withoutOurs(a))
		}
	}
	if len(flags) == 0 {
		flags = []wire.Token{wire.ListToken()}
	}
	for _, f := range flags {
		o.String(" ").Token(f)
	}
	return s.relay.forward(c.Tag, o, &pending{quiet: !uid})
}

// withoutOurs gives a list of flags without our keywords.
func withoutOurs(t wire.Token) wire.Token {
	if t.Kind != wire.List {
		return t
	}
	var keep []wire.Token
	for _, f := range t.List {
		if f.Kind == wire.List || !index.IsOurs(f.Text()) {
			keep = append(keep, f)
		}
	}
	if len(keep) == len(t.List) {
		return t
	}
	return wire.ListToken(keep...)
}

// set reads the sequence set of a command and translates the client's numbers
// to the upstream's. It has answered the client if ok is false.
func (s *session) set(c *wire.Command, uid bool) (set []byte, ok bool) {
	parsed, err := wire.ParseSet(c.Args[0].Value)
	if err != nil || c.Args[0].Kind != wire.Atom {
		s.reject(c, "bad sequence set")
		return nil, false
	}
	v := s.selected().view
	if !uid && v.drifts() {
		if ok, err := s.know(s.selected()); !ok || err != nil {
			s.local(c.Tag, "NO [UNAVAILABLE] the upstream server doesn't tell its UIDs")
			return nil, false
		}
	}
	if uid || !v.differs() {
		return c.Args[0].Value, true
	}
	up, ok := v.upstream(parsed)
	if !ok {
		s.local(c.Tag, "NO [EXPUNGEISSUED] these messages are gone")
		return nil, false
	}
	return []byte(up.String()), true
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
