package smtpd

import (
	"letterlock.org/letterlock/internal/message"
)

var WithFooter = withFooter

// HasAttachment is hasAttachment of a raw message.
func HasAttachment(raw []byte) (bool, error) {
	root, err := message.Parse(message.Bytes(raw), message.Limits{})
	return err == nil && hasAttachment(root), err
}

// Stripped is a raw message without a word in its subject.
func Stripped(raw []byte, word string) ([]byte, error) {
	src := message.NewSpool(message.SpoolOptions{})
	defer src.Close()
	if _, err := src.Write(raw); err != nil {
		return nil, err
	}
	root, err := message.Parse(src, message.Limits{})
	if err != nil {
		return nil, err
	}
	sub, err := submission{src: src, root: root}.stripped(word)
	if err != nil {
		return nil, err
	}
	return message.ReadAll(sub.src, 1<<20)
}
