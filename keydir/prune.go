package keydir

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// Every address that writes to us with an Autocrypt header, or that somebody
// introduces, makes a row. Those that we never wrote to, and nobody vouched for,
// are bounded: otherwise whoever sends us mail fills our disk.
const (
	maxUnused   = 20000 // rows that are kept
	pruneEvery  = 500   // new rows between two looks
	prunedShare = 10    // a tenth goes at a time
)

// unused counts a row that received mail made, and has the oldest of them go
// where there are too many.
func (r *Resolver) unused(ctx context.Context) {
	if n := r.newRows.Add(1); (n-1)%r.pruneEvery != 0 {
		return
	}
	pruned, err := r.prune(ctx)
	if err != nil {
		r.log.Warn("contacts that were never written to could not be pruned", "error", err)
	} else if pruned > 0 {
		r.log.Info("contacts that were never written to are forgotten", "count", pruned)
	}
}

// unusedRow is a peer that may go.
type unusedRow struct {
	key    string
	signed bool
	seen   time.Time
	fprs   []pgp.Fingerprint
}

// prune drops the oldest of what may go, who never signed a message first, and
// their certificates, but for those that another row names. A certificate that
// was imported for no address and is of nobody but them goes with them.
func (r *Resolver) prune(ctx context.Context) (pruned int, err error) {
	err = r.store.Update(ctx, func(tx store.Tx) error {
		pruned = 0
		var may []unusedRow
		named := map[pgp.Fingerprint]int{}
		err := tx.Rows(`SELECT addr, state FROM keydir_peer`, nil, func(scan func(...any) error) error {
			var key string
			var state []byte
			if err := scan(&key, &state); err != nil {
				return err
			}
			var p Peer
			if json.Unmarshal(state, &p) != nil {
				return nil // tampered with; told where it is read
			}
			row := unusedRow{key: key}
			for _, b := range slices.Concat(p.Pins, p.Candidates, p.Former) {
				named[b.Fingerprint]++
				row.fprs = append(row.fprs, b.Fingerprint)
				row.signed = row.signed || !b.Signed.IsZero()
				if b.Confirmed.After(row.seen) {
					row.seen = b.Confirmed
				}
			}
			if p.mayGo() {
				may = append(may, row)
			}
			return nil
		})
		if err != nil || len(may) <= r.maxUnused {
			return err
		}
		slices.SortFunc(may, func(a, b unusedRow) int {
			if a.signed != b.signed {
				return map[bool]int{true: 1, false: -1}[a.signed]
			}
			return a.seen.Compare(b.seen)
		})
		for _, row := range may[:len(may)-r.maxUnused+r.maxUnused/prunedShare] {
			if err := dropPeer(tx, row, named); err != nil {
				return err
			}
			pruned++
		}
		return nil
	})
	if pruned > 0 {
		r.cache.clear()
	}
	return pruned, err
}

func dropPeer(tx store.Tx, row unusedRow, named map[pgp.Fingerprint]int) error {
	if _, err := tx.Exec(`DELETE FROM keydir_peer WHERE addr = ?`, row.key); err != nil {
		return err
	}
	for _, f := range row.fprs {
		if named[f]--; named[f] > 0 {
			continue
		}
		for _, statement := range []string{`DELETE FROM keydir_cert WHERE fpr = ?`, `DELETE FROM keydir_keyid WHERE fpr = ?`} {
			if _, err := tx.Exec(statement, string(f)); err != nil {
				return err
			}
		}
	}
	return nil
}

// mayGo tells whether nothing is lost with a row but that its address was seen:
// it was never written to, and only received mail made it.
func (p Peer) mayGo() bool {
	kept := func(b Binding) bool {
		return b.Source != sourceAutocrypt && b.Source != sourceGossip || b.Identity.AtLeast(pgp.Directory)
	}
	return p.Used.IsZero() && p.Checked.IsZero() && p.Problem == "" && len(p.Former) == 0 && len(p.Changes) == 0 &&
		len(p.Pins)+len(p.Candidates) > 0 && !slices.ContainsFunc(slices.Concat(p.Pins, p.Candidates), kept)
}
