package smtpd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"letterlock.org/letterlock/form"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
)

// PasswordSchema is the table of [AgreedPasswords].
var PasswordSchema = store.Schema{Name: "password", Steps: []string{
	`CREATE TABLE password_agreed (owner TEXT NOT NULL, address TEXT NOT NULL, password BLOB NOT NULL, mac BLOB NOT NULL,
		changed INTEGER NOT NULL, PRIMARY KEY (owner, address))`,
}}

// AgreedPasswords are the passwords that people have agreed upon with those who
// have no certificate, in the encrypted store. It may be used concurrently.
type AgreedPasswords struct {
	Store store.Store // opened with PasswordSchema
	Now   func() time.Time
}

// AgreedPassword is one of them, without the password itself.
type AgreedPassword struct {
	Owner, To string // keys of addresses; Owner "" is everybody here
	Changed   time.Time
}

// Set keeps the password for mail of owner to somebody; a zero owner is everybody
// whose mail passes this installation. An earlier one is replaced.
func (a *AgreedPasswords) Set(ctx context.Context, owner, to address.Address, p form.Password) error {
	if p.IsZero() || p.Made() || to.IsZero() {
		return errors.New("no agreed password to keep")
	}
	return a.Store.Update(ctx, func(tx store.Tx) error {
		_, err := tx.Exec(`INSERT INTO password_agreed (owner, address, password, mac, changed) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (owner, address) DO UPDATE SET password = excluded.password, mac = excluded.mac, changed = excluded.changed`,
			owner.Key(), to.Key(), []byte(p.Reveal()), a.mac(owner.Key(), to.Key(), []byte(p.Reveal())), a.Now())
		return err
	})
}

// Forget takes a password away, and tells whether there was one.
func (a *AgreedPasswords) Forget(ctx context.Context, owner, to address.Address) (there bool, err error) {
	err = a.Store.Update(ctx, func(tx store.Tx) error {
		n, err := tx.Exec(`DELETE FROM password_agreed WHERE owner = ? AND address = ?`, owner.Key(), to.Key())
		there = n > 0
		return err
	})
	return there, err
}

// Find is for Passwords.Agreed: owner's own agreement goes before everybody's.
func (a *AgreedPasswords) Find(ctx context.Context, owner, to address.Address) (form.Password, error) {
	for _, who := range []string{owner.Key(), ""} {
		var text, mac []byte
		err := a.Store.View(ctx, func(tx store.Tx) error {
			return tx.Row(`SELECT password, mac FROM password_agreed WHERE owner = ? AND address = ?`, []any{who, to.Key()}, &text, &mac)
		})
		switch {
		case errors.Is(err, store.ErrNoRow):
			continue
		case err != nil:
			return form.Password{}, err
		}
		if err := store.Verify(a.Store, mac, passwordMAC, []byte(who), []byte(to.Key()), text); err != nil {
			return form.Password{}, fmt.Errorf("the password for %s: %w", to, err)
		}
		return form.Agreed(string(text))
	}
	return form.Password{}, nil
}

// List tells for whom there are passwords, and not which.
func (a *AgreedPasswords) List(ctx context.Context) (all []AgreedPassword, err error) {
	err = a.Store.View(ctx, func(tx store.Tx) error {
		all = nil
		return tx.Rows(`SELECT owner, address, changed FROM password_agreed ORDER BY owner, address`, nil, func(scan func(dest ...any) error) error {
			var p AgreedPassword
			if err := scan(&p.Owner, &p.To, &p.Changed); err != nil {
				return err
			}
			all = append(all, p)
			return nil
		})
	})
	return all, err
}

const passwordMAC = "agreed password"

func (a *AgreedPasswords) mac(owner, to string, password []byte) []byte {
	return a.Store.MAC(passwordMAC, []byte(owner), []byte(to), password)
}
