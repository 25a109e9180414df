package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/store"
)

// nodeSchema is by which rules each relay on a shared store goes. What is held by
// one is decided again by another, so that different rules are a fault, such as a
// reload that one of them has not had.
var nodeSchema = store.Schema{Name: "noderules", Steps: []string{
	`CREATE TABLE noderules_node (
		node TEXT PRIMARY KEY, rules TEXT NOT NULL, -- a version; see rulesVersion
		since INTEGER NOT NULL, seen INTEGER NOT NULL -- seconds since 1970
	)`,
}}

const (
	nodeEvery = 20 * time.Second
	nodeDead  = 3 * nodeEvery // one that is silent for so long has no rules
	nodeGone  = 24 * time.Hour
)

// rulesVersion names what decides about mail: [policy], and of [relay] what must be
// alike everywhere.
func rulesVersion(c *config.Config) string {
	all := []any{c.Policy}
	if r := c.Relay; r != nil {
		all = append(all, r.Domains, r.Sign, r.DomainKey, r.TrustSender, r.PasswordNotice)
		if r.DKIM != nil {
			all = append(all, r.DKIM.Domain, r.DKIM.Selector)
		}
	}
	b, _ := json.Marshal(all)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:6])
}

// keepTold tells the other nodes by which rules this one goes until ctx ends, and
// warns where they differ.
func (s *state) keepTold(ctx context.Context) {
	warned := ""
	for {
		err := s.tellRules(ctx)
		var odd []string
		if err == nil {
			odd, err = s.otherRules(ctx)
		}
		switch text := strings.Join(odd, "; "); {
		case err != nil && ctx.Err() == nil:
			s.log.Warn("nodes can't compare their rules", "error", err)
		case text != warned:
			if warned = text; text != "" {
				s.log.Warn("nodes of this store go by different rules", "here", rulesVersion(s.cfg.Load()), "others", text)
			}
		}
		select {
		case <-ctx.Done():
			s.forgetNode(context.WithoutCancel(ctx))
			return
		case <-s.retell:
		case <-time.After(nodeEvery):
		}
	}
}

func (s *state) tellRules(ctx context.Context) error {
	now := s.now().Unix()
	return s.store.Update(ctx, func(tx store.Tx) error {
		_, err := tx.Exec(`INSERT INTO noderules_node (node, rules, since, seen) VALUES (?, ?, ?, ?)
			ON CONFLICT (node) DO UPDATE SET seen = excluded.seen, rules = excluded.rules,
			since = CASE WHEN noderules_node.rules = excluded.rules THEN noderules_node.since ELSE excluded.since END`,
			s.node, rulesVersion(s.cfg.Load()), now, now)
		if err == nil { // one that died when its clock was ahead too; who lives comes back
			gone := int64(nodeGone / time.Second)
			_, err = tx.Exec(`DELETE FROM noderules_node WHERE seen < ? OR seen > ?`, now-gone, now+gone)
		}
		return err
	})
}

func (s *state) forgetNode(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := s.store.Update(ctx, func(tx store.Tx) error {
		_, err := tx.Exec(`DELETE FROM noderules_node WHERE node = ?`, s.node)
		return err
	})
	if err != nil {
		s.log.Debug("node not signed off", "error", err)
	}
}

// otherRules lists the living nodes that go by other rules than this one.
func (s *state) otherRules(ctx context.Context) (odd []string, err error) {
	own, alive := rulesVersion(s.cfg.Load()), s.now().Add(-nodeDead).Unix()
	err = s.store.View(ctx, func(tx store.Tx) error {
		odd = nil
		return tx.Rows(`SELECT node, rules, since FROM noderules_node WHERE seen >= ?`, []any{alive}, func(scan func(...any) error) error {
			var node, rules string
			var since int64
			if err := scan(&node, &rules, &since); err != nil {
				return err
			}
			if node != s.node && rules != own {
				odd = append(odd, fmt.Sprintf("%s has %s since %s", node, rules, time.Unix(since, 0).UTC().Format(time.DateTime)))
			}
			return nil
		})
	})
	slices.Sort(odd)
	return odd, err
}

// rulesStatus adds whether the nodes agree.
func (s *state) rulesStatus(ctx context.Context, j *statusJSON) error {
	c := s.cfg.Load()
	if c.Relay == nil || !c.Store.Shared() || !s.served {
		return nil
	}
	odd, err := s.otherRules(ctx)
	if len(odd) > 0 {
		j.problem("nodes of this store go by different rules; this one has %s, but %s (give all the same configuration, and reload them)", rulesVersion(c), strings.Join(odd, ", "))
	}
	return err
}
