package server

import (
	"context"
	"errors"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// approvals is what Approved said of addresses before a transaction. It is not
// asked within one: it may read the store, where as many transactions at once as
// there are connections would wait for each other for ever.
type approvals struct {
	all bool // nothing is approved of any address
	by  map[string][]*pgp.Certificate
}

// of is what is approved for a; asked is false where that isn't known.
func (p approvals) of(a address.Address) (approved []*pgp.Certificate, asked bool) {
	approved, asked = p.by[a.Key()]
	return approved, asked || p.all
}

// errNotAsked means that a transaction met an address that it didn't expect.
var errNotAsked = errors.New("what is published changed meanwhile; try again")

// maxAsking is how often a transaction is tried that meets such addresses.
const maxAsking = 5

// approvedFor asks Approved. No transaction may be open.
func (d *Directory) approvedFor(a address.Address) []*pgp.Certificate {
	if d.Approved == nil {
		return nil
	}
	return d.Approved(a)
}

// approvals asks Approved about the published addresses that a condition chooses.
func (d *Directory) approvals(ctx context.Context, where string, args ...any) (approvals, error) {
	if d.Approved == nil {
		return approvals{all: true}, nil
	}
	var spellings []string
	err := d.store.View(ctx, func(tx store.Tx) error {
		spellings = nil
		return tx.Rows("SELECT spelling FROM keydirserver_cert WHERE gone = 0 AND "+where, args, func(scan func(...any) error) error {
			var s string
			err := scan(&s)
			spellings = append(spellings, s)
			return err
		})
	})
	out := approvals{by: map[string][]*pgp.Certificate{}}
	for _, s := range spellings {
		if a, err := address.Parse(s); err == nil {
			out.by[a.Key()] = d.approvedFor(a)
		}
	}
	return out, err
}
