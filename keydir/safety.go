package keydir

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/tyler-smith/go-bip39/wordlists"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// SafetyNumber is what two people compare, by telephone or when they meet, to
// know that each has the other's key: it is the same on both sides just if both
// use the same two keys for the same two addresses. Nobody else's knowing it
// does any harm.
//
// It is made of the whole primary keys and not of their fingerprints, which are
// SHA-1 for keys of version 4.
type SafetyNumber [sha512.Size]byte

// NewSafetyNumber is that of two people, in any order.
func NewSafetyNumber(a address.Address, of *pgp.Certificate, b address.Address, and *pgp.Certificate) SafetyNumber {
	sides := [][]byte{side(a, of), side(b, and)}
	slices.SortFunc(sides, bytes.Compare)
	return sha512.Sum512(slices.Concat([]byte("Letterlock safety number v1\x00"), sides[0], sides[1]))
}

// side is one person, told apart from what follows by its lengths.
func side(a address.Address, c *pgp.Certificate) []byte {
	var out []byte
	for _, field := range [][]byte{[]byte(a.Key()), c.PrimaryKey()} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(field)))
		out = append(out, field...)
	}
	return out
}

// Digits are 60 decimal digits, 199 bits, in twelve groups of five.
func (n SafetyNumber) Digits() string {
	// 512 bits modulo 10^60: the bias is below 2^-300.
	v := new(big.Int).SetBytes(n[:])
	v.Mod(v, new(big.Int).Exp(big.NewInt(10), big.NewInt(60), nil))
	digits := fmt.Sprintf("%060d", v)
	var groups []string
	for g := range slices.Chunk([]byte(digits), 5) {
		groups = append(groups, string(g))
	}
	return strings.Join(groups, " ")
}

// Words are twelve English words of the list of BIP 39, 132 bits, for who would
// rather read words aloud. They are of other bits than the digits' end.
func (n SafetyNumber) Words() []string {
	v := new(big.Int).SetBytes(n[:17]) // 136 bits
	words := make([]string, 12)
	mask := big.NewInt(2047)
	for i := range words {
		words[i] = wordlists.English[new(big.Int).And(v, mask).Uint64()]
		v.Rsh(v, 11)
	}
	return words
}

// QR is what a QR code of it holds: a word that says what it is, and the digits.
func (n SafetyNumber) QR() string {
	return "LETTERLOCK-SAFETY-1:" + strings.ReplaceAll(n.Digits(), " ", "")
}

// Matches tells whether what a person typed, or what a QR code held, is the
// number: all of its digits, or all of its words.
func (n SafetyNumber) Matches(typed string) bool {
	typed = strings.ToLower(strings.TrimSpace(typed))
	typed = strings.TrimPrefix(typed, strings.ToLower("LETTERLOCK-SAFETY-1:"))
	if digits := strings.NewReplacer(" ", "", "-", "", "\u00a0", "", "\t", "", "\n", "").Replace(typed); digits == strings.ReplaceAll(n.Digits(), " ", "") {
		return true
	}
	return slices.Equal(strings.Fields(typed), n.Words())
}
