package server

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// SetPatience is how long a client may take to send a request.
func (h *Handler) SetPatience(d time.Duration) { h.patience = d }

// Bounds of what is open at a time.
const MaxClientConnections = maxClientConnections

// Table is the answers' table, for tests.
type Table struct{ t table }

func key(domain uint32, n int) entryKey {
	h := hash{}
	binary.BigEndian.PutUint64(h[:], uint64(n)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(h[8:], uint64(n))
	return entryKey{domain, h}
}

func (t *Table) Put(domain uint32, n int, body []byte) error {
	return t.t.put(key(domain, n), body, tagOf(body))
}

func (t *Table) Get(domain uint32, n int) ([]byte, bool) {
	body, tag, ok := t.t.get(key(domain, n), nil)
	if ok && tag != tagOf(body) {
		panic("a tag of another body")
	}
	return body, ok
}

func (t *Table) Remove(domain uint32, n int) { t.t.remove(key(domain, n)) }
func (t *Table) Len() int                    { return t.t.len() }
func (t *Table) Close()                      { t.t.close() }

// Chunks is how much memory the table holds, in bytes.
func (t *Table) Chunks() (n int) {
	for i := range t.t.shards {
		n += len(t.t.shards[i].chunks) * chunkSize
	}
	return n
}

func (t *Table) Each(f func(body []byte)) {
	_ = t.t.each(func(_ entryKey, body []byte) error { f(body); return nil })
}

// Fill publishes n rows at once that are no certificates, for figures.
func (d *Directory) Fill(ctx context.Context, n int, domain string, body func(i int) []byte) error {
	rows := make([]row, 0, importRows)
	for i := range n {
		a, err := address.Parse(fmt.Sprintf("user%d@%s", i, domain))
		if err != nil {
			return err
		}
		rows = append(rows, row{address: a.Key(), spelling: a.String(), body: body(i), added: 1, keys: []pgp.Fingerprint{noCertificate}})
		if len(rows) == cap(rows) || i == n-1 {
			if err := d.change(ctx, rows...); err != nil {
				return err
			}
			rows = rows[:0]
		}
	}
	return nil
}

// Letters are the mails that ask an address.
func Letters(from, to address.Address, c *pgp.Certificate, link string, now time.Time) []Mail {
	return []Mail{linkMail(from, to, c, link, now), removalMail(from, to, c, link, now)}
}

// BeginFrom is Begin for whoever is at a remote address.
func (d *Directory) BeginFrom(ctx context.Context, way Way, a address.Address, c *pgp.Certificate, remote string) error {
	_, err := d.beginFor(ctx, way, a, c, d.client(remote))
	return err
}
