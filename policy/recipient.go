package policy

import (
	"fmt"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// Recipient decides what the envelope alone decides: whether mail from one
// address to f.Address may go, and how it would be protected.
func (r *Rules) Recipient(from address.Address, f keydir.Finding) Decision {
	ru := r.ruleFor(from, f.Address)
	d := Decision{Recipient: f.Address, Mode: ru.mode, Rule: ru.name, Identity: f.Identity, Mixed: ru.mixed, From: from, Finding: f}
	switch ru.mode {
	case Refuse:
		d.refuse("mail to this address is not allowed", "Change the rule if it should be.")
	case Cleartext:
		d.Action, d.Reason = SendClear, "the rule asks for mail without encryption"
	case Sign:
		d.Action, d.Reason = SignOnly, "the rule asks for mail that is signed, not encrypted"
	default:
		r.protect(&d, ru, f)
	}
	d.Reason = fmt.Sprintf("%s (rule %q)", d.Reason, ru.name)
	return d
}

func (d *Decision) refuse(reason, hint string) {
	d.Action, d.Reason, d.Hint = RefuseMessage, reason, hint
}

func (d *Decision) wait(reason, hint string) {
	d.Action, d.Reason, d.Hint = Defer, reason, hint
}

// protect is require and prefer. Its order matters: what could not be asked, and
// what is wrong with a certificate that exists, come before what is absent, and
// only the last leads to cleartext.
func (r *Rules) protect(d *Decision, ru rule, f keydir.Finding) {
	switch {
	case f.Outcome == keydir.Unavailable:
		r.unavailable(d, ru, f)
	case f.Problem != "":
		reason, hint := problem(f)
		d.refuse(reason, hint)
	case f.Identity == pgp.Conflict:
		f.Problem = keydir.ProblemConflict
		reason, hint := problem(f)
		d.refuse(reason, hint)
	case f.Outcome == keydir.Found && len(f.Certificates) > 0:
		r.encrypt(d, ru, f)
	case (f.Outcome == keydir.Absent || f.Outcome == keydir.NoDirectory) && len(f.Certificates) == 0:
		r.absent(d, ru, f)
	default:
		d.wait(fmt.Sprintf("what is known of the certificate of %s contradicts itself", f.Address),
			"This is a fault of letterlock; please report it with what `letterlock explain` prints.")
	}
}

func (r *Rules) unavailable(d *Decision, ru rule, f keydir.Finding) {
	reason := fmt.Sprintf("the key directory of %s could not be asked", f.Address.Domain)
	if f.Detail != "" {
		reason += ": " + f.Detail
	}
	if ru.unavailable == UnavailableRefuse {
		d.refuse(reason, fmt.Sprintf("Try again later; `letterlock explain --to %s` tells what happens.", f.Address))
		return
	}
	d.wait(reason, fmt.Sprintf("It is tried again; `letterlock explain --to %s` tells what happens.", f.Address))
}

// problem says why a certificate that exists can't be used, and the way out.
func problem(f keydir.Finding) (reason, hint string) {
	a := f.Address
	switch f.Problem {
	case keydir.ProblemExpired:
		return fmt.Sprintf("the certificate of %s has expired", a),
			fmt.Sprintf("Ask for a renewed one, then `letterlock cert import FILE`; or `letterlock cert forget %s` to write as to a stranger.", a)
	case keydir.ProblemRevoked:
		return fmt.Sprintf("the certificate of %s is revoked", a),
			fmt.Sprintf("Ask for the new one, then `letterlock cert import FILE`; or `letterlock cert forget %s` to write as to a stranger.", a)
	case keydir.ProblemWeak:
		return fmt.Sprintf("the certificate of %s can't be encrypted to safely", a),
			fmt.Sprintf("Ask for a newer one; or `letterlock cert forget %s` to write as to a stranger.", a)
	case keydir.ProblemChanged:
		return fmt.Sprintf("%s has another certificate than before", a),
			fmt.Sprintf("Compare the fingerprint over another channel, then `letterlock cert accept %s`.", a)
	case keydir.ProblemConflict:
		return fmt.Sprintf("sources contradict each other about the certificate of %s", a),
			fmt.Sprintf("Compare the fingerprint over another channel, then `letterlock cert accept %s`; `letterlock cert show %s` lists both.", a, a)
	case keydir.ProblemGone:
		return fmt.Sprintf("%s had a certificate, and no directory has confirmed it for too long", a),
			fmt.Sprintf("Ask whether that is meant; then `letterlock cert accept %s` to go on using it, or `letterlock cert forget %s` to write as to a stranger.", a, a)
	}
	return fmt.Sprintf("the certificate of %s can't be used: %s", a, f.Problem),
		fmt.Sprintf("`letterlock cert show %s` tells more.", a)
}

func (r *Rules) encrypt(d *Decision, ru rule, f keydir.Finding) {
	min := r.trust.Prefer
	if ru.mode == Require {
		min = r.trust.Require
	}
	if !f.Identity.AtLeast(min) {
		// A certificate that isn't trusted enough is still one that exists:
		// prefer doesn't send in clear to who has a certificate.
		d.refuse(fmt.Sprintf("the certificate of %s is known as %s, and %s needs %s", f.Address, identity(f.Identity), ru.mode, min),
			fmt.Sprintf("Compare the fingerprint over another channel, then `letterlock cert verify %s FINGERPRINT`.", f.Address))
		return
	}
	d.Action, d.Certificates = Encrypt, f.Certificates
	d.Reason = fmt.Sprintf("%s has a certificate, known as %s", f.Address, identity(f.Identity))
	if f.Detail != "" {
		d.Reason += "; " + f.Detail
	}
}

func identity(i pgp.Identity) string {
	if i == pgp.Unknown {
		return "unknown"
	}
	return string(i)
}

func (r *Rules) absent(d *Decision, ru rule, f keydir.Finding) {
	a := f.Address
	if f.Known {
		d.refuse(fmt.Sprintf("%s once had a certificate and has none now", a),
			fmt.Sprintf("Ask for it, then `letterlock cert import FILE`; or `letterlock cert forget %s` to write as to a stranger.", a))
		return
	}
	reason := fmt.Sprintf("%s has no certificate: no directory has one", a)
	if f.Outcome == keydir.NoDirectory {
		reason = fmt.Sprintf("%s has no certificate: %s has no key directory", a, a.Domain)
	}
	if f.Detail != "" {
		reason += " (" + f.Detail + ")"
	}
	if ru.mode == Require {
		d.refuse(reason+", and the rule requires one",
			fmt.Sprintf("Ask for a certificate, then `letterlock cert import FILE`; or write a rule for %s with mode = \"prefer\".", a))
		return
	}
	d.Action, d.Reason = SendClear, reason+", and the rule prefers encryption without requiring it"
}
