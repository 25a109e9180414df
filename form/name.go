package form

import (
	"strings"
	"unicode/utf8"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/text"
)

// fileName is the name that a part carries, decoded; "" for none (RFC 2183,
// Section 2.3; the name of Content-Type is older).
func fileName(p *message.Part) string {
	_, params := message.ParseParams(p.Header.Get("Content-Disposition"))
	name := message.DecodeParams(params)["filename"]
	if name == "" {
		name = p.Params["name"]
	}
	return text.Decode(name)
}

const maxName = 120 // bytes of a file's name

// safeName is a name under which a browser may save a part: no path, no
// characters that some system forbids, no hidden file.
func safeName(p *message.Part) string {
	name := fileName(p)
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	name = strings.Map(func(r rune) rune {
		if strings.ContainsRune(`<>:"|?*`, r) {
			return '_'
		}
		return r
	}, text.Safe(name))
	name = strings.TrimRight(strings.TrimLeft(name, ". "), ". ")
	stem, _, _ := strings.Cut(strings.ToLower(name), ".")
	switch stem = strings.TrimSpace(stem); {
	case name == "":
		return "attachment" + extension(p)
	case stem == "con", stem == "prn", stem == "aux", stem == "nul",
		len(stem) == 4 && (strings.HasPrefix(stem, "com") || strings.HasPrefix(stem, "lpt")) && stem[3] >= '0' && stem[3] <= '9':
		name = "_" + name // names of devices on Windows
	}
	return shorten(name)
}

// shorten keeps the end of a long name, which says what the file is.
func shorten(name string) string {
	if len(name) <= maxName {
		return name
	}
	ext := name[strings.LastIndexByte(name, '.')+1:]
	if len(ext) > 10 || len(ext) == len(name) {
		ext = ""
	} else {
		ext = "." + ext
	}
	stem := name[:maxName-len(ext)]
	for !utf8.ValidString(stem) {
		stem = stem[:len(stem)-1]
	}
	return stem + ext
}

// extension is one for a part without a name.
func extension(p *message.Part) string {
	switch {
	case p.Embedded != nil:
		return ".eml"
	case p.Is("text/plain"):
		return ".txt"
	case p.Is("text/html"):
		return ".html"
	case p.Is("text/calendar"):
		return ".ics"
	case p.Is("application/pdf"):
		return ".pdf"
	case p.Is("application/pgp-signature"):
		return ".asc"
	case imageType(p) != "":
		return "." + strings.Replace(p.Subtype, "jpeg", "jpg", 1)
	}
	return ""
}
