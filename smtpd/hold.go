package smtpd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd/queue"
)

// heldFacts is what has to be known of a held message beside its envelope and
// bytes when it is decided again.
type heldFacts struct {
	// Others got the same message already, or wait for it elsewhere.
	Others []heldOther `json:"others,omitempty"`
	// Proven is who the client of a relay had proved to be; "" for nobody.
	Proven string `json:"proven,omitempty"`
	// Open: it was to go in clear, and did to some, before the rules were asked again.
	// What they got holds nobody back from a sealed copy.
	Open bool `json:"open,omitempty"`
}

type heldOther struct {
	Address string `json:"a"`
	Sealed  bool   `json:"s,omitempty"` // encrypted to its reader
	held    bool   // it waits, and may yet become anything
}

// others are those who have a message by earlier entries.
func others(earlier []queue.Entry) (out []heldOther) {
	for _, e := range earlier {
		for _, r := range e.Recipients {
			if e.State != queue.Prepared && r.State != queue.Failed {
				out = append(out, heldOther{r.Address, !e.Clear, r.State == queue.Held})
			}
		}
	}
	return out
}

func isHeld(o heldOther) bool { return o.held }

// wentClear: anybody can read the copy.
func wentClear(o heldOther) bool { return !o.Sealed && !o.held }

// sealedCopy tells whether only its reader can read what an action sends.
func sealedCopy(a policy.Action) bool {
	return a == policy.Encrypt || a == policy.PassSealed || a == policy.Password
}

// heldEntry is the row for those whose copies are held: the message as it was
// submitted, since nobody knows yet what is made of it.
func (s *session) heldEntry(sub submission, g *group) queue.Entry {
	e := s.entry(sub, g, queue.Held)
	e.State = queue.Prepared
	e.Expires = e.Created.Add(s.holdFor(g))
	e.Next = e.Created.Add(time.Minute) // a certificate may come while we write this
	for i, r := range g.rcpts {
		e.Recipients[i].Text = s.env.named[r.named].Reason
	}
	e.Hold, _ = json.Marshal(s.heldFacts(sub, g))
	e.LastError = e.Recipients[0].Text
	return e
}

// heldFacts are the facts of a message for the recipients of a group.
func (s *session) heldFacts(sub submission, g *group) heldFacts {
	facts := heldFacts{Others: slices.DeleteFunc(slices.Clone(sub.others), isHeld), Open: sub.waited}
	in := map[string]bool{}
	for _, r := range g.rcpts {
		in[r.address.Key()] = true
	}
	for _, r := range s.env.rcpts {
		if !in[r.address.Key()] && !s.env.named[r.named].Served {
			facts.Others = append(facts.Others, heldOther{Address: r.address.String(), Sealed: sealedCopy(s.env.named[r.named].Action)})
		}
	}
	if s.account.Relay != nil {
		if p := s.proven(sub.root.Header); !p.IsZero() {
			facts.Proven = p.String()
		}
	}
	return facts
}

// holdFor is how long a copy is held: the shortest of what the rules say, else
// the queue's.
func (s *session) holdFor(g *group) time.Duration {
	least := time.Duration(0)
	for _, r := range g.rcpts {
		if h := s.env.named[r.named].HoldFor; h > 0 && (least == 0 || h < least) {
			least = h
		}
	}
	return cmp.Or(least, s.server.c.Queue.HoldFor())
}

// hold answers for a message of which nothing is sent now.
func (d *delivery) hold(ctx context.Context) error {
	failpoint("holding")
	d.settleLater()
	d.s.came()
	if err := d.s.server.c.Queue.Begin(d.changes()); err != nil {
		return d.s.fault("writing the journal", err)
	}
	failpoint("held")
	d.record(d.later...)
	n := d.held()
	d.s.server.c.Count("held")
	d.s.log.Info("submission", "outcome", "held", "held", n, "reason", d.later[0].entry.LastError)
	if len(d.unknown) > 0 {
		return ambiguous(d.unknown)
	}
	return answer(250, "2.0.0", fmt.Sprintf("held for %d recipients until it can be encrypted; a notice tells more", n))
}

// settleLater gives what waits for the first commit its state.
func (d *delivery) settleLater() {
	for _, f := range d.later {
		f.entry.State = f.after
	}
}

func (d *delivery) held() (n int) {
	for _, f := range d.later {
		if f.entry.State == queue.Held {
			n += len(f.entry.Recipients)
		}
	}
	return n
}

// Decide implements queue.Decider: a held message goes through everything that a
// new one does. Only what the rules encrypt goes by itself. With clear, which a
// person says, what they now send in clear goes too; but not to one recipient
// what others got encrypted, unless a rule splits such mail by name.
func (s *Server) Decide(ctx context.Context, e queue.Entry, body message.Source, clear bool) (v queue.Verdict, err error) {
	again, sub, err := s.resume(ctx, e, body)
	if err != nil {
		return v, err
	}
	decisions, err := again.judge(ctx, sub)
	if err != nil {
		return v, err
	}
	var going []recipient
	again.env.named = decisions
	for i, r := range again.env.rcpts {
		d := decisions[r.named]
		if why := again.stays(d, clear); why != "" {
			stay := e.Recipients[i]
			stay.Text = why
			v.Stay = append(v.Stay, stay)
			continue
		}
		going = append(going, r)
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
		next := again.entry(sub, g, queue.Waiting)
		next.Queued, next.Created = true, e.Created
		again.keepFacts(&next, sub, g)
		v.Go = append(v.Go, queue.Change{Entry: next, Body: g.body})
		if g.notice != nil {
			told := again.noticeEntry(g)
			told.State = queue.Waiting
			v.Go = append(v.Go, queue.Change{Entry: told, Body: g.notice})
		}
	}
	return v, nil
}

// stays is why a recipient's copy is held on, "" if it may go.
func (s *session) stays(d policy.Decision, clear bool) string {
	switch {
	case d.Action == policy.PassUnchanged:
		return "a dry run releases nothing: " + d.Reason
	case d.Action == policy.Encrypt, d.Action == policy.PassSealed:
		return ""
	case d.Action == policy.Hold, !d.Action.Accepted():
		return d.Reason
	case d.Action == policy.Password:
		if clear {
			return ""
		}
		return "the rules send it under a password now: " + d.Reason + "; a person releases it with --clear"
	case !clear:
		return "the rules let it go unencrypted now, and only a person does that with held mail (--clear): " + d.Reason
	}
	return ""
}

// resume is a session without a client that stands where the one stood that
// took a held message. Its recipients are those of e, in order.
func (s *Server) resume(ctx context.Context, e queue.Entry, body message.Source) (*session, submission, error) {
	sub := submission{src: body, messageID: e.MessageID, key: e.Submission}
	a, err := s.account(ctx, e.Account)
	if err != nil {
		return nil, sub, err
	}
	var facts heldFacts
	if err := json.Unmarshal(e.Hold, &facts); err != nil {
		return nil, sub, fmt.Errorf("reading what was held: %w", err)
	}
	if a, err = facts.account(a); err != nil {
		return nil, sub, err
	}
	again := &session{server: s, account: a, ctx: ctx, log: s.c.Logger.With("held", e.ID),
		env: &envelope{opts: mailParamsOf(e), started: s.c.Now()}}
	if e.From != "" {
		if again.env.from, err = address.Parse(e.From); err != nil {
			return nil, sub, err
		}
	}
	if sub.root, err = message.Parse(body, message.Limits{}); err != nil {
		return nil, sub, err
	}
	if sub.from, err = again.author(sub.root.Header); err != nil {
		return nil, sub, err
	}
	for _, r := range e.Recipients {
		if err := again.nameHeld(r); err != nil {
			return nil, sub, err
		}
	}
	// The others are facts: they count for what one message may be, and get
	// nothing anymore. More may have come since.
	earlier, err := s.c.Queue.Earlier(ctx, e.Submission)
	if err != nil {
		return nil, sub, err
	}
	have := append(facts.Others, slices.DeleteFunc(others(earlier), isHeld)...)
	if facts.Open {
		have = slices.DeleteFunc(have, wentClear)
	}
	if err := again.served(have); err != nil {
		return nil, sub, err
	}
	return again, sub, nil
}

// account is a as it was for the client who handed the message in.
func (f heldFacts) account(a *Account) (*Account, error) {
	if a.Relay == nil {
		return a, nil
	}
	b, r := *a, *a.Relay
	r.Any, r.TrustSender, r.Proven = true, false, address.Address{}
	if f.Proven != "" {
		p, err := address.Parse(f.Proven)
		if err != nil {
			return nil, err
		}
		r.Proven = p
	}
	b.Relay = &r
	return &b, nil
}

// nameHeld decides about a recipient as RCPT does, and adds him.
func (s *session) nameHeld(r queue.Recipient) error {
	a, err := address.Parse(r.Address)
	if err != nil {
		return err
	}
	d, err := s.decide(a)
	if err != nil {
		return fmt.Errorf("looking for the certificate of %s: %w", a, err)
	}
	s.env.rcpts = append(s.env.rcpts, recipient{address: a, notify: r.Notify, orcpt: r.Orcpt, named: len(s.env.named)})
	s.env.named = append(s.env.named, d)
	return nil
}

// Learned has what is held for an address decided again: its certificate has
// become known. It is for the key directory to call, and doesn't wait.
func (s *Server) Learned(a address.Address) {
	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	go func() {
		defer cancel()
		if err := s.c.Queue.Learned(ctx, a.Key()); err != nil && !errors.Is(err, context.Canceled) {
			s.c.Logger.Error("held mail not looked at", "err", err)
		}
	}()
}
