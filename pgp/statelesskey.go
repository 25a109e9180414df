package pgp

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// GenerateFor makes a key of the default profile with any user IDs, the first of
// which is the main one; without encrypts leaves out the key for encryption.
func GenerateFor(userIDs []string, encrypts bool, now time.Time) (k *Key, err error) {
	defer caught(&err)
	if len(userIDs) == 0 {
		return nil, errors.New("a key of version 4 needs a user ID")
	}
	config := generationConfig(now)
	config.KeyLifetimeSecs = 0 // what tests keep is to stay of use
	name, mail := parted(userIDs[0])
	e, err := openpgp.NewEntity(name, "", mail, config)
	if err == nil && !encrypts {
		e.Subkeys = nil
	}
	for _, uid := range userIDs[1:] {
		if name, mail = parted(uid); err == nil {
			err = e.AddUserId(name, "", mail, config)
		}
	}
	var secret bytes.Buffer
	if err == nil {
		err = e.SerializePrivateWithoutSigning(&secret, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("generating a key: %w", err)
	}
	return newKey(secret.Bytes())
}

// parted cuts "Name <address>" as the engine wants it, which puts it together
// again; another user ID is all name.
func parted(uid string) (name, mail string) {
	before, after, ok := strings.Cut(uid, "<")
	mail, ended := strings.CutSuffix(after, ">")
	if !ok || !ended {
		return uid, ""
	}
	return strings.TrimSpace(before), mail
}

// PublicOf gives the certificates of secret keys, locked ones too.
func PublicOf(secret []byte) (certs []*Certificate, err error) {
	defer caught(&err)
	blocks, err := dearmorKeys(secret)
	if err != nil {
		return nil, err
	}
	for _, block := range blocks {
		groups, err := keyGroups(block)
		if err != nil {
			return nil, err
		}
		for _, g := range groups {
			if g[0].Tag != tagSecretKey {
				return nil, fmt.Errorf("extracting a certificate: %w", ErrNoSecret)
			}
			public, _, err := publicGroup(g)
			if err != nil {
				return nil, err
			}
			some, err := ParseCertificates(public)
			if err != nil {
				return nil, err
			}
			certs = append(certs, some...)
		}
	}
	return certs, nil
}
