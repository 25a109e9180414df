package pgp

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
)

// Types of armor blocks (RFC 9580, Section 6.2).
const (
	blockMessage   = "PGP MESSAGE"
	blockSignature = "PGP SIGNATURE"
	blockPublic    = "PGP PUBLIC KEY BLOCK"
	blockSecret    = "PGP PRIVATE KEY BLOCK"
)

// armorBlock is one block, still encoded.
type armorBlock struct {
	kind    string
	headers map[string]string // names as written
	data    []byte            // base64 with line ends, without checksum
}

// nextArmor finds the first whole armor block of b and what follows it. It is
// lenient as RFC 9580, Section 6.2 asks: trailing white space, unknown headers
// and a wrong or absent checksum are no errors.
func nextArmor(b []byte) (block armorBlock, rest []byte, ok bool) {
	const begin, end = "-----BEGIN ", "-----END "
	for {
		line, next := cutLine(b)
		if line == nil {
			return block, nil, false
		}
		b = next
		s := strings.Trim(string(line), " \t")
		if strings.HasPrefix(s, begin) && strings.HasSuffix(s, "-----") && len(s) >= len(begin)+5 {
			block.kind = s[len(begin) : len(s)-5]
			break
		}
	}
	block.headers, b = armorHeaders(b)
	body := b
	for {
		line, next := cutLine(b)
		if line == nil {
			return block, nil, false
		}
		s := strings.TrimRight(string(line), " \t")
		if strings.HasPrefix(s, end) {
			if s != end+block.kind+"-----" {
				return block, nil, false
			}
			block.data = body[:len(body)-len(b)]
			return block, next, true
		}
		b = next
	}
}

// armorHeaders reads "Name: value" lines up to the empty line.
func armorHeaders(b []byte) (map[string]string, []byte) {
	headers := map[string]string{}
	for {
		line, next := cutLine(b)
		name, value, ok := strings.Cut(string(line), ":")
		switch {
		case line == nil:
			return headers, b
		case len(bytes.TrimSpace(line)) == 0:
			return headers, next
		case !ok: // no empty line: the data begins here
			return headers, b
		}
		if _, again := headers[name]; !again && len(headers) < 32 {
			headers[name] = strings.TrimSpace(value)
		}
		b = next
	}
}

// cutLine gives the first line of b without its end, and the rest; nil at the end.
func cutLine(b []byte) (line, rest []byte) {
	if len(b) == 0 {
		return nil, nil
	}
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return b, nil
	}
	return bytes.TrimSuffix(b[:i:i], []byte("\r")), b[i+1:]
}

// decode gives the bytes that the block carries.
func (a armorBlock) decode() ([]byte, error) {
	out := make([]byte, 0, len(a.data))
	done := false
	for b := a.data; len(b) > 0; {
		line, next := cutLine(b)
		b = next
		line = bytes.TrimRight(line, " \t")
		switch {
		case len(line) == 0:
			continue
		case line[0] == '=' && len(line) == 5: // checksum, RFC 9580, Section 6.1: ignored
			done = true
			continue
		case done:
			return nil, fmt.Errorf("text after the armor's checksum: %w", ErrMalformed)
		}
		out = append(out, line...)
	}
	n, err := base64.StdEncoding.Decode(out, out)
	if err != nil {
		return nil, fmt.Errorf("armor is not base64: %w", ErrMalformed)
	}
	return out[:n], nil
}

// encodeArmor writes b as one armor block, with the checksum that readers of
// old want unless what it carries is newer than they are (RFC 9580, Section 6.1).
func encodeArmor(kind string, b []byte, checksum bool) string {
	var s strings.Builder
	w, err := armor.EncodeWithChecksumOption(&s, kind, nil, checksum)
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil { // a strings.Builder does not fail
		return ""
	}
	return s.String() + "\n"
}
