package policy

import (
	"fmt"
	"slices"
)

// Message decides anew, now that the message is known, and settles all
// recipients together: sealed submissions, the reply rule, mixed. One message
// has one protection.
//
// each has the decision of every recipient that was named, as Recipient gave it.
// Those refused or deferred at RCPT stay as they are, but a deferred one counts:
// its copy may yet be sealed. What Message itself refuses or defers, it does for
// every recipient that was still to go, since DATA has one reply. The answer has
// the recipients of each in its order; each is not changed.
func (r *Rules) Message(m Message, each []Decision) []Decision {
	out := slices.Clone(each)
	s := r.look(m)
	for i := range out {
		out[i] = r.again(s, out[i])
	}
	switch {
	case r.raised(each, out):
	case m.Sealed:
		sealed(m, out)
	case m.AnswersDecrypted && slices.ContainsFunc(out, opened):
		replyRule(out)
	default:
		mixed(out)
	}
	for i := range out {
		if !out[i].Served {
			if m.AnswersDecrypted { // RFC 9788, Section 6.1: its subject repeats what was confidential
				out[i].all.SubjectVisible = false
			}
			out[i].Options = out[i].all.of(out[i].Action)
		}
		if each[i].made() {
			out[i] = r.rehearsed(out[i])
		}
	}
	if r.dry && m.AnswersDecrypted && !m.Sealed {
		stop(out, RefuseMessage, func(Decision) bool { return true },
			"this answers or forwards a message that came encrypted, and a dry run delivers everything unencrypted",
			"Write a new message without quoting; or end the dry run.")
	}
	return out
}

// again is a decision with the message known.
func (r *Rules) again(s *seen, d Decision) Decision {
	if d.Served {
		return d
	}
	if d.made() {
		if r.dry && !d.Would.Accepted() {
			return r.provisional(d.From, d.Finding) // it would have been told at RCPT
		}
		c := r.choose(d.From, &d.Finding, s, nil)
		if a := s.m.From; !a.IsZero() && !a.Equal(d.From) {
			c.beside(r.choose(a, &d.Finding, s, nil))
		}
		return c.decide(d.From, d.Finding)
	}
	d.Certificates, d.Pending, d.all = nil, nil, Options{}
	if d.Action != Defer && d.Action != RefuseMessage {
		d.Cause = CauseFault
		d.refuse("nothing was decided for this recipient", "This is a fault of letterlock; please report it.")
	}
	return d
}

// made tells whether Recipient made the decision, and let a copy go.
func (d Decision) made() bool {
	return goes(d) && d.Recipient == d.Finding.Address && !d.Recipient.IsZero()
}

// raised stops a message of which the rules, now that they know it, let some
// copy not go.
func (r *Rules) raised(each, out []Decision) bool {
	for _, a := range []Action{RefuseMessage, Defer} {
		for i, d := range out {
			was := each[i].Action
			if r.dry {
				was = each[i].Would
			}
			if d.Action == a && was.Accepted() {
				stop(out, a, func(Decision) bool { return false }, d.Reason, d.Hint)
				return true
			}
		}
	}
	return false
}

func inClear(d Decision) bool { return d.Action == SendClear || d.Action == SignOnly }

// opened copies go in clear, and haven't gone yet.
func opened(d Decision) bool { return inClear(d) && goes(d) }

// secret copies are, or will be, readable by their recipient alone.
func secret(d Decision) bool {
	return d.Action == Encrypt || d.Action == PassSealed || d.Action == Password || d.Action == Hold
}

// goes tells whether a copy is still to go.
func goes(d Decision) bool { return d.Action.Accepted() && !d.Served }

// sealed passes on what the sender's own program encrypted. We can't see whom it
// was encrypted to but by its session-key packets, so require holds it to those.
func sealed(m Message, out []Decision) {
	short := func(d Decision) bool {
		return goes(d) && d.Mode == Require && !m.Covers[d.Recipient.Key()]
	}
	if i := slices.IndexFunc(out, short); i >= 0 {
		who := out[i].Recipient
		stop(out, RefuseMessage, short,
			fmt.Sprintf("your mail program encrypted this message, but not to the certificate known of %s, which rule %q requires", who, out[i].Rule),
			fmt.Sprintf("Send it without encryption in the mail program, so that letterlock encrypts it; or compare with `letterlock cert show %s`.", who))
		return
	}
	for i := range out {
		if goes(out[i]) {
			out[i].Action, out[i].Certificates, out[i].Hint = PassSealed, nil, ""
			out[i].Reason = fmt.Sprintf("your mail program encrypted this message already (rule %q)", out[i].Rule)
		}
	}
}

// replyRule refuses clear copies of what answers a decrypted message, whatever
// the rules say.
func replyRule(out []Decision) {
	who := out[slices.IndexFunc(out, opened)].Recipient
	stop(out, RefuseMessage, opened,
		fmt.Sprintf("this answers or forwards a message that came encrypted, and %s would get it readable by anyone", who),
		fmt.Sprintf("Leave %s out, or import a certificate for it with `letterlock cert import FILE`; or write a new message without quoting.", who))
}

// mixed settles a message of which some copies would be sealed and others clear.
func mixed(out []Decision) {
	open := slices.IndexFunc(out, inClear)
	shut := slices.IndexFunc(out, secret)
	waits := slices.IndexFunc(out, func(d Decision) bool { return d.Action == Defer })
	if open < 0 || shut < 0 && waits < 0 {
		return
	}
	how, who := strictest(out)
	switch {
	case how == MixedSplit:
		for i := range out {
			if inClear(out[i]) && goes(out[i]) {
				out[i].Reason += fmt.Sprintf("; others get it encrypted or not at all, as mixed = \"split\" of rule %q allows", who)
			}
		}
	case shut < 0 && how == MixedClear: // those who wait are never sent a clear copy
	case shut < 0:
		stop(out, Defer, inClear,
			fmt.Sprintf("%s would get this message in clear while it is not settled whether %s gets it encrypted", out[open].Recipient, out[waits].Recipient),
			fmt.Sprintf("It is tried again; or leave %s out, or write to them one by one.", out[waits].Recipient))
	case how == MixedClear && !slices.ContainsFunc(out, func(d Decision) bool { return secret(d) && !opens(d) }):
		for i := range out {
			if d := &out[i]; opens(*d) {
				d.Action, d.Certificates = readable(d.sign), nil
				d.Reason = fmt.Sprintf("%s has no certificate, and mixed = \"clear\" of rule %q sends the message in clear to everyone then", out[open].Recipient, who)
			}
		}
	default:
		stop(out, RefuseMessage, inClear,
			fmt.Sprintf("this message is encrypted for %s, and %s would get the same text in clear", out[shut].Recipient, out[open].Recipient),
			fmt.Sprintf("Write to them separately, or import a certificate for %s; mixed = \"split\" in a rule for it allows both.", out[open].Recipient))
	}
}

// opens tells whether mixed = "clear" may take the encryption off a copy.
func opens(d Decision) bool {
	return goes(d) && d.Action == Encrypt && d.Mode == Prefer && d.Cause == CauseFound
}

// strictest is the mixed setting that holds for all who take part, and the rule
// that it is from. What isn't set is as strict as can be.
func strictest(out []Decision) (how Mixed, from string) {
	for _, d := range out {
		if d.Action == RefuseMessage {
			continue
		}
		m := d.Mixed
		if m == "" {
			m = MixedRefuse
		}
		if from == "" || stricter(byMixed, how, m) != how {
			how, from = m, d.Rule
		}
	}
	return how, from
}

// stop refuses or defers every copy that was still to go. Those of cause are
// told the reason; the others that they go with it.
func stop(out []Decision, a Action, cause func(Decision) bool, reason, hint string) {
	for i := range out {
		d := &out[i]
		if !goes(*d) {
			continue
		}
		why := reason
		if !cause(*d) {
			why = "it goes to all recipients or to none: " + reason
		}
		d.Action, d.Certificates, d.Hint = a, nil, hint
		d.Reason = fmt.Sprintf("%s (rule %q)", why, d.Rule)
	}
}

// rehearsed is a decision of a dry run: everything is delivered as submitted,
// and what would have happened is told.
func (r *Rules) rehearsed(d Decision) Decision {
	if r.dry {
		d.Would, d.Action = d.Action, PassUnchanged
		d.Certificates, d.Options = nil, Options{}
		d.Reason = fmt.Sprintf("dry run: delivered as submitted; otherwise %q, since %s", d.Would, d.Reason)
	}
	return d
}
