package pgp

import (
	"bytes"
	"fmt"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// SignDetached makes a signature over data by each key, and the name of its hash
// as multipart/signed tells it. text makes line ends not count.
func SignDetached(data []byte, text bool, now time.Time, keys ...*Key) (signature []byte, micalgName string, err error) {
	defer caught(&err)
	var b bytes.Buffer
	entities, err := signers(keys, now)
	if err != nil {
		return nil, "", err
	}
	config := engineConfig(now)
	err = openpgp.DetachSignWithParams(&b, entities, bytes.NewReader(data), &openpgp.SignParams{Config: config, TextSig: text})
	if err != nil {
		return nil, "", fmt.Errorf("signing: %w", err)
	}
	for _, sig := range parseSignatures(b.Bytes()) {
		name := ""
		if sig != nil {
			name, _ = micalg(sig.Hash)
		}
		if micalgName != "" && name != micalgName {
			name = "" // they differ: nothing can be said
		}
		micalgName = name
	}
	return b.Bytes(), micalgName, nil
}

// SignInline makes a signed message, not encrypted.
func SignInline(data []byte, text bool, now time.Time, keys ...*Key) (out []byte, err error) {
	defer caught(&err)
	entities, err := signers(keys, now)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w, err := openpgp.SignWithParams(&b, entities, &openpgp.SignParams{Config: engineConfig(now), TextSig: text})
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return b.Bytes(), nil
}

// SignClear makes a message in the cleartext signature framework.
func SignClear(text []byte, now time.Time, keys ...*Key) (out []byte, err error) {
	defer caught(&err)
	entities, err := signers(keys, now)
	if err != nil {
		return nil, err
	}
	config := engineConfig(now)
	var secrets []*packet.PrivateKey
	for _, e := range entities {
		k, ok := e.SigningKey(now, config)
		if !ok {
			return nil, ErrCannotSign
		}
		secrets = append(secrets, k.PrivateKey)
	}
	var b bytes.Buffer
	w, err := clearsign.EncodeMulti(&b, secrets, config)
	if err == nil {
		_, err = w.Write(text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return append(b.Bytes(), '\n'), nil
}

func signers(keys []*Key, now time.Time) (all []*openpgp.Entity, err error) {
	for _, k := range keys {
		if err := checkSigner(k, now); err != nil {
			return nil, err
		}
		all = append(all, k.signingEntity())
	}
	return all, nil
}
