package render

import (
	"slices"
	"strings"

	"letterlock.org/letterlock/internal/message"
)

// emptyPart stands for the content of a multipart that has none; the grammar
// wants at least one part.
const emptyPart = `("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0`

// appendStructure writes BODY, or with extended BODYSTRUCTURE, of p. Depth is
// bounded by message.Limits.
func appendStructure(b []byte, p *message.Part, extended bool) []byte {
	b = append(b, '(')
	if p.Type == "multipart" {
		b = appendMultipart(b, p, extended)
	} else {
		b = appendLeaf(b, p, extended)
	}
	return append(b, ')')
}

func appendMultipart(b []byte, p *message.Part, extended bool) []byte {
	for _, child := range p.Children {
		b = appendStructure(b, child, extended)
	}
	if len(p.Children) == 0 {
		b = append(b, emptyPart...)
		if extended {
			b = append(b, " NIL NIL NIL NIL"...)
		}
		b = append(b, ')')
	}
	b = append(b, ' ')
	b = appendString(b, p.Subtype)
	if !extended {
		return b
	}
	b = append(b, ' ')
	b = appendParams(b, contentParams(p), false)
	return appendExtension(b, p)
}

func appendLeaf(b []byte, p *message.Part, extended bool) []byte {
	b = appendString(b, p.Type)
	b = append(b, ' ')
	b = appendString(b, p.Subtype)
	b = append(b, ' ')
	b = appendParams(b, contentParams(p), p.Type == "text")
	for _, name := range []string{"Content-ID", "Content-Description"} {
		b = append(b, ' ')
		b = appendNString(b, value(p.Header, name))
	}
	b = append(b, ' ')
	encoding, _ := message.ParseParams(p.Header.Get("Content-Transfer-Encoding"))
	if encoding == "" {
		encoding = "7bit"
	}
	b = appendString(b, encoding)
	b = append(b, ' ')
	b = appendNumber(b, p.End-p.Body)
	switch {
	case embedded(p) != nil:
		b = append(b, ' ')
		b = append(b, Envelope(p.Embedded.Header)...)
		b = append(b, ' ')
		b = appendStructure(b, p.Embedded, extended)
		b = append(b, ' ')
		b = appendNumber(b, p.Lines)
	case p.Type == "text":
		b = append(b, ' ')
		b = appendNumber(b, p.Lines)
	}
	if !extended {
		return b
	}
	b = append(b, ' ')
	b = appendNString(b, value(p.Header, "Content-MD5"))
	return appendExtension(b, p)
}

// appendExtension writes disposition, language and location.
func appendExtension(b []byte, p *message.Part) []byte {
	b = append(b, ' ')
	if v := p.Header.Get("Content-Disposition"); v == "" {
		b = append(b, "NIL"...)
	} else if word, params := message.ParseParams(v); word == "" {
		b = append(b, "NIL"...)
	} else {
		b = append(b, '(')
		b = appendString(b, word)
		b = append(b, ' ')
		b = appendParams(b, mergeParams(params), false)
		b = append(b, ')')
	}
	b = append(b, ' ')
	b = appendLanguages(b, p.Header.Get("Content-Language"))
	b = append(b, ' ')
	return appendNString(b, value(p.Header, "Content-Location"))
}

// appendLanguages writes the tags of Content-Language (RFC 3282).
func appendLanguages(b []byte, v string) []byte {
	var tags []string
	for _, tag := range strings.Split(v, ",") {
		if tag = strings.TrimSpace(tag); tag != "" {
			tags = append(tags, tag)
		}
	}
	if len(tags) == 0 {
		return append(b, "NIL"...)
	}
	b = append(b, '(')
	for i, tag := range tags {
		if i > 0 {
			b = append(b, ' ')
		}
		b = appendString(b, tag)
	}
	return append(b, ')')
}

// contentParams is the parameters of p's Content-Type, if it is one that was
// understood.
func contentParams(p *message.Part) []message.Param {
	for _, f := range p.Header.Fields {
		if f.Is("Content-Type") {
			_, params := message.ParseParams(f.Value())
			return mergeParams(params)
		}
	}
	return nil
}

// appendParams writes parameters as a list. A text without a charset is told to
// be in the one that it then has (RFC 2045, Section 5.2).
func appendParams(b []byte, params []message.Param, text bool) []byte {
	if text && !slices.ContainsFunc(params, func(p message.Param) bool { return strings.EqualFold(p.Name, "charset") }) {
		params = append(slices.Clip(params), message.Param{Name: "charset", Value: "us-ascii"})
	}
	if len(params) == 0 {
		return append(b, "NIL"...)
	}
	b = append(b, '(')
	for i, p := range params {
		if i > 0 {
			b = append(b, ' ')
		}
		b = appendString(b, p.Name)
		b = append(b, ' ')
		b = appendString(b, p.Value)
	}
	return append(b, ')')
}
