package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/policy"
)

// Policy is the rules, as written. What a rule doesn't say is "".
type Policy struct {
	Default       string              `toml:"default"`
	DryRun        bool                `toml:"dry_run"`
	MissingPrefer string              `toml:"missing_prefer"`
	MinTrust      MinTrust            `toml:"min_trust"`
	Groups        map[string][]string `toml:"groups"`
	Rules         []Rule              `toml:"rule"`
	Password      PasswordForm        `toml:"password"`
	Settings
}

// PasswordForm is [policy.password]: what a copy under a password is like.
type PasswordForm struct {
	OpenPGP bool   `toml:"openpgp"` // with a copy for OpenPGP programs
	Limit   string `toml:"limit"`   // the longest message

	Bytes int64 `toml:"-"` // Limit
}

// MinTrust is how sure we must be of a certificate.
type MinTrust struct {
	Require string `toml:"require"`
	Prefer  string `toml:"prefer"`
}

// Rule is one [[policy.rule]].
type Rule struct {
	Name         string  `toml:"name"`
	From         Strings `toml:"from"`
	To           Strings `toml:"to"`
	Identity     Strings `toml:"identity"`
	Subject      Strings `toml:"subject"`
	Header       Strings `toml:"header"`
	LargerThan   string  `toml:"larger_than"`
	Attachment   bool    `toml:"attachment"`
	Lower        bool    `toml:"lower"`
	StripSubject bool    `toml:"strip_subject"`
	Mode         string  `toml:"mode"`
	MinTrust     string  `toml:"min_trust"`
	Settings
}

// Settings are what [policy] says for all rules, and a rule for itself.
type Settings struct {
	Missing        string `toml:"missing"`
	Unavailable    string `toml:"unavailable"`
	Expired        string `toml:"expired"`
	Revoked        string `toml:"revoked"`
	Weak           string `toml:"weak"`
	Changed        string `toml:"changed"`
	Conflict       string `toml:"conflict"`
	Gone           string `toml:"gone"`
	Untrusted      string `toml:"untrusted"`
	AcceptWKDAfter string `toml:"accept_wkd_after"`
	HoldFor        string `toml:"hold_for"`
	Mixed          string `toml:"mixed"`
	Sign           string `toml:"sign"`
	SignAs         string `toml:"sign_as"`
	Headers        string `toml:"headers"`
	MinCipher      string `toml:"min_cipher"`
	MinRSA         int    `toml:"min_rsa"`
	AEAD           string `toml:"aead"`
	Footer         string `toml:"footer"`
}

// defaultPolicy is what package policy takes for what isn't said, written out:
// config describe tells of it.
func defaultPolicy() Policy {
	return Policy{
		Password: PasswordForm{OpenPGP: true, Limit: "25MiB", Bytes: 25 << 20},
		Default:  "prefer", MissingPrefer: "cleartext", MinTrust: MinTrust{Require: "directory", Prefer: "first-seen"},
		Settings: Settings{
			Missing: "refuse", Unavailable: "defer", Expired: "refuse", Revoked: "refuse", Weak: "refuse", Changed: "refuse",
			Conflict: "refuse", Gone: "refuse", Untrusted: "refuse", AcceptWKDAfter: "never",
			Mixed: "refuse", Sign: "encrypted", SignAs: "sender", Headers: "protect", MinCipher: "aes128", AEAD: "offered",
		},
	}
}

// policy compiles the rules.
func (d *decoder) policy(c *Config) {
	p := c.Policy
	pc := policy.Config{
		Default: policy.Mode(p.Default), MissingPrefer: policy.Then(p.MissingPrefer), Settings: d.settings("policy", p.Settings),
		MinTrust: policy.MinTrust{Require: pgp.Identity(p.MinTrust.Require), Prefer: pgp.Identity(p.MinTrust.Prefer)},
		Groups:   p.Groups, DryRun: p.DryRun,
	}
	d.signAs("policy.sign_as", p.SignAs, c)
	for i, r := range p.Rules {
		key := fmt.Sprintf("policy.rule[%d]", i)
		d.signAs(key+".sign_as", r.SignAs, c)
		rule := policy.Rule{
			Name: r.Name, From: r.From, To: r.To, Subject: r.Subject, Header: r.Header, LargerThan: d.bytes(key+".larger_than", r.LargerThan),
			Attachment: r.Attachment, Lower: r.Lower, StripSubject: r.StripSubject,
			Mode: policy.Mode(r.Mode), MinTrust: pgp.Identity(r.MinTrust), Settings: d.settings(key, r.Settings),
		}
		for _, i := range r.Identity {
			rule.Identity = append(rule.Identity, pgp.Identity(i))
		}
		pc.Rules = append(pc.Rules, rule)
	}
	rules, err := policy.New(pc)
	c.Rules = rules
	for _, e := range flatten(err) {
		var one *policy.Problem
		if errors.As(e, &one) {
			d.add(one.Key, "%s", one.Text)
		} else {
			d.add("policy", "%v", e)
		}
	}
	d.dryRun(c)
	d.passwordForm(&c.Policy.Password)
}

// passwordForm: what is shorter than any message, or longer than what is taken,
// was meant otherwise.
func (d *decoder) passwordForm(p *PasswordForm) {
	problems := len(d.problems)
	p.Bytes = d.bytes("policy.password.limit", p.Limit)
	if len(d.problems) == problems && (p.Bytes < 10_000 || p.Bytes > 64<<20) {
		d.add("policy.password.limit", `%q is not between "10kB" and "64MiB", which is the longest message that is taken at all`, p.Limit)
	}
}

// signAs: only a relay has a key of the domain.
func (d *decoder) signAs(key, s string, c *Config) {
	if s == string(policy.SignAsDomain) && c.Relay == nil {
		d.add(key, `"domain" is the key of [relay], which this configuration doesn't have; write "sender"`)
	}
}

// dryRun is for a relay that is being introduced. A bridge promises its person
// that nothing goes in clear by accident, and has no dry run.
func (d *decoder) dryRun(c *Config) {
	switch {
	case !c.Policy.DryRun:
	case c.Relay == nil:
		d.add("policy.dry_run", "is for [relay], which this configuration doesn't have; leave it out")
	case len(c.Bridges) > 0:
		d.add("policy.dry_run", "would send the mail of [[bridge]] in clear; give the relay a configuration of its own, or leave this out")
	}
}

func (d *decoder) settings(key string, s Settings) policy.Settings {
	return policy.Settings{
		Missing: policy.Then(s.Missing), Unavailable: policy.Then(s.Unavailable), Expired: policy.Then(s.Expired), Revoked: policy.Then(s.Revoked),
		Weak: policy.Then(s.Weak), Changed: policy.Then(s.Changed), Conflict: policy.Then(s.Conflict), Gone: policy.Then(s.Gone), Untrusted: policy.Then(s.Untrusted),
		AcceptWKDAfter: d.acceptAfter(key+".accept_wkd_after", s.AcceptWKDAfter), HoldFor: d.span(key+".hold_for", s.HoldFor),
		Mixed: policy.Mixed(s.Mixed), Sign: policy.Signing(s.Sign), SignAs: policy.SignAs(s.SignAs), Headers: policy.HeaderMode(s.Headers), Footer: s.Footer,
		MinCipher: policy.Cipher(s.MinCipher), MinRSA: s.MinRSA, AEAD: policy.AEAD(s.AEAD),
	}
}

// acceptAfter reads a span; negative is never, which is other than unset.
func (d *decoder) acceptAfter(key, s string) time.Duration {
	if s == "never" {
		return -1
	}
	return d.span(key, s)
}

// span reads a length of time that ends; unset is 0.
func (d *decoder) span(key, s string) time.Duration {
	if s == "" {
		return 0
	}
	span, err := Span(s)
	if err != nil || span == 0 {
		d.add(key, `%q is no length of time; write for example "3d" or "72h"`, s)
	}
	return span
}

// units of a size, the longest first.
var units = []struct {
	name  string
	bytes float64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}}

// bytes reads a size.
func (d *decoder) bytes(key, s string) int64 {
	if s == "" {
		return 0
	}
	for _, u := range units {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		if n, err := strconv.ParseFloat(strings.TrimSpace(digits), 64); err == nil && n*u.bytes >= 1 && n*u.bytes < math.MaxInt64/2 {
			return int64(n * u.bytes)
		}
		break
	}
	d.add(key, `%q is no size; write a number and its unit, such as "10MB" or "500KiB"`, s)
	return 0
}
