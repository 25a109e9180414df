package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"letterlock.org/letterlock/internal/config"
)

// cli is the command line. Help texts here are the one documentation of it.
type cli struct {
	Config string `help:"Configuration file; default: LETTERLOCK_CONFIG, or letterlock/letterlock.toml in the XDG configuration directory, or in /etc." placeholder:"FILE"`

	Version kong.VersionFlag `help:"Print the version."`

	Demo    demoCmd     `cmd:"" help:"Try it: an upstream, a key directory, and Alice and Bob with a bridge each, in this process."`
	Serve   serveCmd    `cmd:"" help:"Run every role that the configuration has."`
	Setup   setupCmd    `cmd:"" help:"Make an account ready: configuration, key, passwords."`
	Service serviceCmd  `cmd:"" help:"Have serve run whenever you are logged in: install, remove."`
	Account accountCmd  `cmd:"" help:"Accounts: add, show, password, remove."`
	Relay   relayCmd    `cmd:"" help:"The organisation's gateway: init, password."`
	Status  statusCmd   `cmd:"" help:"How everything stands."`
	Doctor  doctorCmd   `cmd:"" help:"Look at a domain's key directory from outside, and say what to mend."`
	Explain explainCmd  `cmd:"" help:"What would happen to a message, for each recipient, and why. Sends nothing."`
	Policy  policyCmd   `cmd:"" help:"The rules: test."`
	Conf    configCmd   `cmd:"" name:"config" help:"The configuration file: check, describe."`
	Key     keyCmd      `cmd:"" help:"Own keys: generate, import, export, list, show, publish, extend, revoke."`
	Cert    certCmd     `cmd:"" help:"Other people's certificates: import, export, list, show, accept, verify, forget."`
	CA      caCmd       `cmd:"" name:"ca" help:"The key with which an organisation certifies those of its people: init, certify, withdraw, publish."`
	Alarm   alarmCmd    `cmd:"" help:"Is somebody served a false key for your address? list, check, dismiss."`
	Keydir  keydirCmd   `cmd:"" help:"The certificates that this installation publishes: add, remove, import, export, init, receive, invite."`
	Queue   queueCmd    `cmd:"" help:"Mail that is on its way: list, show, retry, drop, release."`
	Pass    passwordCmd `cmd:"" name:"password" help:"Passwords agreed with people who have no certificate: set, list, forget."`
	Audit   auditCmd    `cmd:"" help:"The record of who wrote to whom, under which rule: export."`
	Sop     sopCmd      `cmd:"" passthrough:"" help:"Stateless OpenPGP, for tests of the engine: generate-key, sign, encrypt and more."`
	Reload  reloadCmd   `cmd:"" hidden:"" help:"Have a running serve read its configuration again."`
}

// A command is one of two kinds. A localCommand runs in this process. A
// stateCommand works on keys, certificates, accounts: inside serve where it
// runs, which has them open, else here.
type (
	localCommand interface {
		runLocal(ctx context.Context, e *env, c *cli) error
	}
	stateCommand interface {
		runState(ctx context.Context, e *env, s *state) error
	}
)

// run is the program. args are without its name; errors are for report.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	if len(args) > 0 && args[0] == "sop" { // its options and exit codes are the draft's
		return runSop(ctx, args[1:], &interruptible{ctx, stdin}, stdout, stderr)
	}
	return runAs(ctx, &env{dir: dir, stdout: stdout, stderr: stderr, files: &localFiles{ctx: ctx, stdin: stdin, stderr: stderr}, now: time.Now}, args)
}

// runAs runs a command line for whoever runs another already.
func runAs(ctx context.Context, e *env, args []string) error {
	out := &output{w: e.stdout}
	ours := *e
	ours.stdout = out
	e = &ours
	c, command, err := parse(args, e.stdout, e.stderr)
	if err != nil {
		return err
	}
	switch command := command.(type) {
	case *serveCmd: // what listens goes on, whoever reads where
		return command.runLocal(ctx, e, c)
	case localCommand:
		err = command.runLocal(ctx, e, c)
	case stateCommand:
		err = runWithState(ctx, e, c, args, command)
	default:
		err = fmt.Errorf("%w: no such command", errUsage)
	}
	return cmp.Or(err, out.failed())
}

// parse reads a command line; help is printed to stdout.
func parse(args []string, stdout, stderr io.Writer) (c *cli, command any, err error) {
	type exit int
	c = &cli{}
	defer func() {
		if r := recover(); r != nil {
			code, ours := r.(exit)
			if !ours {
				panic(r)
			}
			err = exitError(code) // help was asked for
		}
	}()
	p, err := kong.New(c, kong.Name("letterlock"), kong.Vars{"version": "letterlock " + version()}, kong.Description("OpenPGP for the mail programs and servers that you already use."),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { panic(exit(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}))
	if err != nil {
		return nil, nil, err
	}
	switch {
	case len(args) == 0:
		args = []string{"--help"}
	case args[0] == "help": // letterlock help COMMAND, as many programs have it
		args = append(args[1:len(args):len(args)], "--help")
	case args[0] == "version" && len(args) == 1:
		args = []string{"--version"}
	}
	k, err := p.Parse(args)
	if err != nil {
		var pe *kong.ParseError
		hint := "letterlock --help"
		if errors.As(err, &pe) && pe.Context != nil && pe.Context.Selected() != nil {
			hint = strings.TrimSpace("letterlock "+pe.Context.Selected().Path()) + " --help"
		}
		return nil, nil, fmt.Errorf("%w: %w (see: %s)", errUsage, err, hint)
	}
	return c, k.Selected().Target.Addr().Interface(), nil
}

// load reads the configuration.
func (c *cli) load() (*config.Config, error) {
	file, err := config.Find(c.Config)
	if err != nil {
		return nil, err
	}
	return config.Load(file)
}
