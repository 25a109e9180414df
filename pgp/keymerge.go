package pgp

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// MergeKeys is the union of two states of one key: the packets of a in their order,
// and what only b has, as [Merge] is of certificates. Of a secret that one of them
// has as a stub it is the other's. Nothing is forgotten: not a revocation that an older
// copy doesn't know, nor a subkey that came later.
func MergeKeys(a, b *Key) (merged *Key, err error) {
	defer caught(&err)
	if a.Fingerprint() != b.Fingerprint() {
		return nil, fmt.Errorf("merging two keys: %w", ErrMalformed)
	}
	parts, err := keyParts(a.secret)
	if err != nil {
		return nil, err
	}
	more, err := keyParts(b.secret)
	if err != nil {
		return nil, err
	}
	for _, m := range more {
		i := slices.IndexFunc(parts, m.same)
		if i < 0 {
			if i = len(parts); !m.subkey { // a user ID goes before the subkeys
				i = max(1, slices.IndexFunc(parts, func(p keyPart) bool { return p.subkey }))
			}
			parts = slices.Insert(parts, i, m)
			continue
		}
		if parts[i].stub {
			parts[i].head = m.head
		}
		for _, s := range m.signatures {
			if s.Tag == tagSignature && !slices.ContainsFunc(parts[i].signatures, func(have *packet.OpaquePacket) bool { return bytes.Equal(have.Contents, s.Contents) }) {
				parts[i].signatures = append(parts[i].signatures, s)
			}
		}
	}
	var out bytes.Buffer
	for _, p := range parts {
		for _, raw := range append([]*packet.OpaquePacket{p.head}, p.signatures...) {
			if err := raw.Serialize(&out); err != nil {
				return nil, fmt.Errorf("merging two keys: %w", err)
			}
		}
	}
	return newKey(out.Bytes())
}

// keyPart is a key, user ID or other packet of a transferable secret key with the
// signatures that follow it.
type keyPart struct {
	head        *packet.OpaquePacket
	public      []byte // what makes two of them one; of a key, without its secret
	key, subkey bool
	stub        bool // a key without its secret
	signatures  []*packet.OpaquePacket
}

func (p keyPart) same(o keyPart) bool {
	return p.key == o.key && p.subkey == o.subkey && (p.key || p.subkey || p.head.Tag == o.head.Tag) && bytes.Equal(p.public, o.public)
}

func keyParts(secret []byte) (parts []keyPart, err error) {
	groups, err := keyGroups(secret)
	if err != nil {
		return nil, err
	}
	for _, p := range groups[0] {
		part := keyPart{head: p, public: p.Contents}
		switch p.Tag {
		case tagSignature, tagTrust, tagMarker, tagPadding:
			last := &parts[len(parts)-1] // the first is the primary key
			last.signatures = append(last.signatures, p)
			continue
		case tagSecretKey, tagSecretSubkey:
			n, err := publicLength(p.Contents)
			if err != nil {
				return nil, err
			}
			part.public, part.stub = p.Contents[:n], isStub(p.Contents[n:])
		case tagPublicSubkey:
			part.stub = true
		}
		part.key, part.subkey = p.Tag == tagSecretKey, p.Tag == tagSecretSubkey || p.Tag == tagPublicSubkey
		parts = append(parts, part)
	}
	return parts, nil
}

// isStub finds GnuPG's S2K for a secret that is elsewhere (101, GNU) in what follows
// the public key.
func isStub(secret []byte) bool {
	return len(secret) >= 7 && secret[0] >= 253 && secret[2] == 101 && string(secret[4:7]) == "GNU"
}
