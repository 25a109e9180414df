package smtpd

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd/queue"
)

// clearFacts is what has to be known of a copy that waits to go in clear, beside its
// envelope and bytes, when the rules are asked about it again. There is nothing of
// the message in it.
type clearFacts struct {
	heldFacts
	// Word was taken off the subject: the rules had looked for it.
	Word string `json:"word,omitempty"`
	// Size is of the message as submitted; 0 if unknown.
	Size int64 `json:"size,omitempty"`
	// Signed: the message is inside, beside its signature.
	Signed bool `json:"signed,omitempty"`
}

// keepFacts notes them in the entry of a group that is left to the queue.
func (s *session) keepFacts(e *queue.Entry, sub submission, g *group) {
	if !e.Clear || e.State != queue.Waiting || len(e.Hold) > 0 {
		return
	}
	f := clearFacts{heldFacts: s.heldFacts(sub, g), Word: g.options.Strip, Size: sub.src.Size(), Signed: g.action == policy.SignOnly}
	f.Others = slices.DeleteFunc(f.Others, wentClear)
	e.Hold, _ = json.Marshal(f)
}

// Review implements queue.Reviewer: a copy that waits to go in clear goes through the
// rules as they are now, with the certificates that are known now. It goes on as it is
// only where they would let it; what they want sealed is sealed, what they hold is
// held, and what they refuse comes back to its sender with their reason.
//
// What others had of the message in clear before holds nobody's copy back from being
// sealed. Whether it answers a letter that came encrypted was asked when it was
// submitted, and is no matter of rules.
func (s *Server) Review(ctx context.Context, e queue.Entry, body message.Source) (v queue.Review, err error) {
	a, err := s.account(ctx, e.Account)
	if err != nil {
		return v, fmt.Errorf("%w: %w", queue.ErrUpstream, err)
	}
	if a.inbound() != nil { // plaintext is what the server inside is to have
		return v, nil
	}
	again, sub, waiting, err := s.reopen(ctx, a, e, body)
	if err != nil {
		return v, err
	}
	decisions, err := again.judge(ctx, sub)
	if err != nil {
		return v, err
	}
	again.env.named = decisions
	var going []recipient
	for i, r := range again.env.rcpts {
		d, rc := decisions[r.named], waiting[i]
		switch {
		case clearCopy(d.Action) && again.denied(d) == nil, d.Action == policy.PassSealed:
		case d.Action == policy.Encrypt, d.Action == policy.Password, d.Action == policy.Hold:
			going = append(going, r)
		case d.Action == policy.RefuseMessage && d.Cause != policy.CauseUnavailable:
			rc.State, rc.Code, rc.Status = queue.Failed, 550, "5.7.1"
			rc.Text = "it waited to go in clear, and the rules don't let it any more: " + d.Reason + ". " + d.Hint
			rc.Decided = decided(d, &group{})
			v.Refused = append(v.Refused, rc)
		default:
			rc.Code, rc.Status, rc.Text = 451, "4.4.3", "it can't be told now whether it may still go in clear: "+d.Reason
			v.Later = append(v.Later, rc)
		}
	}
	if len(going) == 0 {
		return v, nil
	}
	groups, err := again.copies(ctx, sub, going, decisions)
	v.Close = func() { closeGroups(groups) }
	if err != nil {
		return v, fmt.Errorf("protecting the message: %w", err)
	}
	for _, g := range groups {
		v.Go = append(v.Go, again.inPlace(e, sub, g)...)
	}
	failpoint("reviewed")
	return v, nil
}

// inPlace are the entries of a group whose recipients had their place in e.
func (s *session) inPlace(e queue.Entry, sub submission, g *group) []queue.Change {
	if g.action == policy.Hold {
		held := s.heldEntry(sub, g)
		held.State, held.Queued, held.Created = queue.Held, true, e.Created
		return []queue.Change{{Entry: held, Body: g.body, Notice: queue.NoticeHeld}}
	}
	next := s.entry(sub, g, queue.Waiting)
	next.Queued, next.Created, next.Expires, next.Warned = true, e.Created, e.Expires, e.Warned
	out := []queue.Change{{Entry: next, Body: g.body}}
	if g.notice != nil {
		told := s.noticeEntry(g)
		told.State = queue.Waiting
		out = append(out, queue.Change{Entry: told, Body: g.notice})
	}
	return out
}

// reopen is a session without a client that stands where the one stood that took the
// message of e, before its copy was made: as far as that can be told from the copy.
// Its recipients are those who wait.
func (s *Server) reopen(ctx context.Context, a *Account, e queue.Entry, body message.Source) (again *session, sub submission, waiting []queue.Recipient, err error) {
	var facts clearFacts
	if len(e.Hold) > 0 { // not where an earlier version put it there
		if err := json.Unmarshal(e.Hold, &facts); err != nil {
			return nil, sub, nil, fmt.Errorf("reading what was known of it: %w", err)
		}
	}
	if a, err = facts.account(a); err != nil {
		return nil, sub, nil, err
	}
	again = &session{server: s, account: a, ctx: ctx, log: s.c.Logger.With("queued", e.ID), env: &envelope{opts: mailParamsOf(e), started: s.c.Now()}}
	if e.From != "" {
		if again.env.from, err = address.Parse(e.From); err != nil {
			return nil, sub, nil, err
		}
	}
	sub = submission{src: body, messageID: e.MessageID, key: e.Submission, waited: true, word: facts.Word, size: facts.Size}
	if sub.root, err = message.Parse(body, message.Limits{}); err != nil {
		return nil, sub, nil, err
	}
	if facts.Signed && len(sub.root.Children) == 2 {
		inside := sub.root.Children[0]
		sub.src = message.Section(body, inside.Start, inside.End-inside.Start)
		if sub.root, err = message.Parse(sub.src, message.Limits{}); err != nil {
			return nil, sub, nil, err
		}
	}
	sub.from = again.relayAuthor(sub.root.Header) // it was checked when it came
	for _, r := range e.Recipients {
		if r.State != queue.Waiting {
			continue
		}
		if err := again.nameHeld(r); err != nil {
			return nil, sub, nil, err
		}
		waiting = append(waiting, r)
	}
	earlier, err := s.c.Queue.Earlier(ctx, e.Submission)
	if err != nil {
		return nil, sub, nil, err
	}
	earlier = slices.DeleteFunc(earlier, func(o queue.Entry) bool { return o.ID == e.ID })
	ours := func(o heldOther) bool {
		return slices.ContainsFunc(waiting, func(r queue.Recipient) bool { return r.Address == o.Address })
	}
	sub.others = slices.DeleteFunc(append(facts.Others, others(earlier)...), func(o heldOther) bool { return wentClear(o) || ours(o) })
	return again, sub, waiting, again.served(sub.others)
}
