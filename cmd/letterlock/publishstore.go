package main

import (
	"context"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// publishSchema is what we asked directories to publish: only what stands here is
// confirmed, and kept up to date.
var publishSchema = store.Schema{Name: "publish", Steps: []string{
	`CREATE TABLE publish_own (
		address     TEXT PRIMARY KEY NOT NULL,
		fingerprint TEXT NOT NULL,
		expires     INTEGER NOT NULL,
		state       TEXT NOT NULL,
		service     TEXT NOT NULL, -- submission address, where it went by mail
		certificate BLOB NOT NULL, -- of it
		made        INTEGER NOT NULL,
		mac         BLOB NOT NULL)`,
}}

// publication is a row of it.
type publication struct {
	address     address.Address
	fingerprint pgp.Fingerprint
	expires     time.Time
	state       string
	service     address.Address  // zero for none
	serviceKey  *pgp.Certificate // nil for none
	made        time.Time
}

// macPublication separates the MACs of these rows.
const macPublication = "publish/own v1"

func (p publication) fields() (service string, certificate []byte) {
	if !p.service.IsZero() {
		service, certificate = p.service.String(), p.serviceKey.Bytes()
	}
	return service, certificate
}

func (p publication) mac(st store.Store) []byte {
	service, certificate := p.fields()
	times := binary.BigEndian.AppendUint64(nil, uint64(p.made.UnixMicro()))
	return st.MAC(macPublication, []byte(p.address.String()), []byte(p.fingerprint), []byte(p.state), []byte(service), certificate, times)
}

func (s *state) keepPublication(ctx context.Context, p publication) error {
	p.made = p.made.Truncate(time.Microsecond)
	service, certificate := p.fields()
	err := s.store.Update(ctx, func(tx store.Tx) error {
		_, err := tx.Exec(`INSERT INTO publish_own (address, fingerprint, expires, state, service, certificate, made, mac) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (address) DO UPDATE SET fingerprint = excluded.fingerprint, expires = excluded.expires, state = excluded.state,
			service = excluded.service, certificate = excluded.certificate, made = excluded.made, mac = excluded.mac`,
			p.address.String(), string(p.fingerprint), p.expires, p.state, service, certificate, p.made, p.mac(s.store))
		return err
	})
	if err != nil {
		return fmt.Errorf("keeping what is published: %w", err)
	}
	return nil
}

// publications are those in a state.
func (s *state) publications(ctx context.Context, state string) (all []publication, err error) {
	err = s.store.View(ctx, func(tx store.Tx) error {
		all = nil
		return tx.Rows("SELECT address, fingerprint, expires, service, certificate, made, mac FROM publish_own WHERE state = ?", []any{state},
			func(scan func(...any) error) error {
				var own, fingerprint, service string
				var expires, made int64
				var certificate, mac []byte
				if err := scan(&own, &fingerprint, &expires, &service, &certificate, &made, &mac); err != nil {
					return err
				}
				p := publication{fingerprint: pgp.Fingerprint(fingerprint), expires: micro(expires), state: state, made: micro(made)}
				var errs []error
				p.address, err = address.Parse(own)
				errs = append(errs, err)
				if service != "" {
					certs, err := pgp.ParseCertificates(certificate)
					if err == nil && len(certs) == 1 {
						p.serviceKey = certs[0]
						p.service, err = address.Parse(service)
					} else if err == nil {
						err = pgp.ErrMalformed
					}
					errs = append(errs, err)
				}
				if err := errors.Join(errs...); err != nil || !hmac.Equal(mac, p.mac(s.store)) {
					s.log.Error("what was published can't be read", "error", errors.Join(err, store.ErrTampered))
					return nil
				}
				all = append(all, p)
				return nil
			})
	})
	if err != nil {
		return nil, fmt.Errorf("reading what is published: %w", err)
	}
	return all, nil
}

// micro is a time as the store has it; 0 is the zero time.
func micro(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}
