package server

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"

	"letterlock.org/letterlock/pgp"
)

// uploadPage is the form.
type uploadPage struct {
	page
	Limit string
}

// uploadedPage is what comes of it.
type uploadedPage struct {
	page
	Uploads []uploadView
}

// uploadView is what comes of one certificate: each of its addresses is asked by
// mail, or has it already, or can't be asked.
type uploadView struct {
	Fingerprint          string
	Names                []string
	Asked, Done, Unasked []string
	Revoked              bool
}

func (s *Site) uploadPage(r *http.Request) uploadPage {
	return uploadPage{s.intake.newPage(r, "upload", "Publish your certificate"), uploadLimit}
}

// uploadLimit is MaxCertificate as people say it.
const uploadLimit = "64 kB"

// tooLarge is told of certificates and of whole requests.
var tooLarge = fault{"This is too large", "A certificate may have " + uploadLimit + " at most. Nothing of it was kept.",
	"Export only your own key, without photos and without signatures by others: gpg --armor --export-options export-minimal --export ADDRESS"}

func (s *Site) uploadForm(w http.ResponseWriter, r *http.Request) {
	show(w, r, http.StatusOK, "upload", s.uploadPage(r))
}

// give is POST /upload: a form with a file, or with a text.
func (s *Site) give(w http.ResponseWriter, r *http.Request) {
	p := uploadedPage{page: s.intake.newPage(r, "upload", "Your certificate")}
	b, f, err := given(r)
	defer clear(b) // it may be a secret key
	var offers []Offer
	if err == nil && f == nil {
		offers, err = s.intake.c.Directory.Offers(b, s.intake.ours)
	}
	for _, o := range offers {
		if err == nil {
			var v uploadView
			v, err = s.take(r, o)
			p.Uploads = append(p.Uploads, v)
		}
	}
	status := http.StatusBadRequest
	if err != nil {
		status, f = s.intake.faultOf(err)
	}
	if f != nil {
		again := s.uploadPage(r)
		again.Fault, again.Title = f, f.Title
		show(w, r, status, "upload", again)
		return
	}
	show(w, r, http.StatusOK, "uploaded", p)
}

// take does with one certificate what can be done at once, and asks its addresses
// for the rest.
func (s *Site) take(r *http.Request, o Offer) (uploadView, error) {
	v := uploadView{Fingerprint: spaced(string(o.Certificate.Fingerprint())), Names: namesOf(o.Certificate), Revoked: o.Revoked != nil}
	done, err := s.intake.c.Directory.Take(r.Context(), o)
	if err != nil || v.Revoked {
		return v, err
	}
	for _, a := range o.Addresses {
		switch {
		case contains(done, a):
			v.Done = append(v.Done, shownAddress(a))
		case !s.intake.mails():
			v.Unasked = append(v.Unasked, shownAddress(a))
		default:
			if err := s.intake.ask(r, a, o.Certificate); err != nil {
				return v, err
			}
			v.Asked = append(v.Asked, shownAddress(a))
		}
	}
	return v, nil
}

// given is what a form carries: a file's bytes or a text. A nil error with a
// fault means that there is none, or both. It is all in memory, bounded by the
// request's limit.
func given(r *http.Request) ([]byte, *fault, error) {
	mediaType, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "multipart/form-data" || params["boundary"] == "" {
		return nil, nil, errRequest
	}
	parts := map[string][]byte{}
	for form := multipart.NewReader(r.Body, params["boundary"]); ; {
		part, err := form.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			var b []byte
			b, err = io.ReadAll(part)
			if name := part.FormName(); err == nil && len(bytes.TrimSpace(b)) > 0 && (name == "file" || name == "keytext") {
				parts[name] = b
			}
		}
		if err != nil {
			return nil, nil, partError(err)
		}
	}
	file, text := parts["file"], parts["keytext"]
	switch {
	case file != nil && text != nil:
		clear(file)
		clear(text)
		return nil, &bothGiven, nil
	case file == nil && text == nil:
		return nil, &nothing, nil
	case file == nil:
		file = text
	}
	if bytes.Contains(file, []byte("PGP PRIVATE KEY BLOCK")) { // also one that is damaged
		clear(file)
		return nil, nil, pgp.ErrSecretKey
	}
	return file, nil, nil
}

// partError tells a request that is too large from one that is malformed.
func partError(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return err
	}
	return errRequest
}
