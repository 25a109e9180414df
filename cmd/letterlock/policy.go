package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/policy"
)

type policyCmd struct {
	Test policyTest `cmd:"" help:"Try the rules of the configuration on a file of cases, and tell which come out otherwise."`
}

type policyTest struct {
	File string `arg:"" help:"The cases, in TOML: [[case]] with name, from, to, want, and what they need of certificate, identity, rsa, cipher, aead, served, subject, header, size, attachment, sealed, covers, answers_decrypted, rule; [[case.recipient]] for recipients who differ."`
	JSON bool   `name:"json" help:"For scripts."`
}

// caseResult is how one case came out.
type caseResult struct {
	Name       string       `json:"name"`
	Line       int          `json:"line"`
	OK         bool         `json:"ok"`
	Recipients []caseAnswer `json:"recipients"`
}

// caseAnswer is what becomes of one recipient, and what was to become.
type caseAnswer struct {
	Recipient string        `json:"recipient"`
	OK        bool          `json:"ok"`
	Action    policy.Action `json:"action"`
	Rule      string        `json:"rule"`
	Mode      policy.Mode   `json:"mode"`
	Cause     policy.Cause  `json:"cause"`
	Reason    string        `json:"reason"`
	Want      string        `json:"want"`
	WantRule  string        `json:"want_rule,omitempty"`
	Facts     string        `json:"facts"`
}

func (p *policyTest) runLocal(_ context.Context, e *env, c *cli) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	text, err := e.files.Read(p.File)
	if err != nil {
		return err
	}
	cases, err := config.ParseCases(p.File, string(text))
	if err != nil {
		return err
	}
	results, failed := []caseResult{}, 0
	for _, one := range cases {
		r := tryCase(cfg.Rules, one)
		if !r.OK {
			failed++
		}
		results = append(results, r)
	}
	if p.JSON {
		err = e.json(results)
	} else {
		p.print(e, results, failed)
	}
	if err == nil && failed > 0 {
		return exitError(exitFailed)
	}
	return err
}

// tryCase decides as a submission does: at RCPT, then at DATA.
func tryCase(rules *policy.Rules, c config.Case) caseResult {
	r := caseResult{Name: c.Name, Line: c.Line, OK: true}
	var each []policy.Decision
	for _, to := range c.Each {
		each = append(each, rules.Recipient(c.Sender, to.Finding))
	}
	for i, d := range rules.Message(c.Message, each) {
		to := c.Each[i]
		action := cmp.Or(d.Would, d.Action)
		a := caseAnswer{Recipient: d.Recipient.String(), Action: action, Rule: d.Rule, Mode: d.Mode, Cause: d.Cause, Reason: d.Reason,
			Want: to.Want, WantRule: to.Rule, Facts: caseFacts(c, to)}
		a.OK = string(action) == to.Want && (to.Rule == "" || to.Rule == d.Rule)
		r.OK = r.OK && a.OK
		r.Recipients = append(r.Recipients, a)
	}
	return r
}

// caseFacts tells in one line what the rules were told.
func caseFacts(c config.Case, to config.CaseRecipient) string {
	facts := []string{"from " + c.Sender.String(), "certificate " + to.Certificate}
	add := func(is bool, fact string) {
		if is {
			facts = append(facts, fact)
		}
	}
	add(to.Identity != "", "identity "+to.Identity)
	add(to.RSA > 0, fmt.Sprintf("keys of %d bits", to.RSA))
	add(to.Cipher != "", "cipher "+to.Cipher)
	add(to.AEAD, "AEAD")
	add(to.Served != "", "served for "+to.Served)
	add(c.Subject != "", "subject "+c.Subject)
	for _, h := range c.Header {
		facts = append(facts, h)
	}
	add(c.Size != "", "size "+c.Size)
	add(c.Attachment, "an attachment")
	add(c.AnswersDecrypted, "answers a decrypted message")
	add(c.Sealed, "sealed by the sender's program")
	add(c.Sealed && c.Message.Covers[to.Finding.Address.Key()], "for this recipient")
	return strings.Join(facts, "; ")
}

func (p *policyTest) print(e *env, results []caseResult, failed int) {
	for _, r := range results {
		if r.OK {
			continue
		}
		e.printf("%s:%d: %s\n", p.File, r.Line, r.Name)
		for _, a := range r.Recipients {
			if a.OK {
				continue
			}
			want := a.Want
			if a.WantRule != "" {
				want += " by rule " + a.WantRule
			}
			e.printf("  %s: %s by rule %s, want %s\n", a.Recipient, a.Action, a.Rule, want)
			e.printf("    because  %s\n", a.Reason)
			e.printf("    facts    %s\n", a.Facts)
		}
	}
	e.printf("%d of %d cases came out as they should.\n", len(results)-failed, len(results))
}

// dryRunWarning stands in the log at the start, and in status as long as it holds.
const dryRunWarning = "DRY RUN: the relay encrypts nothing; all mail is delivered as submitted, and the log says what would have happened (policy.dry_run)"

func (s *state) warnOfDryRun() {
	if s.cfg.Load().Rules.DryRun() {
		s.log.Warn(dryRunWarning)
	}
}
