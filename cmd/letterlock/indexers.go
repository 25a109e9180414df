package main

import (
	"context"

	"letterlock.org/letterlock/internal/config"
)

// startIndexers fills the index of each account in the background.
func (s *state) startIndexers(ctx context.Context, r *roles, cfg *config.Config) {}
