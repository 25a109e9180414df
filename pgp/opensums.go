package pgp

import (
	"crypto"
	"hash"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// kind is what distinguishes the hashes of one text.
type kind struct {
	hash crypto.Hash
	text bool // line ends are hashed as CRLF
	salt string
	ok   bool // we compute it
}

func (a announced) kind() kind {
	var k kind
	var t packet.SignatureType
	if a.ops != nil {
		k.hash, k.salt, t = a.ops.Hash, string(a.ops.Salt), a.ops.SigType
	} else {
		k.hash, k.salt, t = a.sig.Hash, string(a.sig.Salt()), a.sig.SigType
	}
	k.text = t == packet.SigTypeText
	k.ok = k.hash.Available() && !weakHash(k.hash) && (k.text || t == packet.SigTypeBinary)
	return k
}

// sums hashes a text for each of its signatures, each kind of hash once.
type sums struct {
	direct  map[kind]hash.Hash
	wrapped []hash.Hash // to write to
}

func newSums(said []announced) *sums {
	s := &sums{direct: map[kind]hash.Hash{}}
	for _, a := range said {
		k := a.kind()
		if _, have := s.direct[k]; have || !k.ok {
			continue
		}
		h := k.hash.New()
		h.Write([]byte(k.salt))
		s.direct[k] = h
		s.wrapped = append(s.wrapped, wrapped(h, k.text))
	}
	return s
}

// wrapped makes line ends CRLF before they are hashed, for text signatures.
func wrapped(h hash.Hash, text bool) hash.Hash {
	if text {
		return openpgp.NewCanonicalTextHash(h)
	}
	return h
}

func (s *sums) write(p []byte) {
	for _, w := range s.wrapped {
		w.Write(p)
	}
}

// pair puts the signatures after the text to those announced before it: the
// last announced comes first (RFC 9580, Section 5.4). One that differs from
// what was announced has no hash, and so is never good; if their numbers
// differ, as when one is of a version that we don't read, all are unknown.
func pair(said []announced, after []*packet.Signature, s *sums) []digest {
	passes := 0
	for _, a := range said {
		if a.ops != nil {
			passes++
		}
	}
	var all []digest
	for i := len(said) - 1; i >= 0; i-- {
		a, k := said[i], said[i].kind()
		d := digest{sig: a.sig, hash: s.direct[k], weak: weakHash(k.hash)}
		switch {
		case a.ops != nil && passes != len(after):
			d = digest{weak: d.weak}
		case a.ops != nil:
			d.sig, after, passes = after[0], after[1:], passes-1
			if !fits(a.ops, d.sig) {
				d.hash, d.weak = nil, false
			}
		}
		all = append(all, d)
	}
	return all
}

// fits tells whether a signature is the one that was announced.
func fits(ops *packet.OnePassSignature, sig *packet.Signature) bool {
	return sig.SigType == ops.SigType && sig.Hash == ops.Hash && sig.PubKeyAlgo == ops.PubKeyAlgo &&
		(sig.Version == 6) == (ops.Version == 6) && string(sig.Salt()) == string(ops.Salt) &&
		(ops.KeyId == 0 || sig.IssuerKeyId == nil || *sig.IssuerKeyId == ops.KeyId)
}
