package pgp

import (
	"bytes"
	"io"
	"strings"

	"letterlock.org/letterlock/internal/message"
)

// Exchange servers take PGP/MIME apart: out of multipart/encrypted they make
// multipart/mixed of an empty text, "Version: 1" and the ciphertext (the form "Mixed
// Up" of draft-dkg-openpgp-pgpmime-message-mangling). Whoever writes from or to one
// has such mail only. It is opened as what it was where nothing but those three
// parts is there and the first is blank, so that nothing of what is shown is from
// anywhere else than from inside, as of every other encrypted message.

// FromExchange tells whether a header field of that name is one of those that an
// Exchange server adds. Others never need to be looked at for what it does.
func FromExchange[T string | []byte](name T) bool {
	return len(name) > len(exchange) && strings.EqualFold(string(name[:len(exchange)]), exchange)
}

const exchange = "X-MS-"

// mayBeApart tells whether it hangs on the Text if it is PGP/MIME taken apart.
func (s Shape) mayBeApart() bool {
	return s.Exchange && s.Type == "multipart" && s.Subtype == "mixed"
}

// saysPGP tells whether the beginning of a body has a part that only PGP/MIME has.
func saysPGP(text []byte) bool {
	return bytes.Contains(bytes.ToLower(text[:min(len(text), 512)]), []byte("\ncontent-type: application/pgp-encrypted"))
}

// apart is envelope for PGP/MIME taken apart.
func (j *job) apart() (*message.Part, bool, error) {
	all := j.root.Children
	if len(all) != 3 || !all[0].Is("text/plain") || all[0].End-all[0].Body > 1024 || !all[2].Is("application/octet-stream") {
		return nil, false, nil
	}
	if blank, err := j.blank(all[0]); err != nil || !blank {
		return nil, false, err
	}
	return j.box(all[1], all[2])
}

// blank tells whether there is nothing to read in a short part. What can't be decoded
// isn't blank: mail programs show some of it.
func (j *job) blank(p *message.Part) (bool, error) {
	raw, err := io.ReadAll(message.Reader(message.Section(j.src, p.Body, p.End-p.Body)))
	if err != nil {
		return false, err
	}
	text, err := io.ReadAll(transferDecoder(bytes.NewReader(raw), transferEncoding(p.Header)))
	return err == nil && len(bytes.TrimSpace(text)) == 0, nil
}
