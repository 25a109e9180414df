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
	// What rules may look for in the message.
	Subject    string   `help:"Subject of the message."`
	Header     []string `help:"A field of its header, \"Name: value\"; may be repeated." sep:"none"`
	Size       int64    `help:"Its size in bytes."`
	Attachment bool     `help:"It has an attachment."`
	JSON       bool     `name:"json" help:"For scripts."`
}

// message is what the command line tells of a message.
func (c *explainCmd) message(from address.Address) (policy.Message, error) {
	m := policy.Message{From: from, Size: c.Size, Attachment: c.Attachment, Headers: map[string][]string{}}
	if c.Subject != "" {
		m.Headers["subject"] = []string{c.Subject}
	}
	for _, h := range c.Header {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return m, fmt.Errorf("%w: %q is no header field; write --header \"Name: value\"", errUsage, h)
		}
		name = strings.ToLower(strings.TrimSpace(name))
		m.Headers[name] = append(m.Headers[name], strings.TrimSpace(value))
	}
	return m, nil
}

// explanation is what would happen to one recipient.
type explanation struct {
	Recipient    string        `json:"recipient"`
	Action       policy.Action `json:"action"`
	Would        policy.Action `json:"would,omitempty"` // in a dry run
	Mode         policy.Mode   `json:"mode"`
	Cause        policy.Cause  `json:"cause"`
	Pending      []string      `json:"pending,omitempty"` // rules that look at the message
	SignAs       policy.SignAs `json:"sign_as,omitempty"`
	Subject      bool          `json:"subject_visible,omitempty"`
	Footer       bool          `json:"footer,omitempty"`
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
	if _, err := s.find(from); err != nil && s.cfg.Load().Relay == nil {
		if _, alias := s.aliasOf(from); !alias {
			fmt.Fprintf(e.stderr, "letterlock: no account here has the address %s; this is what would happen if one had\n", from)
		}
	}
	m, err := c.message(from)
	if err != nil {
		return err
	}
	out, err := s.explain(ctx, m, c.To)
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

func (s *state) explain(ctx context.Context, m policy.Message, to []addressArg) ([]explanation, error) {
	rules := s.cfg.Load().Rules
	var findings []keydir.Finding
	var decisions []policy.Decision
	for _, t := range to {
		f, err := s.resolver.Find(ctx, t.Address)
		if err != nil {
			return nil, fmt.Errorf("looking for a certificate of %s: %w", t, err)
		}
		if f.Source == "own" {
			f.Attempts = append(f.Attempts, s.servedAttempts(ctx, t.Address)...)
		}
		findings = append(findings, f)
		decisions = append(decisions, rules.Recipient(m.From, f))
	}
	out := []explanation{}
	for i, d := range rules.Message(m, decisions) {
		d.Pending = decisions[i].Pending
		out = append(out, explainOne(d, findings[i]))
	}
	return out, nil
}

func explainOne(d policy.Decision, f keydir.Finding) explanation {
	x := explanation{
		Recipient: f.Address.String(), Action: d.Action, Would: d.Would, Mode: d.Mode, Cause: d.Cause, Pending: d.Pending,
		SignAs: d.Options.SignAs, Subject: d.Options.SubjectVisible, Footer: d.Options.Footer != "",
		Rule: d.Rule, Reason: d.Reason, Hint: d.Hint,
		Outcome: string(f.Outcome), Source: f.Source, Identity: f.Identity, Stale: f.Stale, Certificates: []string{}, Attempts: []attemptJSON{},
	}
	if !f.Fetched.IsZero() {
		t := f.Fetched.UTC()
		x.Fetched = &t
	}
	for _, c := range d.Known() {
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
		policy.SendClear: "would go out in CLEAR", policy.Defer: "would wait", policy.RefuseMessage: "would be refused",
		policy.Hold: "would be held until a certificate can be used", policy.Password: "would go protected by a password",
		policy.PassUnchanged: "dry run: would go out AS SUBMITTED",
	}
	e.printf("%s: %s\n", x.Recipient, words[x.Action])
	if x.Would != "" {
		e.printf("  otherwise    %s\n", words[x.Would])
	}
	e.printf("  because      %s\n", x.Reason)
	e.printf("  rule         %s (%s)\n", x.Rule, x.Mode)
	if len(x.Pending) > 0 {
		e.printf("  may change   by what the message says: rule %s (--subject, --header, --size, --attachment tell)\n", strings.Join(x.Pending, ", "))
	}
	if x.Subject {
		e.printf("  subject      stands outside, readable by anyone\n")
	}
	for _, c := range x.Certificates {
		e.printf("  certificate  %s\n", grouped(pgp.Fingerprint(c)))
	}
	e.printf("  fact         %s\n", strings.TrimSpace(string(x.Cause)+", directory: "+x.Outcome))
	if x.Source != "" {
		when := ""
		if x.Fetched != nil {
			when = ", " + x.Fetched.Format(time.DateTime) + " UTC"
		}
		e.printf("  found        %s%s, identity %s\n", x.Source, when, x.Identity)
	}
	for _, a := range x.Attempts {
		e.printf("  asked        %s: %s\n", strings.TrimSpace(a.Source), answered(a))
	}
	if x.Hint != "" {
		e.printf("  to do        %s\n", x.Hint)
	}
}

func answered(a attemptJSON) string {
	if a.Detail == "" {
		return a.Outcome
	}
	return fmt.Sprintf("%s (%s)", a.Outcome, a.Detail)
}
