package keydir

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// UploadVKS gives a certificate to a key server of the Verifying Keyserver kind,
// https or http to a loopback address, and has it ask the address by a mail with
// a link. pending is false where it publishes that certificate for the address
// already.
func (r *Resolver) UploadVKS(ctx context.Context, server string, c *pgp.Certificate, a address.Address) (pending bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*r.timeout)
	defer cancel()
	base, err := url.Parse(server)
	if err != nil || base.Host == "" || base.Scheme != "https" && (base.Scheme != "http" || !loopback(base.Hostname())) {
		return false, fmt.Errorf("%q is no key server; write for example https://keys.openpgp.org", server)
	}
	w := r.asked().probe
	in := Inlets{base: base, from: w.fetch}
	if loopback(base.Hostname()) {
		in.from = w.local
	}
	up, err := in.vks(ctx, "upload", map[string]any{"keytext": c.Armored()})
	if err != nil {
		return false, err
	}
	if up.Fingerprint != string(c.Fingerprint()) {
		return false, fmt.Errorf("%s took another certificate than was sent", base.Hostname())
	}
	if up.state(a) == "published" {
		return false, nil
	}
	asked, err := in.vks(ctx, "request-verify", map[string]any{"token": up.Token, "addresses": []string{a.String()}})
	if err != nil {
		return false, err
	}
	switch state := asked.state(a); state {
	case "published":
		return false, nil
	case "pending":
		return true, nil
	default:
		return false, fmt.Errorf("%s does not publish for %s (it says %.20q)", base.Hostname(), a, state)
	}
}

// vksAnswer is what such a server answers.
type vksAnswer struct {
	Fingerprint string            `json:"key_fpr"`
	Status      map[string]string `json:"status"`
	Token       string            `json:"token"`
	Error       string            `json:"error"`
}

func (v vksAnswer) state(a address.Address) string {
	for name, state := range v.Status {
		if b, err := address.Parse(name); err == nil && b.Equal(a) {
			return state
		}
	}
	return ""
}

func (in Inlets) vks(ctx context.Context, what string, question any) (v vksAnswer, err error) {
	q, err := json.Marshal(question)
	if err != nil {
		return v, err
	}
	b, status, err := in.do(ctx, http.MethodPost, in.base.JoinPath("vks/v1", what), http.Header{"Content-Type": {"application/json"}}, q)
	if err != nil {
		return v, errors.New(refusal(in.base.Hostname(), err).detail)
	}
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&v); err != nil || status != http.StatusOK {
		return v, fmt.Errorf("%s answered %d %.200q", in.base.Hostname(), status, v.Error)
	}
	return v, nil
}
