package keyring

import (
	"context"
	"errors"
	"fmt"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// Generate makes a key for an address and makes it the active one. Keys that
// were there go on decrypting.
func (r *Ring) Generate(ctx context.Context, a address.Address, p pgp.Profile) (*pgp.Certificate, error) {
	k, err := pgp.GenerateKey(a, p, r.now())
	if err != nil {
		return nil, err
	}
	if err := r.put(ctx, a, []*pgp.Key{k}, k.Fingerprint()); err != nil {
		return nil, fmt.Errorf("storing a new key of %s: %w", a, err)
	}
	return k.Certificate(), nil
}

// GenerateFirst is Generate where there is no active key, else ErrHasKey: of two who
// find none at once, one makes it.
func (r *Ring) GenerateFirst(ctx context.Context, a address.Address, p pgp.Profile) (*pgp.Certificate, error) {
	k, err := pgp.GenerateKey(a, p, r.now())
	if err != nil {
		return nil, err
	}
	if err := r.putIf(ctx, a, []*pgp.Key{k}, k.Fingerprint(), noneActive); err != nil {
		return nil, fmt.Errorf("storing a new key of %s: %w", a, err)
	}
	return k.Certificate(), nil
}

func noneActive(rows []row) error {
	for _, w := range rows {
		if w.active == 1 {
			return ErrHasKey
		}
	}
	return nil
}

// Replace is Generate where there is an active key, which names the new one its
// successor: the programs of correspondents follow by themselves
// ([pgp.Certificate.Succeeds]). named is why it doesn't, which is no fault: there
// is no old key, its primary secret is not here, or it is revoked or has expired.
func (r *Ring) Replace(ctx context.Context, a address.Address, p pgp.Profile) (c *pgp.Certificate, named, err error) {
	k, err := pgp.GenerateKey(a, p, r.now())
	if err != nil {
		return nil, nil, err
	}
	old, named := r.active(ctx, a)
	if named == nil {
		var heir *pgp.Key
		if heir, named = pgp.Replace(k, old, a, r.now()); named == nil {
			k = heir
		}
	}
	if err := r.put(ctx, a, []*pgp.Key{k}, k.Fingerprint()); err != nil {
		return nil, nil, fmt.Errorf("storing a new key of %s: %w", a, err)
	}
	return k.Certificate(), named, nil
}

// Import stores keys for an address. If it has no active key yet, the newest
// that can sign and names the address becomes active; else Activate chooses.
// A key that is there already gets what is new, and loses nothing that an older copy
// hasn't.
func (r *Ring) Import(ctx context.Context, a address.Address, keys []*pgp.Key) error {
	if len(keys) == 0 {
		return ErrNoKey
	}
	have, err := r.keys(ctx, a)
	if err != nil {
		return err
	}
	var active pgp.Fingerprint
	if !hasActive(have) {
		active = newest(a, keys, r.now())
	}
	if err := r.put(ctx, a, keys, active); err != nil {
		return fmt.Errorf("importing keys of %s: %w", a, err)
	}
	return nil
}

func hasActive(keys []held) bool {
	for _, h := range keys {
		if h.active {
			return true
		}
	}
	return false
}

// newest chooses the active key among imported ones.
func newest(a address.Address, keys []*pgp.Key, now time.Time) pgp.Fingerprint {
	var best *pgp.Key
	for _, k := range keys {
		if !k.Certificate().Has(a) || k.CheckSign(now) != nil {
			continue
		}
		if best == nil || k.Certificate().Created().After(best.Certificate().Created()) {
			best = k
		}
	}
	if best == nil {
		return ""
	}
	return best.Fingerprint()
}

// Activate makes one of the keys of an address the one that signs.
func (r *Ring) Activate(ctx context.Context, a address.Address, f pgp.Fingerprint) error {
	keys, err := r.keys(ctx, a)
	if err != nil {
		return err
	}
	for _, h := range keys {
		if h.key.Fingerprint() != f {
			continue
		}
		if err := h.key.CheckSign(r.now()); err != nil {
			return fmt.Errorf("activating %s: %w", f, err)
		}
		return r.put(ctx, a, []*pgp.Key{h.key}, f)
	}
	return fmt.Errorf("activating %s: %w", f, ErrNoKey)
}

// Extend makes the active key of an address valid for another pgp.Lifetime from
// now, and gives its certificate, which is to be published again.
func (r *Ring) Extend(ctx context.Context, a address.Address) (*pgp.Certificate, error) {
	k, err := r.active(ctx, a)
	if err != nil {
		return nil, err
	}
	longer, err := pgp.Extend(k, r.now())
	if err != nil {
		return nil, err
	}
	if err := r.put(ctx, a, []*pgp.Key{longer}, ""); err != nil {
		return nil, fmt.Errorf("extending the key of %s: %w", a, err)
	}
	return longer.Certificate(), nil
}

// extendAt is how long before its end a key is extended: a correspondent who
// refreshes certificates twice a year still gets the new one in time.
const extendAt = 8 * 30 * 24 * time.Hour

// ExtendDue extends every active key that follows the default profile
// ([pgp.Key.FollowsProfile]) and has less than eight months left, or none, and
// gives their addresses: their certificates are to be published again. Imported
// keys with another policy are never changed without being asked to. An error
// tells of the keys that could not be extended beside those that were.
func (r *Ring) ExtendDue(ctx context.Context) (extended []address.Address, err error) {
	all, err := r.List(ctx)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, e := range all {
		if !e.Active || e.Certificate.Expires().IsZero() || e.Certificate.Expires().Sub(r.now()) >= extendAt {
			continue
		}
		a, err := address.Parse(e.Address)
		if err != nil {
			errs = append(errs, fmt.Errorf("extending the key of %s: %w", e.Address, err))
			continue
		}
		k, err := r.active(ctx, a)
		if err != nil || !k.FollowsProfile() {
			errs = append(errs, err)
			continue
		}
		if _, err := r.Extend(ctx, a); err != nil {
			errs = append(errs, err)
			continue
		}
		extended = append(extended, a)
	}
	return extended, errors.Join(errs...)
}

// Remove forgets a key for good: what is encrypted to it alone can't be read any
// more. The active key is ErrActive.
func (r *Ring) Remove(ctx context.Context, a address.Address, f pgp.Fingerprint) error {
	keys, err := r.keys(ctx, a)
	if err != nil {
		return err
	}
	for _, h := range keys {
		if h.key.Fingerprint() != f {
			continue
		}
		if h.active {
			return fmt.Errorf("removing %s: %w", f, ErrActive)
		}
		return r.delete(ctx, a, f)
	}
	return fmt.Errorf("removing %s: %w", f, ErrNoKey)
}

// Revoke revokes a key of an address, the active one where f is "", and gives its
// certificate, which is to be published at once. It goes on decrypting.
func (r *Ring) Revoke(ctx context.Context, a address.Address, f pgp.Fingerprint, why pgp.Reason) (*pgp.Certificate, error) {
	keys, err := r.keys(ctx, a)
	if err != nil {
		return nil, err
	}
	for _, h := range keys {
		if h.key.Fingerprint() != f && (f != "" || !h.active) {
			continue
		}
		gone, err := pgp.Revoke(h.key, why, r.now())
		if err != nil {
			return nil, err
		}
		if err := r.put(ctx, a, []*pgp.Key{gone}, ""); err != nil {
			return nil, fmt.Errorf("revoking the key of %s: %w", a, err)
		}
		return gone.Certificate(), nil
	}
	return nil, fmt.Errorf("revoking %s: %w", f, ErrNoKey)
}

// Certified adds to a key of an address what the approved certificates certified
// in a copy of its certificate, which comes back from whoever certifies, and
// gives its certificate, which is to be published again. ErrNoKey if the key is
// not here.
func (r *Ring) Certified(ctx context.Context, a address.Address, c *pgp.Certificate, approved ...*pgp.Certificate) (*pgp.Certificate, error) {
	keys, err := r.keys(ctx, a)
	if err != nil {
		return nil, err
	}
	for _, h := range keys {
		if h.key.Fingerprint() != c.Fingerprint() {
			continue
		}
		k, err := pgp.Certified(h.key, c, a, r.now(), approved...)
		if err != nil {
			return nil, fmt.Errorf("taking over what was certified of the key of %s: %w", a, err)
		}
		if err := r.put(ctx, a, []*pgp.Key{k}, ""); err != nil {
			return nil, fmt.Errorf("keeping what was certified of the key of %s: %w", a, err)
		}
		return k.Certificate(), nil
	}
	return nil, fmt.Errorf("certifications of %s: %w", c.Fingerprint(), ErrNoKey)
}
