package server

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"letterlock.org/letterlock/pgp"
)

// fault is what a person is told who asked for what can't be done.
type fault struct{ Title, Text, Hint string }

// The faults of what people type.
var (
	noAddress = fault{Title: "This is no mail address", Text: "Write the whole address, with an @ and the domain behind it, and nothing around it."}
	bothGiven = fault{Title: "A file and a text", Text: "Nothing was done, since it isn't clear which of the two you mean.", Hint: "Give one of them."}
	nothing   = fault{Title: "There was nothing in it", Text: "Choose a file with your certificate, or paste the certificate as text."}
)

// faultOf says in full what reason says in short.
func (i *Intake) faultOf(err error) (int, *fault) {
	status, text := i.reason(err)
	f := fault{Title: "This can't be published", Text: sentence(text)}
	var large *http.MaxBytesError
	switch {
	case errors.Is(err, pgp.ErrSecretKey):
		f = fault{"This is your SECRET KEY", "Nobody but you may have it. We refused it and kept nothing of it, but it has left your device.",
			"Treat it as known to others: revoke it, make a new one, and upload only the certificate (PUBLIC KEY BLOCK), which gpg --armor --export gives."}
	case errors.As(err, &large), errors.Is(err, ErrTooLarge):
		f = tooLarge
	case errors.Is(err, pgp.ErrExpired):
		f.Title, f.Hint = "This certificate has expired", "Extend it in your own program, then upload it again: the fingerprint stays the same."
		f.Text = "Nobody could use it."
	case errors.Is(err, pgp.ErrRevoked):
		f.Title, f.Text = "This certificate is revoked", "Nobody should use it any more, or the key in it that is encrypted to, so it isn't published anew."
	case errors.Is(err, ErrForeign), errors.Is(err, ErrUserID):
		f.Title, f.Text = "No address of ours", "This certificate has no valid user ID with an address that is published here."
		f.Hint = "Add your address to it as a user ID, in your own program, and upload it again; or publish it where your own domain does."
	case errors.Is(err, pgp.ErrMalformed):
		f.Title, f.Text = "This is no certificate", "It can't be read as an OpenPGP certificate."
		f.Hint = "As text it begins with -----BEGIN PGP PUBLIC KEY BLOCK----- and ends with -----END PGP PUBLIC KEY BLOCK-----; all of it is needed."
	case errors.Is(err, ErrToken):
		f = fault{"This link does nothing any more", "It was used already, or is older than three days, or never was one. Nothing was changed now.", ""}
	case errors.Is(err, ErrLimited):
		f.Title, f.Text = "Enough for today", "Too many requests wait to be confirmed. Try again tomorrow."
	case errors.Is(err, errRequest):
		f.Title, f.Text = "This can't be read", "What your browser sent is not what this page's form sends."
	case status == http.StatusServiceUnavailable:
		f = fault{"Not now", "Something failed here; it isn't you. Nothing was changed.", "Try again in some minutes."}
	}
	return status, &f
}

// sentence is a short reason as people read it.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// A text by strangers is shown up to so many characters; of a longer one the
// beginning and the end, where a user ID has its address.
const (
	maxShown  = 120
	shownHead = 70
	shownTail = maxShown - shownHead - 1
)

// shown is a text by strangers as it can be shown: on one line, without what is
// invisible or turns the direction of text, not longer than some lines.
// html/template does the rest.
func shown(s string) string {
	r := []rune(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == unicode.ReplacementChar, !unicode.IsGraphic(r): // format characters aren't graphic
			return -1
		}
		return r
	}, s))
	if len(r) > maxShown {
		r = slices.Concat(r[:shownHead], []rune{'…'}, r[len(r)-shownTail:])
	}
	return string(r)
}
