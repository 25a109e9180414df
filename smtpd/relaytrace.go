package smtpd

import (
	"crypto/rand"
	"fmt"
	"net"
	"strings"

	"letterlock.org/letterlock/internal/message"
)

// Bounds on the way of a message: RFC 5321, Section 6.3, has at least 100 trace
// fields before a loop is assumed; our own are fewer, since only a list within a
// list comes by more than once.
const (
	maxHops   = 100
	maxPasses = 3
)

// looping refuses what goes round in circles.
func (s *session) looping(h message.Header) error {
	r := s.account.Relay
	hops, own := h.All("Received"), -1 // without the one of now
	for _, f := range hops {
		if strings.Contains(f.Value(), r.mark()) {
			own++
		}
	}
	if len(hops) > maxHops+1 || own >= maxPasses { // RFC 3463, Section 3.5
		s.log.Info("submission", "outcome", "refused", "reason", "loop", "hops", len(hops)-1, "own", own)
		s.server.c.Count("refused")
		return permanent(554, "5.4.6", fmt.Sprintf("the message goes round in circles: it came through %d servers, and %d times through this one", len(hops)-1, own))
	}
	return nil
}

// mark is the comment by which we know our own trace fields.
func (r *Relay) mark() string { return "(Letterlock " + r.Token + ")" }

// received is the trace field of a message: RFC 5321, Section 4.4. It names no
// recipient, as others may read of him.
func (s *session) received() []byte {
	r, id := s.account.Relay, strings.ToLower(rand.Text()[:16])
	if f := s.peer.Forwarded; f != (Forwarded{}) { // what finds it in the log of the MTA before us
		s.log.Info("relay", "trace", id, "ident", f.Ident, "client", f.Addr, "name", f.Name, "helo", f.Helo)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Received: from %s (%s)\r\n\tby %s %s\r\n\twith %s id %s", traceName(s.peer.Helo), traceAddr(s.peer.Remote), r.Host, r.mark(), s.protocol(), id)
	fmt.Fprintf(&b, ";\r\n\t%s\r\n", s.server.c.Now().Format("Mon, 2 Jan 2006 15:04:05 -0700"))
	return []byte(b.String())
}

// protocol is the word for how the message came (RFC 3848; RFC 6531, Section
// 4.3).
func (s *session) protocol() string {
	word := "ESMTP"
	if s.env.opts.UTF8 {
		word = "UTF8SMTP"
	}
	if s.conn.secure() {
		word += "S"
	}
	if !s.account.Relay.Proven.IsZero() {
		word += "A"
	}
	return word
}

// traceName is a client's own name, if it looks like one.
func traceName(helo string) string {
	if helo == "" || len(helo) > 255 || strings.ContainsFunc(helo, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-._:[]", c))
	}) {
		return "unknown"
	}
	return helo
}

// traceAddr is an address literal: RFC 5321, Section 4.1.3.
func traceAddr(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	switch {
	case !ok:
		return "[127.0.0.1]"
	case t.IP.To4() != nil:
		return "[" + t.IP.To4().String() + "]"
	}
	return "[IPv6:" + t.IP.String() + "]"
}
