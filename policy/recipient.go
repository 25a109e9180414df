package policy

import (
	"fmt"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// Recipient decides what the envelope alone decides: whether mail from one
// address to f.Address may go, and how it would be protected.
//
// It is provisional where Pending names rules that look at the message. Rules
// that may only raise protection are left out, since they let nothing go that
// doesn't go without them. Where they leave the recipient without a way, and a
// rule that may lower protection has one, that is the answer: nobody is refused
// here whom a message could still reach. Nothing is sent by it: Message decides.
func (r *Rules) Recipient(from address.Address, f keydir.Finding) Decision {
	return r.rehearsed(r.provisional(from, f))
}

func (r *Rules) provisional(from address.Address, f keydir.Finding) Decision {
	c := r.choose(from, &f, nil, nil)
	d := c.decide(from, f)
	for i := 0; i < len(c.lowers) && !d.Action.Accepted(); i++ {
		other := r.choose(from, &f, nil, c.lowers[i])
		if o := other.decide(from, f); o.Action.Accepted() {
			d = o
		}
	}
	d.Pending = c.pending
	return d
}

// decide turns settings and facts into a decision.
func (c *choice) decide(from address.Address, f keydir.Finding) Decision {
	d := Decision{
		Recipient: f.Address, Mode: c.mode, Rule: c.name, Identity: f.Identity, Cause: CauseRule, Mixed: c.mixed, From: from, Finding: f, sign: c.sign,
		all: Options{SignAs: c.signAs, SubjectVisible: c.headers == HeadersSubject, Strip: c.strip, Footer: c.footer, Least: c.least},
	}
	switch c.mode {
	case Refuse:
		d.refuse("mail to this address is not allowed", "Change the rule if it should be.")
	case Cleartext:
		d.Action, d.Reason = SendClear, "the rule asks for mail without encryption"
	case Sign:
		d.Action, d.Reason = SignOnly, "the rule asks for mail that is signed, not encrypted"
	default:
		c.protect(&d, f)
	}
	d.Reason += " (" + c.named() + ")"
	d.Options = d.all.of(d.Action)
	return d
}

// of are the options that have a meaning for an action. A held message is kept as
// it came: the rules look at it again.
func (o Options) of(a Action) Options {
	switch a {
	case Encrypt:
		o.Footer = ""
	case Password: // ours alone decide how it is made
		o.Footer, o.Least = "", pgp.Strength{}
	case SignOnly:
		o.Footer, o.SubjectVisible, o.Least = "", false, pgp.Strength{}
	case SendClear:
		o.SignAs, o.SubjectVisible, o.Least = "", false, pgp.Strength{}
	default:
		o = Options{}
	}
	return o
}

func (d *Decision) refuse(reason, hint string) {
	d.Action, d.Reason, d.Hint = RefuseMessage, reason, hint
}

func (d *Decision) wait(reason, hint string) {
	d.Action, d.Reason, d.Hint = Defer, reason, hint
}

// step does what the settings say of a fact. What is none of the steps that are
// known refuses.
func (c *choice) step(d *Decision, n fact, reason, hint string) {
	d.Cause = ladder[n].cause
	switch c.then[n] {
	case ThenDefer:
		d.wait(reason, hint)
	case ThenHold:
		d.Action, d.Reason, d.Hint = Hold, reason+"; the message is held until a certificate can be used", hint
		d.HoldFor = c.holdFor
	case ThenPassword:
		d.Action, d.Reason, d.Hint = Password, reason+"; it goes protected by a password", hint
	default:
		d.refuse(reason, hint)
	}
}

// protect is require and prefer. Its order matters: what could not be asked, and
// what is wrong with a certificate that exists, come before what is absent, and
// only the last leads to cleartext.
func (c *choice) protect(d *Decision, f keydir.Finding) {
	switch {
	case f.Outcome == keydir.Unavailable:
		c.unavailable(d, f)
	case f.Problem != "":
		c.problem(d, f)
	case f.Identity == pgp.Conflict:
		f.Problem = keydir.ProblemConflict
		c.problem(d, f)
	case f.Outcome == keydir.Found && len(f.Certificates) > 0:
		c.encrypt(d, f)
	case (f.Outcome == keydir.Absent || f.Outcome == keydir.NoDirectory) && len(f.Certificates) == 0:
		c.absent(d, f)
	default:
		d.Cause = CauseFault
		d.wait(fmt.Sprintf("what is known of the certificate of %s contradicts itself", f.Address),
			"This is a fault of letterlock; please report it with what `letterlock explain` prints.")
	}
}

func (c *choice) unavailable(d *Decision, f keydir.Finding) {
	reason := fmt.Sprintf("the key directory of %s could not be asked", f.Address.Domain)
	if f.Detail != "" {
		reason += ": " + f.Detail
	}
	hint := "It is tried again; `letterlock explain --to %s` tells what happens."
	if c.then[unavailable] == ThenRefuse {
		hint = "Try again later; `letterlock explain --to %s` tells what happens."
	}
	c.step(d, unavailable, reason, fmt.Sprintf(hint, f.Address))
}

// problem is about a certificate that exists and can't be used.
func (c *choice) problem(d *Decision, f keydir.Finding) {
	p, ok := problems[f.Problem]
	if !ok {
		d.Cause = CauseFault
		d.refuse(fmt.Sprintf("the certificate of %s can't be used: %s", f.Address, f.Problem),
			fmt.Sprintf("`letterlock cert show %s` tells more.", f.Address))
		return
	}
	if (p.fact == changed || p.fact == conflict) && c.successor(d, f) {
		return
	}
	c.step(d, p.fact, fmt.Sprintf(p.reason, f.Address), fmt.Sprintf(p.hint, f.Address))
}

// successor encrypts to a certificate that took another's place, where the rule
// accepts that: the domain's directory has served it, and no third, long enough.
// [keydir.Successor] is none where a person confirmed the old one.
func (c *choice) successor(d *Decision, f keydir.Finding) bool {
	s := f.Successor
	if s == nil || c.accept == 0 || s.Served < c.accept || len(s.Certificates) == 0 || !pgp.Directory.AtLeast(c.trust) {
		return false
	}
	certs, _ := c.strong(s.Certificates, s.Strengths)
	if len(certs) == 0 {
		return false
	}
	d.Action, d.Cause, d.Certificates, d.Identity = Encrypt, CauseSuccessor, certs, pgp.Directory
	d.Reason = fmt.Sprintf("%s has another certificate than before, which its directory has served for %s; accept_wkd_after = %q takes it",
		f.Address, hours(s.Served), hours(c.accept))
	return true
}

func (c *choice) encrypt(d *Decision, f keydir.Finding) {
	if !f.Identity.AtLeast(c.trust) {
		// A certificate that isn't trusted enough is still one that exists:
		// prefer doesn't send in clear to who has a certificate.
		c.step(d, untrusted, fmt.Sprintf("the certificate of %s is known as %s, and %s needs %s", f.Address, identity(f.Identity), c.mode, c.trust),
			fmt.Sprintf("Compare the fingerprint over another channel, then `letterlock cert verify %s FINGERPRINT`.", f.Address))
		return
	}
	certs, why := c.strong(f.Certificates, f.Strengths)
	if len(certs) == 0 {
		c.step(d, weak, fmt.Sprintf("the certificate of %s %s", f.Address, why),
			"Ask for another one, then `letterlock cert import FILE`; or change the rule.")
		return
	}
	d.Action, d.Cause, d.Certificates = Encrypt, CauseFound, certs
	d.Reason = f.Address.String() + " has a certificate, known as " + identity(f.Identity)
	if f.Detail != "" {
		d.Reason += "; " + f.Detail
	}
}

func (c *choice) absent(d *Decision, f keydir.Finding) {
	a := f.Address
	if f.Known {
		c.step(d, gone, fmt.Sprintf("%s once had a certificate and has none now", a),
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
	hint := "Ask for a certificate, then `letterlock cert import FILE`"
	if !f.Plain.IsZero() {
		reason += fmt.Sprintf("; %s, the address without its tag, has one", f.Plain)
		hint = fmt.Sprintf("Write to %s instead, or ask for a certificate that names %s, then `letterlock cert import FILE`", f.Plain, a)
	}
	if c.mode == Prefer && c.then[missing] == ThenClear {
		d.Cause, d.Action = CauseMissing, readable(c.sign)
		d.Reason = reason + ", and the rule prefers encryption without requiring it"
		return
	}
	if c.mode == Require {
		reason += ", and the rule requires one"
	}
	c.step(d, missing, reason, fmt.Sprintf("%s; or write a rule for %s with mode = \"prefer\".", hint, a))
}

// readable is how a copy goes for want of a certificate.
func readable(s Signing) Action {
	if s == SignAll {
		return SignOnly
	}
	return SendClear
}
