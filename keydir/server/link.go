package server

import (
	"net/http"
	"net/url"
	"strings"
)

// link is where the links in mails lead. GET shows what is asked, since scanners
// follow every link in a mail; POST confirms.
func (i *Intake) link(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.URL.EscapedPath(), linkRoot)
	page := tokenPage{}
	var err error
	var p Pending
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		page.Ask = true
		p, err = i.c.Directory.Pending(r.Context(), token, ByLink)
	case http.MethodPost:
		if !sameSite(r) {
			err = errRequest
			break
		}
		if page.Refused = refusal(r); page.Refused {
			p, err = i.c.Directory.Refuse(r.Context(), token, ByLink)
			break
		}
		page.Done = true
		p, err = i.c.Directory.Confirm(r.Context(), token, ByLink, i.still)
		if err == nil {
			i.log.Info("keydir: published", "way", ByLink, "fingerprint", p.Certificate.Fingerprint())
		}
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	i.token(w, r, "confirm", page, p, err)
}

// refusal tells whether a form says that what the mail asked for was not wanted.
func refusal(r *http.Request) bool {
	v, err := formField(r, "refuse")
	return err == nil && v != ""
}

// still tells whether what waits may be published as of now.
func (i *Intake) still(p Pending) error {
	if !i.ours(p.Address.Domain) {
		return ErrForeign
	}
	return p.Certificate.CheckEncrypt(i.now())
}

// sameSite tells whether a POST comes from our own page, or from no browser.
func sameSite(r *http.Request) bool {
	if s := r.Header.Get("Sec-Fetch-Site"); s != "" {
		return s == "same-origin"
	}
	o := r.Header.Get("Origin")
	if o == "" || o == "null" { // Referrer-Policy: no-referrer makes it null
		return true
	}
	u, err := url.Parse(o)
	return err == nil && strings.EqualFold(u.Host, r.Host)
}

// spaced groups a fingerprint by four, to be compared by eye.
func spaced(f string) string {
	var b strings.Builder
	for i, c := range f {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(c)
	}
	return b.String()
}
