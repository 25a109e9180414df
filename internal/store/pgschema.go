package store

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// lockNumber names an advisory lock of this store; PostgreSQL knows them by a
// number, and other stores may lie in the same database.
func (s *postgres) lockNumber(purpose, name string) int64 {
	mac := s.MAC("store/lock v1", s.nonce, []byte(purpose), []byte(name))
	return int64(binary.BigEndian.Uint64(mac))
}

// migrateLock is the lock that migrations take, before the key is known to fit.
const migrateLock = 0x6c6574746572_01

// nodeLock is the lock that every connection of a node that runs shares.
func (s *postgres) nodeLock() int64 { return s.lockNumber("node", "") }

// joinFirst lets connections from now on join, and tries one.
func (s *postgres) joinFirst(ctx context.Context, schemas []Schema) error {
	var names []string
	for _, schema := range schemas {
		names = append(names, "'"+strings.ReplaceAll(schema.Name, "'", "''")+"'")
	}
	s.names, s.joined = strings.Join(append(names, "''"), ", "), true
	t, err := s.begin(ctx, "BEGIN READ ONLY")
	if err != nil {
		return err
	}
	defer t.end()
	return nil
}

// join lets others know that a node runs, which must not be met by a step that
// isn't additive; where one has been made meanwhile, the node must stop.
func (s *postgres) join(ctx context.Context, c *pg) error {
	n, err := c.exec(ctx, fmt.Sprintf(`SELECT pg_advisory_lock_shared(%d);
		SELECT count(*) FROM store_schema WHERE additive = 0 AND name IN (%s)`, s.nodeLock(), s.names))
	if err != nil {
		return err
	}
	if s.breaking == "" {
		s.breaking = n // within OpenPostgres, alone
	}
	if n != s.breaking {
		return errors.New("the store was upgraded by a newer letterlock; this one must be upgraded too")
	}
	return nil
}

// leaveTime is how long a node's connections may need to end after it closed.
const leaveTime = 5 * time.Second

// alone makes sure that no other node runs until the transaction ends.
func (t *pgTx) alone(ctx context.Context) error {
	for end := time.Now().Add(leaveTime); ; time.Sleep(50 * time.Millisecond) {
		got, err := t.c.exec(ctx, fmt.Sprintf("SELECT pg_try_advisory_xact_lock(%d)", t.s.nodeLock()))
		switch {
		case err != nil || got == "t":
			return err
		case time.Now().After(end):
			return errors.New("this upgrade is not additive, and other nodes use the store: stop them first")
		}
	}
}

// migrate checks the key and runs the steps that the database has not seen, in
// one transaction, one process at a time.
func (s *postgres) migrate(ctx context.Context, schemas []Schema) error {
	t, err := s.begin(ctx, fmt.Sprintf("BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock(%d)", migrateLock))
	if err != nil {
		return err
	}
	t.c.bad = true // it hasn't joined
	defer t.end()
	if err := s.checkHeader(ctx, t.c); err != nil {
		return err
	}
	done, err := s.steps(ctx, t.c)
	if err != nil {
		return err
	}
	if err := checkNames(schemas); err != nil {
		return err
	}
	for _, schema := range schemas {
		if err := s.migrateOne(ctx, t, schema, done[schema.Name]); err != nil {
			return fmt.Errorf("schema %q: %w", schema.Name, err)
		}
	}
	return t.commit()
}

// checkHeader tells whether the database is a store of our key; an empty one
// becomes one.
func (s *postgres) checkHeader(ctx context.Context, c *pg) error {
	there, err := c.exec(ctx, "SELECT to_regclass('store_header') IS NOT NULL")
	if err != nil {
		return err
	}
	if there != "t" {
		nonce := make([]byte, 16)
		rand.Read(nonce)
		s.nonce = nonce
		_, err := c.exec(ctx, fmt.Sprintf(`
			CREATE TABLE store_header (id BIGINT PRIMARY KEY, nonce BYTEA NOT NULL, mac BYTEA NOT NULL);
			CREATE TABLE store_schema (name TEXT NOT NULL, step BIGINT NOT NULL, digest BYTEA NOT NULL, additive BIGINT NOT NULL, PRIMARY KEY (name, step));
			CREATE TABLE store_commit (node BIGINT NOT NULL, n BIGINT NOT NULL, at TIMESTAMPTZ NOT NULL DEFAULT now());
			INSERT INTO store_header (id, nonce, mac) VALUES (1, '\x%x', '\x%x')`, nonce, s.MAC(headerPurpose, nonce)))
		return err
	}
	rows, err := c.query(ctx, "SELECT encode(nonce, 'hex'), encode(mac, 'hex') FROM store_header WHERE id = 1")
	if err != nil {
		return err
	}
	if len(rows) != 1 {
		return fmt.Errorf("the database's store_header is not a store's")
	}
	nonce, err := hex.DecodeString(rows[0][0])
	mac, merr := hex.DecodeString(rows[0][1])
	if err != nil || merr != nil || !hmac.Equal(mac, s.MAC(headerPurpose, nonce)) {
		return ErrKey
	}
	s.nonce = nonce
	return nil
}

// doneStep is a step that a store has seen.
type doneStep struct {
	digest   []byte
	additive bool
}

func (s *postgres) steps(ctx context.Context, c *pg) (map[string][]doneStep, error) {
	rows, err := c.query(ctx, "SELECT name, encode(digest, 'hex'), additive FROM store_schema ORDER BY name, step")
	if err != nil {
		return nil, err
	}
	done := map[string][]doneStep{}
	for _, r := range rows {
		digest, err := hex.DecodeString(r[1])
		if err != nil {
			return nil, err
		}
		done[r[0]] = append(done[r[0]], doneStep{digest, r[2] == "1"})
	}
	return done, nil
}

func (s *postgres) migrateOne(ctx context.Context, t *pgTx, schema Schema, done []doneStep) error {
	todo, err := schema.missing(done)
	if err != nil {
		return err
	}
	for i := len(schema.Steps) - todo; i < len(schema.Steps); i++ {
		step := schema.Steps[i]
		if len(done) > 0 && !isAdditive(step, true) {
			if err := t.alone(ctx); err != nil {
				return fmt.Errorf("step %d: %w", i+1, err)
			}
		}
		q, err := s.blobs.translate(step)
		if err != nil {
			return err
		}
		if _, err := t.c.exec(ctx, q.sql); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
		if t.c.TxStatus() != 'T' {
			return fmt.Errorf("step %d ends the transaction", i+1)
		}
		digest := sha256.Sum256([]byte(step))
		additive := "0"
		if isAdditive(step, true) {
			additive = "1"
		}
		if _, err := t.c.query(ctx, `INSERT INTO store_schema (name, step, digest, additive) VALUES ($1, $2::bigint, decode($3, 'hex'), $4::bigint)`,
			schema.Name, fmt.Sprint(i+1), hex.EncodeToString(digest[:]), additive); err != nil {
			return err
		}
	}
	return nil
}

// missing tells how many of the last steps a store has not seen; it is an error
// where the store isn't one that this program can use.
func (schema Schema) missing(done []doneStep) (int, error) {
	for i, d := range done {
		if i >= len(schema.Steps) {
			if !d.additive {
				return 0, fmt.Errorf("the store was made by a newer letterlock (step %d, this one knows %d)", len(done), len(schema.Steps))
			}
			continue
		}
		if digest := sha256.Sum256([]byte(schema.Steps[i])); !bytes.Equal(d.digest, digest[:]) {
			return 0, fmt.Errorf("step %d is not the one that this store was made with", i+1)
		}
	}
	return max(0, len(schema.Steps)-len(done)), nil
}
