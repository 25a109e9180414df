package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/letters"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// inboundSchema is what the gateway remembers of mail that it decrypted. Both
// tables hold hashes alone. seen is when that was last, in seconds since 1970; 0 is
// of a node that doesn't note it.
var inboundSchema = store.Schema{Name: "inbound", Steps: []string{
	`CREATE TABLE inbound_packet (
		packet BLOB PRIMARY KEY, -- of the encrypted data, per mailbox
		origin BLOB NOT NULL     -- From and Message-ID that it first came with
	)`,
	`CREATE TABLE inbound_opened (
		message BLOB PRIMARY KEY -- Message-ID: answers to it are never sent in clear
	)`,
	`-- additive
	ALTER TABLE inbound_packet ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE inbound_opened ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
	CREATE INDEX inbound_packet_seen ON inbound_packet (seen);
	CREATE INDEX inbound_opened_seen ON inbound_opened (seen)`,
}}

// rememberedFor is how long the gateway remembers. Who kept a packet for longer and
// sends it in a letter of his own has it opened, and may be answered with what it
// says; an answer to what was opened longer ago may go in clear. So it is for as long
// as anybody could care.
const rememberedFor = 20 * 365 * 24 * time.Hour

// born is before anybody had a Letterlock: what was seen earlier was noted by a clock
// that did not know the date.
var born = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

const (
	pruneEvery = 6 * time.Hour
	pruneBatch = 1000 // rows in a transaction
)

// inboundMemory is those tables. Safe for concurrent use, and by several nodes.
//
// It goes by MACs. It also finds, and writes for nodes of an earlier version, what
// went by hashes of the installation's token, which is of the local authority and
// changes with that, long before rememberedFor ends.
type inboundMemory struct {
	store store.Store
	token string // of the installation
	now   func() time.Time
}

func (m *inboundMemory) hash(parts ...string) []byte {
	h := sha256.New()
	for _, p := range append([]string{m.token}, parts...) {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return h.Sum(nil)
}

func (m *inboundMemory) mac(parts ...string) []byte {
	fields := make([][]byte, len(parts))
	for i, p := range parts {
		fields[i] = []byte(p)
	}
	return m.store.MAC("inbound", fields...)
}

// packet is a row that tells where an encrypted packet came first, and what stands
// there if that was where it comes now.
type packet struct{ name, origin []byte }

// replayed notes where an encrypted packet came first, and tells whether that
// was elsewhere: to this mailbox, or to another that has one of its keys.
func (m *inboundMemory) replayed(ctx context.Context, to address.Address, keys []pgp.Fingerprint, content [32]byte, from, id string) (other bool, err error) {
	origin := m.mac("origin", from, id)
	packets := []packet{
		{m.hash("packet", to.Key(), string(content[:])), m.hash("origin", from, id)}, // for nodes of an earlier version
		{m.mac("packet", to.Key(), string(content[:])), origin},
	}
	for _, k := range keys {
		packets = append(packets, packet{m.mac("packet of key", string(k), string(content[:])), origin})
	}
	err = m.store.Update(ctx, func(tx store.Tx) error {
		for _, p := range packets {
			if _, err := tx.Exec(`UPDATE inbound_packet SET seen = ? WHERE packet = ?`, m.now().Unix(), p.name); err != nil {
				return err
			}
		}
		if other, err = elsewhere(tx, packets); other || err != nil {
			return err // what comes in a thief's name is noted nowhere
		}
		for _, p := range packets {
			_, err := tx.Exec(`INSERT INTO inbound_packet (packet, origin, seen) VALUES (?, ?, ?) ON CONFLICT (packet) DO UPDATE SET seen = excluded.seen`,
				p.name, p.origin, m.now().Unix())
			if err != nil {
				return err
			}
		}
		other, err = elsewhere(tx, packets) // another node may have been faster
		return err
	})
	return other, err
}

// replayedTo tells whether an encrypted packet, which one of keys may open, came to
// any mailbox in another message. It notes nothing.
func (m *inboundMemory) replayedTo(ctx context.Context, keys []pgp.Fingerprint, content [32]byte, from, id string) (other bool, err error) {
	var packets []packet
	for _, k := range keys {
		packets = append(packets, packet{m.mac("packet of key", string(k), string(content[:])), m.mac("origin", from, id)})
	}
	err = m.store.View(ctx, func(tx store.Tx) error {
		other, err = elsewhere(tx, packets)
		return err
	})
	return other, err
}

// elsewhere tells whether one of packets is known to have come in another message.
func elsewhere(tx store.Tx, packets []packet) (bool, error) {
	for _, p := range packets {
		var first []byte
		err := tx.Row(`SELECT origin FROM inbound_packet WHERE packet = ?`, []any{p.name}, &first)
		if err != nil && !errors.Is(err, store.ErrNoRow) {
			return false, err
		}
		if err == nil && !bytes.Equal(first, p.origin) {
			return true, nil
		}
	}
	return false, nil
}

// remember notes that a message was opened: all by which an answer may name it, as
// index.RepliedTo has them.
func (m *inboundMemory) remember(ctx context.Context, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	return m.store.Update(ctx, func(tx store.Tx) error {
		for _, id := range ids {
			names := [][]byte{m.mac("message", id)}
			if !strings.HasPrefix(id, letters.Prefix) { // whose subject could be guessed from a hash that everyone can make
				names = append(names, m.hash("message", id)) // for nodes of an earlier version
			}
			for _, name := range names {
				_, err := tx.Exec(`INSERT INTO inbound_opened (message, seen) VALUES (?, ?) ON CONFLICT (message) DO UPDATE SET seen = excluded.seen`, name, m.now().Unix())
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// WasOpened implements smtpd.OpenedRecord, for what leaves by the relay.
func (m *inboundMemory) WasOpened(ctx context.Context, id string) (bool, error) {
	var one []byte
	err := m.store.View(ctx, func(tx store.Tx) error {
		return tx.Row(`SELECT message FROM inbound_opened WHERE message = ? OR message = ?`, []any{m.mac("message", id), m.hash("message", id)}, &one)
	})
	if errors.Is(err, store.ErrNoRow) {
		return false, nil
	}
	return err == nil, err
}

// prune removes what is too old, in pieces that don't keep others from writing. What
// has no date that can be right gets that of now.
func (m *inboundMemory) prune(ctx context.Context) (removed int64, err error) {
	now := m.now()
	if now.Before(born) {
		return 0, nil
	}
	for _, step := range []struct {
		query string
		args  []any
	}{
		{`UPDATE inbound_packet SET seen = ? WHERE packet IN (SELECT packet FROM inbound_packet WHERE seen < ? LIMIT ?)`, []any{now.Unix(), born.Unix(), pruneBatch}},
		{`UPDATE inbound_opened SET seen = ? WHERE message IN (SELECT message FROM inbound_opened WHERE seen < ? LIMIT ?)`, []any{now.Unix(), born.Unix(), pruneBatch}},
		{`DELETE FROM inbound_packet WHERE packet IN (SELECT packet FROM inbound_packet WHERE seen < ? LIMIT ?)`, []any{now.Add(-rememberedFor).Unix(), pruneBatch}},
		{`DELETE FROM inbound_opened WHERE message IN (SELECT message FROM inbound_opened WHERE seen < ? LIMIT ?)`, []any{now.Add(-rememberedFor).Unix(), pruneBatch}},
	} {
		n, err := m.repeat(ctx, step.query, step.args)
		if err != nil {
			return removed, err
		}
		if step.query[0] == 'D' {
			removed += n
		}
	}
	return removed, nil
}

// repeat runs a statement that changes a piece, until nothing is left to change.
func (m *inboundMemory) repeat(ctx context.Context, query string, args []any) (changed int64, err error) {
	for {
		var n int64
		err := m.store.Update(ctx, func(tx store.Tx) (err error) {
			n, err = tx.Exec(query, args...)
			return err
		})
		changed += n
		if err != nil || n == 0 {
			return changed, err
		}
	}
}

// run prunes until ctx ends, and not at once: a machine that has just started may
// not know the date yet, and what is removed is gone.
func (i *inbound) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pruneEvery):
		}
		n, err := i.memory.prune(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			i.s.log.Error("what is remembered of opened mail was not pruned", "error", err)
		case n > 0:
			i.s.log.Info("what is remembered of opened mail was pruned", "removed", n)
		}
	}
}
