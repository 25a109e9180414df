package server

import (
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
	"rsc.io/qr"
)

// lookupPage is what is published of an address. All addresses without a
// certificate get the same page, and are looked for in the same way.
type lookupPage struct {
	page
	Certificates    []certificateView
	Armored, Binary string // paths of downloads
}

// certificateView is what people see of a certificate.
type certificateView struct {
	Fingerprint, Algorithm, State string
	Usable                        bool
	Names                         []string
	Made, Ends                    time.Time // Ends is zero where there is none
	QR                            template.HTML
}

// find is GET /lookup?address=.
func (s *Site) find(w http.ResponseWriter, r *http.Request) {
	typed := strings.TrimSpace(r.URL.Query().Get("address"))
	if typed == "" {
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, homePath, http.StatusSeeOther)
		return
	}
	p := lookupPage{page: s.intake.newPage(r, "home", "Look up")}
	p.Asked = shown(typed)
	a, err := address.Parse(typed)
	if err != nil {
		p.Fault = &noAddress
		show(w, r, http.StatusBadRequest, "lookup", p)
		return
	}
	p.Asked = shownAddress(a)
	certs, err := s.lookups.byEmail(r.Context(), a.String())
	if err != nil {
		status, f := s.intake.faultOf(fmt.Errorf("looking up for a page: %w", err))
		p.Fault = f
		show(w, r, status, "lookup", p)
		return
	}
	status := http.StatusNotFound
	if len(certs) > 0 {
		status = http.StatusOK
		p.Armored = vksRoot + "by-email/" + url.PathEscape(a.String())
		p.Binary = root + url.PathEscape(a.Domain) + "/hu/" + keydir.WKDHash(a.Local) + "?" + url.Values{"l": {a.Local}}.Encode()
	}
	for _, c := range certs {
		p.Certificates = append(p.Certificates, viewOf(c, s.lookups.now()))
	}
	show(w, r, status, "lookup", p)
}

func viewOf(c *pgp.Certificate, now time.Time) certificateView {
	v := certificateView{Fingerprint: spaced(string(c.Fingerprint())), Algorithm: c.Algorithm(), Made: c.Created(), Ends: c.Expires(),
		Names: namesOf(c), QR: drawQR("OPENPGP4FPR:" + string(c.Fingerprint()))}
	err := c.CheckEncrypt(now)
	switch v.Usable = err == nil; {
	case v.Usable:
		v.State = "In use: mail can be encrypted to it"
	case c.Revoked(now):
		v.State = "REVOKED by its owner: don't use it any more"
	case errors.Is(err, pgp.ErrExpired):
		v.State = "EXPIRED: ask its owner for a newer one"
	default:
		v.State = "UNUSABLE: nothing can be encrypted to it"
	}
	return v
}

func namesOf(c *pgp.Certificate) (names []string) {
	for _, id := range c.UserIDs() {
		names = append(names, shown(id))
	}
	return names
}

// quietZone is how many light modules surround a QR code (ISO/IEC 18004, Section
// 9.1).
const quietZone = 4

// drawQR draws a QR code, dark on light however dark the page is; "" where the
// text is too long.
func drawQR(text string) template.HTML {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return ""
	}
	var path strings.Builder
	for y := range code.Size {
		for x := 0; x < code.Size; x++ {
			from := x
			for x < code.Size && code.Black(x, y) {
				x++
			}
			if x > from {
				fmt.Fprintf(&path, "M%d %dh%dv1h-%dz", from+quietZone, y+quietZone, x-from, x-from)
			}
		}
	}
	size := code.Size + 2*quietZone
	return template.HTML(fmt.Sprintf(`<svg class="qr" role="img" aria-label="The fingerprint as a QR code" viewBox="0 0 %d %d" shape-rendering="crispEdges">`+
		`<rect width="%d" height="%d" fill="#fff"/><path fill="#000" d="%s"/></svg>`, size, size, size, size, path.String())) // of numbers only
}
