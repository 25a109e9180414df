package server

import (
	"html/template"
	"net/http"
	"net/url"
	"strings"
)

// link is where the links in mails lead. GET shows what is asked, since scanners
// follow every link in a mail; POST confirms.
func (i *Intake) link(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.URL.EscapedPath(), linkRoot)
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Robots-Tag", "noindex")
	page := linkPage{}
	var err error
	var p Pending
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		p, err = i.c.Directory.Pending(r.Context(), token, ByLink)
		page.Ask = err == nil
	case http.MethodPost:
		if !sameSite(r) {
			err = errRequest
			break
		}
		p, err = i.c.Directory.Confirm(r.Context(), token, ByLink, i.still)
		if err == nil {
			i.log.Info("keydir: published", "way", ByLink, "fingerprint", p.Certificate.Fingerprint())
		}
		page.Done = err == nil
	default:
		h.Set("Allow", "GET, HEAD, POST")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	status := http.StatusOK
	if err != nil {
		status, page.Fault = i.reason(err)
	} else {
		page.Address, page.Fingerprint = p.Address.String(), spaced(string(p.Certificate.Fingerprint()))
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_ = linkTemplate.Execute(w, page) // the client is gone if this fails
	}
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

type linkPage struct {
	Address, Fingerprint, Fault string
	Ask, Done                   bool
}

var linkTemplate = template.Must(template.New("link").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Key directory</title>
<style>body{font:1.1em/1.5 system-ui,sans-serif;max-width:34em;margin:3em auto;padding:0 1em;color:#222;background:#fff}
code{font-size:1.05em;background:#f2f2f2;padding:.2em .4em;display:inline-block}button{font:inherit;padding:.5em 1.2em}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}code{background:#2a2a2a}}</style></head><body>
{{if .Ask}}<h1>Publish this certificate?</h1>
<p>Somebody asked that mail to <strong>{{.Address}}</strong> be encrypted to the certificate</p>
<p><code>{{.Fingerprint}}</code></p>
<p>Compare it with what your own program shows. If it is not yours, close this page: nothing happens.</p>
<form method="post"><button>Publish it</button></form>
{{else if .Done}}<h1>Published</h1>
<p>Whoever looks up <strong>{{.Address}}</strong> finds from now on</p><p><code>{{.Fingerprint}}</code></p>
{{else}}<h1>Nothing was done</h1><p>{{.Fault}}</p>{{end}}
</body></html>
`))
