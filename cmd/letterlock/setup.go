package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/endpoint"
	"letterlock.org/letterlock/internal/wholefile"
)

type setupCmd struct {
	Address      addressArg `arg:""`
	IMAP         string     `name:"imap" placeholder:"SERVER" help:"Upstream, such as imap.example.org or imaps://imap.example.org:993; default: what the domain publishes, its DNS records, or the usual names."`
	SMTP         string     `name:"smtp" placeholder:"SERVER" help:"Upstream, such as smtp.example.org or submission://smtp.example.org:587; default: as for --imap."`
	IMAPListen   string     `name:"imap-listen" default:"127.0.0.1:1143" help:"Where mail programs fetch mail (${default})."`
	SMTPListen   string     `name:"smtp-listen" default:"127.0.0.1:1025" help:"Where mail programs send mail (${default})."`
	Auth         string     `default:"local" enum:"local,passthrough" help:"local: a password of our own; passthrough: that of the mail server."`
	UpstreamUser string     `placeholder:"USER" help:"Login at the mail server; default: the address."`
	UpstreamCA   string     `name:"upstream-ca" placeholder:"FILE" help:"Extra CA certificates of the mail server."`
	PasswordFile string     `placeholder:"FILE" help:"Password at the mail server; - is standard input; asked for otherwise."`
	StateDir     string     `placeholder:"DIR" help:"Where everything is kept, in a new configuration."`
	Unlock       string     `placeholder:"SOURCE" help:"What opens it, in a new configuration; default: a key file beside the configuration."`
}

// What the flags of those names are by themselves.
const (
	defaultIMAPListen = "127.0.0.1:1143"
	defaultSMTPListen = "127.0.0.1:1025"
)

// runLocal writes what is missing of the configuration, then has account add do
// the rest.
func (c *setupCmd) runLocal(ctx context.Context, e *env, root *cli) error {
	file, err := config.Find(root.Config)
	if errors.Is(err, config.ErrNoFile) {
		file, err = config.Preferred(), nil
	}
	if err != nil {
		return err
	}
	added, err := c.configure(ctx, e, file)
	if err != nil {
		return err
	}
	cfg, err := config.Load(file)
	if err != nil {
		return err
	}
	// Also where the file had it already: serve may not have read it since.
	err = runInServe(ctx, e, cfg.StateDir, []string{"reload"})
	if err != nil && !errors.Is(err, errNoServer) {
		return err
	}
	runs := err == nil && added
	args := []string{"account", "add", c.Address.String(), "--config=" + file}
	if c.PasswordFile != "" {
		args = append(args, "--password-file="+c.PasswordFile)
	}
	if err := runAs(ctx, e, args); err != nil {
		return err
	}
	switch {
	case runs:
		e.printf("\nNext: start serve again, so that it listens for %s.\n", c.Address)
	case added || !answers(cfg.StateDir):
		e.printf("\nNext: letterlock serve --config %s\nOr, to have it run whenever you are logged in: letterlock service install --config %s\n", shellWord(file), shellWord(file))
	}
	return nil
}

// configure makes sure that the file has a [[bridge]] for the address, and tells
// whether it had to add it. A file is written only if all of it is well.
func (c *setupCmd) configure(ctx context.Context, e *env, file string) (added bool, err error) {
	if c.UpstreamCA != "" { // serve runs elsewhere
		if c.UpstreamCA, err = filepath.Abs(c.UpstreamCA); err != nil {
			return false, err
		}
	}
	c.IMAP = serverOf(c.IMAP, "imaps://", ":143", "imap://")
	c.SMTP = serverOf(c.SMTP, "submissions://", ":587", "submission://")
	return editConfig(e, file, func(old []byte) (text, keyFile string, err error) {
		proxy := ""
		if old != nil {
			cfg, err := config.Parse(file, string(old))
			if err != nil {
				return "", "", err
			}
			if there, err := c.already(e, cfg); there || err != nil {
				return "", "", err
			}
			proxy = cfg.Discovery.Proxy
		}
		if c.IMAP == "" || c.SMTP == "" {
			if err := c.find(ctx, e, proxy); err != nil {
				return "", "", err
			}
		}
		text = string(old)
		if old == nil {
			if text, keyFile, err = firstLines(file, c.Unlock, c.StateDir); err != nil {
				return "", "", err
			}
		}
		text += c.section()
		if _, err := config.Parse(file, text); err != nil {
			return "", "", fmt.Errorf("what you asked for is not well: %w", err)
		}
		return text, keyFile, nil
	})
}

// serverOf is the URL of a server that is named without saying how it is called: with
// TLS from the first byte, or otherwise at the port where that isn't so.
func serverOf(s, scheme, port, other string) string {
	switch {
	case s == "" || strings.Contains(s, "://"):
		return s
	case strings.HasSuffix(s, port):
		return other + s
	}
	return scheme + s
}

// already tells whether a configuration has the account. What it has otherwise than
// it is asked for is an error: the password that comes next is meant for the servers
// that the command line names.
func (c *setupCmd) already(e *env, cfg *config.Config) (bool, error) {
	other := c.unlike("state_dir", c.StateDir, cfg.StateDir, "")
	other += c.unlike("unlock", c.Unlock, cfg.Unlock, "")
	var b *config.Bridge
	for i := range cfg.Bridges {
		if cfg.Bridges[i].Account.Equal(c.Address.Address) {
			b = &cfg.Bridges[i]
		}
		if slices.ContainsFunc(cfg.Bridges[i].Alias, c.Address.Equal) {
			return false, fmt.Errorf("%w: %s is an alias of %s in %s, and written to and read through that account", errConfig, c.Address, cfg.Bridges[i].Account, cfg.File)
		}
	}
	if b != nil {
		other += c.unlikeService("imap", endpoint.IMAP, b.IMAP, c.IMAP, c.IMAPListen, defaultIMAPListen)
		other += c.unlikeService("smtp", endpoint.SMTP, b.SMTP, c.SMTP, c.SMTPListen, defaultSMTPListen)
		other += c.unlike("auth", c.Auth, b.Auth, "local")
		other += c.unlike("upstream_user", c.UpstreamUser, b.UpstreamUser, "")
		other += c.unlike("upstream_ca", c.UpstreamCA, b.UpstreamCA, "")
	}
	if other != "" {
		return false, fmt.Errorf("%w: nothing was changed, since %s has%s; change it there, and run letterlock setup %s without those flags", errConfig, cfg.File, strings.TrimSuffix(other, ","), c.Address)
	}
	if b != nil {
		e.printf("%s has a [[bridge]] for %s already; it stays as it is.\n", cfg.File, c.Address)
	}
	return b != nil, nil
}

// unlike is what a file has where it is something else than was asked for; a
// default may not have been asked for.
func (*setupCmd) unlike(setting, asked, has, unasked string) string {
	if asked == "" || asked == unasked || asked == has {
		return ""
	}
	return fmt.Sprintf(" %s = %q,", setting, has)
}

func (c *setupCmd) unlikeService(name string, p endpoint.Protocol, has *config.Service, upstream, listen, unasked string) (out string) {
	if has == nil {
		if upstream != "" {
			out = " no " + name + ","
		}
		return out
	}
	u, err := endpoint.ParseUpstream(p, upstream)
	if err != nil || u.Host != has.Server.Host || u.Port != has.Server.Port || u.Security != has.Server.Security {
		out += c.unlike(name+".upstream", upstream, has.Upstream, "")
	}
	if !slices.Contains(has.Listen, listen) {
		out += c.unlike(name+".listen", listen, strings.Join(has.Listen, ", "), unasked)
	}
	return out
}

// firstLines begin a new configuration. keyFile is the unlock key's that is to
// be made; "" for none.
func firstLines(file, unlock, stateDir string) (text, keyFile string, err error) {
	if unlock == "" {
		if keyFile, err = filepath.Abs(filepath.Join(filepath.Dir(file), "letterlock.key")); err != nil {
			return "", "", err
		}
		unlock = "key-file:" + keyFile
	}
	if stateDir != "" {
		text = fmt.Sprintf("state_dir = %q\n", stateDir)
	}
	return text + fmt.Sprintf("# Without this file, or a copy of it, nothing that letterlock keeps can be read.\nunlock = %q\n", unlock), keyFile, nil
}

// section is the [[bridge]].
func (c *setupCmd) section() string {
	s := fmt.Sprintf("\n[[bridge]]\naddress = %q\n", c.Address.String())
	if c.Auth != "local" {
		s += fmt.Sprintf("auth = %q\n", c.Auth)
	}
	s += fmt.Sprintf("imap = { listen = %q, upstream = %q }\nsmtp = { listen = %q, upstream = %q }\n", c.IMAPListen, c.IMAP, c.SMTPListen, c.SMTP)
	if c.UpstreamUser != "" {
		s += fmt.Sprintf("upstream_user = %q\n", c.UpstreamUser)
	}
	if c.UpstreamCA != "" {
		s += fmt.Sprintf("upstream_ca = %q\n", c.UpstreamCA)
	}
	return s
}

// makeKeyFile makes a key file, or keeps the one that is there.
func makeKeyFile(file string) error {
	var key [32]byte
	rand.Read(key[:])
	err := wholefile.Create(file, []byte(hex.EncodeToString(key[:])+"\n"), 0o600)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("making the key file: %w", err)
	}
	return nil
}
