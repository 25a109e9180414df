package index

import (
	"context"
	"crypto/hmac"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"letterlock.org/letterlock/internal/letters"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// frozen is the verdict of the first opening of a raw message, nil if there was
// none. It is kept by the message's bytes, not by its UID: a copy, a mailbox
// renamed or a new UIDVALIDITY shows the same header.
func (l *Library) frozen(ctx context.Context, raw [32]byte) (*pgp.Verdict, error) {
	var b, mac []byte
	err := l.c.Store.View(ctx, func(tx store.Tx) error {
		return tx.Row(`SELECT verdict, mac FROM index_frozen WHERE account = ? AND raw = ?`, []any{l.c.Account, raw[:]}, &b, &mac)
	})
	if errors.Is(err, store.ErrNoRow) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading a frozen verdict: %w", err)
	}
	var v pgp.Verdict
	if !hmac.Equal(l.frozenMAC(raw, b), mac) || json.Unmarshal(b, &v) != nil {
		l.c.Logger.Warn("a frozen verdict was changed outside of letterlock; the message is judged again")
		return nil, l.c.Store.Update(ctx, func(tx store.Tx) error {
			_, err := tx.Exec(`DELETE FROM index_frozen WHERE account = ? AND raw = ?`, l.c.Account, raw[:])
			return err
		})
	}
	return &v, nil
}

func (l *Library) frozenMAC(raw [32]byte, verdict []byte) []byte {
	return l.c.Store.MAC("index frozen", []byte(l.c.Account), raw[:], verdict)
}

// freeze stores a verdict, unless another opening of the same message was
// faster.
func (l *Library) freeze(tx store.Tx, raw [32]byte, v pgp.Verdict) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO index_frozen (account, raw, verdict, mac, seen) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (account, raw) DO NOTHING`,
		l.c.Account, raw[:], b, l.frozenMAC(raw, b), l.c.Now())
	return err
}

// WasOpened tells whether a message with this Message-ID (one of those that
// message.MessageIDs finds in References), or another ID of RepliedTo's, was ever shown decrypted, and is no
// secret all the same: a copy that we ourselves sealed of what the account sent
// in clear tells nothing that had not been told. The answer outlives the message.
func (l *Library) WasOpened(ctx context.Context, messageID string) (was bool, err error) {
	err = l.c.Store.View(ctx, func(tx store.Tx) error {
		if was, err = l.known(tx, openedLetter, messageID); was || err != nil {
			return err
		}
		if was, err = l.known(tx, openedSealed, messageID); !was || err != nil {
			return err
		}
		clear, err := l.known(tx, sentClear, messageID)
		was = was && !clear
		return err
	})
	if err != nil {
		return false, fmt.Errorf("asking whether a message was opened: %w", err)
	}
	return was, nil
}

// Opened is what all accounts of a store were shown decrypted, as the library of
// somebody would answer who has opened nothing himself.
func Opened(s store.Store) interface {
	WasOpened(ctx context.Context, messageID string) (bool, error)
} {
	return &Library{c: Config{Store: s, Account: anyAccount}}
}

// SentClear remembers that the account sent messages with these IDs readable by
// anyone. Letters that came encrypted stay secret, whatever their IDs.
func (l *Library) SentClear(ctx context.Context, messageIDs ...string) error {
	err := l.c.Store.Update(ctx, func(tx store.Tx) error {
		for _, id := range messageIDs {
			if err := l.mark(tx, anyAccount, sentClear, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("noting what was sent in clear: %w", err)
	}
	return nil
}

// What is known of a Message-ID; each is the name of a keyed hash of its own, so
// that the store's rows don't tell them apart.
const (
	openedLetter = "index opened"     // shown decrypted: a letter that was encrypted on its way
	openedSealed = "index sealed"     // shown decrypted, and sealed by ourselves
	sentClear    = "index sent clear" // sent by this account, readable by anyone
)

// anyAccount stands in the place of an account for what is known to all.
const anyAccount = ""

// known tells whether something is known of a message to this account, or to all.
func (l *Library) known(tx store.Tx, what, id string) (bool, error) {
	for _, account := range []string{l.c.Account, anyAccount} {
		var one int64
		err := tx.Row(`SELECT 1 FROM index_opened WHERE account = ? AND message_id = ?`, []any{account, l.idKey(account, what, id)}, &one)
		if !errors.Is(err, store.ErrNoRow) {
			return err == nil, err
		}
	}
	return false, nil
}

func (l *Library) idKey(account, what, id string) []byte {
	if uid, ok := strings.CutPrefix(id, calendarPrefix); ok {
		id = calendarPrefix + strings.TrimSpace(uid)
	} else if strings.HasPrefix(id, letters.Prefix) {
		// as it is
	} else if ids := message.MessageIDs(id); len(ids) > 0 {
		id = ids[0]
	}
	return l.c.Store.MAC(what, []byte(account), []byte(id))
}

// calendarPrefix stands before the UID of an invitation, where others have a
// Message-ID.
const calendarPrefix = "ical:"

// canonicalID is a Message-ID without white space and brackets around it.
func canonicalID(id string) string { return strings.Trim(strings.TrimSpace(id), "<>") }

// mark remembers something of a message for an account, or for anyAccount.
func (l *Library) mark(tx store.Tx, account, what, messageID string) error {
	_, err := tx.Exec(`INSERT INTO index_opened (account, message_id) VALUES (?, ?) ON CONFLICT (account, message_id) DO NOTHING`,
		account, l.idKey(account, what, messageID))
	return err
}

// replays knows which message each encrypted packet was first opened in. An
// opening claims its packet before it is on disk, so that two messages with
// one packet, opened at once, are told apart.
type replays struct {
	mu      sync.Mutex
	pending map[[32]byte]*claim // guarded by mu
}

// claim is one packet of an opening under way; done is closed when it ended.
type claim struct {
	origin []byte
	done   chan struct{}
}

// ticket is what one opening learned of its packet. Only used by that opening.
type ticket struct {
	lib    *Library
	keys   []pgp.Fingerprint // that may open it
	packet [32]byte
	origin []byte // nil if there is nothing to store
	claim  *claim // nil if another opening of the same message holds it
}

// errReplayed: another account has opened the packet under another name meanwhile.
var errReplayed = errors.New("this ciphertext is being opened in another message")

// record is where the origin of a packet is kept.
type record struct {
	account string
	key     []byte
}

// records are those of the ticket's packet: the account's own, and for all accounts
// one of each key that may open it, since who has a letter's ciphertext may send it
// to another account of the same person.
func (t *ticket) records(packet [32]byte) []record {
	mac := t.lib.c.Store.MAC
	rs := []record{{t.lib.c.Account, mac("index packet", []byte(t.lib.c.Account), packet[:])}}
	for _, k := range t.keys {
		rs = append(rs, record{anyAccount, mac("index packet of key", []byte(k), packet[:])})
	}
	return rs
}

// origin is what a record says, nil if there is none.
func (r record) origin(tx store.Tx) (origin []byte, err error) {
	err = tx.Row(`SELECT origin FROM index_packet WHERE account = ? AND packet = ?`, []any{r.account, r.key}, &origin)
	if errors.Is(err, store.ErrNoRow) {
		return nil, nil
	}
	return origin, err
}

// replayed is pgp.Opening.Replayed: it tells whether the packet was opened
// under another From or Message-ID, and claims it if it never was.
func (t *ticket) replayed(ctx context.Context, packet [32]byte, from, messageID string) (bool, error) {
	l := t.lib
	if l.c.Elsewhere != nil {
		if other, err := l.c.Elsewhere(ctx, t.keys, packet, from, messageID); err != nil || other {
			return other, err
		}
	}
	origin := l.origin(from, messageID)
	if err := l.replays.lock(ctx, packet, origin); err != nil {
		return false, err
	}
	defer l.replays.mu.Unlock()
	known, other := true, false
	err := l.c.Store.View(ctx, func(tx store.Tx) error {
		known, other = true, false
		for _, r := range t.records(packet) {
			stored, err := r.origin(tx)
			if err != nil {
				return err
			}
			known = known && stored != nil
			other = other || stored != nil && !hmac.Equal(stored, origin)
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("reading the record of opened packets: %w", err)
	}
	if known || other {
		return other, nil
	}
	t.packet, t.origin = packet, origin
	if t.claim == nil && l.replays.pending[packet] == nil {
		t.claim = &claim{origin, make(chan struct{})}
		l.replays.pending[packet] = t.claim
	}
	return false, nil
}

// origin is what a record says of the message that a packet came in.
func (l *Library) origin(from, messageID string) []byte {
	return l.c.Store.MAC("index origin", []byte(from), []byte(canonicalID(messageID)))
}

// Replayed tells whether an account of a store opened a packet, which one of keys may
// open, under another From or Message-ID.
func Replayed(ctx context.Context, s store.Store, keys []pgp.Fingerprint, packet [32]byte, from, messageID string) (other bool, err error) {
	t := &ticket{lib: &Library{c: Config{Store: s, Account: anyAccount}}, keys: keys}
	origin := t.lib.origin(from, messageID)
	err = s.View(ctx, func(tx store.Tx) error {
		other = false
		for _, r := range t.records(packet) {
			stored, err := r.origin(tx)
			if err != nil {
				return err
			}
			other = other || stored != nil && !hmac.Equal(stored, origin)
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("reading the record of opened packets: %w", err)
	}
	return other, nil
}

// lock takes mu at a moment when nobody else is opening this packet under
// another origin.
func (r *replays) lock(ctx context.Context, packet [32]byte, origin []byte) error {
	for {
		r.mu.Lock()
		other := r.pending[packet]
		if other == nil || hmac.Equal(other.origin, origin) {
			return nil
		}
		r.mu.Unlock()
		select {
		case <-other.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// write stores the packet in the transaction that stores the opening.
func (t *ticket) write(tx store.Tx) error {
	if t.origin == nil {
		return nil
	}
	for _, r := range t.records(t.packet) {
		n, err := tx.Exec(`INSERT INTO index_packet (account, packet, origin) VALUES (?, ?, ?) ON CONFLICT (account, packet) DO NOTHING`, r.account, r.key, t.origin)
		if err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		if stored, err := r.origin(tx); err != nil || !hmac.Equal(stored, t.origin) {
			return firstError(err, errReplayed)
		}
	}
	return nil
}

func firstError(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// end lets go of the claim, after write has been committed or has failed.
func (t *ticket) end() {
	if t.claim == nil {
		return
	}
	t.lib.replays.mu.Lock()
	delete(t.lib.replays.pending, t.packet)
	t.lib.replays.mu.Unlock()
	close(t.claim.done)
	t.claim = nil
}
