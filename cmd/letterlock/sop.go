package main

import (
	"context"
	"io"

	"letterlock.org/letterlock/pgp/sop"
)

// sopCmd stands in the help; runSop is what runs.
type sopCmd struct {
	Args []string `arg:"" optional:"" help:"Subcommand, options, files, as draft-dkg-openpgp-stateless-cli has them."`
}

func (s *sopCmd) runLocal(ctx context.Context, e *env, _ *cli) error {
	return runSop(ctx, s.Args, e.files.(*localFiles).stdin, e.stdout, e.stderr)
}

// runSop reads no configuration and touches no state.
func runSop(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	code := sop.Run(ctx, sop.Command{Args: args, Stdin: stdin, Stdout: stdout, Stderr: stderr, Version: version()})
	if code != 0 {
		return exitError(code)
	}
	return nil
}
