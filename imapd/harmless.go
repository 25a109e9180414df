package imapd

import (
	"bytes"
	"strconv"

	"letterlock.org/letterlock/imapd/wire"
)

// passedOn are the untagged responses, beside those that are understood, that a
// client may see. All others are dropped: the commands that cause them are not
// offered, and a client may take for a FETCH what we did not ("* 1  FETCH",
// "* +1 FETCH", "* 4294967297 FETCH"), with keywords in it that are ours alone.
var passedOn = map[string]bool{
	"LIST": true, "LSUB": true, "STATUS": true, "SEARCH": true,
	"NAMESPACE": true, "QUOTA": true, "QUOTAROOT": true,
}

// maxPassed bounds a response that is passed on: a list of twenty million
// numbers fits no mailbox's view.
const maxPassed = 16 << 20

// passOn passes on an untagged response that says nothing of messages, if every
// client must read it as we do.
func (s *session) passOn(h wire.Head) error {
	if h.HasNum || !passedOn[h.Name] {
		return s.up.r.Copy(nil)
	}
	b, err := s.up.r.Collect(maxPassed)
	if err != nil {
		return err
	}
	line, ok := bytes.CutSuffix(b, []byte("\r\n"))
	if !ok || !harmless(line) {
		s.log.Warn("a malformed response of the upstream was dropped")
		return nil
	}
	s.sawModSeqOf(h.Name, line)
	o := s.relay.hold()
	defer s.relay.release()
	_, err = o.w.Write(b)
	return err
}

// harmless tells whether text of a response, without its line end, holds no
// control characters, not even in its literals, and no literal that looks like
// the beginning of a response: a client that reads a literal
// where there is none, or none where there is one, would take its lines for
// responses that we have not seen.
func harmless(text []byte) bool {
	for {
		i := bytes.IndexFunc(text, control)
		if i < 0 {
			return true
		}
		n, ok := literalSize(text[:i])
		rest, crlf := bytes.CutPrefix(text[i:], []byte("\r\n"))
		if !ok || !crlf || n > len(rest) || bytes.ContainsFunc(rest[:n], control) {
			return false
		}
		if len(rest) > 0 && bytes.IndexByte([]byte("*+ "), rest[0]) >= 0 { // like a response
			return false
		}
		text = rest[n:]
	}
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

// literalSize reads "{n}" at the end of text.
func literalSize(text []byte) (n int, ok bool) {
	open := bytes.LastIndexByte(text, '{')
	if open < 0 {
		return 0, false
	}
	digits, ok := bytes.CutSuffix(text[open+1:], []byte("}"))
	n, err := strconv.Atoi(string(digits))
	return n, ok && err == nil && n >= 0 && len(digits) < 10
}

// printable is text of a status response that is one line for every client.
func printable(line []byte) []byte {
	if !bytes.ContainsFunc(line, control) {
		return line
	}
	return bytes.Map(func(r rune) rune {
		if control(r) {
			return '?'
		}
		return r
	}, line)
}
