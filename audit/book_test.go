package audit_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/audit"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

var (
	ctx   = context.Background()
	today = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
)

// faulty is a store that can be told to fail.
type faulty struct {
	store.Store
	down atomic.Bool
	// unsure: the next commits are made, and their answers lost.
	unsure atomic.Bool
}

var errDown = errors.New("the disk is gone")

func (f *faulty) Update(ctx context.Context, do func(store.Tx) error) error {
	if f.down.Load() {
		return errDown
	}
	err := f.Store.Update(ctx, do)
	if err == nil && f.unsure.Load() {
		return store.ErrUnsettled
	}
	return err
}

func open(t *testing.T, c audit.Config) (*audit.Book, *faulty) {
	t.Helper()
	st, err := store.OpenMemory(audit.Schema)
	if err != nil {
		t.Fatal(err)
	}
	f := &faulty{Store: st}
	c.Store, c.Node = f, "node1"
	if c.Now == nil {
		c.Now = func() time.Time { return today }
	}
	b, err := audit.NewBook(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(); st.Close() })
	return b, f
}

var sent = audit.Record{
	Account: "alice@example.org", Sender: "alice@example.org", Recipient: "Bob@Partner.example", Message: "<secret-id@example.org>", Entry: "e1",
	Decided: audit.Decided{Rule: "partners", Action: "encrypt", Certificates: []pgp.Fingerprint{"AB", "CD"}, SignedAs: "EF"},
	Outcome: audit.Sent, Code: 250, Status: "2.0.0",
}

func export(t *testing.T, b *audit.Book, f audit.Format, sel audit.Selection) string {
	t.Helper()
	var out bytes.Buffer
	if _, err := b.Export(ctx, &out, f, sel); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func lines(s string) (out []map[string]any) {
	for l := range strings.Lines(s) {
		var m map[string]any
		if err := json.Unmarshal([]byte(l), &m); err != nil {
			panic(err)
		}
		out = append(out, m)
	}
	return out
}

func TestRecordComesBack(t *testing.T) {
	b, _ := open(t, audit.Config{})
	b.Append(sent)
	text := export(t, b, audit.JSONLines, audit.Selection{})
	got := lines(text)
	if len(got) != 1 {
		t.Fatalf("exported %q", text)
	}
	want := map[string]any{"time": "2026-05-01T12:00:00Z", "node": "node1", "account": "alice@example.org", "sender": "alice@example.org", "entry": "e1",
		"rule": "partners", "action": "encrypt", "signed_as": "EF", "outcome": "sent", "code": 250.0, "status": "2.0.0", "dry_run": false}
	for k, v := range want {
		if got[0][k] != v {
			t.Errorf("%s = %v, want %v", k, got[0][k], v)
		}
	}
	if fmt.Sprint(got[0]["certificates"]) != "[AB CD]" {
		t.Errorf("certificates = %v", got[0]["certificates"])
	}
	if s := strings.ToLower(text); strings.Contains(s, "bob") || strings.Contains(s, "secret-id") {
		t.Errorf("recipient or Message-ID can be read in %s", text)
	}
}

func TestRecipients(t *testing.T) {
	t.Run("a hash is the same however the address is written", func(t *testing.T) {
		b, _ := open(t, audit.Config{})
		b.Append(sent)
		for who, want := range map[string]int{"bob@partner.EXAMPLE": 1, "Bob@Partner.example": 1, "eve@partner.example": 0} {
			if got := lines(export(t, b, audit.JSONLines, audit.Selection{Recipient: who})); len(got) != want {
				t.Errorf("%s has %d records, want %d", who, len(got), want)
			}
		}
	})
	t.Run("another store gives another hash", func(t *testing.T) {
		a, _ := open(t, audit.Config{})
		b, _ := open(t, audit.Config{})
		if a.Hash("bob@partner.example") == b.Hash("bob@partner.example") {
			t.Error("hashes of two stores can be compared")
		}
	})
	t.Run("clear where it is configured", func(t *testing.T) {
		b, _ := open(t, audit.Config{Recipients: audit.Clear})
		b.Append(sent)
		if got := lines(export(t, b, audit.JSONLines, audit.Selection{Recipient: "bob@partner.example"})); len(got) != 1 || got[0]["recipient"] != "Bob@Partner.example" {
			t.Errorf("got %v", got)
		}
	})
}

func TestCSV(t *testing.T) {
	b, _ := open(t, audit.Config{Recipients: audit.Clear})
	for _, rcpt := range []string{"=cmd|'/c calc'!A0@x.example", "+1@x.example", "-1@x.example", "@x", "\t=1+1", "plain@x.example", `a"b,c@x.example`} {
		r := sent
		r.Recipient = rcpt
		b.Append(r)
	}
	r := csv.NewReader(strings.NewReader(export(t, b, audit.CSV, audit.Selection{})))
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 8 || strings.Join(rows[0], " ") != "time node account sender recipient message entry rule action certificates signed_as outcome code status dry_run" {
		t.Fatalf("got %q", rows)
	}
	seen := map[string]bool{}
	for _, row := range rows[1:] {
		for _, cell := range row {
			if strings.HasPrefix(cell, "=") || strings.HasPrefix(cell, "+") || strings.HasPrefix(cell, "-") || strings.HasPrefix(cell, "@") || strings.HasPrefix(cell, "\t") {
				t.Errorf("a spreadsheet would run %q", cell)
			}
		}
		seen[row[4]] = true
	}
	if !seen[`a"b,c@x.example`] || !seen["'+1@x.example"] {
		t.Errorf("recipients came out as %v", seen)
	}
}

func TestSelectionByTime(t *testing.T) {
	b, _ := open(t, audit.Config{})
	for h := range 1300 { // more than a page
		r := sent
		r.Time, r.Entry = today.Add(time.Duration(h)*time.Hour), fmt.Sprint(h)
		b.Append(r)
	}
	got := lines(export(t, b, audit.JSONLines, audit.Selection{Since: today.Add(10 * time.Hour), Until: today.Add(1290 * time.Hour)}))
	if len(got) != 1280 || got[0]["entry"] != "10" || got[1279]["entry"] != "1289" {
		t.Errorf("%d records, from %v to %v", len(got), got[0]["entry"], got[len(got)-1]["entry"])
	}
	if all := lines(export(t, b, audit.JSONLines, audit.Selection{})); len(all) != 1300 {
		t.Errorf("%d records in all", len(all))
	}
}

func TestPrune(t *testing.T) {
	b, _ := open(t, audit.Config{Keep: 90 * 24 * time.Hour})
	for d := range 100 {
		r := sent
		r.Time, r.Entry = today.AddDate(0, 0, -d), fmt.Sprint(d)
		b.Append(r)
	}
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	n, err := b.Prune(ctx)
	if err != nil || n != 9 {
		t.Errorf("removed %d, %v; want the 9 that are older than 90 days", n, err)
	}
	if got := lines(export(t, b, audit.JSONLines, audit.Selection{})); len(got) != 91 || got[0]["entry"] != "90" {
		t.Errorf("%d are left", len(got))
	}
}

func TestStoreDown(t *testing.T) {
	t.Run("records wait and come later", func(t *testing.T) {
		b, st := open(t, audit.Config{Delay: time.Millisecond})
		st.down.Store(true)
		b.Append(sent)
		if err := b.Flush(); err == nil {
			t.Error("flush says that it wrote")
		}
		if s := b.Status(); s.Pending != 1 || s.Lost != 0 {
			t.Errorf("status %+v", s)
		}
		st.down.Store(false)
		if got := lines(export(t, b, audit.JSONLines, audit.Selection{})); len(got) != 1 {
			t.Errorf("%d records", len(got))
		}
	})
	t.Run("records whose commit had no answer are not written twice, and stop none behind them", func(t *testing.T) {
		b, st := open(t, audit.Config{Delay: time.Hour})
		st.unsure.Store(true)
		b.Append(sent)
		if err := b.Flush(); err == nil {
			t.Error("flush says that it wrote")
		}
		st.unsure.Store(false)
		b.Append(sent)
		if err := b.Flush(); err != nil {
			t.Error(err)
		}
		if got := lines(export(t, b, audit.JSONLines, audit.Selection{})); len(got) != 2 {
			t.Errorf("%d records, want 2", len(got))
		}
	})
	t.Run("what doesn't fit is counted as lost, and nobody waits", func(t *testing.T) {
		b, st := open(t, audit.Config{Buffer: 10})
		st.down.Store(true)
		for range 13 {
			b.Append(sent)
		}
		if s := b.Status(); s.Pending != 10 || s.Lost != 3 {
			t.Errorf("status %+v", s)
		}
		st.down.Store(false)
	})
	t.Run("lag is the age of the oldest", func(t *testing.T) {
		now := today
		b, _ := open(t, audit.Config{Delay: time.Hour, Now: func() time.Time { return now }})
		b.Append(sent)
		now = now.Add(time.Minute)
		b.Append(sent)
		if s := b.Status(); s.Lag != time.Minute || s.Pending != 2 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestBefore(t *testing.T) {
	t.Run("where records are required, it is on disk or mail must not leave", func(t *testing.T) {
		now := today
		b, st := open(t, audit.Config{Required: true, Delay: time.Hour, Now: func() time.Time { return now }})
		r := sent
		r.Outcome = audit.Sending
		if err := b.Before(ctx, r); err != nil {
			t.Fatal(err)
		}
		if s := b.Status(); s.Pending != 0 {
			t.Error("the record waits")
		}
		st.down.Store(true)
		if err := b.Before(ctx, r); !errors.Is(err, errDown) {
			t.Errorf("got %v", err)
		}
		if s := b.Status(); !s.Failing {
			t.Error("nobody is told that mail waits for its records")
		}
		st.down.Store(false)
		now = now.Add(time.Minute)
		if s := b.Status(); s.Failing {
			t.Error("it is told for ever")
		}
		if got := lines(export(t, b, audit.JSONLines, audit.Selection{})); len(got) != 1 || got[0]["outcome"] != "sending" {
			t.Errorf("got %v", got)
		}
	})
	t.Run("else it costs nothing", func(t *testing.T) {
		b, st := open(t, audit.Config{})
		st.down.Store(true)
		if err := b.Before(ctx, sent); err != nil {
			t.Error(err)
		}
		st.down.Store(false)
		if got := export(t, b, audit.JSONLines, audit.Selection{}); got != "" {
			t.Errorf("got %s", got)
		}
	})
}

func TestConcurrently(t *testing.T) {
	b, _ := open(t, audit.Config{Delay: time.Millisecond})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				b.Append(sent, sent)
			}
		})
	}
	all.Go(func() {
		for range 5 {
			b.Export(ctx, &bytes.Buffer{}, audit.CSV, audit.Selection{})
		}
	})
	all.Wait()
	if got := lines(export(t, b, audit.JSONLines, audit.Selection{})); len(got) != 3200 {
		t.Errorf("%d records, want 3200", len(got))
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b.Append(sent)
	if s := b.Status(); s.Lost != 1 {
		t.Errorf("after Close: %+v", s)
	}
}
