package policy

import (
	"fmt"
	"slices"
)

// Message settles the decisions of all recipients together: sealed submissions,
// the reply rule, mixed. One message has one protection.
//
// each has the decision of every recipient that was named, those refused or
// deferred at RCPT too. They stay as they are, but a deferred one counts: its
// copy may yet be sealed. What Message itself refuses or defers, it does for
// every recipient that was still to go, since DATA has one reply. The answer has
// the recipients of each in its order; each is not changed.
func (r *Rules) Message(m Message, each []Decision) []Decision {
	out := slices.Clone(each)
	for i := range out {
		if !known(out[i].Action) {
			out[i].refuse("nothing was decided for this recipient", "This is a fault of letterlock; please report it.")
		}
		if out[i].Action != Encrypt {
			out[i].Certificates = nil
		}
	}
	switch {
	case m.Sealed:
		r.sealed(m, out)
	case m.AnswersDecrypted && slices.ContainsFunc(out, inClear):
		replyRule(out)
	default:
		r.mixed(out)
	}
	return out
}

func known(a Action) bool {
	return slices.Contains([]Action{Encrypt, SignOnly, SendClear, PassSealed, Defer, RefuseMessage, Hold}, a)
}

func inClear(d Decision) bool { return d.Action == SendClear || d.Action == SignOnly }

func goes(d Decision) bool { return inClear(d) || d.Action == Encrypt || d.Action == PassSealed }

// sealed passes on what the sender's own program encrypted. We can't see whom it
// was encrypted to but by its session-key packets, so require holds it to those.
func (r *Rules) sealed(m Message, out []Decision) {
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
			out[i].Action, out[i].Certificates = PassSealed, nil
			out[i].Reason = fmt.Sprintf("your mail program encrypted this message already (rule %q)", out[i].Rule)
		}
	}
}

// replyRule refuses clear copies of what answers a decrypted message, whatever
// the rules say.
func replyRule(out []Decision) {
	who := out[slices.IndexFunc(out, inClear)].Recipient
	stop(out, RefuseMessage, inClear,
		fmt.Sprintf("this answers or forwards a message that came encrypted, and %s would get it readable by anyone", who),
		fmt.Sprintf("Leave %s out, or import a certificate for it with `letterlock cert import FILE`; or write a new message without quoting.", who))
}

// mixed settles a message of which some copies would be sealed and others clear.
func (r *Rules) mixed(out []Decision) {
	open := slices.IndexFunc(out, inClear)
	sealed := slices.IndexFunc(out, func(d Decision) bool { return d.Action == Encrypt || d.Action == PassSealed })
	waits := slices.IndexFunc(out, func(d Decision) bool { return d.Action == Defer || d.Action == Hold })
	if open < 0 || sealed < 0 && waits < 0 {
		return
	}
	how, who := r.strictest(out)
	switch {
	case how == MixedSplit:
		for i := range out {
			if inClear(out[i]) {
				out[i].Reason += fmt.Sprintf("; others get it encrypted or not at all, as mixed = \"split\" of rule %q allows", who)
			}
		}
	case sealed < 0 && how == MixedClear: // those who wait are never sent a clear copy
	case sealed < 0:
		stop(out, Defer, inClear,
			fmt.Sprintf("%s would get this message in clear while it is not settled whether %s gets it encrypted", out[open].Recipient, out[waits].Recipient),
			fmt.Sprintf("It is tried again; or leave %s out, or write to them one by one.", out[waits].Recipient))
	case how == MixedClear && !slices.ContainsFunc(out, func(d Decision) bool { return d.Action == PassSealed || d.Action == Encrypt && d.Mode == Require }):
		for i := range out {
			if out[i].Action == Encrypt {
				out[i].Action, out[i].Certificates = SendClear, nil
				out[i].Reason = fmt.Sprintf("%s has no certificate, and mixed = \"clear\" of rule %q sends the message in clear to everyone then", out[open].Recipient, who)
			}
		}
	default:
		stop(out, RefuseMessage, inClear,
			fmt.Sprintf("this message is encrypted for %s, and %s would get the same text in clear", out[sealed].Recipient, out[open].Recipient),
			fmt.Sprintf("Write to them separately, or import a certificate for %s; mixed = \"split\" in a rule for it allows both.", out[open].Recipient))
	}
}

// strictest is the mixed setting that holds for all who take part, and the rule
// that it is from: refuse before split before clear. A rule that is not ours
// (anymore) is as strict as can be.
func (r *Rules) strictest(out []Decision) (how Mixed, from string) {
	rank := map[Mixed]int{MixedClear: 1, MixedSplit: 2, MixedRefuse: 3}
	for _, d := range out {
		if d.Action == RefuseMessage {
			continue
		}
		m := MixedRefuse
		if i, ok := r.byName[d.Rule]; ok {
			m = r.rules[i].mixed
		}
		if rank[m] > rank[how] {
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
