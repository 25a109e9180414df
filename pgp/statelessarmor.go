package pgp

import (
	"fmt"
	"strings"
)

// ArmorData puts binary OpenPGP data into the armor that its first packet asks for;
// what is armored already stays.
func ArmorData(data []byte) (string, error) {
	if isArmored(data) {
		return string(data), nil
	}
	if len(data) == 0 || data[0]&0x80 == 0 {
		return "", fmt.Errorf("no OpenPGP data: %w", ErrMalformed)
	}
	tag := data[0] & 0x3f
	if data[0]&0x40 == 0 {
		tag = data[0] >> 2 & 0x0f
	}
	kind := blockMessage
	switch tag {
	case tagSignature:
		kind = blockSignature
	case tagSecretKey:
		kind = blockSecret
	case tagPublicKey:
		kind = blockPublic
	case tagPKESK, tagSKESK, tagSEIPD, tagSED, tagMarker, tagPadding, 4, 8, 11: // 4 one-pass signature, 8 compressed, 11 literal
	default:
		return "", fmt.Errorf("no armor is for a packet of type %d: %w", tag, ErrMalformed)
	}
	return encodeArmor(kind, data, false), nil
}

// DearmorData takes the armor off the first block; what is binary already stays.
func DearmorData(data []byte) ([]byte, error) { return dearmored(data) }

func dearmored(data []byte) ([]byte, error) {
	if !isArmored(data) {
		if len(data) == 0 || data[0]&0x80 == 0 {
			return nil, fmt.Errorf("no OpenPGP data: %w", ErrMalformed)
		}
		return data, nil
	}
	block, _, ok := nextArmor(data)
	if !ok {
		return nil, fmt.Errorf("armor without end: %w", ErrMalformed)
	}
	return block.decode()
}

// isArmored tells armor from packets, whose first bit is set (RFC 9580, 4.2).
func isArmored(data []byte) bool {
	return len(data) > 0 && data[0]&0x80 == 0 && strings.Contains(string(data[:min(len(data), 64<<10)]), "-----BEGIN PGP ")
}
