// Package sop is the Stateless OpenPGP command line (draft-dkg-openpgp-stateless-cli)
// over package pgp, so that other people's suites can drive the engine that
// opens and protects mail here. It keeps nothing and asks nobody.
//
// Where the engine refuses what mail must not have (no integrity protection,
// SHA-1, messages for a password), so does this: it shows what Letterlock does,
// and is no general tool.
package sop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"letterlock.org/letterlock/pgp"
)

// Exit codes, Section 7 of the draft.
const (
	noSignature               = 3
	certCannotEncrypt         = 17
	missingArg                = 19
	cannotDecrypt             = 29
	unsupportedOption         = 37
	badData                   = 41
	expectedText              = 53
	outputExists              = 59
	missingInput              = 61
	keyIsProtected            = 67
	unsupportedSubcmd         = 69
	unsupportedPrefix         = 71
	keyCannotSign             = 79
	incompatibleOptions       = 83
	unsupportedProfile        = 89
	passwordNotReadable       = 31
	failed                    = 1
	maxInput            int64 = 256 << 20
)

// fault is an error with the exit code that the draft has for it.
type fault struct {
	code int
	text string
}

func (f fault) Error() string { return f.text }

func failure(code int, format string, args ...any) error {
	return fault{code, fmt.Sprintf(format, args...)}
}

// Command is one call.
type Command struct {
	Args           []string // subcommand first
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Version        string           // of the program
	Now            func() time.Time // nil for the clock
}

// Run runs it and gives the exit code.
func Run(ctx context.Context, c Command) int {
	if c.Now == nil {
		c.Now = time.Now
	}
	err := c.run(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(c.Stderr, "letterlock sop: %v\n", err)
	var f fault
	switch {
	case errors.As(err, &f):
		return f.code
	case errors.Is(err, pgp.ErrLocked):
		return keyIsProtected
	case errors.Is(err, pgp.ErrNoKey):
		return cannotDecrypt
	case errors.Is(err, pgp.ErrCannotSign), errors.Is(err, pgp.ErrNoSecret), errors.Is(err, pgp.ErrExpired), errors.Is(err, pgp.ErrRevoked):
		return keyCannotSign
	case errors.Is(err, pgp.ErrMalformed), errors.Is(err, pgp.ErrWeak), errors.Is(err, pgp.ErrUnusable):
		return badData
	}
	return failed
}

type subcommand struct {
	options string // names, "=" behind those that have a value
	run     func(context.Context, *call) error
}

// call is a subcommand with its options and operands read.
type call struct {
	Command
	options  map[string][]string
	operands []string
	// err is the first error of what the call reads; see input.go.
	err error
}

var subcommands = map[string]subcommand{
	"version":             {"backend extended sop-spec sopv", version},
	"list-profiles":       {"", listProfiles},
	"generate-key":        {"armor no-armor with-key-password= profile= signing-only", generateKey},
	"extract-cert":        {"armor no-armor", extractCert},
	"change-key-password": {"armor no-armor new-key-password= old-key-password=", changePassword},
	"revoke-key":          {"armor no-armor with-key-password=", revokeKey},
	"sign":                {"armor no-armor as= micalg-out= with-key-password=", sign},
	"verify":              {"not-before= not-after=", verify},
	"encrypt":             {"armor no-armor as= for= profile= sign-with= with-key-password=", encrypt},
	"decrypt":             {"verify-with= verifications-out= verify-out= verify-not-before= verify-not-after= with-key-password=", decrypt},
	"armor":               {"", armor},
	"dearmor":             {"", dearmor},
	"inline-sign":         {"armor no-armor as= with-key-password=", inlineSign},
	"inline-verify":       {"not-before= not-after= verifications-out=", inlineVerify},
	"inline-detach":       {"armor no-armor signatures-out=", inlineDetach},
}

// Subcommands are the names of all, sorted.
func Subcommands() []string {
	var all []string
	for name := range subcommands {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func (c Command) run(ctx context.Context) error {
	if len(c.Args) == 0 {
		return failure(missingArg, "a subcommand is missing; there are %s", strings.Join(Subcommands(), ", "))
	}
	if a := c.Args[0]; a == "--help" || a == "-h" || a == "help" {
		_, err := fmt.Fprintf(c.Stdout, "Stateless OpenPGP (draft-dkg-openpgp-stateless-cli) over Letterlock's engine:\n  %s\n", strings.Join(Subcommands(), "\n  "))
		return err
	}
	if c.Args[0] == "--version" {
		c.Args = append([]string{"version"}, c.Args[1:]...)
	}
	s, ok := subcommands[c.Args[0]]
	if !ok {
		return failure(unsupportedSubcmd, "no subcommand %s; there are %s", c.Args[0], strings.Join(Subcommands(), ", "))
	}
	k := &call{Command: c, options: map[string][]string{}}
	if err := k.parse(strings.Fields(s.options)); err != nil {
		return err
	}
	if k.has("armor") && k.has("no-armor") {
		return failure(incompatibleOptions, "--armor and --no-armor")
	}
	return s.run(ctx, k)
}

// parse reads options; values stand behind "=" or are the next argument.
func (k *call) parse(known []string) error {
	args := k.Args[1:]
	for len(args) > 0 {
		a := args[0]
		args = args[1:]
		if a == "--" {
			k.operands = append(k.operands, args...)
			break
		}
		name, isOption := strings.CutPrefix(a, "--")
		if !isOption {
			k.operands = append(k.operands, a)
			continue
		}
		name, value, given := strings.Cut(name, "=")
		switch {
		case slices.Contains(known, name) && !given:
		case slices.Contains(known, name+"=") && given:
		case slices.Contains(known, name+"=") && len(args) > 0:
			value, args = args[0], args[1:]
		case slices.Contains(known, name+"="):
			return failure(missingArg, "--%s needs a value", name)
		default:
			return failure(unsupportedOption, "%s has no option --%s", k.Args[0], name)
		}
		k.options[name] = append(k.options[name], value)
	}
	return nil
}

func (k *call) has(option string) bool { return len(k.options[option]) > 0 }

// one is the value of an option, or otherwise.
func (k *call) one(option, otherwise string) string {
	if v := k.options[option]; len(v) > 0 {
		return v[len(v)-1]
	}
	return otherwise
}
