package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/endpoint"
	"letterlock.org/letterlock/pgp"
)

type relayCmd struct {
	Init     relayInit     `cmd:"" help:"Make an organisation's gateway ready: configuration, signing key, and the lines for Postfix. It begins with a dry run."`
	Password relayPassword `cmd:"" help:"The password of a user in [relay] users."`
}

type relayInit struct {
	Domain    []string `required:"" placeholder:"DOMAIN" help:"Domain whose mail leaves here; may be repeated."`
	Smarthost string   `placeholder:"URL" help:"Where mail goes from here, such as submission://mx.example.org; left out, back to the Postfix of this machine (content_filter)."`
	Listen    string   `default:"127.0.0.1:10026" help:"Where the mail server hands mail in (${default})."`
	Reinject  string   `default:"127.0.0.1:10025" help:"Where Postfix takes mail back, without --smarthost (${default})."`
	Live      bool     `help:"Encrypt from the start: no dry run."`
	StateDir  string   `placeholder:"DIR" help:"Where everything is kept, in a new configuration."`
	Unlock    string   `placeholder:"SOURCE" help:"What opens it, in a new configuration; default: a key file beside the configuration."`
}

func (c *relayInit) runLocal(ctx context.Context, e *env, root *cli) error {
	for _, d := range c.Domain {
		if _, err := address.Parse("x@" + d); err != nil {
			return fmt.Errorf("%w: %q is no domain; write for example --domain example.org", errUsage, d)
		}
	}
	file, err := config.Find(root.Config)
	if errors.Is(err, config.ErrNoFile) {
		file, err = config.Preferred(), nil
	}
	if err != nil {
		return err
	}
	if err := c.configure(e, file); err != nil {
		return err
	}
	cfg, err := config.Load(file)
	if err != nil {
		return err
	}
	if err := gatewayKeys(ctx, e, file, cfg.Relay); err != nil {
		return err
	}
	c.next(e, file, cfg)
	return nil
}

// gatewayKeys makes the keys that sign for the domains, where there are none yet.
func gatewayKeys(ctx context.Context, e *env, file string, r *config.Relay) error {
	if r.Signing.IsZero() {
		return nil
	}
	names := []string{r.Signing.String()}
	for _, d := range r.Domains {
		if own := pgp.GatewayAddress(d).String(); !slices.Contains(names, own) {
			names = append(names, own)
		}
	}
	quiet := *e
	quiet.stdout = io.Discard
	for _, name := range names {
		if runAs(ctx, &quiet, []string{"key", "export", name, "--config=" + file}) == nil {
			continue
		}
		if err := runAs(ctx, e, []string{"key", "generate", name, "--config=" + file}); err != nil {
			return err
		}
	}
	return nil
}

// configure makes sure that the file has a [relay]. A file is written only if
// all of it is well.
func (c *relayInit) configure(e *env, file string) error {
	_, err := editConfig(e, file, func(old []byte) (text, keyFile string, err error) {
		if old != nil {
			cfg, err := config.Parse(file, string(old))
			if err != nil {
				return "", "", err
			}
			if cfg.Relay != nil {
				if err := c.unlike(cfg); err != nil {
					return "", "", err
				}
				e.printf("%s has a [relay] already; it stays as it is.\n", file)
				return "", "", nil
			}
		}
		text = string(old)
		if old == nil {
			if text, keyFile, err = firstLines(file, c.Unlock, c.StateDir); err != nil {
				return "", "", err
			}
		}
		text += c.section()
		text += c.policy()
		if _, err := config.Parse(file, text); err != nil {
			if strings.Contains(string(old), "[policy]") {
				return "", "", fmt.Errorf("%w: %s has a [policy] already, so nothing was written; give the relay a configuration of its own (--config FILE)", errConfig, file)
			}
			return "", "", fmt.Errorf("what you asked for is not well: %w", err)
		}
		return text, keyFile, nil
	})
	return err
}

// unlike tells what the [relay] that a file has already has otherwise than asked for.
func (c *relayInit) unlike(cfg *config.Config) error {
	var other []string
	if slices.ContainsFunc(c.Domain, func(d string) bool {
		a, err := address.Parse("x@" + d)
		return err == nil && !slices.Contains(cfg.Relay.Domains, a.Domain)
	}) {
		other = append(other, fmt.Sprintf("domains = %q", []string(cfg.Relay.Domains)))
	}
	if c.Smarthost != "" && c.smarthost() != cfg.Relay.Smarthost {
		other = append(other, fmt.Sprintf("smarthost = %q", cfg.Relay.Smarthost))
	}
	if len(other) > 0 {
		return fmt.Errorf("%w: nothing was changed, since the [relay] of %s has %s; change it there", errConfig, cfg.File, strings.Join(other, ", "))
	}
	return nil
}

// smarthost is the URL that was meant: a bare host is called at its submission
// port, with TLS.
func (c *relayInit) smarthost() string {
	switch {
	case c.Smarthost == "":
		return "smtp+insecure://" + c.Reinject
	case !strings.Contains(c.Smarthost, "://"):
		return "submission://" + c.Smarthost
	}
	return c.Smarthost
}

// section is the [relay].
func (c *relayInit) section() string {
	quoted := make([]string, len(c.Domain))
	for i, d := range c.Domain {
		quoted[i] = fmt.Sprintf("%q", d)
	}
	return fmt.Sprintf("\n[relay]\nlisten = %q\nsmarthost = %q\ndomains = [%s]\ndomain_key = %q\n", c.Listen, c.smarthost(), strings.Join(quoted, ", "), pgp.GatewayAddress(c.Domain[0]).String())
}

// mixedText says what becomes of a message of which only some recipients have a
// certificate. An organisation expects that its lists go on reaching everybody, and
// has to see that this is a choice.
const mixedText = `# A message may go to many: lists send it to one subscriber after another, and mail
# servers part long lists of recipients; all of that counts as one message. "split"
# encrypts for each who has a certificate, and sends the same text in clear to the
# others. "refuse", which holds without this line, would turn away whoever has none
# as soon as another's copy was encrypted. mode = "require" holds in any case.
mixed = "split"
`

// policy is what the rules begin with. A content filter sees the mail of
// colleagues too: theirs stays as it is.
func (c *relayInit) policy() string {
	text := ""
	if !c.Live {
		text += "dry_run = true   # deliver unchanged, and tell what would have happened; take it out to encrypt\n"
	}
	text += mixedText
	if c.Smarthost != "" {
		return "\n[policy]\n" + text
	}
	inside := make([]string, len(c.Domain))
	for i, d := range c.Domain {
		inside[i] = fmt.Sprintf("%q", "*@"+d)
	}
	return "\n[policy]\n" + text + fmt.Sprintf("\n[[policy.rule]]\nname = \"inside stays as it is\"\nto = [%s]\nmode = \"cleartext\"\n", strings.Join(inside, ", "))
}

// next tells what is left to do. Postfix must send nothing around in circles: the
// listener behind the relay has no content_filter.
func (c *relayInit) next(e *env, file string, cfg *config.Config) {
	at, named := cfg.Relay.Addresses[0], ""
	if found, err := config.Find(""); err != nil || found != file { // it isn't found without being named
		named = " --config " + shellWord(file)
	}
	e.printf("\n1. Start it:  letterlock serve --config %s\n", shellWord(file))
	if up := cfg.Relay.Server; up.Security == endpoint.Cleartext {
		e.printf("\n2. Postfix sends all its mail through it. In main.cf:\n\n    content_filter = smtp:[%s]:%d\n    smtp_send_xforward_command = yes\n"+
			"\n   in master.cf, where mail comes back:\n\n    %s inet n - n - - smtpd\n%s", at.Host, at.Port, up.HostPort(), reinjection)
		e.printf("\n   A milter that signs DKIM belongs to this listener (then without no_milters), not\n   to those in front: what is encrypted is new text. Or give [relay] the DKIM key.\n")
		e.printf("\n   For mail that leaves only, put -o content_filter=smtp:[%s]:%d under the\n   submission service of master.cf instead of the line in main.cf.\n", at.Host, at.Port)
	} else {
		e.printf("\n2. The mail server hands it all mail that leaves. For Postfix, in main.cf:\n\n    relayhost = [%s]:%d\n    smtp_send_xforward_command = yes\n", at.Host, at.Port)
	}
	e.printf("\n   then:  postfix check && postfix reload\n")
	if !cfg.Relay.Signing.IsZero() {
		e.printf("\n   Publish the certificate of %s, so that others can check its signatures:\n   letterlock key export %[1]s%[2]s\n", cfg.Relay.Signing, named)
	}
	e.printf("\n3. Look what it would do:  letterlock explain --from you@%s --to partner@example.com%s\n", c.Domain[0], named)
	if cfg.Policy.DryRun {
		e.printf("\nIt is a dry run: mail passes unchanged, and the log says what would have happened.\nTake dry_run out of %s when you are content, and: kill -HUP the running serve.\n", file)
	}
	e.printf("\nThis is gateway encryption: this machine sees plaintext and holds the signing key.\n")
}

// reinjection is the listener of Postfix that takes mail back from a filter.
const reinjection = `      -o content_filter=
      -o receive_override_options=no_unknown_recipient_checks,no_header_body_checks,no_milters,no_address_mappings
      -o smtpd_recipient_restrictions=permit_mynetworks,reject
      -o mynetworks=127.0.0.0/8
`

type relayPassword struct {
	Address addressArg `arg:""`
	Renew   bool       `help:"Make another one."`
}

func (c *relayPassword) runState(ctx context.Context, e *env, s *state) error {
	cfg := s.cfg.Load()
	if cfg.Relay == nil {
		return fmt.Errorf("%w: %s has no [relay]", errConfig, cfg.File)
	}
	for _, u := range cfg.Relay.Logins {
		if !u.Name.Equal(c.Address.Address) {
			continue
		}
		checker := relayLogin(s, cfg.Relay)
		get := checker.LocalPassword
		if c.Renew {
			get = checker.RenewLocalPassword
		}
		p, err := get(ctx, u.Name)
		if err == nil {
			e.printf("%s\n", p)
		}
		return err
	}
	return fmt.Errorf("%w: %s is not in [relay] users of %s (write: users = { %q = \"any\" })", errConfig, c.Address, cfg.File, c.Address.String())
}
