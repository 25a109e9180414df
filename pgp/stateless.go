package pgp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
)

// What follows is the engine without mail: for package sop, by which other
// people's tests drive it. Bytes in are binary or armored, bytes out binary.

// ErrNoKey means that none of the keys opens a message.
var ErrNoKey = errors.New("no key opens this message")

// maxStateless bounds what is held in memory, in bytes.
const maxStateless = 256 << 20

// Verification is one good signature.
type Verification struct {
	Made    time.Time
	Signing Fingerprint // of the key or subkey that made it
	Primary Fingerprint // of its certificate
	Text    bool        // line ends don't count
}

// Encryption is what [Encryption.Write] needs. It needs recipients.
type Encryption struct {
	Recipients []*Certificate
	Signer     Signer // nil for nobody
	Now        time.Time
}

// Write writes plain as one armored message.
func (e Encryption) Write(ctx context.Context, w io.Writer, plain []byte) error {
	inner := encryption{signer: e.Signer, recipients: e.Recipients, now: e.Now, unsigned: e.Signer == nil}
	return inner.write(ctx, w, func(w io.Writer) error {
		_, err := w.Write(plain)
		return err
	})
}

// Decrypt opens one message as mail is opened: nothing is returned unless all of
// it proved whole. ErrNoKey, or ErrMalformed with the reason.
func Decrypt(ctx context.Context, data []byte, keys Decrypter, certs []*Certificate, now time.Time) (plain []byte, good []Verification, err error) {
	if !isArmored(data) {
		data = []byte(encodeArmor(blockMessage, data, false))
	}
	p, err := decrypt(ctx, ciphertext{src: message.Bytes(data)}, keys, message.SpoolOptions{Memory: maxStateless, Limit: maxStateless})
	var r refusal
	switch {
	case errors.As(err, &r) && (r.reason == reasonNoKey || r.reason == reasonPassword):
		return nil, nil, fmt.Errorf("%s: %w", r.reason, ErrNoKey)
	case errors.As(err, &r), err == errNotArmor:
		return nil, nil, fmt.Errorf("%w: %w", err, ErrMalformed)
	case err != nil:
		return nil, nil, err
	}
	defer p.text.Close()
	if plain, err = message.ReadAll(p.text, maxStateless); err != nil {
		return nil, nil, err
	}
	good, err = verifications(ctx, p.signatures, certs, now)
	return plain, good, err
}

// Verify lists the good ones of detached signatures over data.
func Verify(ctx context.Context, data, signatures []byte, certs []*Certificate, now time.Time) ([]Verification, error) {
	raw, err := dearmored(signatures)
	if err != nil {
		return nil, err
	}
	all, w := hashers(parseSignatures(raw))
	if len(all) == 0 {
		return nil, fmt.Errorf("no signatures: %w", ErrMalformed)
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	return verifications(ctx, all, certs, now)
}

// verifications are the good ones of signatures, by those certificates.
func verifications(ctx context.Context, all []digest, certs []*Certificate, now time.Time) (good []Verification, err error) {
	v := newVerifier(Opening{Certificates: atHand(certs), Now: now})
	for _, d := range all {
		j, err := v.judge(ctx, d)
		if err != nil {
			return nil, err
		}
		if !j.state.Good() || j.by == nil || j.made.After(now.Add(clockSkew)) {
			continue
		}
		id, _ := issuer(d.sig)
		if key := findKey(j.by.entity(strict), id); key != nil {
			good = append(good, Verification{j.made.UTC(), fingerprintOf(key.Fingerprint), j.by.Fingerprint(), d.sig.SigType == packet.SigTypeText})
		}
	}
	return good, nil
}

// atHand is a store of the certificates that are given.
type atHand []*Certificate

func (s atHand) Issuer(_ context.Context, id uint64) (found []*Certificate, err error) {
	for _, c := range s {
		for _, have := range c.KeyIDs() {
			if have == id {
				found = append(found, c)
				break
			}
		}
	}
	return found, nil
}

func (atHand) Identity(context.Context, address.Address, Fingerprint) (Identity, error) {
	return "", nil
}

// SplitSigned parts a message that is signed and not encrypted into what is
// signed and its signatures; it may be in the cleartext signature framework (RFC
// 9580, Section 7), whose text is given with line ends of CRLF.
func SplitSigned(data []byte) (signed, signatures []byte, err error) {
	if text, armored, ok := splitClear(data); ok {
		if signatures, err = dearmored(armored); err != nil {
			return nil, nil, err
		}
		return text, signatures, nil
	}
	raw, err := dearmored(data)
	if err != nil {
		return nil, nil, err
	}
	return splitPackets(raw, true)
}

// splitPackets reads one-pass signatures, one literal, signatures; one
// compressed packet around them is allowed (RFC 9580, Section 10.3).
func splitPackets(raw []byte, compressed bool) (signed, signatures []byte, err error) {
	defer caught(&err)
	bad := fmt.Errorf("not one signed message: %w", ErrMalformed)
	defer func() {
		if err != nil {
			signed, signatures = nil, nil
		}
	}()
	r, have := packet.NewReader(bytes.NewReader(raw)), false
	var sigs bytes.Buffer
	for {
		p, err := r.NextWithUnsupported()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, nil, bad
		}
		switch p := p.(type) {
		case *packet.Compressed:
			inner, err := io.ReadAll(io.LimitReader(p.Body, maxStateless))
			if err != nil || !compressed || have {
				return nil, nil, bad
			}
			if _, err := r.NextWithUnsupported(); err != io.EOF {
				return nil, nil, bad
			}
			return splitPackets(inner, false)
		case *packet.LiteralData:
			if have {
				return nil, nil, bad
			}
			if signed, err = io.ReadAll(io.LimitReader(p.Body, maxStateless)); err != nil {
				return nil, nil, bad
			}
			have = true
		case *packet.Signature:
			if err := p.Serialize(&sigs); err != nil {
				return nil, nil, bad
			}
		case *packet.OnePassSignature, *packet.Marker, *packet.UnsupportedPacket:
		default:
			return nil, nil, bad
		}
	}
	if !have {
		return nil, nil, bad
	}
	return signed, sigs.Bytes(), nil
}

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
