package smtpd

import (
	"cmp"
	"strings"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/policy"
)

// facts are what rules may look for in a message.
func (sub submission) facts(rules *policy.Rules) policy.Message {
	m := policy.Message{From: sub.from, Size: cmp.Or(sub.size, sub.src.Size()), Attachment: hasAttachment(sub.root), Headers: map[string][]string{}}
	for _, name := range rules.Headers() {
		for _, f := range sub.root.Header.All(name) {
			m.Headers[name] = append(m.Headers[name], f.Text())
		}
	}
	if sub.word != "" {
		m.Headers["subject"] = append(m.Headers["subject"], sub.word)
	}
	return m
}

// hasAttachment tells whether a message carries a file: a part that says so or
// has a name (RFC 2183, Sections 2.2 and 2.3), one that no mail program shows as
// text, or another message. Signatures are none. Rules can only raise protection
// by it, so what is doubtful is one.
func hasAttachment(root *message.Part) bool {
	for p := range root.All() {
		if len(p.Children) > 0 {
			continue
		}
		if p.Embedded != nil || p.Type == "message" && p != root {
			return true
		}
		switch p.Subtype {
		case "pgp-signature", "pgp-encrypted", "pkcs7-signature", "x-pkcs7-signature":
			continue
		}
		disposition, params := message.ParseParams(p.Header.Get("Content-Disposition"))
		if strings.EqualFold(disposition, "attachment") || p.Params["name"] != "" || message.DecodeParams(params)["filename"] != "" {
			return true
		}
		switch p.Type {
		case "application", "audio", "video", "model", "font":
			return true
		}
	}
	return false
}
