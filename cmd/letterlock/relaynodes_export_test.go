package main

import (
	"context"
	"time"

	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/store"
)

// NodeSchema is the table of the nodes' rules.
var NodeSchema = nodeSchema

// Node is one relay of several.
type Node struct{ s *state }

// NewNode is a relay of that name that goes by those rules.
func NewNode(st store.Store, name string, now func() time.Time, rules *config.Config) Node {
	s := &state{store: st, node: name, now: now}
	s.cfg.Store(rules)
	return Node{s}
}

// Tell tells the others by which rules it goes.
func (n Node) Tell(ctx context.Context) error { return n.s.tellRules(ctx) }

// Others are those that go by other rules.
func (n Node) Others(ctx context.Context) ([]string, error) { return n.s.otherRules(ctx) }
