package smtpd

import (
	"context"
	"fmt"
	"slices"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd/queue"
)

// submit settles what happens to a message, protects it and sends it.
func (s *session) submit(ctx context.Context, sub submission) error {
	rest, unknown, err := s.notYetSent(ctx, &sub)
	if err != nil {
		return s.fault("reading the journal", err)
	}
	if len(rest) == 0 {
		return s.repeated(unknown)
	}
	decisions, err := s.settle(ctx, sub)
	if err != nil {
		return err
	}
	groups, err := s.plan(ctx, sub, rest, decisions)
	defer closeGroups(groups)
	if err != nil {
		return s.protectFault(err)
	}
	groups[0].early = mayBeginEarly(sub, groups)
	defer s.withdraw(groups)
	defer s.fallBack()
	if err := s.runAhead(sub, groups); err != nil {
		return s.fault("handing the message to the mail server", err)
	}
	if err := s.protectAll(ctx, sub, groups); err != nil {
		if a := s.running(); a != nil && a.err != nil {
			return s.fault("handing the message to the mail server", s.up.midway(a.failed()))
		}
		return s.protectFault(err)
	}
	return s.newDelivery(sub, groups, unknown).run(ctx)
}

// copies makes the copy of each group. The caller closes the groups, whatever
// the error.
func (s *session) copies(ctx context.Context, sub submission, rcpts []recipient, decisions []policy.Decision) ([]*group, error) {
	groups, err := s.plan(ctx, sub, rcpts, decisions)
	if err != nil {
		return groups, err
	}
	return groups, s.protectAll(ctx, sub, groups)
}

func (s *session) protectAll(ctx context.Context, sub submission, groups []*group) error {
	for _, g := range groups {
		if err := s.protect(ctx, sub, g); err != nil {
			return err
		}
	}
	return nil
}

// notYetSent looks into the journal for an earlier attempt at the same
// submission: those who have it or will get it are left out; those of whom
// nobody knows are told of, never sent to again. sub.others gets everybody who has
// the message.
func (s *session) notYetSent(ctx context.Context, sub *submission) (rest []recipient, unknown []string, err error) {
	earlier, err := s.server.c.Queue.Earlier(ctx, sub.key, s.env.keys()...)
	if err != nil {
		return nil, nil, err
	}
	state := map[string]queue.State{}
	for _, e := range earlier {
		for _, r := range e.Recipients {
			// What was only prepared nobody was promised: it goes, and this comes.
			if e.State != queue.Prepared && r.State != queue.Failed {
				state[r.Key] = r.State
			}
		}
	}
	sub.others = others(earlier)
	for _, r := range s.env.rcpts {
		switch state[r.address.Key()] {
		case "":
			rest = append(rest, r)
			continue
		case queue.Unknown, queue.Sending:
			unknown = append(unknown, r.address.String())
		}
		s.toldOf([]recipient{r})
	}
	return rest, unknown, nil
}

// repeated answers a submission of which nothing is left to send.
func (s *session) repeated(unknown []string) error {
	if len(unknown) > 0 {
		s.log.Info("submission", "outcome", "unknown", "reason", "repeated, and the first attempt is not settled")
		return ambiguous(unknown)
	}
	s.log.Info("submission", "outcome", "repeated", "reason", "the same message was taken before")
	s.server.c.Count("repeated")
	return answer(250, "2.0.0", "taken already; this repetition of the same message goes to nobody twice")
}

// ambiguous is the reply where the answer to a final dot was lost.
func ambiguous(recipients []string) error {
	who := recipients[0]
	if len(recipients) > 1 {
		who = fmt.Sprintf("%s and %d more", who, len(recipients)-1)
	}
	return temporary("4.4.2", fmt.Sprintf("the mail server did not confirm: %s may have got the message or not. It is not sent to them again "+
		"by itself; `letterlock queue list` shows it, `queue retry ID` lets it be sent once more, `queue drop ID` takes it as delivered", who))
}

// settle asks the rules about the message as a whole, and refuses what they
// refuse. An MTA parts the recipients of one message into several transactions:
// who got it by another counts as one of this.
func (s *session) settle(ctx context.Context, sub submission) ([]policy.Decision, error) {
	if err := s.served(sub.others); err != nil {
		return nil, s.fault("reading the journal", err)
	}
	decisions, err := s.judge(ctx, sub)
	if err != nil {
		return nil, err
	}
	s.env.named = decisions
	for _, r := range s.env.rcpts {
		if err := s.denied(decisions[r.named]); err != nil {
			return nil, err
		}
	}
	return decisions, nil
}

// served adds to the decisions those by which others got the same message:
// whatever is known of them now, that is how it was protected. Their addresses
// only are looked at, and no certificate is looked for.
func (s *session) served(others []heldOther) error {
	at := map[address.Address]int{}
	for i, d := range s.env.named {
		at[d.Recipient] = i
	}
	for _, o := range others {
		a, err := address.Parse(o.Address)
		if err != nil {
			return err
		}
		d := s.account.Rules().Recipient(s.sender(), keydir.Finding{Address: a})
		d.Served, d.Action, d.Pending, d.Would = true, policy.SendClear, nil, ""
		switch {
		case o.held:
			d.Action = policy.Hold
		case o.Sealed:
			d.Action = policy.Encrypt
		}
		if i, ok := at[a]; ok {
			s.env.named[i] = d
			continue
		}
		at[a] = len(s.env.named)
		s.env.named = append(s.env.named, d)
	}
	return nil
}

// judge asks the rules about the message as a whole.
func (s *session) judge(ctx context.Context, sub submission) ([]policy.Decision, error) {
	rules := s.account.Rules()
	m := sub.facts(rules)
	var err error
	if !sub.waited { // of what has, it was known when it came
		m.AnswersDecrypted, err = answersDecrypted(ctx, s.account.Opened, sub.src, sub.root, s.account.Relay != nil)
	}
	if err != nil {
		return nil, s.fault("looking whether this answers an encrypted message", err)
	}
	sealed, err := pgp.IsSealedSubmission(sub.root, sub.src)
	if err != nil {
		return nil, s.fault("reading the message", err)
	}
	if m.Sealed = sealed.Kind != pgp.NotSealed; m.Sealed {
		m.Covers = map[string]bool{}
		for _, d := range s.env.named {
			m.Covers[d.Recipient.Key()] = slices.ContainsFunc(d.Known(), func(c *pgp.Certificate) bool {
				return pgp.Covers(sealed.KeyIDs, c)
			})
		}
	}
	return rules.Message(m, s.env.takingPart(rules, m)), nil
}

// takingPart are the decisions of those who were named. Whoever would get a clear
// copy of this message, or none, and whom the upstream takes nothing for, gets none,
// and keeps the others from none. One whose copy would be sealed still counts: nobody
// shall have in clear what was meant for him.
func (e *envelope) takingPart(rules *policy.Rules, m policy.Message) []policy.Decision {
	ds := slices.Clone(e.named)
	for i := range ds {
		d := &ds[i]
		if !e.never[d.Recipient] || !d.Action.Accepted() {
			continue
		}
		switch rules.Message(m, ds[i:i+1])[0].Action { // of a message to him alone
		case policy.SendClear, policy.SignOnly, policy.RefuseMessage:
			d.Action, d.Reason = policy.RefuseMessage, "the mail server takes nothing for this recipient"
		}
	}
	return ds
}
