package imapd

import (
	"bytes"
	"strings"

	"letterlock.org/letterlock/imapd/wire"
)

// passed are the upstream's capabilities that clients may see. All others are
// withheld, since an unknown extension could show ciphertext or hide a message
// from us. Withheld on purpose for now:
//
//   - IMAP4rev2, UTF8=ACCEPT, BINARY: literal8 and decoded sections
//   - COMPRESS: a layer beneath the relay
//   - NOTIFY, CONTEXT=…: answers without a command
//   - PREVIEW, SNIPPET=…: content that the upstream makes of ciphertext
//   - SORT, THREAD, ESORT: by header fields that the upstream does not have
//   - SEARCHRES: "$" names messages that we would have to know
//   - CATENATE, MULTIAPPEND, REPLACE, URLAUTH: uploads that are not one message
//   - X-GM-RAW rides on X-GM-EXT-1; imapd/search refuses it
var passed = map[string]bool{
	"IMAP4REV1": true, "IDLE": true, "UIDPLUS": true, "MOVE": true, "UNSELECT": true,
	"NAMESPACE": true, "SPECIAL-USE": true, "CREATE-SPECIAL-USE": true,
	"LIST-EXTENDED": true, "LIST-STATUS": true, "CHILDREN": true,
	"CONDSTORE": true, "QRESYNC": true, "ENABLE": true, "ESEARCH": true,
	"QUOTA": true, "QUOTASET": false, "STATUS=SIZE": true, "X-GM-EXT-1": true,
}

// greetingCapabilities are ours before the login: the upstream isn't known yet.
func (s *session) greetingCapabilities() string {
	caps := "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE"
	if s.mayStartTLS() {
		caps += " STARTTLS"
	}
	if !s.mayLogin() {
		return caps + " LOGINDISABLED"
	}
	return caps + " AUTH=PLAIN AUTH=LOGIN"
}

// capabilities are those after the login: the upstream's that we let pass, and
// ours.
func (s *session) capabilities() string {
	out := []string{"IMAP4rev1", "LITERAL+", "ID"}
	for _, c := range s.up.capList {
		u := strings.ToUpper(c)
		switch {
		case u == "IMAP4REV1":
		case passed[u], strings.HasPrefix(u, "QUOTA=RES-"):
			out = append(out, c)
		case strings.HasPrefix(u, "APPENDLIMIT="):
			if n := appendLimit(u); n > 0 {
				out = append(out, "APPENDLIMIT="+itoa(n))
			}
		}
	}
	return strings.Join(out, " ")
}

// capabilityLine puts our list in the place of an upstream's in a status
// response: "… [CAPABILITY …] text". ok is false if there is none.
func (s *session) capabilityLine(line []byte) (out []byte, ok bool) {
	open := bytes.IndexByte(line, '[')
	if open < 0 || !wire.HasPrefixFold(line[open+1:], "CAPABILITY ") {
		return line, false
	}
	end := bytes.IndexByte(line[open:], ']')
	if end < 0 {
		return line, false
	}
	out = append(out, line[:open+1]...)
	out = append(out, "CAPABILITY "+s.capabilities()...)
	return append(out, line[open+end:]...), true
}
