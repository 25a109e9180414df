package index

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"mime/quotedprintable"
	"strings"

	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// What to FETCH of a UID to classify it. BODYSTRUCTURE is not among it: the
// Content-Type of the root says as much, and an upstream answers it from disk.
const (
	ClassItems  = "BODY.PEEK[HEADER]"
	PrefixItem  = "BODY.PEEK[TEXT]<0.512>"
	PrefixBytes = 512
)

// Classification is what a message's class is told by.
type Classification struct {
	UID uint32
	// Header is the whole root header as the upstream sent it.
	Header []byte
	// Prefix is the first PrefixBytes of the body, nil if it was not asked for.
	// It is looked at only where NeedsPrefix says so.
	Prefix []byte
}

// NeedsPrefix tells whether the class hangs on how the body begins.
func NeedsPrefix(header []byte) bool {
	class, _ := classOf(message.ParseHeader(header))
	return class == pgp.Unclassified
}

// Class is the class as far as it can be told without opening: Encrypted is
// everything that pgp.Open might open, never less.
func (c Classification) Class() pgp.Class {
	class, encoding := classOf(message.ParseHeader(c.Header))
	if class != pgp.Unclassified {
		return class
	}
	return classOfText(decodePrefix(c.Prefix, encoding), len(c.Prefix) >= PrefixBytes)
}

// classOf is the class by the root header, or Unclassified where that depends
// on the text, which is in the given transfer encoding.
func classOf(h message.Header) (class pgp.Class, encoding string) {
	text := true
	for _, f := range h.All("Content-Type") {
		// As message.Parse reads it; a malformed one is text/plain.
		switch word, params := message.ParseParams(f.Value()); word {
		case "multipart/encrypted":
			return pgp.Encrypted, ""
		case "multipart/signed":
			return signedClass(message.DecodeParams(params)["protocol"]), ""
		case "text/plain", "":
		default:
			text = false
		}
	}
	if !text {
		return pgp.Plain, ""
	}
	encoding, _ = message.ParseParams(h.Get("Content-Transfer-Encoding"))
	return pgp.Unclassified, encoding
}

// signedClass keeps S/MIME apart, which we do not verify. What names no
// protocol is ours to look at.
func signedClass(protocol string) pgp.Class {
	if protocol == "" || strings.EqualFold(protocol, "application/pgp-signature") {
		return pgp.Signed
	}
	return pgp.Plain
}

// classOfText tells by the decoded beginning of a text. more says that it is
// longer than what we have of it.
func classOfText(text []byte, more bool) pgp.Class {
	text = bytes.TrimLeft(text, "\xef\xbb\xbf \t\r\n")
	switch {
	case bytes.HasPrefix(text, []byte("-----BEGIN PGP SIGNED MESSAGE")):
		return pgp.Signed
	case bytes.HasPrefix(text, []byte("-----BEGIN PGP MESSAGE")), len(text) == 0 && more:
		return pgp.Encrypted
	}
	return pgp.Plain
}

// decodePrefix undoes a transfer encoding as far as a beginning allows.
func decodePrefix(prefix []byte, encoding string) []byte {
	switch encoding {
	case "base64":
		clean := bytes.Map(func(r rune) rune {
			if strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", r) {
				return r
			}
			return -1
		}, prefix)
		text := make([]byte, base64.RawStdEncoding.DecodedLen(len(clean)))
		n, _ := base64.RawStdEncoding.Decode(text, clean[:len(clean)/4*4])
		return text[:n]
	case "quoted-printable":
		text := make([]byte, len(prefix))
		r := quotedprintable.NewReader(bytes.NewReader(prefix))
		n := 0
		for n < len(text) {
			k, err := r.Read(text[n:])
			n += k
			if err != nil {
				break
			}
		}
		return text[:n]
	}
	return prefix
}

// Classify remembers the classes of messages, on disk when it returns, in one
// transaction. A UID that has a class keeps it.
func (m *Mailbox) Classify(ctx context.Context, messages []Classification) error {
	type result struct {
		uid   uint32
		e     entry
		masks Masks
	}
	var results []result
	var seen []keydir.Observation
	m.mu.RLock()
	for _, c := range messages {
		if m.entries[c.UID].class != pgp.Unclassified {
			continue
		}
		r := result{uid: c.UID, e: entry{class: c.Class()}}
		if r.e.class == pgp.Plain {
			r.e.state = settled
		}
		if r.masks.Ranges = render.Imitations(c.Header); r.masks.Ranges != nil {
			r.masks.Header = int64(len(c.Header))
		}
		if r.e.class == pgp.Plain {
			seen = append(seen, observed(message.ParseHeader(c.Header))...)
		}
		results = append(results, r)
	}
	m.mu.RUnlock()
	if len(results) == 0 {
		return nil
	}
	err := m.lib.c.Store.Update(ctx, func(tx store.Tx) error {
		for _, r := range results {
			if err := m.add(tx, r.uid, r.e, r.masks); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("storing classes: %w", err)
	}
	m.lib.observeLater(seen)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range results {
		if m.entries[r.uid].class != pgp.Unclassified {
			continue // somebody else was faster, and may have opened it by now
		}
		m.entries[r.uid] = r.e
		if r.masks.Ranges != nil {
			m.masks[r.uid] = r.masks
		}
	}
	return nil
}
