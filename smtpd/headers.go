package smtpd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/policy"
)

// author checks that everyone whom the header names as author or sender is of
// the account (RFC 6409, Section 8.1) and returns the first author.
func (s *session) author(h message.Header) (address.Address, error) {
	if s.account.anySender() {
		return s.relayAuthor(h), nil
	}
	from := h.All("From")
	if len(from) != 1 {
		return address.Address{}, permanent(550, "5.6.0", fmt.Sprintf("the message has %d From fields and needs one", len(from)))
	}
	var first address.Address
	for _, name := range []string{"From", "Sender", "Resent-From", "Resent-Sender"} {
		for _, f := range h.All(name) {
			list, err := address.ParseList(f.Value())
			if err != nil || len(list) == 0 {
				return first, permanent(550, "5.6.0", "the "+name+" field is no list of addresses")
			}
			for _, m := range list {
				if !s.account.has(m.Address) {
					return first, s.notOurs(m.Address)
				}
			}
			if first.IsZero() {
				first = list[0].Address
			}
		}
	}
	return first, nil
}

// nameAuthor puts a From field before a person's message that has none: RFC 5322,
// Section 3.6, asks for one, and some programs leave it to the server, which knows
// the sender (RFC 6409, Section 8). What doesn't begin with a header stays as it is.
func (s *session) nameAuthor(sub *submission) error {
	h := sub.root.Header
	if s.account.Relay != nil || s.env.from.IsZero() || len(h.Fields) == 0 || h.Fields[0].Name == "" || len(h.All("From")) > 0 {
		return nil
	}
	sub.src = message.Concat(message.Bytes([]byte("From: <"+s.env.from.String()+">\r\n")), sub.src)
	sub.plain = sub.plain && s.env.from.IsASCII()
	var err error
	if sub.root, err = message.Parse(sub.src, message.Limits{}); err != nil {
		return s.fault("reading the message", err)
	}
	return nil
}

// visible are the keys of the recipients whom every reader of the message sees.
// A field that can't be read hides its recipients: each then gets a copy of his
// own, as if blind, which costs more and betrays nobody.
func visible(h message.Header) map[string]bool {
	keys := map[string]bool{}
	for _, name := range []string{"To", "Cc", "Resent-To", "Resent-Cc"} {
		for _, f := range h.All(name) {
			list, err := address.ParseList(f.Value())
			if err != nil {
				continue
			}
			for _, m := range list {
				keys[m.Address.Key()] = true
			}
		}
	}
	return keys
}

// private tells whether a header field must not leave in clear copies: blind
// recipients, our own fields, and what Thunderbird notes for itself.
func private(name string) bool {
	return ours(name) || strings.HasPrefix(strings.ToLower(name), "x-mozilla-")
}

// ours tells whether a header field must not leave even in a copy that the
// sender's own program has sealed.
func ours(name string) bool {
	return blind(name) || strings.HasPrefix(strings.ToLower(name), "letterlock-")
}

func blind(name string) bool {
	return slices.Contains([]string{"bcc", "resent-bcc"}, strings.ToLower(name))
}

// without is src without some fields of its root header, byte for byte
// otherwise. It adds no Received field, which would name the sender's machine.
func without(src message.Source, root *message.Part, drop func(name string) bool) message.Source {
	h := root.Header
	if !slices.ContainsFunc(h.Fields, func(f message.Field) bool { return drop(f.Name) }) {
		return src
	}
	var kept bytes.Buffer
	at := int64(0)
	for _, f := range h.Fields {
		if drop(f.Name) {
			kept.Write(h.Raw[at:f.Start])
			at = f.Start + int64(len(f.Raw))
		}
	}
	kept.Write(h.Raw[at:])
	n := int64(len(h.Raw))
	return message.Concat(message.Bytes(kept.Bytes()), message.Section(src, n, src.Size()-n))
}

// eightBit tells whether src has bytes beyond ASCII.
func eightBit(src message.Source) (bool, error) {
	r := message.Reader(src)
	pooled := buffers.Get().(*[]byte)
	defer buffers.Put(pooled)
	buf := *pooled
	for {
		n, err := r.Read(buf)
		if hasHigh(buf[:n]) {
			return true, nil
		}
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// hasHigh tells whether a byte of b is beyond ASCII, eight at a time.
func hasHigh(b []byte) bool {
	for ; len(b) >= 32; b = b[32:] {
		le := binary.LittleEndian
		if (le.Uint64(b)|le.Uint64(b[8:])|le.Uint64(b[16:])|le.Uint64(b[24:]))&0x8080808080808080 != 0 {
			return true
		}
	}
	for ; len(b) >= 8; b = b[8:] {
		if binary.LittleEndian.Uint64(b)&0x8080808080808080 != 0 {
			return true
		}
	}
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

// clearCopy tells whether an action sends what the upstream can read.
func clearCopy(a policy.Action) bool {
	return a == policy.SendClear || a == policy.SignOnly || a == policy.PassUnchanged
}
