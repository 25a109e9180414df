package audit

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/store"
)

// Format is how records are written out.
type Format string

const (
	JSONLines Format = "jsonl"
	CSV       Format = "csv"
)

// Selection is what to export; the zero value means everything.
type Selection struct {
	Since, Until time.Time // from and including Since, up to and without Until
	Recipient    string    // an address; found whether it is kept hashed or clear
}

// pageRows is how many rows are read at one time: a slow reader keeps no
// transaction open.
const pageRows = 500

// Export writes the selected records to w in the order of their times, and
// returns how many. Memory stays the same however many there are. What is
// appended meanwhile may be among them.
func (b *Book) Export(ctx context.Context, w io.Writer, format Format, sel Selection) (n int, err error) {
	if err := b.Flush(); err != nil {
		b.c.Logger.Warn("the export lacks the latest records", "err", err)
	}
	buffered := bufio.NewWriterSize(w, 32<<10)
	put, flush, err := writerOf(buffered, format)
	if err != nil {
		return 0, err
	}
	after, until := "", "g" // behind every hex digit
	if !sel.Since.IsZero() {
		after = rowTime(sel.Since)
	}
	if !sel.Until.IsZero() {
		until = rowTime(sel.Until)
	}
	for {
		page, err := b.page(ctx, after, until)
		if err != nil {
			return n, fmt.Errorf("reading audit records: %w", err)
		}
		if len(page) == 0 {
			return n, errors.Join(flush(), buffered.Flush())
		}
		for _, r := range page {
			if !b.selects(sel, r.stored) {
				continue
			}
			if err := put(r.stored); err != nil {
				return n, err
			}
			n++
		}
		after = page[len(page)-1].id
	}
}

type pageRow struct {
	id     string
	stored stored
}

// page reads the next rows behind an ID.
func (b *Book) page(ctx context.Context, after, until string) (page []pageRow, err error) {
	err = b.c.Store.View(ctx, func(tx store.Tx) error {
		page = page[:0]
		return tx.Rows(`SELECT id, record FROM audit_record WHERE id > ? AND id < ? ORDER BY id LIMIT ?`, []any{after, until, pageRows},
			func(scan func(...any) error) error {
				var r pageRow
				var text []byte
				if err := scan(&r.id, &text); err != nil {
					return err
				}
				if err := json.Unmarshal(text, &r.stored); err != nil {
					return fmt.Errorf("record %s: %w", r.id, err)
				}
				page = append(page, r)
				return nil
			})
	})
	return page, err
}

func (b *Book) selects(sel Selection, r stored) bool {
	if sel.Recipient == "" {
		return true
	}
	if strings.HasPrefix(r.Recipient, "hash:") {
		return r.Recipient == b.Hash(sel.Recipient)
	}
	return b.Hash(r.Recipient) == b.Hash(sel.Recipient)
}

// writerOf gives the function that writes one record, and one for the end.
func writerOf(w io.Writer, format Format) (put func(stored) error, flush func() error, err error) {
	switch format {
	case JSONLines:
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		return func(r stored) error { return enc.Encode(r) }, func() error { return nil }, nil
	case CSV:
		c := csv.NewWriter(w)
		c.UseCRLF = true // RFC 4180, Section 2
		flush := func() error { c.Flush(); return c.Error() }
		return func(r stored) error { return c.Write(cells(r)) }, flush, c.Write(header)
	}
	return nil, nil, fmt.Errorf("%q is no format; there are %s and %s", format, JSONLines, CSV)
}

var header = []string{"time", "node", "account", "sender", "recipient", "message", "entry", "rule", "action", "certificates", "signed_as", "outcome", "code", "status", "dry_run"}

func cells(r stored) []string {
	certs := make([]string, len(r.Certificates))
	for i, f := range r.Certificates {
		certs[i] = string(f)
	}
	out := []string{r.Time.Format(time.RFC3339Nano), r.Node, r.Account, r.Sender, r.Recipient, r.Message, r.Entry, r.Rule, r.Action,
		strings.Join(certs, " "), string(r.SignedAs), string(r.Outcome), strconv.Itoa(r.Code), r.Status, strconv.FormatBool(r.DryRun)}
	for i, s := range out {
		out[i] = inert(s)
	}
	return out
}

// inert is a cell that no spreadsheet takes for a formula: addresses and rule
// names may begin with what begins one. An apostrophe in front makes it text.
func inert(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r\n|%", rune(s[0])) {
		return "'" + s
	}
	return s
}
