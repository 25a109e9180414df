package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/policy"
)

// Case is one [[case]] of a file that says what rules must do: a message, what
// is known of its recipients, and what must become of each.
type Case struct {
	Name             string   `toml:"name"`
	From             string   `toml:"from"`
	To               Strings  `toml:"to"` // who all have the facts and the outcome of the case
	Recipients       []CaseTo `toml:"recipient"`
	Subject          string   `toml:"subject"`
	Header           Strings  `toml:"header"`
	Size             string   `toml:"size"`
	Attachment       bool     `toml:"attachment"`
	Sealed           bool     `toml:"sealed"`
	Covers           Strings  `toml:"covers"` // whose certificates a sealed message is encrypted to
	AnswersDecrypted bool     `toml:"answers_decrypted"`
	CaseFacts

	Line    int             `toml:"-"`
	Sender  address.Address `toml:"-"`
	Message policy.Message  `toml:"-"`
	Each    []CaseRecipient `toml:"-"`
}

// CaseTo is one [[case.recipient]], with facts of its own.
type CaseTo struct {
	To string `toml:"to"`
	CaseFacts
}

// CaseFacts are what is known of a recipient's certificate, and the outcome.
type CaseFacts struct {
	Certificate string `toml:"certificate"`
	Identity    string `toml:"identity"`
	Served      string `toml:"served"` // for how long its directory has served a changed one
	// What the certificate is capable of: curves and AES-256 without AEAD, where
	// nothing is said.
	RSA    int    `toml:"rsa"` // bits of its keys
	Cipher string `toml:"cipher"`
	AEAD   bool   `toml:"aead"`
	Want   string `toml:"want"`
	Rule   string `toml:"rule"` // "" for any
}

// CaseRecipient is a recipient of a case, checked.
type CaseRecipient struct {
	CaseFacts
	Finding keydir.Finding
}

// certificates are the words of CaseFacts.Certificate.
var certificates = []string{"found", "absent", "no-directory", "unavailable", "lost", keydir.ProblemExpired, keydir.ProblemRevoked,
	keydir.ProblemWeak, keydir.ProblemChanged, keydir.ProblemConflict, keydir.ProblemGone}

// wants are the words of CaseFacts.Want.
var wants = []string{string(policy.Encrypt), string(policy.SignOnly), string(policy.SendClear), string(policy.PassSealed), string(policy.Defer),
	string(policy.RefuseMessage), string(policy.Hold), string(policy.Password)}

// ParseCases reads a file of cases. Its error is a Problems.
func ParseCases(file, text string) ([]Case, error) {
	var raw map[string]any
	if _, err := toml.Decode(text, &raw); err != nil {
		return nil, notTOML(file, err)
	}
	var all struct {
		Cases []Case `toml:"case"`
	}
	d := &decoder{file: file, lines: locate(text)}
	d.table("", raw, structOf(&all))
	if len(all.Cases) == 0 {
		d.add("case", `is missing; write [[case]] above name = "…", from = "…", to = ["…"] and want = "encrypt"`)
	}
	for i := range all.Cases {
		key := fmt.Sprintf("case[%d]", i)
		all.Cases[i].Line = d.line(key)
		d.oneCase(key, &all.Cases[i])
	}
	if len(d.problems) > 0 {
		slices.SortStableFunc(d.problems, func(a, b Problem) int { return a.Line - b.Line })
		return nil, d.problems
	}
	return all.Cases, nil
}

func (d *decoder) oneCase(key string, c *Case) {
	if c.Name == "" {
		d.add(key+".name", `is missing; write name = "partners get it encrypted"`)
	}
	c.Sender = d.address(key+".from", c.From)
	c.Message = policy.Message{From: c.Sender, Sealed: c.Sealed, AnswersDecrypted: c.AnswersDecrypted, Attachment: c.Attachment,
		Size: d.bytes(key+".size", c.Size), Headers: map[string][]string{}, Covers: map[string]bool{}}
	if c.Subject != "" {
		c.Message.Headers["subject"] = []string{c.Subject}
	}
	for _, h := range c.Header {
		name, value, ok := strings.Cut(h, ":")
		if name = strings.ToLower(strings.TrimSpace(name)); !ok || name == "" {
			d.add(key+".header", `%q is no header field; write "Name: value"`, h)
		}
		c.Message.Headers[name] = append(c.Message.Headers[name], strings.TrimSpace(value))
	}
	for _, s := range c.Covers {
		a := d.address(key+".covers", s)
		c.Message.Covers[a.Key()] = true
	}
	if len(c.To)+len(c.Recipients) == 0 {
		d.add(key+".to", `is missing; write to = ["bob@partner.example"], or [[case.recipient]] for each`)
	}
	for _, to := range c.To {
		c.Each = append(c.Each, d.caseTo(key, d.address(key+".to", to), c.CaseFacts))
	}
	for i, r := range c.Recipients {
		k := fmt.Sprintf("%s.recipient[%d]", key, i)
		c.Each = append(c.Each, d.caseTo(k, d.address(k+".to", r.To), r.CaseFacts))
	}
}

func (d *decoder) address(key, s string) address.Address {
	a, err := address.Parse(s)
	if err != nil {
		d.add(key, `%q is no mail address; write for example "alice@example.org"`, s)
	}
	return a
}

// caseTo makes what the resolver would have found.
func (d *decoder) caseTo(key string, a address.Address, c CaseFacts) CaseRecipient {
	if c.Want == "" {
		d.add(key+".want", "is missing; write one of %s", strings.Join(wants, ", "))
	} else {
		d.oneOf(key+".want", c.Want, wants...)
	}
	if c.Certificate == "" {
		c.Certificate = "found"
	}
	d.oneOf(key+".certificate", c.Certificate, certificates...)
	r := CaseRecipient{CaseFacts: c, Finding: keydir.Finding{Address: a}}
	f := &r.Finding
	switch c.Certificate {
	case "found":
		f.Outcome, f.Known, f.Certificates, f.Identity = keydir.Found, true, []*pgp.Certificate{new(pgp.Certificate)}, pgp.Directory
		if c.Identity != "" {
			d.oneOf(key+".identity", c.Identity, string(pgp.FirstSeen), string(pgp.Directory), string(pgp.Organisation), string(pgp.Confirmed))
			f.Identity = pgp.Identity(c.Identity)
		}
		r.Identity = string(f.Identity)
		f.Strengths = d.strength(key, c)
	case "absent", "no-directory", "unavailable":
		f.Outcome = keydir.Outcome(c.Certificate)
	case "lost":
		f.Outcome, f.Known = keydir.Absent, true
	default:
		f.Outcome, f.Known, f.Problem = keydir.Found, true, c.Certificate
	}
	if c.Identity != "" && c.Certificate != "found" {
		d.add(key+".identity", `is known of a certificate that was found; write certificate = "found", or leave it out`)
	}
	if span := d.span(key+".served", c.Served); span > 0 {
		if c.Certificate != keydir.ProblemChanged && c.Certificate != keydir.ProblemConflict {
			d.add(key+".served", `is of a certificate that took another's place; write certificate = "changed"`)
		}
		f.Successor = &keydir.Successor{Certificates: []*pgp.Certificate{new(pgp.Certificate)}, Strengths: d.strength(key, c), Served: span.Truncate(time.Second)}
	}
	return r
}

// strength is what a case says of its certificate.
func (d *decoder) strength(key string, c CaseFacts) []pgp.Strength {
	if c.Cipher != "" {
		d.oneOf(key+".cipher", c.Cipher, string(policy.AES128), string(policy.AES256))
	}
	return []pgp.Strength{{Bits: c.RSA, AES256: c.Cipher != string(policy.AES128), AEAD: c.AEAD}}
}

// notTOML is the problem of a file that the library can't read.
func notTOML(file string, err error) Problems {
	p := Problem{File: file, Text: "not TOML: " + err.Error()}
	var syntax toml.ParseError
	if errors.As(err, &syntax) {
		p.Line = syntax.Position.Line
		if strings.Contains(syntax.Message, `name delimiter`) && strings.Contains(syntax.Message, `'\n'`) { // it is counted as the next line's
			p.Line--
		}
		if syntax.Message != "" {
			p.Text = "not TOML: " + strings.TrimSuffix(syntax.Message, ".")
		}
		if strings.Contains(syntax.Message, "expected value") {
			p.Text += ` (texts stand in quotes: "…")`
		}
	}
	return Problems{p}
}
