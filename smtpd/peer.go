package smtpd

import (
	"crypto/tls"
	"net"
)

// Peer is who is at the other end of a client's connection, as far as anybody
// has said: what is not checked is marked so.
type Peer struct {
	// Remote is where the connection comes from; or, after XCLIENT, where the
	// client of the MTA before us came from.
	Remote net.Addr
	// Via is where the connection itself comes from if XCLIENT has changed
	// Remote; nil otherwise.
	Via net.Addr
	// TLS is how the connection is encrypted, its client's verified certificate
	// included where Config.TLS asks for one; nil without TLS, and after XCLIENT,
	// since it is the MTA's.
	TLS *tls.ConnectionState
	// Helo is the name that the client gave itself. It proves nothing.
	Helo string
	// Login is the user who logged in at the MTA before us, by XCLIENT's LOGIN;
	// empty otherwise.
	Login string
	// Forwarded is what XFORWARD has told, for logs only.
	Forwarded Forwarded
}

// Forwarded is what an MTA in front of us tells by XFORWARD of the client that
// it has the message from. Values are printable, and empty where it doesn't know.
type Forwarded struct {
	Name, Addr, Port, Proto, Helo, Ident, Source string
}
