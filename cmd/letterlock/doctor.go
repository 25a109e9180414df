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
	What string `arg:"" optional:"" name:"address-or-domain" help:"A domain, or better an address of it that should have a certificate; left out, every address and every domain of the configuration."`
	JSON bool   `name:"json" help:"For scripts."`
}

// runLocal implements localCommand. A domain can be looked at without an
// installation; where there is one, its proxy and its overrides count.
func (c *doctorCmd) runLocal(ctx context.Context, e *env, cl *cli) error {
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
	var all []examined
	for _, what := range c.subjects(cfg) {
		a, err := subject(what)
		if err != nil {
			return err
		}
		all = append(all, examined{what, r.Examine(ctx, a)})
	}
	if len(all) == 0 {
		return fmt.Errorf("%w: say which address or domain; the configuration has none of its own", errUsage)
	}
	return c.show(e, all)
}

// examined is one address or domain and what was found about it.
type examined struct {
	What   string         `json:"subject"`
	Checks []keydir.Check `json:"checks"`
}

// subjects are what to look at: what was asked for, or else every address of a
// bridge and every domain whose directory is here, unless an address has it.
func (c *doctorCmd) subjects(cfg *config.Config) (all []string) {
	if c.What != "" {
		return []string{c.What}
	}
	if cfg == nil {
		return nil
	}
	domains := map[string]bool{}
	for _, b := range cfg.Bridges {
		all = append(all, b.Account.String())
		domains[strings.ToLower(b.Account.Domain)] = true
	}
	if cfg.Keydir != nil {
		for _, d := range cfg.Keydir.Domains {
			if !domains[strings.ToLower(d)] {
				all = append(all, d)
			}
		}
	}
	return all
}

func subject(what string) (address.Address, error) {
	if strings.Contains(what, "@") {
		a, err := address.Parse(what)
		if err != nil {
			return a, fmt.Errorf("%w: %q is no mail address: %w", errUsage, what, err)
		}
		return a, nil
	}
	d, err := address.Domain(what)
	if err != nil {
		return address.Address{}, fmt.Errorf("%w: %q is neither an address nor a domain", errUsage, what)
	}
	return address.Address{Domain: d}, nil
}

// show tells of all; of one that was asked for, scripts get the checks alone.
func (c *doctorCmd) show(e *env, all []examined) error {
	bad := false
	for i, one := range all {
		faults, warnings := 0, 0
		for _, k := range one.Checks {
			switch k.Severity {
			case keydir.Fault:
				faults++
			case keydir.Warning:
				warnings++
			}
		}
		bad = bad || faults > 0
		if c.JSON {
			continue
		}
		if i > 0 {
			e.printf("\n")
		}
		one.print(e, faults, warnings)
	}
	if c.JSON {
		var v any = all
		if c.What != "" {
			v = all[0].Checks
		}
		if err := e.json(v); err != nil {
			return err
		}
	}
	if bad {
		return exitError(exitFailed)
	}
	return nil
}

func (x examined) print(e *env, faults, warnings int) {
	mark := map[keydir.Severity]string{keydir.Well: "ok     ", keydir.Note: "note   ", keydir.Warning: "WARNING", keydir.Fault: "FAULT  "}
	for _, k := range x.Checks {
		e.printf("%s  %s: %s\n", mark[k.Severity], k.Name, k.Text)
		if k.Mend != "" {
			e.printf("         -> %s\n", k.Mend)
		}
	}
	switch {
	case faults > 0:
		e.printf("\n%d fault(s) and %d warning(s): certificates of %s are not found by everybody.\n", faults, warnings, x.What)
	case warnings > 0:
		e.printf("\n%d warning(s): most programs find certificates of %s.\n", warnings, x.What)
	default:
		e.printf("\nAll is well with %s.\n", x.What)
	}
}
