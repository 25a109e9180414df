package pgp

import "bytes"

// SessionKeysFit is what stands between the engine's session key packets and
// the message: nil if there is exactly one for each recipient.
func SessionKeysFit(packets []byte, to ...*Certificate) error {
	g := keyGate{recipients: to}
	g.keys = *bytes.NewBuffer(packets)
	return g.check()
}
