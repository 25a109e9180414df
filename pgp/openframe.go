package pgp

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"slices"
	"strings"

	"letterlock.org/letterlock/internal/message"
)

// Bounds of what stands around the parts of a signed message.
const (
	maxPreamble = 4 << 10
	maxEpilogue = 64 << 10
)

// framedAlike tells whether every mail program cuts a multipart/signed of src
// into the same two parts. All but the first part is anybody's to write, the
// boundary too: a delimiter that only some take for one ("--boundaryX", which
// message.Parse takes as Dovecot does) would have others show the signature's
// header and what follows it as part of the letter, and so would one within the
// first part.
func framedAlike(ctx context.Context, src message.Source, p *message.Part) (bool, error) {
	if !oneReading(p.Header) || !isTransparent(p) || !keepsASCII(p.Params["charset"]) || len(p.Children) != 2 || !oneReading(p.Children[1].Header) {
		return false, nil
	}
	signed, box := p.Children[0], p.Children[1]
	gaps := []struct{ from, to, most int64 }{
		{p.Body, signed.Start, maxPreamble}, {signed.End, box.Start, 100}, {box.End, p.End, maxEpilogue},
	}
	var frame [3][]byte
	for i, g := range gaps {
		if g.to-g.from > g.most {
			return false, nil
		}
		b := make([]byte, g.to-g.from)
		if n, err := src.ReadAt(b, g.from); n < len(b) {
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
			return false, err
		}
		frame[i] = b
	}
	delimiter := "--" + p.Params["boundary"]
	if !oneLineEnd(slices.Concat(p.Header.Raw, frame[0], frame[1], box.Header.Raw, frame[2])) || !delimits(frame, delimiter) {
		return false, nil
	}
	inside := lineFinder{want: []byte(delimiter), tail: []byte("\n")}
	err := copyRange(ctx, &inside, src, signed.Start, signed.End)
	return !inside.found, err
}

// lineFinder finds out whether a line of what is written to it begins with want,
// whatever ends lines. What is signed may be a forwarded message with boundaries of
// its own; with one of them around it too, some programs show what was only forwarded
// as a part beside it.
type lineFinder struct {
	want  []byte
	tail  []byte // the last bytes written, no more than want has; "\n" before the first
	found bool
}

func (f *lineFinder) Write(p []byte) (int, error) {
	n := len(f.want)
	f.tail = append(f.tail, p[:min(len(p), n)]...)
	f.found = f.found || beginsLine(f.tail, f.want) || beginsLine(p, f.want)
	if len(p) > n {
		f.tail = append(f.tail[:0], p[len(p)-n:]...)
	} else if more := len(f.tail) - n; more > 0 {
		f.tail = append(f.tail[:0], f.tail[more:]...)
	}
	return len(p), nil
}

// beginsLine tells whether want stands in b behind a line end.
func beginsLine(b, want []byte) bool {
	for {
		i := bytes.Index(b, want)
		if i < 0 {
			return false
		}
		if i > 0 && (b[i-1] == '\n' || b[i-1] == '\r') {
			return true
		}
		b = b[i+1:]
	}
}

// delimits tells whether what stands before, between and after the two parts is
// their delimiter, exactly, and no other line looks like one (RFC 2046, Section
// 5.1.1; the white space that it allows after a delimiter not every program does).
func delimits(frame [3][]byte, delimiter string) bool {
	for i := range frame {
		frame[i] = bytes.ReplaceAll(frame[i], lineEnd, []byte("\n"))
	}
	before, between, after := string(frame[0]), string(frame[1]), string(frame[2])
	preamble, ok := strings.CutSuffix("\n"+before, "\n"+delimiter+"\n")
	if !ok || strings.Contains(preamble, "\n--") || between != "\n"+delimiter+"\n" {
		return false
	}
	if after == "" {
		return true // cut off; nothing more is to be seen
	}
	epilogue, ok := strings.CutPrefix(after, "\n"+delimiter+"--")
	return ok && (epilogue == "" || epilogue[0] == '\n') && !strings.Contains(epilogue, "\n--")
}

// isTransparent tells of a part whose bytes are what they stand for.
func isTransparent(p *message.Part) bool {
	switch transferEncoding(p.Header) {
	case "", "7bit", "8bit", "binary":
		return true
	}
	return false
}

// decodes tells of a text whose bytes stand for the same letters with every program,
// as far as what is not signed decides it.
func decodes(p *message.Part) bool {
	e := transferEncoding(p.Header)
	return (isTransparent(p) || e == "base64" || e == "quoted-printable") &&
		keepsASCII(p.Params["charset"]) && !strings.EqualFold(p.Params["delsp"], "yes") // RFC 3676, Section 4.1: joins words
}

// oneDecoding tells whether every program decodes a text the same way: some end at the
// first padding of base64, which the Go library takes in the middle too, and not all
// join a line of quoted-printable with white space after its "=" to the next.
func oneDecoding(raw []byte, encoding string) bool {
	switch encoding {
	case "base64":
		i := bytes.IndexByte(raw, '=')
		return i < 0 || len(bytes.Trim(raw[i:], "= \t\r\n")) == 0
	case "quoted-printable":
		return !bytes.Contains(raw, []byte("= ")) && !bytes.Contains(raw, []byte("=\t"))
	}
	return true
}

// keepsASCII tells of a charset in which ASCII stands for itself, as almost all are
// that are used in mail; not UTF-7 or UTF-16, which make other letters of it.
func keepsASCII(charset string) bool {
	charset = strings.ToLower(charset)
	return charset == "" || slices.ContainsFunc([]string{"us-ascii", "ascii", "utf-8", "utf8", "iso-8859-", "iso8859-", "latin", "windows-", "cp125", "cp85", "cp86", "ibm85", "ibm86",
		"koi8-", "iso-2022-", "gb2312", "gbk", "gb18030", "big5", "euc-", "shift_jis", "ks_c_5601", "tis-620", "mac"},
		func(prefix string) bool { return strings.HasPrefix(charset, prefix) })
}

// Hashes that a clear-signed text may name (RFC 9580, Section 7 and, for what
// old programs write, RFC 4880, Section 9.4).
var hashNames = []string{"MD5", "SHA1", "RIPEMD160", "SHA224", "SHA256", "SHA384", "SHA512", "SHA3-256", "SHA3-512"}

// saysOnlyHashes tells whether a "Hash: " line of a clear-signed text holds names
// of hashes and nothing else: it is not signed, but it is seen.
func saysOnlyHashes(line []byte) bool {
	value, ok := strings.CutPrefix(string(bytes.TrimRight(line, " \t")), "Hash: ")
	return ok && !slices.ContainsFunc(strings.Split(value, ","), func(name string) bool {
		return !slices.Contains(hashNames, strings.TrimLeft(name, " "))
	})
}

// framedClear tells whether what stands around a clear-signed text, unsigned but
// seen, says nothing: of the lines before it only the names of hashes, of the
// armor's headers only what program wrote it; and whether "- " stands before no line
// but those that must be escaped or that mailboxes would change (RFC 9580, Section
// 7.2): before an amount it is a sign that is not signed. b and signature are those of
// splitClear.
func framedClear(b, signature []byte) bool {
	_, b = cutLine(bytes.TrimLeft(b, " \t\r\n"))
	for n := 0; ; n++ {
		line, rest := cutLine(b)
		if len(bytes.TrimRight(line, " \t")) == 0 {
			break
		}
		if n == 4 || !saysOnlyHashes(line) {
			return false
		}
		b = rest
	}
	for text := b[:len(b)-len(signature)]; len(text) > 0; {
		line, rest := cutLine(text)
		if l, escaped := bytes.CutPrefix(line, []byte("- ")); escaped && !bytes.HasPrefix(l, []byte("-")) && !bytes.HasPrefix(l, []byte("From")) {
			return false
		}
		text = rest
	}
	_, b = cutLine(signature)
	for n := 0; ; n++ {
		line, rest := cutLine(b)
		if len(bytes.TrimRight(line, " \t")) == 0 {
			return true
		}
		if n == 4 || !namesProgram(string(bytes.TrimRight(line, " \t"))) {
			return false
		}
		b = rest
	}
}

// namesProgram tells of an armor header that names a program, and has no room for
// a sentence of anybody's own: "Version: GnuPG v2.0.22 (GNU/Linux)", and those comments
// that widespread programs put there by themselves.
func namesProgram(line string) bool {
	return versionHeader.MatchString(line) || commentHeader.MatchString(line)
}

var (
	versionHeader = regexp.MustCompile(`^Version: (FlowCrypt [0-9.]{1,12} Gmail Encryption( flowcrypt\.com)?|FlowCrypt (Email|Gmail) Encryption|` +
		`(PGP|OpenPGP|Encryption|Symantec|Hush) [A-Z][A-Za-z]{1,11}|[A-Za-z][A-Za-z0-9.+/_-]{0,23})` +
		`( [vV]?[0-9][0-9A-Za-z.+_-]{0,15})?( \((Build )?[A-Za-z0-9./_:-]{1,24}\))?$`)
	commentHeader = regexp.MustCompile(`^Comment: (Seamlessly send(, receive and search| and receive) encrypted email|` +
		`(GPGTools - |Using (GnuPG|PGP) with [A-Za-z0-9.-]{1,16} - )?` +
		`https?://(www\.)?(enigmail\.net|enigmail\.mozdev\.org|gpgtools\.(org|com)|gnupg\.org|mailvelope\.com|openpgpjs\.org|gopenpgp\.org|flowcrypt\.com|protonmail\.com|proton\.me)/?)$`)
)
