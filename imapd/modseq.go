package imapd

import (
	"bytes"
	"strconv"
	"strings"

	"letterlock.org/letterlock/imapd/wire"
)

// The client may ask for changes since any MODSEQ that it was told of, so that
// the index must have been told of each before (index.Mailbox.SawModSeq).

// sawModSeq notes a MODSEQ before the client is told of it.
func (b *selected) sawModSeq(value []byte) {
	n, err := strconv.ParseUint(string(bytes.Trim(value, "()")), 10, 64)
	if lib := b.lib.Load(); err == nil && lib != nil {
		lib.SawModSeq(n)
	}
}

// sawModSeqOf notes the MODSEQ in an untagged response: that of a search (RFC
// 7162, Sections 3.1.5 and 3.1.10) or of another mailbox (Section 3.1.7).
func (s *session) sawModSeqOf(name string, line []byte) {
	switch box := s.selected(); {
	case name == "STATUS":
		s.sawModSeqOfMailbox(line)
	case (name == "SEARCH" || name == "ESEARCH") && box != nil:
		if i := bytes.LastIndex(bytes.ToUpper(line), []byte("MODSEQ ")); i >= 0 {
			value, _, _ := bytes.Cut(line[i+len("MODSEQ "):], []byte(" "))
			box.sawModSeq(value)
		}
	}
}

// sawModSeqOfMailbox reads "* STATUS name (… HIGHESTMODSEQ n …)".
func (s *session) sawModSeqOfMailbox(line []byte) {
	if s.account.Library == nil || !bytes.Contains(bytes.ToUpper(line), []byte("HIGHESTMODSEQ")) {
		return
	}
	r := wire.NewCommandReader(strings.NewReader("x"+string(line[1:])+"\r\n"), wire.Limits{Line: len(line) + 16})
	c, err := r.Next()
	if err != nil || len(c.Args) < 2 {
		return
	}
	list := c.Args[len(c.Args)-1].List
	for i := 0; i+1 < len(list); i += 2 {
		if n, ok := number64(list[i+1]); ok && list[i].Is("HIGHESTMODSEQ") {
			s.account.Library.SawModSeq(c.Args[0].Text(), n)
		}
	}
}
