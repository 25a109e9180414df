package smtpd

import (
	"bytes"
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"letterlock.org/letterlock/internal/message"
)

// stripped is a submission whose subject lacks a word, such as "[secure]": it
// was for the rules, not for the reader. Everything else is as it came.
func (sub submission) stripped(word string) (submission, error) {
	h := sub.root.Header
	var head bytes.Buffer
	at, changed := int64(0), false
	for _, f := range h.Fields {
		if word == "" || !f.Is("Subject") {
			continue
		}
		text := f.Text()
		short := withoutWord(text, word)
		if short == text {
			continue
		}
		head.Write(h.Raw[at:f.Start])
		head.WriteString(f.Name + ": " + encodedText(short) + "\r\n")
		at, changed = f.Start+int64(len(f.Raw)), true
	}
	if !changed {
		return sub, nil
	}
	head.Write(h.Raw[at:])
	n := int64(len(h.Raw))
	sub.plain = false // nobody has looked
	sub.src = message.Concat(message.Bytes(head.Bytes()), message.Section(sub.src, n, sub.src.Size()-n))
	root, err := message.Parse(sub.src, message.Limits{})
	if err != nil {
		return sub, err
	}
	sub.root = root
	return sub, nil
}

// withoutWord takes every occurrence of word out of text, in letters of any
// case, and the white space that it leaves. word is in lower case.
func withoutWord(text, word string) string {
	low := strings.ToLower(text)
	if len(low) != len(text) { // some letters change their length
		return text
	}
	var b strings.Builder
	found := false
	for {
		i := strings.Index(low, word)
		if i < 0 {
			break
		}
		found = true
		b.WriteString(text[:i])
		b.WriteByte(' ')
		text, low = text[i+len(word):], low[i+len(word):]
	}
	b.WriteString(text)
	if !found {
		return text
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// encodedText is a header text as it may stand in a field: plain, or in words of
// RFC 2047, folded. What looks like such a word itself is encoded too, or else
// its reader would see something else.
func encodedText(s string) string {
	if plainText(s) {
		return s
	}
	var words []string
	for s != "" {
		n := 0
		for _, r := range s { // 45 bytes are 60 letters: with their frame less than the 75 of RFC 2047
			if n+utf8.RuneLen(r) > 45 {
				break
			}
			n += utf8.RuneLen(r)
		}
		words = append(words, "=?utf-8?b?"+base64.StdEncoding.EncodeToString([]byte(s[:n]))+"?=")
		s = s[n:]
	}
	return strings.Join(words, "\r\n ")
}

// plainText tells whether s can stand in a line as it is.
func plainText(s string) bool {
	return len(s) < 900 && !strings.Contains(s, "=?") && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f })
}
