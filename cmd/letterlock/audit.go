package main

import (
	"context"
	"fmt"
	"time"

	"letterlock.org/letterlock/audit"
	"letterlock.org/letterlock/internal/config"
)

type auditCmd struct {
	Export auditExport `cmd:"" help:"Write the records out: when, who, which rule, which certificates, what came of it."`
}

type auditExport struct {
	Format    audit.Format `enum:"jsonl,csv" default:"jsonl" help:"jsonl (one JSON object a line) or csv."`
	Since     momentArg    `placeholder:"WHEN" help:"From then on: 2026-05-01, 2026-05-01T08:00:00Z, or how long ago, such as 24h or 7d."`
	Until     momentArg    `placeholder:"WHEN" help:"Before then."`
	Recipient addressArg   `placeholder:"ADDRESS" help:"Only about this recipient, also where recipients are kept as hashes."`
	JSON      bool         `name:"json" help:"The same as --format jsonl."`
}

func (c *auditExport) runState(ctx context.Context, e *env, s *state) error {
	sel := audit.Selection{Since: c.Since.at(e.now()), Until: c.Until.at(e.now())}
	if !c.Recipient.IsZero() {
		sel.Recipient = c.Recipient.String()
	}
	if c.JSON {
		c.Format = audit.JSONLines
	}
	n, err := s.book.Export(ctx, e.stdout, c.Format, sel)
	if err == nil && n == 0 && !s.cfg.Load().Audit.On {
		fmt.Fprintln(e.stderr, "letterlock: there are no records; audit is off (write [audit] enabled = true)")
	}
	return err
}

// momentArg is a moment as people write it.
type momentArg struct {
	when time.Time
	ago  time.Duration
}

func (m *momentArg) UnmarshalText(b []byte) (err error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339, time.DateTime} {
		if m.when, err = time.Parse(layout, string(b)); err == nil {
			return nil
		}
	}
	if m.ago, err = config.Span(string(b)); err != nil || m.ago == 0 {
		return fmt.Errorf("%q is no moment; write for example 2026-05-01, 2026-05-01T08:00:00Z, 24h or 7d", b)
	}
	return nil
}

// at is the moment, counted from now where it is given as a length; zero for none.
func (m momentArg) at(now time.Time) time.Time {
	if m.ago > 0 {
		return now.Add(-m.ago)
	}
	return m.when
}

// newBook opens the audit of a store.
func (s *state) newBook(c config.Audit) (err error) {
	s.book, err = audit.NewBook(audit.Config{Store: s.store, Node: s.node, Recipients: audit.Recipients(c.Recipients), Required: c.Required,
		Keep: c.KeepFor, Logger: s.log, Now: s.now})
	s.audit = s.book
	if err != nil || !c.On {
		s.audit = audit.Discard
	}
	return err
}
