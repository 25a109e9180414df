package smtpd

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"letterlock.org/letterlock/smtpd/wire"
)

// What EHLO says of XCLIENT and XFORWARD, in Postfix's words.
const (
	xclientOffer  = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"
	xforwardOffer = "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"
)

// maxClients is how many XCLIENT commands come before a message is taken: what doesn't
// fit into one line comes in several (Postfix XCLIENT howto), and Postfix itself
// bounds them by the EHLO that each needs, smtpd_junk_command_limit.
const maxClients = 100

// mayForward tells whether this peer may say whom it speaks for. What XCLIENT
// has changed doesn't count.
func (s *session) mayForward() bool {
	if s.listener.Forward == nil {
		return false
	}
	return s.listener.Forward(Peer{Remote: s.conn.raw.RemoteAddr(), TLS: s.conn.secured(), Helo: s.peer.Helo})
}

// forwardCommand is XCLIENT and XFORWARD, as Postfix documents them.
func (s *session) forwardCommand(c wire.Command) error {
	if !s.mayForward() {
		return permanent(550, "5.7.0", "you may not speak for others")
	}
	if s.env != nil {
		return permanent(503, "5.5.1", "not within a message")
	}
	as, err := wire.ParseAttributes(c.Args)
	if err != nil {
		return permanent(501, "5.5.4", "malformed attributes")
	}
	if c.Verb == "XFORWARD" {
		return s.xforward(as)
	}
	return s.xclient(as)
}

// xforward notes what is told of the client, until the next transaction ends.
func (s *session) xforward(as []wire.Attribute) error {
	f := s.peer.Forwarded
	into := map[string]*string{"NAME": &f.Name, "ADDR": &f.Addr, "PORT": &f.Port, "PROTO": &f.Proto,
		"HELO": &f.Helo, "IDENT": &f.Ident, "SOURCE": &f.Source}
	for _, a := range as {
		at := into[a.Name]
		if at == nil {
			return permanent(501, "5.5.4", "unknown attribute")
		}
		*at = clean(a.Value, 255)
	}
	s.peer.Forwarded = f
	return answer(250, "2.0.0", "noted")
}

// xclient makes this the session of the client that is told of: as if it had
// just connected, without a login.
func (s *session) xclient(as []wire.Attribute) error {
	from, ok := s.peer.Remote.(*net.TCPAddr)
	addr := net.TCPAddr{}
	if ok {
		addr = *from
	}
	helo, login := s.peer.Helo, ""
	for _, a := range as {
		switch a.Name {
		case "ADDR":
			if addr.IP, ok = clientIP(a.Value); !ok {
				return permanent(501, "5.5.4", "malformed address")
			}
		case "PORT":
			if n, err := strconv.ParseUint(a.Value, 10, 16); err == nil {
				addr.Port = int(n)
			} else if a.Value != "" {
				return permanent(501, "5.5.4", "malformed port")
			}
		case "HELO":
			helo = clean(a.Value, 255)
		case "LOGIN":
			login = a.Value
		case "NAME", "PROTO", "DESTADDR", "DESTPORT":
		default:
			return permanent(501, "5.5.4", "unknown attribute")
		}
	}
	if s.clients++; s.clients > maxClients {
		return answer(421, "4.7.0", "too many clients and no message of any")
	}
	s.logout()
	s.account, s.log = nil, s.log.With("client", addr.String())
	s.server.known(s.conn) // the MTA may stay; whom it speaks for has no account yet
	// TLS, and a certificate, is the MTA's and says nothing of its client.
	s.peer = Peer{Remote: &addr, Via: s.conn.raw.RemoteAddr(), Helo: helo, Login: login}
	s.greeted, s.extended = false, false
	return answer(220, "", s.server.c.Domain+" ESMTP")
}

// clientIP reads the ADDR of XCLIENT; nobody's where it is not known.
func clientIP(s string) (net.IP, bool) {
	if s == "" {
		return net.IPv4zero, true
	}
	if rest, ok := strings.CutPrefix(strings.ToUpper(s), "IPV6:"); ok {
		s = strings.ToLower(rest)
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return nil, false
	}
	return a.Unmap().AsSlice(), true
}
