package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
)

// snapshot is everything that the handler answers. It is never changed, only
// replaced.
type snapshot struct {
	domains map[string]map[hash]*answer
	skipped []error // rows that could not be read, and are not answered
}

// answer is a response's body.
type answer struct {
	body []byte
	etag string
}

func answerOf(body []byte) *answer {
	sum := sha256.Sum256(body)
	return &answer{body, `"` + hex.EncodeToString(sum[:16]) + `"`}
}

func hashOfAddress(a address.Address) hash {
	h, _ := hashOf(keydir.WKDHash(a.Local))
	return h
}

// publish replaces the answer for a; nil takes it away.
func (d *Directory) publish(a address.Address, ans *answer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.snap.Load()
	if old == nil {
		return // the first look-up reads everything
	}
	s := &snapshot{maps.Clone(old.domains), old.skipped}
	of := maps.Clone(s.domains[a.Domain])
	if of == nil {
		of = map[hash]*answer{}
	}
	of[hashOfAddress(a)] = ans
	if ans == nil {
		delete(of, hashOfAddress(a))
	}
	s.domains[a.Domain] = of
	d.snap.Store(s)
}

// forget makes the next look-up read everything anew.
func (d *Directory) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.snap.Store(nil)
}

// snapshot gives the current one.
func (d *Directory) snapshot(ctx context.Context) (*snapshot, error) {
	if s := d.snap.Load(); s != nil {
		return s, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.snap.Load(); s != nil {
		return s, nil
	}
	s, err := d.build(ctx)
	if err != nil {
		return nil, err
	}
	d.snap.Store(s)
	return s, nil
}

// build reads the table. A row that was tampered with is left out.
func (d *Directory) build(ctx context.Context) (*snapshot, error) {
	rows, err := d.rows(ctx)
	if err != nil {
		return nil, err
	}
	s := &snapshot{domains: map[string]map[hash]*answer{}}
	for _, r := range rows {
		a, err := r.check(d.store)
		if err != nil {
			s.skipped = append(s.skipped, err)
			continue
		}
		of := s.domains[a.Domain]
		if of == nil {
			of = map[hash]*answer{}
			s.domains[a.Domain] = of
		}
		of[hashOfAddress(a)] = answerOf(r.body)
	}
	return s, nil
}
