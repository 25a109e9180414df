package main

import (
	"context"
	"io"

	"letterlock.org/letterlock/internal/config"
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
	e.printf("%s is well.\n", cfg.File)
	if err := cfg.CheckKey(); err != nil {
		return err
	}
	return nil
}

type configDescribe struct{}

func (configDescribe) runLocal(_ context.Context, e *env, _ *cli) error {
	_, err := io.WriteString(e.stdout, config.Description)
	return err
}
