package main

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"letterlock.org/letterlock/internal/mailtest"
)

const column = 46

// sideBySide shows what the mail server stores beside what Bob sees.
func (d *demo) sideBySide(stored []byte, seen mailtest.Message) {
	left := storedLines(stored)
	v, err := viewOf(seen.Raw)
	if err != nil {
		return // it was checked
	}
	right := []string{"From: " + v.from, "Subject: " + v.subject, ""}
	right = append(right, strings.Split(strings.TrimRight(strings.ReplaceAll(v.text, "\r\n", "\n"), "\n"), "\n")...)
	right = append(right, "")
	for name, content := range v.files {
		right = append(right, "[attachment] "+name, "    "+strings.SplitN(content, "\r\n", 2)[0])
	}
	right = append(right, "")
	for _, part := range strings.Split(v.status, "; ") {
		right = append(right, "Letterlock: "+part)
	}
	for _, f := range seen.Flags {
		if strings.HasPrefix(strings.ToLower(string(f)), "$letterlock") {
			right = append(right, "Keyword: "+string(f))
		}
	}
	line := strings.Repeat("─", column)
	d.printf("\n  %s   %s\n  %s   %s\n", pad("WHAT THE MAIL SERVER STORES"), "WHAT BOB SEES", line, line)
	left, right = wrap(left), wrap(right)
	for i := range max(len(left), len(right)) {
		var l, r string
		if i < len(left) {
			l = left[i]
		}
		if i < len(right) {
			r = right[i]
		}
		d.printf("  %s   %s\n", pad(l), r)
	}
	d.printf("\n")
}

// storedLines are the telling lines of an encrypted message.
func storedLines(raw []byte) (out []string) {
	text := strings.ReplaceAll(string(raw), "\r\n", "\n")
	head, _, _ := strings.Cut(text, "\n\n")
	for _, name := range []string{"From:", "To:", "Subject:", "Content-Type:"} {
		for _, l := range strings.Split(head, "\n") {
			if len(l) >= len(name) && strings.EqualFold(l[:len(name)], name) {
				out = append(out, l)
			}
		}
	}
	out = append(out, "")
	i := strings.Index(text, "-----BEGIN PGP MESSAGE-----")
	armor := strings.Split(strings.TrimSpace(text[max(i, 0):]), "\n")
	for i, l := range armor[:min(len(armor), 14)] {
		if i > 0 && len(l) > column-2 {
			l = l[:column-2] + "…"
		}
		out = append(out, l)
	}
	return append(out, "… and so on")
}

// wrap cuts lines to the width of a column, between words where there are any.
func wrap(lines []string) (out []string) {
	for _, l := range lines {
		for utf8.RuneCountInString(l) > column {
			r := []rune(l)
			cut := column
			if i := strings.LastIndex(string(r[:column]), " "); i > column/2 {
				cut = utf8.RuneCountInString(string(r[:column])[:i+1])
			}
			out = append(out, strings.TrimRight(string(r[:cut]), " "))
			l = string(r[cut:])
		}
		out = append(out, l)
	}
	return out
}

func pad(s string) string {
	return s + strings.Repeat(" ", max(0, column-utf8.RuneCountInString(s)))
}

// settings says how to point a mail program at the demo.
func (d *demo) settings() {
	d.printf("It stays up until you press Ctrl-C. Enter this in Thunderbird (Account Settings, manual\nconfiguration), and write to each other:\n\n")
	for _, n := range []*demoNode{d.alice, d.bob} {
		row := func(name string, s serverJSON) {
			d.printf("  %-9s %s port %d, STARTTLS (or no encryption: it is this computer), normal password\n", name, s.Host, s.Port)
		}
		d.printf("  %s\n", n.account.Address)
		row("incoming", n.account.IMAP[0])
		row("outgoing", n.account.SMTP[0])
		d.printf("  user      %s\n  password  %s\n  CA        %s\n\n", n.account.User, n.account.Password, n.account.CA)
	}
	d.printf("  Names and colours of the keywords, for user.js in Thunderbird's profile:\n")
	for _, k := range slices.Sorted(maps.Keys(keywordPrefs)) {
		d.printf("    user_pref(%q, %q);\n", k, keywordPrefs[k])
	}
}
