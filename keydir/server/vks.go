package server

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"letterlock.org/letterlock/pgp"
)

// vks answers the reading half of the Verifying Keyserver interface:
// /vks/v1/by-fingerprint/FPR, by-keyid/ID and by-email/ADDRESS, each in upper
// case hex or percent-encoded.
func (h *Handler) vks(ctx context.Context, path string) response {
	kind, what, _ := strings.Cut(strings.TrimPrefix(path, vksRoot), "/")
	var certs []*pgp.Certificate
	var err error
	switch length := len(what); {
	case kind == "by-fingerprint" && (length == 40 || length == 64), kind == "by-keyid" && length == 16:
		certs, err = h.byHex(ctx, what)
	case kind == "by-email" && length > 0:
		var address string
		if address, err = url.PathUnescape(what); err != nil {
			return text(http.StatusBadRequest, "that is no mail address\n")
		}
		certs, err = h.byEmail(ctx, address)
	default:
		return text(http.StatusBadRequest, "by-fingerprint, by-keyid or by-email, and what in full\n")
	}
	switch {
	case err != nil:
		return h.unavailable(err)
	case len(certs) == 0:
		return absent()
	}
	return armored(certs)
}
