package index

import (
	"strings"

	"letterlock.org/letterlock/pgp"
)

// IsOurs tells whether a keyword is one that only we may set: ours by name or
// by its prefix, in any case (RFC 3501, Section 2.3.2: flags ignore case).
func IsOurs(keyword string) bool {
	const prefix = "$letterlock"
	return len(keyword) >= len(prefix) && strings.EqualFold(keyword[:len(prefix)], prefix)
}

// keywordBit is the bit of a keyword of ours, 0 for any other. A keyword that
// only has our prefix has none either: IsOurs says that nobody may set it.
func keywordBit(keyword string) state {
	for _, k := range keywordNames {
		if strings.EqualFold(k.name, keyword) {
			return k.bit
		}
	}
	return 0
}

// keywordsOf is what the keywords say of a message whose class is settled.
func keywordsOf(class pgp.Class, v pgp.Verdict, now pgp.Identity) state {
	var s state
	if v.Encrypted {
		s |= kwEncrypted
	}
	if class == pgp.Opaque || len(v.Warnings) > 0 || v.Signature == pgp.SignatureBad || now == pgp.Conflict {
		s |= kwWarning
	}
	if v.Signature.Good() {
		s |= kwSigned
		if v.Signature == pgp.SignatureValid && now.AtLeast(pgp.Organisation) && s&kwWarning == 0 {
			s |= kwVerified
		}
	}
	return s
}
