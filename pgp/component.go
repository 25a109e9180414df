package pgp

import "crypto/sha256"

// component is a primary key, user ID, user attribute, subkey or unknown packet
// with the signatures that follow it (RFC 9580, Section 10.1).
type component struct {
	head       rawPacket
	signatures []rawPacket
}

// group puts each signature to the packet that it follows. Trust, marker and
// padding packets are kept where they lie, as heads that mean nothing, and
// don't part a user ID from its signatures.
func group(packets []rawPacket) []component {
	var parts []component
	for _, p := range packets {
		switch {
		case len(parts) > 0 && (p.tag == tagSignature || p.tag == tagTrust || p.tag == tagMarker || p.tag == tagPadding):
			last := &parts[len(parts)-1]
			last.signatures = append(last.signatures, p)
		default:
			parts = append(parts, component{head: p})
		}
	}
	return parts
}

// key names what a component is about; two with one key are one.
func (c component) key() [32]byte { return c.head.key() }

// key names a packet by what it says, however its length is written.
func (p rawPacket) key() [32]byte { return sha256.Sum256(append([]byte{p.tag}, p.body...)) }

// union joins two lists of components that begin with the same primary key, in
// the order of a and then what only b has. A packet is itself by its body, so
// that another length encoding makes no second one.
func union(a, b []component) []component {
	var all []component
	at := map[[32]byte]int{}
	seen := map[[32]byte]map[[32]byte]bool{}
	for _, c := range append(append([]component{}, a...), b...) {
		k := c.key()
		i, known := at[k]
		if !known {
			i = len(all)
			at[k], seen[k] = i, map[[32]byte]bool{}
			all = append(all, component{head: c.head})
		}
		for _, s := range c.signatures {
			h := s.key()
			if s.tag == tagSignature && seen[k][h] {
				continue
			}
			if s.tag != tagSignature && known {
				continue // trust and padding are local to a copy
			}
			seen[k][h] = true
			all[i].signatures = append(all[i].signatures, s)
		}
	}
	return all
}

// packets lists the components' packets in order.
func packets(parts []component) []rawPacket {
	var all []rawPacket
	for _, c := range parts {
		all = append(append(all, c.head), c.signatures...)
	}
	return all
}
