package pgp_test

import (
	"strings"
	"testing"
)

// TestInlineCharset: the charset of an inline message is not signed, and that of the
// mail around it often not the text's.
func TestInlineCharset(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	const ascii, utf, latin = "CANARY +AGE-", "gr\u00fc\u00dfe", "gr\xfc\xdfe"
	tests := []struct{ name, text, outer, armor, want string }{
		{"none", ascii, "", "", "utf-8"},
		{"none, in UTF-8", utf, "", "", "utf-8"},
		{"none, from before UTF-8", latin, "", "", "windows-1252"},
		{"ASCII, from before UTF-8", latin, "us-ascii", "", "windows-1252"},
		{"the mail's", latin, "iso-8859-1", "", "iso-8859-1"},
		{"the mail's, but that of the text is another", utf, "iso-8859-1", "", "utf-8"},
		{"the mail's, and the text would do for UTF-8 too", "\xc1\xaa\xcd\xa8", "gb2312", "", "gb2312"},
		{"the mail's, and nothing in the text tells", ascii, "iso-2022-jp", "", "iso-2022-jp"},
		{"the armor's goes before the mail's", utf, "us-ascii", "Charset: iso-8859-15\r\n", "iso-8859-15"},
		{"the mail's makes other letters of ASCII", ascii, "utf-7", "", "utf-8"},
		{"the armor's does", ascii, "", "Charset: UTF-16BE\r\n", "utf-8"},
		{"the armor's does, but not the mail's", ascii, "koi8-r", "Charset: hz-gb-2312\r\n", "koi8-r"},
		{"none, and a letter lies across what is looked at", strings.Repeat("a", 64<<10-1) + utf + utf, "", "", "utf-8"},
		{"the same of many letters", "a" + strings.Repeat("\u00fc", 64<<10), "", "", "utf-8"},
		{"the same of letters of three bytes", "a" + strings.Repeat("\u65e5", 64<<10), "", "", "utf-8"},
		{"a name that would end the field", ascii, "", "Charset: utf-8; a=b\r\n", "utf-8"},
	}
	for _, tt := range tests {
		head := "Content-Type: text/plain"
		if tt.outer != "" {
			head += "; charset=" + tt.outer
		}
		armored := strings.Replace(pgpMessage(written(t, tt.text, c.alice, nil, c.bob)), "-----\r\n", "-----\r\n"+tt.armor, 1)
		got := openBytes(t, []byte(outside+head+"\r\n\r\n"+armored), c.opening())
		if summary(got) != "encrypted valid" {
			t.Fatalf("%s: got %q (%s)", tt.name, summary(got), got.Reason)
		}
		root := parseMail(t, string(all(t, got.Rendering)))
		if s := root.Header.Get("Content-Type"); s != "text/plain; charset="+tt.want {
			t.Errorf("%s: got %q, want %s", tt.name, s, tt.want)
		}
	}
	bare := openBytes(t, []byte(mime(outside, written(t, "no header, "+latin, c.alice, nil, c.bob))), c.opening())
	if s := parseMail(t, string(all(t, bare.Rendering))).Header.Get("Content-Type"); s != "text/plain; charset=windows-1252" {
		t.Errorf("text where MIME belongs: got %q", s)
	}
}
