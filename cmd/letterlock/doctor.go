package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir"
)

type doctorCmd struct {
	What string `arg:"" name:"address-or-domain" help:"A domain, or better an address of it that should have a certificate."`
	JSON bool   `name:"json" help:"For scripts."`
}

// runLocal implements localCommand. A domain can be looked at without an
// installation; where there is one, its proxy and its overrides count.
func (c *doctorCmd) runLocal(ctx context.Context, e *env, cl *cli) error {
	a, err := c.subject()
	if err != nil {
		return err
	}
	discovery := config.Default().Discovery
	cfg, err := cl.load()
	switch {
	case err == nil:
		discovery = cfg.Discovery
	case cl.Config != "" || os.Getenv("LETTERLOCK_CONFIG") != "" || !errors.Is(err, config.ErrNoFile):
		return err
	}
	st, err := store.OpenMemory(keydir.Schema)
	if err != nil {
		return err
	}
	defer st.Close()
	r, err := keydir.New(keydir.Config{Store: st, Discovery: keydir.Discovery{Sources: []string{"wkd"}, Proxy: discovery.Proxy, Override: discovery.WKDOverride}, Now: e.now})
	if err != nil {
		return err
	}
	defer r.Close()
	return c.show(e, r.Examine(ctx, a))
}

func (c *doctorCmd) subject() (address.Address, error) {
	if strings.Contains(c.What, "@") {
		a, err := address.Parse(c.What)
		if err != nil {
			return a, fmt.Errorf("%w: %q is no mail address: %w", errUsage, c.What, err)
		}
		return a, nil
	}
	d, err := address.Domain(c.What)
	if err != nil {
		return address.Address{}, fmt.Errorf("%w: %q is neither an address nor a domain", errUsage, c.What)
	}
	return address.Address{Domain: d}, nil
}

func (c *doctorCmd) show(e *env, checks []keydir.Check) error {
	faults, warnings := 0, 0
	for _, k := range checks {
		switch k.Severity {
		case keydir.Fault:
			faults++
		case keydir.Warning:
			warnings++
		}
	}
	if c.JSON {
		if err := e.json(checks); err != nil {
			return err
		}
	} else {
		c.print(e, checks, faults, warnings)
	}
	if faults > 0 {
		return exitError(exitFailed)
	}
	return nil
}

func (c *doctorCmd) print(e *env, checks []keydir.Check, faults, warnings int) {
	mark := map[keydir.Severity]string{keydir.Well: "ok     ", keydir.Note: "note   ", keydir.Warning: "WARNING", keydir.Fault: "FAULT  "}
	for _, k := range checks {
		e.printf("%s  %s: %s\n", mark[k.Severity], k.Name, k.Text)
		if k.Mend != "" {
			e.printf("         -> %s\n", k.Mend)
		}
	}
	switch {
	case faults > 0:
		e.printf("\n%d fault(s) and %d warning(s): certificates of %s are not found by everybody.\n", faults, warnings, c.What)
	case warnings > 0:
		e.printf("\n%d warning(s): most programs find certificates of %s.\n", warnings, c.What)
	default:
		e.printf("\nAll is well with %s.\n", c.What)
	}
}
