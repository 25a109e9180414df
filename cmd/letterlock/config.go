package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/endpoint"
)

type configCmd struct {
	Check    configCheck    `cmd:"" help:"Tell every problem of the configuration file."`
	Describe configDescribe `cmd:"" help:"Print every setting with its default, commented."`
}

type configCheck struct{}

func (configCheck) runLocal(_ context.Context, e *env, c *cli) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if err := beside(cfg); err != nil {
		return err
	}
	e.printf("%s is well.\n", cfg.File)
	return cfg.CheckKey()
}

// beside tells what is wrong with the files that a configuration names, and without
// which serve doesn't begin. What only a service is handed is left out.
func beside(cfg *config.Config) error {
	var faults []error
	_, service := os.LookupEnv("CREDENTIALS_DIRECTORY")
	try := func(section, source string, read func() (string, error)) {
		if strings.HasPrefix(source, "credential:") && !service {
			return
		}
		if _, err := read(); err != nil {
			faults = append(faults, fmt.Errorf("%s%w", section, err))
		}
	}
	if r := cfg.Relay; r != nil {
		try("relay: ", r.SmarthostPassword, r.ReadSmarthostPassword)
		if _, err := dkimOf(r); err != nil {
			faults = append(faults, err)
		}
	}
	if k := cfg.Keydir; k != nil {
		try("keydir: ", k.SmarthostPassword, k.ReadSmarthostPassword)
	}
	for _, l := range cfg.Discovery.LDAP {
		try("", l.Password, l.ReadPassword)
		if _, err := endpoint.Roots(l.CA); err != nil {
			faults = append(faults, fmt.Errorf("discovery.ldap: %w", err))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("%w: %w", errConfig, err)
	}
	return nil
}

type configDescribe struct{}

func (configDescribe) runLocal(_ context.Context, e *env, _ *cli) error {
	_, err := io.WriteString(e.stdout, config.Description)
	return err
}
