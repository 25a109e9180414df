package smtpd

import (
	"context"
	"fmt"
	"slices"

	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd/queue"
)

// submit settles what happens to a message, protects it and sends it.
func (s *session) submit(ctx context.Context, sub submission) error {
	rest, unknown, err := s.notYetSent(ctx, sub)
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
	groups, err := s.copies(ctx, sub, rest, decisions)
	defer closeGroups(groups)
	if err != nil {
		return s.protectFault(err)
	}
	return s.newDelivery(sub, groups, unknown).run(ctx)
}

// copies makes the copy of each group. The caller closes the groups, whatever
// the error.
func (s *session) copies(ctx context.Context, sub submission, rcpts []recipient, decisions []policy.Decision) ([]*group, error) {
	groups, err := s.plan(ctx, sub, rcpts, decisions)
	for _, g := range groups {
		if err == nil {
			err = s.protect(ctx, sub, g)
		}
	}
	return groups, err
}

// notYetSent looks into the journal for an earlier attempt at the same
// submission: those who have it or will get it are left out; those of whom
// nobody knows are told of, never sent to again.
func (s *session) notYetSent(ctx context.Context, sub submission) (rest []recipient, unknown []string, err error) {
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
	for _, r := range s.env.rcpts {
		switch state[r.address.Key()] {
		case "":
			rest = append(rest, r)
		case queue.Unknown, queue.Sending:
			unknown = append(unknown, r.address.String())
		}
	}
	return rest, unknown, nil
}

// repeated answers a submission of which nothing is left to send.
func (s *session) repeated(unknown []string) error {
	if len(unknown) > 0 {
		s.log.Info("submission", "outcome", "unknown", "reason", "repeated, and the first attempt is not settled")
		return ambiguous(unknown)
	}
	s.log.Info("submission", "outcome", "sent", "reason", "the same message was sent before")
	s.server.c.Count("repeated")
	return answer(250, "2.0.0", "sent already; this repetition of the same message goes to nobody twice")
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
// refuse.
func (s *session) settle(ctx context.Context, sub submission) ([]policy.Decision, error) {
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

// judge asks the rules about the message as a whole.
func (s *session) judge(ctx context.Context, sub submission) ([]policy.Decision, error) {
	rules := s.account.Rules()
	m := sub.facts(rules)
	var err error
	if m.AnswersDecrypted, err = answersDecrypted(ctx, s.account.Opened, sub.src, sub.root); err != nil {
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
	return rules.Message(m, s.env.named), nil
}
