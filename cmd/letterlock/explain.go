package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/policy"
)

type explainCmd struct {
	From *addressArg  `help:"Sender; the only account if there is one."`
	To   []addressArg `required:"" help:"Recipient; may be repeated."`
	JSON bool         `name:"json" help:"For scripts."`
}

// explanation is what would happen to one recipient.
type explanation struct {
	Recipient    string        `json:"recipient"`
	Action       policy.Action `json:"action"`
	Mode         policy.Mode   `json:"mode"`
	Rule         string        `json:"rule"`
	Reason       string        `json:"reason"`
	Hint         string        `json:"hint,omitempty"`
	Outcome      string        `json:"outcome"`
	Source       string        `json:"source,omitempty"`
	Identity     pgp.Identity  `json:"identity,omitempty"`
	Fetched      *time.Time    `json:"fetched,omitempty"`
	Stale        bool          `json:"stale,omitempty"`
	Certificates []string      `json:"certificates"`
	Attempts     []attemptJSON `json:"attempts"`
}

type attemptJSON struct {
	Source  string `json:"source"`
	Outcome string `json:"outcome"`
	Detail  string `json:"detail,omitempty"`
	Millis  int64  `json:"milliseconds"`
}

func (c *explainCmd) runState(ctx context.Context, e *env, s *state) error {
	from, err := c.sender(s)
	if err != nil {
		return err
	}
	out, err := s.explain(ctx, from, c.To)
	if err != nil {
		return err
	}
	if c.JSON {
		return e.json(out)
	}
	for _, x := range out {
		x.print(e)
	}
	return nil
}

func (c *explainCmd) sender(s *state) (address.Address, error) {
	if c.From != nil {
		return c.From.Address, nil
	}
	if b := s.cfg.Load().Bridges; len(b) == 1 {
		return b[0].Account, nil
	}
	return address.Address{}, fmt.Errorf("%w: which account would send it? (--from ADDRESS)", errUsage)
}

func (s *state) explain(ctx context.Context, from address.Address, to []addressArg) ([]explanation, error) {
	rules := s.cfg.Load().Rules
	var findings []keydir.Finding
	var decisions []policy.Decision
	for _, t := range to {
		f, err := s.resolver.Find(ctx, t.Address)
		if err != nil {
			return nil, fmt.Errorf("looking for a certificate of %s: %w", t, err)
		}
		findings = append(findings, f)
		decisions = append(decisions, rules.Recipient(from, f))
	}
	out := []explanation{}
	for i, d := range rules.Message(policy.Message{From: from}, decisions) {
		out = append(out, explainOne(d, findings[i]))
	}
	return out, nil
}

func explainOne(d policy.Decision, f keydir.Finding) explanation {
	x := explanation{
		Recipient: f.Address.String(), Action: d.Action, Mode: d.Mode, Rule: d.Rule, Reason: d.Reason, Hint: d.Hint,
		Outcome: string(f.Outcome), Source: f.Source, Identity: f.Identity, Stale: f.Stale, Certificates: []string{}, Attempts: []attemptJSON{},
	}
	if !f.Fetched.IsZero() {
		t := f.Fetched.UTC()
		x.Fetched = &t
	}
	for _, c := range f.Certificates {
		x.Certificates = append(x.Certificates, string(c.Fingerprint()))
	}
	for _, a := range f.Attempts {
		x.Attempts = append(x.Attempts, attemptJSON{a.Source, string(a.Outcome), a.Detail, a.Took.Milliseconds()})
	}
	return x
}

func (x explanation) print(e *env) {
	words := map[policy.Action]string{
		policy.Encrypt: "would be encrypted and signed", policy.SignOnly: "would be signed, not encrypted",
		policy.SendClear: "would go out in CLEAR", policy.Defer: "would wait", policy.RefuseMessage: "would be refused", policy.Hold: "would be held",
	}
	e.printf("%s: %s\n", x.Recipient, words[x.Action])
	e.printf("  because      %s\n", x.Reason)
	e.printf("  rule         %s (%s)\n", x.Rule, x.Mode)
	for _, c := range x.Certificates {
		e.printf("  certificate  %s\n", grouped(pgp.Fingerprint(c)))
	}
	if x.Source != "" {
		when := ""
		if x.Fetched != nil {
			when = ", " + x.Fetched.Format(time.DateTime) + " UTC"
		}
		e.printf("  found        %s%s, identity %s\n", x.Source, when, x.Identity)
	}
	for _, a := range x.Attempts {
		e.printf("  asked        %s: %s\n", strings.TrimSpace(a.Source), strings.TrimSpace(a.Outcome+" "+a.Detail))
	}
	if x.Hint != "" {
		e.printf("  to do        %s\n", x.Hint)
	}
}
