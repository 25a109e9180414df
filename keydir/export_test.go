package keydir

import (
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// What tests outside the package see of its inside.

var CheckControl = checkControl

func ParseAutocrypt(value string) (address.Address, *pgp.Certificate, error) {
	h, err := parseAutocrypt(value)
	return h.addr, h.cert, err
}

func ParseAnswer(body []byte, a address.Address) (Outcome, []*pgp.Certificate) {
	ans := fetched{body: body}.answer(a)
	return ans.outcome, ans.certs
}
