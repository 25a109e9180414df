package server

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// hkp answers GET /pks/lookup (draft-gallagher-openpgp-hkp): get, index and
// vindex by address, fingerprint or key ID, each in full. There is no search for
// a part of anything, which would list who is here.
func (h *Handler) hkp(ctx context.Context, q request) response {
	v, err := url.ParseQuery(q.query)
	if len(q.query) > maxQuery || err != nil || v.Get("search") == "" {
		return text(http.StatusBadRequest, "search is missing\n")
	}
	op := strings.ToLower(v.Get("op"))
	if op != "get" && op != "index" && op != "vindex" {
		return text(http.StatusNotImplemented, "op is get, index or vindex\n")
	}
	certs, err := h.search(ctx, v.Get("search"))
	switch {
	case err != nil:
		return h.unavailable(err)
	case len(certs) == 0:
		return absent()
	case op == "get":
		return armored(certs)
	}
	a := text(http.StatusOK, h.index(certs))
	a.cache = cacheable
	return a
}

// search finds what HKP means: 0x and hex digits are a fingerprint or a key ID
// of 64 bits (shorter ones anybody can forge), everything else an address.
func (h *Handler) search(ctx context.Context, what string) ([]*pgp.Certificate, error) {
	if hexDigits, ok := strings.CutPrefix(strings.ToLower(what), "0x"); ok {
		return h.byHex(ctx, hexDigits)
	}
	return h.byEmail(ctx, what)
}

func (h *Handler) byHex(ctx context.Context, digits string) ([]*pgp.Certificate, error) {
	digits = strings.ToUpper(digits)
	if strings.Trim(digits, "0123456789ABCDEF") != "" {
		return nil, nil
	}
	switch len(digits) {
	case 40, 64:
		return h.directory.byFingerprint(ctx, pgp.Fingerprint(digits), h.ours)
	case 16:
		id, err := strconv.ParseUint(digits, 16, 64)
		if err != nil {
			return nil, nil
		}
		return h.directory.byKeyID(ctx, id, h.ours)
	}
	return nil, nil
}

func (h *Handler) ours(domain string) bool { return h.domains[domain] }

// byEmail is what the Web Key Directory answers for an address, in angle
// brackets or without.
func (h *Handler) byEmail(ctx context.Context, what string) ([]*pgp.Certificate, error) {
	if i := strings.LastIndexByte(what, '<'); i >= 0 && strings.HasSuffix(what, ">") {
		what = what[i+1 : len(what)-1]
	}
	a, err := address.Parse(what)
	if err != nil || !h.domains[a.Domain] {
		return nil, nil
	}
	if err := h.directory.ready(ctx); err != nil {
		return nil, err
	}
	h.tellUnread()
	k, ok := h.directory.key(a.Domain, hashOfAddress(a))
	if !ok {
		return nil, nil
	}
	body, _, ok := h.directory.table.get(k, nil)
	if !ok {
		return nil, nil
	}
	return pgp.ParseCertificates(body)
}

// index is the machine-readable index (Section 5.2 of the draft).
func (h *Handler) index(certs []*pgp.Certificate) string {
	var b strings.Builder
	fmt.Fprintf(&b, "info:1:%d\r\n", len(certs))
	for _, c := range certs {
		algorithm, bits := c.AlgorithmNumber()
		fmt.Fprintf(&b, "pub:%s:%d:%s:%d:%s:%s\r\n", c.Fingerprint(), algorithm, number(bits), c.Created().Unix(), ends(c), h.flags(c))
		for _, id := range c.UserIDs() {
			fmt.Fprintf(&b, "uid:%s:%d::\r\n", strings.ReplaceAll(url.QueryEscape(id), "+", "%20"), c.Created().Unix())
		}
	}
	return b.String()
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func ends(c *pgp.Certificate) string {
	if e := c.Expires(); !e.IsZero() {
		return strconv.FormatInt(e.Unix(), 10)
	}
	return ""
}

// flags: r is revoked, e is expired.
func (h *Handler) flags(c *pgp.Certificate) string {
	switch now := h.now(); {
	case c.Revoked(now):
		return "r"
	case !c.Expires().IsZero() && !now.Before(c.Expires()):
		return "e"
	}
	return ""
}

// armored is certificates as HKP and VKS give them.
func armored(certs []*pgp.Certificate) response {
	var b strings.Builder
	for _, c := range certs {
		b.WriteString(c.Armored())
	}
	return response{status: http.StatusOK, contentType: "application/pgp-keys", cache: cacheable, body: []byte(b.String()),
		disposition: `attachment; filename="certificate.asc"`}
}

func absent() response {
	a := text(http.StatusNotFound, notFound)
	a.cache = "public, max-age=60"
	return a
}

// unavailable is the answer where the store can't be read: not that of an
// address without certificate.
func (h *Handler) unavailable(err error) response {
	h.log.Error("keydir: no certificate can be answered", "err", err)
	a := text(http.StatusServiceUnavailable, "try again later\n")
	a.retry = "60"
	return a
}
