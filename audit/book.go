package audit

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// Schema is the table of a Book. A row's ID begins with its time, so that rows
// lie, are read and are pruned in the order of time.
var Schema = store.Schema{Name: "audit", Steps: []string{
	`CREATE TABLE audit_record (id TEXT PRIMARY KEY, record BLOB NOT NULL)`,
}}

// Recipients is how a Book keeps recipients.
type Recipients string

const (
	// Hash keeps an HMAC-SHA-256 of the address under a key of the store: whoever
	// has the store can ask for an address, nobody can read them off an export.
	Hash  Recipients = "hash"
	Clear Recipients = "clear"
)

// Config configures a Book.
type Config struct {
	Store store.Store // opened with Schema
	// Node names this process among several on one store; the host's name if
	// empty.
	Node       string
	Recipients Recipients // "" means Hash
	Required   bool       // no mail leaves without a synced record: see Log.Before
	// Keep is how long records are kept; 0 means for ever.
	Keep   time.Duration
	Logger *slog.Logger // nil discards
	Now    func() time.Time
	// Delay is how long a record may wait for others; 0 means 200 ms.
	Delay time.Duration
	// Buffer is how many records may wait for a store that is slow or broken;
	// what comes on top is lost, counted and logged. 0 means 20,000.
	Buffer int
}

// Book is a Log that keeps records in the store. It is safe for concurrent use.
type Book struct {
	c              Config
	hashKey, idKey [32]byte

	mu      sync.Mutex // guards what follows
	pending []row
	writing bool
	idle    *sync.Cond  // writing became false
	timer   *time.Timer // will write what is pending; nil if none
	failing bool        // the last write failed
	refused time.Time   // when a required record could not be written; zero: the last was
	lost    int64
	closed  bool
}

// row is a record as it is stored.
type row struct {
	id   string
	json []byte
	at   time.Time // when it came
}

// NewBook makes a Book. Close it before its store.
func NewBook(c Config) (*Book, error) {
	if c.Store == nil {
		return nil, errors.New("audit: no store configured")
	}
	c.Recipients = cmp.Or(c.Recipients, Hash)
	if c.Recipients != Hash && c.Recipients != Clear {
		return nil, fmt.Errorf("audit: recipients can't be kept as %q", c.Recipients)
	}
	if c.Node == "" {
		c.Node, _ = os.Hostname()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Delay, c.Buffer = cmp.Or(c.Delay, 200*time.Millisecond), cmp.Or(c.Buffer, 20_000)
	b := &Book{c: c, hashKey: c.Store.Key("audit recipient"), idKey: c.Store.Key("audit message")}
	b.idle = sync.NewCond(&b.mu)
	return b, nil
}

// stored is a Record as its row holds it, and as it is exported.
type stored struct {
	Time         time.Time         `json:"time"`
	Node         string            `json:"node"`
	Account      string            `json:"account"`
	Sender       string            `json:"sender"`
	Recipient    string            `json:"recipient"` // "hash:…" or the address
	Message      string            `json:"message"`   // "hash:…"; "" without Message-ID
	Entry        string            `json:"entry"`
	Rule         string            `json:"rule"`
	Action       string            `json:"action"`
	Certificates []pgp.Fingerprint `json:"certificates"`
	SignedAs     pgp.Fingerprint   `json:"signed_as"`
	Outcome      Outcome           `json:"outcome"`
	Code         int               `json:"code"`
	Status       string            `json:"status"`
	DryRun       bool              `json:"dry_run"`
}

// row makes the row of a record.
func (b *Book) row(r Record, now time.Time) (row, error) {
	at := r.Time
	if at.IsZero() {
		at = now
	}
	text, err := json.Marshal(stored{
		Time: at.UTC(), Node: cmp.Or(r.Node, b.c.Node), Account: r.Account, Sender: r.Sender,
		Recipient: b.recipient(r.Recipient), Message: hashed(b.idKey, r.Message), Entry: r.Entry,
		Rule: r.Rule, Action: r.Action, Certificates: append([]pgp.Fingerprint{}, r.Certificates...), SignedAs: r.SignedAs,
		Outcome: r.Outcome, Code: r.Code, Status: r.Status, DryRun: r.DryRun,
	})
	var noise [6]byte
	rand.Read(noise[:])
	return row{id: rowTime(at) + hex.EncodeToString(noise[:]), json: text, at: now}, err
}

// rowTime is how IDs of rows of that time begin; they sort as the times do.
func rowTime(t time.Time) string { return fmt.Sprintf("%016x", max(t.UnixMicro(), 0)) }

// recipient is how an address is kept.
func (b *Book) recipient(s string) string {
	if b.c.Recipients == Clear {
		return s
	}
	return b.Hash(s)
}

// Hash is what stands in place of an address.
func (b *Book) Hash(addr string) string {
	key := strings.ToLower(addr)
	if a, err := address.Parse(addr); err == nil {
		key = a.Key()
	}
	return hashed(b.hashKey, key)
}

func hashed(key [32]byte, s string) string {
	if s == "" {
		return ""
	}
	h := hmac.New(sha256.New, key[:])
	h.Write([]byte(s))
	return "hash:" + hex.EncodeToString(h.Sum(nil)[:16])
}

// Before implements Log.
func (b *Book) Before(ctx context.Context, rs ...Record) error {
	if !b.c.Required {
		return nil
	}
	rows, err := b.rows(rs)
	if err == nil {
		err = b.write(ctx, rows)
	}
	b.mu.Lock()
	if b.refused = (time.Time{}); err != nil && ctx.Err() == nil {
		b.refused = b.c.Now()
	}
	b.mu.Unlock()
	if err != nil {
		return fmt.Errorf("writing the audit record that is required: %w", err)
	}
	return nil
}

func (b *Book) rows(rs []Record) ([]row, error) {
	out, now := make([]row, len(rs)), b.c.Now()
	for i, r := range rs {
		var err error
		if out[i], err = b.row(r, now); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// write syncs rows in one transaction. They may be there already: of a commit that
// failed before nobody may know that it was made.
func (b *Book) write(ctx context.Context, rows []row) error {
	return b.c.Store.Update(ctx, func(tx store.Tx) error {
		for _, r := range rows {
			if _, err := tx.Exec(`INSERT INTO audit_record (id, record) VALUES (?, ?) ON CONFLICT (id) DO NOTHING`, r.id, r.json); err != nil {
				return err
			}
		}
		return nil
	})
}
