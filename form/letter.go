package form

import (
	"fmt"
	"strings"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
)

// letter is the text that everyone sees. It tells nothing but what the header
// outside does: who wrote, by the From field.
func (o Options) letter(outer []byte) string {
	name, addr := o.writer(message.ParseHeader(outer))
	who := addr
	if name != "" {
		who = name + " (" + addr + ")"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nhas sent you a protected message.\n\n", who)
	b.WriteString("To read it:\n\n" +
		"1. Save the attached file message.html and open it in a web browser\n" +
		"   (Firefox, Chrome, Edge or Safari; a preview in a mail program won't do).\n" +
		"2. Enter the password. " + o.whence(addr) + "\n\n" +
		"The page needs no connection and sends nothing. It asks for that password\n" +
		"only: never enter the one of your mail account or any other there. If you\n" +
		"expect nothing of this kind, ask the sender first, not by mail.\n\n")
	if !o.NoOpenPGP {
		b.WriteString("Who has an OpenPGP program can open message.eml.asc instead, with the same\n" +
			"password; for example: gpg --decrypt message.eml.asc > message.eml\n\n")
	}
	b.WriteString("An answer to this mail is not protected: everyone on its way can read it.\n")
	return b.String()
}

// whence says where the password comes from.
func (o Options) whence(addr string) string {
	if o.Password.Made() {
		return "It does not come by mail: " + addr + "\n   tells it to you in another way, by telephone for example."
	}
	return "It is the one that you and " + addr + "\n   have agreed upon; it does not come by mail."
}

// writer is the one author of the header outside; the name is "" where it has none, or
// one that could be taken for something else.
func (o Options) writer(h message.Header) (name, addr string) {
	list, err := address.ParseList(h.Get("From"))
	if err != nil || len(list) != 1 {
		return "", o.Protection.From.String()
	}
	name = strings.Join(strings.Fields(list[0].Name), " ")
	if len(name) > 60 || strings.ContainsAny(name, "@<>()/") {
		name = ""
	}
	return name, list[0].Address.String()
}
